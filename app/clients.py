"""The client registry: who may call, how each proves it, for which hospital, and what it is answered.

Every record is one `[[clients]]` of the configuration, checked as a whole at start. What a client sends (`iss`, `jku`,
`tenant`, `fhirServer`, `Origin`) is only ever looked up here; nothing of it is connected to or built upon
(knowledge: security 0.5, 1.3).
"""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from app.configuration import Model, Name, SettingsError, base, endpoint, no_wildcard, origin, unique
from app.names import SERVICES
from cds_hooks import trust

NotEvaluatedAs = Literal["412", "card"]
Algorithm = Literal["ES384", "RS384", "ES256", "ES512", "RS256", "RS512", "PS256", "PS384", "PS512"]

DEFAULT_ALGORITHMS: Final = ("ES384", "RS384")
"""The two that CDS Hooks names ("Trusting CDS Clients")."""

SANDBOX_ISSUER: Final = "https://sandbox.cds-hooks.org"
"""The public sandbox: its private key is published, so anybody can be it."""

ANONYMOUS: Final = "anonymous"
"""Who is answered where no client is registered; none may be called so."""

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


@dataclass(frozen=True, slots=True)
class Client:
    """One CDS client.

    `id` is its name in records, logs and metrics. Its keys are in `jwks_file`, or are fetched from `jwks_url`, which is
    also the only `jku` that its tokens may name (or as the file writes it, which is `jku` here). `audiences` are the
    public bases of this service under which it calls; `tenants` maps what its tokens say (`tenant`) to the tenant's
    name. `fhir_bases` are the only `fhirServer` values it may send. `services` are those it may call, `origins` those
    of its pages in a browser. `silent`: evaluated and recorded, nothing shown.
    """

    id: str
    issuer: str
    audiences: tuple[str, ...]
    tenants: Mapping[str, str]
    fhir_bases: tuple[str, ...] = ()
    jwks_file: Path | None = field(default=None, repr=False)
    jwks_url: str | None = None
    jku: str | None = None
    algorithms: frozenset[str] = frozenset(DEFAULT_ALGORITHMS)
    services: frozenset[str] = frozenset(SERVICES)
    origins: frozenset[str] = frozenset()
    silent: bool = False
    not_evaluated_as: NotEvaluatedAs = "412"

    def tenant_of(self, claim: str | None) -> str | None:
        """The tenant that a token's claim names; without a claim the only one there is; None where there is none."""
        if claim is not None:
            return self.tenants.get(claim)
        names = set(self.tenants.values())
        return names.pop() if len(names) == 1 else None


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a client's token may be: the clocks' difference and its life in seconds, where its `jti` is remembered;
    None: where the database of decisions says (`Settings.replay`)."""

    leeway_seconds: int = 60
    longest_seconds: int = 900
    replay: Literal["memory", "database"] | None = None


class TrustTable(Model):
    """`[trust]` of the file."""

    leeway_seconds: int = Field(default=60, ge=0, le=300)
    longest_seconds: int = Field(default=900, ge=60, le=3600)
    replay: Literal["memory", "database"] | None = None


class ClientTable(Model):
    """One `[[clients]]` of the file."""

    id: Annotated[str, StringConstraints(pattern=f"^{_NAME}$")]
    issuer: Name
    jwks_file: Name | None = None
    jwks_url: Name | None = None
    algorithms: list[Algorithm] = Field(default=list(DEFAULT_ALGORITHMS), min_length=1)
    audiences: list[Name] = []
    tenants: list[Name] = Field(min_length=1)
    tenant_claims: dict[str, Name] = {}
    fhir_bases: list[Name] | None = None
    services: list[Name] = Field(default=list(SERVICES), min_length=1)
    cors_origins: list[Name] = []
    silent: bool = False
    not_evaluated_as: NotEvaluatedAs | None = None


@dataclass(frozen=True, slots=True)
class Around:
    """What of the rest of the configuration the records are checked against."""

    folder: Path
    dev: bool
    bases: Mapping[str, Sequence[str]]
    """The FHIR bases of each tenant by its name."""
    public_url: str | None
    """As the file writes it."""
    not_evaluated_as: NotEvaluatedAs


def registered(tables: Sequence[ClientTable], *, around: Around) -> tuple[Client, ...]:
    """The records. Raises SettingsError, with the key, for the first that cannot stand."""
    unique([table.id for table in tables], key="clients[{}].id", remedy="list a client once")
    clients = tuple(_client(table, key=f"clients[{number}]", around=around) for number, table in enumerate(tables))
    unique([client.issuer for client in clients], key="clients[{}].issuer", remedy="an issuer is one client's")
    _own_addresses(clients)
    owners: dict[str, int] = {}
    for number, client in enumerate(clients):
        for thumbprint in _thumbprints(client, key=f"clients[{number}].jwks_file", around=around):
            if owners.setdefault(thumbprint, number) != number:
                raise SettingsError(
                    "holds a key of another client, which could then pass for this one: give each its own",
                    key=f"clients[{number}].jwks_file",
                )
    return clients


def _own_addresses(clients: Sequence[Client]) -> None:
    """What is fetched cannot be looked into before the start, so that no two clients may have the same key set."""
    seen: set[str] = set()
    for number, client in enumerate(clients):
        if client.jwks_file is not None or client.jwks_url is None:
            continue
        if client.jwks_url in seen:
            raise SettingsError(
                "holds the keys of another client, which could then pass for this one: give each its own",
                key=f"clients[{number}].jwks_url",
            )
        seen.add(client.jwks_url)


def _client(table: ClientTable, *, key: str, around: Around) -> Client:
    if table.id == ANONYMOUS:
        raise SettingsError("is whom nobody has registered: give the client a name of its own", key=f"{key}.id")
    no_wildcard(table.issuer, key=f"{key}.issuer")
    if not table.issuer.isprintable() or " " in table.issuer:
        raise SettingsError("write the issuer exactly as in the tokens (`iss`)", key=f"{key}.issuer")
    if not around.dev and table.issuer.rstrip("/") == SANDBOX_ISSUER:
        raise SettingsError(
            'the private key of the public sandbox is published: anybody can be it; only with profile = "dev"',
            key=f"{key}.issuer",
        )
    if not around.dev and table.issuer.lower().startswith("http:"):
        raise SettingsError(
            'an issuer is an https address: register what the client really signs, or use profile = "dev"',
            key=f"{key}.issuer",
        )
    if table.jwks_file is None and table.jwks_url is None:
        raise SettingsError("has no keys: add jwks_file, or jwks_url", key=key)
    url = None if table.jwks_url is None else endpoint(table.jwks_url, key=f"{key}.jwks_url", http=around.dev)
    bases, tenants = _reach(table, key=key, around=around)
    return Client(
        id=table.id,
        issuer=table.issuer,
        audiences=_audiences(table, key=key, around=around),
        tenants=tenants,
        fhir_bases=bases,
        jwks_file=None if table.jwks_file is None else around.folder / table.jwks_file,
        jwks_url=url,
        jku=table.jwks_url,
        algorithms=frozenset(table.algorithms),
        services=_services(table, key=key),
        origins=frozenset(
            origin(one, key=f"{key}.cors_origins[{place}]", http=around.dev)
            for place, one in enumerate(table.cors_origins)
        ),
        silent=table.silent,
        not_evaluated_as=table.not_evaluated_as or around.not_evaluated_as,
    )


def _audiences(table: ClientTable, *, key: str, around: Around) -> tuple[str, ...]:
    if not table.audiences and around.public_url is None:
        raise SettingsError("under which address does this client call? add audiences, or service.public_url", key=key)
    found: list[str] = []
    for place, one in enumerate(table.audiences or [around.public_url or ""]):
        normal = base(one, key=f"{key}.audiences[{place}]", http=around.dev)
        if normal.endswith("/cds-services"):
            raise SettingsError("write the part before /cds-services", key=f"{key}.audiences[{place}]")
        found += [normal, one.rstrip("/")]  # clients sign what they were told, capitals and all
    return tuple(dict.fromkeys(found))


def _reach(table: ClientTable, *, key: str, around: Around) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """The FHIR bases the client may name, and its tenants by what its tokens call them."""
    for place, name in enumerate(table.tenants):
        no_wildcard(name, key=f"{key}.tenants[{place}]")
        if name not in around.bases:
            raise SettingsError("names a tenant that is not in [[tenants]]", key=f"{key}.tenants[{place}]")
    unique(table.tenants, key=f"{key}.tenants[{{}}]", remedy="list a tenant once")
    tenants = {name: name for name in table.tenants}
    for claim, name in table.tenant_claims.items():
        no_wildcard(claim, key=f"{key}.tenant_claims")
        if name not in table.tenants:
            raise SettingsError("means a tenant that is not in this client's tenants", key=f"{key}.tenant_claims")
        if tenants.get(claim, name) != name:
            raise SettingsError("is the name of another tenant: one claim, one tenant", key=f"{key}.tenant_claims")
        tenants[claim] = name
    known = [one for name in table.tenants for one in around.bases[name]]
    if table.fhir_bases is None:
        return tuple(known), tenants
    bases = tuple(
        base(one, key=f"{key}.fhir_bases[{place}]", http=around.dev) for place, one in enumerate(table.fhir_bases)
    )
    for place, one in enumerate(bases):
        if one not in known:
            raise SettingsError(
                "is no FHIR base of this client's tenants: add it to the tenant first", key=f"{key}.fhir_bases[{place}]"
            )
    return bases, tenants


def _services(table: ClientTable, *, key: str) -> frozenset[str]:
    for place, name in enumerate(table.services):
        no_wildcard(name, key=f"{key}.services[{place}]")
        if name not in SERVICES:
            raise SettingsError(f"no service of that id: write some of {', '.join(SERVICES)}", key=f"{key}.services")
    return frozenset(table.services)


def _thumbprints(client: Client, *, key: str, around: Around) -> frozenset[str]:
    """Of the keys in the client's file. Raises SettingsError where it holds none, or one that anybody has."""
    if client.jwks_file is None:
        return frozenset()
    try:
        mode = client.jwks_file.stat().st_mode
        keys = keys_in(client.jwks_file)
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", key=key) from None
    except ValueError as error:
        raise SettingsError(str(error), key=key) from None
    if not around.dev and mode & stat.S_IWOTH:
        raise SettingsError("anybody may write it, and so be this client: chmod o-w", key=key)
    if not around.dev and any(map(trust.is_published, keys)):
        raise SettingsError(
            'holds a key whose private half is published (a public sandbox or test kit): only with profile = "dev"',
            key=key,
        )
    fitting = [one for one in keys if any(trust.fits(one, algorithm=name) for name in client.algorithms)]
    if not fitting:
        raise SettingsError("holds no key for this client's algorithms: see algorithms", key=key)
    return frozenset(one.thumbprint() for one in keys)


def keys_in(path: Path) -> tuple[trust.PublicKey, ...]:
    """The usable keys of a key set file. Raises OSError, and ValueError with a remedy."""
    with path.open("rb") as file:
        return trust.keys_of(file.read(trust.LARGEST_KEY_SET + 1))
