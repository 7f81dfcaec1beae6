"""What an operator decides: one TOML file, or the flags of the dev profile.

Everything is checked at start, and a wrong value stops the start with the file, the key and the remedy: a service
that guesses what its operator meant guesses about patients.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.clinical.table import EVERYTHING, FOLLOW_UP
from app.gateway import address, scopes
from app.gateway.backend_services import Algorithm, Credentials, load_key
from app.gateway.budget import READS
from app.gateway.fhir import Limits
from app.protocols import loader, orders
from fhir_mappings import units
from fhir_mappings.coding import Coding, key
from fhir_mappings.facts import Overlay

SuggestOn = Literal["pilot-simple", "pilot-full"]
NotEvaluatedAs = Literal["412", "card"]
BackendUse = Literal["when-insufficient", "only-without-token"]
Gather = Literal["parallel", "scope-first"]

LOCAL_ORIGINS: Final = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?"
"""Browser origins of the dev profile, as a regular expression: pages of this machine on any port (reading 7)."""

CALL_SHARE: Final = Decimal("0.85")
"""Of the deadline, for one FHIR request where the file says nothing; the rest is for what its answer asks for."""

HOOKS_AT_ONCE: Final = 64
"""Calls being answered at once; beyond it the answer is 503 at once, instead of every answer late."""

ANONYMOUS: Final = "anonymous"
DEFAULT_DB: Final = "sqlite+aiosqlite:///rescue-cds.db"

SILENT: Final = "silent"
"""The mode of a caller who is shown nothing, while everything is evaluated and recorded."""

SILENCED: Final = "RESCUE_CDS_SILENCED"
"""An environment variable that silences beside the file: "all", or ids with commas between them."""


class SettingsError(ValueError):
    """Names the file, the key and the remedy. Never holds a value, which may be a secret."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One hospital: its FHIR bases (normalised, no last slash), its time zone, what it says about its own data.

    `backend` are credentials of the service's own for its one FHIR base. `backend_use` says when: where the token of
    a hook does not suffice, or only where there is none. `gather`: everything side by side, or first what decides
    whether the rest is needed (app/scope.py).
    """

    name: str
    bases: tuple[str, ...]
    zone: ZoneInfo
    overlay: Overlay = field(default_factory=Overlay, repr=False)
    backend: Credentials | None = field(default=None, repr=False)
    backend_use: BackendUse = "when-insufficient"
    gather: Gather = "parallel"

    def base_of(self, url: str) -> str | None:
        """The configured base that a sent `fhirServer` means, or None: then nothing may be connected to."""
        return address.find(url, self.bases)


@dataclass(frozen=True, slots=True)
class Client:
    """One CDS client: the tenants it may speak for, the service ids it may call (empty: all), and whether it is only
    evaluated and recorded (`silent`)."""

    id: str
    tenants: tuple[str, ...]
    allowed: tuple[str, ...] = ()
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `modes` are switches of the client's record: `not-evaluated-as-card`, `silent`."""

    client: str
    tenant: Tenant
    modes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a request body may be (reading 7): bytes, depth of nesting, characters of a number, seconds to arrive."""

    bytes: int = 32 * 1024 * 1024
    depth: int = 64
    number: int = 64
    seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class Snooze:
    """For how long an unchanged state is not shown to the same user again, and of which kinds of card (reading 7)."""

    hours: float = 12.0
    kinds: frozenset[str] = frozenset({"undetermined"})


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it, checked. `cors_origins` are exact origins; the dev profile adds those of `LOCAL_ORIGINS`.

    `silenced` are protocols that may say nothing, or "all"; `silent` are those that are evaluated and recorded as ever
    while nobody is shown their cards. `snooze` None: every state is shown each time. `public_url` is where clinicians
    reach the service.
    """

    profile: Literal["dev", "file"]
    tenants: tuple[Tenant, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    clients: tuple[Client, ...] = ()
    allow_unauthenticated: bool = False
    deadline_seconds: float = 1.4
    hooks_at_once: int = HOOKS_AT_ONCE
    reads_per_hook: int = READS
    fhir: Limits = field(default_factory=Limits)
    body: BodyLimits = field(default_factory=BodyLimits)
    db: str = field(default=DEFAULT_DB, repr=False)
    suggest_on: SuggestOn = "pilot-simple"
    not_evaluated_as: NotEvaluatedAs = "412"
    cors_origins: tuple[str, ...] = ()
    public_url: str | None = None
    silenced: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    snooze: Snooze | None = None

    @property
    def published_at(self) -> str | None:
        """The base of the addresses in cards: as configured; on this machine where it listens; else unknown."""
        if self.public_url is not None or self.profile == "file":
            return self.public_url
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def bases(self) -> tuple[str, ...]:
        """Every configured FHIR base."""
        return tuple(base for tenant in self.tenants for base in tenant.bases)

    def base_of(self, url: str) -> str | None:
        """The configured base, of any tenant, that a sent address means, or None."""
        return address.find(url, self.bases)

    @property
    def anonymous(self) -> Caller:
        """The caller of a request that nobody has authenticated: there is one tenant then."""
        modes = frozenset({"not-evaluated-as-card"} if self.not_evaluated_as == "card" else ())
        modes |= {SILENT} if EVERYTHING in self.silent else frozenset()
        return Caller(ANONYMOUS, self.tenants[0], modes)


def dev(
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    fhir_urls: Sequence[str] = (),
    timezone: str = "UTC",
    db: str = DEFAULT_DB,
) -> Settings:
    """The profile without a file: open to any client, so on this machine only. Raises SettingsError."""
    if not address.is_loopback(host):
        raise SettingsError(
            "--host: without --config the service answers anybody, so it binds to 127.0.0.1, ::1 or localhost only; "
            "write a config file to bind elsewhere"
        )
    bases = tuple(dict.fromkeys(_base(url, where="--fhir-url", allow_http=True) for url in fhir_urls))
    tenant = Tenant("dev", bases, _zone(timezone, where="--timezone"))
    return Settings("dev", (tenant,), host=host, port=port, allow_unauthenticated=True, db=db)


# --- the file ---------------------------------------------------------------------------------------------

_Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]


_M = TypeVar("_M", bound=BaseModel)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class _Service(_Model):
    host: _Name = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    allow_unauthenticated: bool = False
    deadline_seconds: Decimal | int = Field(default=Decimal("1.4"), gt=0, le=30)
    hooks_at_once: int = Field(default=HOOKS_AT_ONCE, ge=1, le=4096)
    suggest_on: SuggestOn = "pilot-simple"
    not_evaluated_as: NotEvaluatedAs = "412"
    cors_origins: list[_Name] = []
    public_url: _Name | None = None


class _Protocols(_Model):
    silenced: list[_Name] | _Name = []
    silent: list[_Name] | _Name = []


class _Snooze(_Model):
    hours: Decimal | int = Field(default=12, gt=0, le=168)
    kinds: list[Literal["undetermined", "thresholds-met", "course", "safety", "order-select", "order-sign"]] = [
        "undetermined"
    ]


class _Body(_Model):
    max_mib: int = Field(default=32, ge=1, le=256)
    max_depth: int = Field(default=64, ge=8, le=512)
    max_number: int = Field(default=64, ge=16, le=1024)
    max_seconds: int = Field(default=20, ge=1, le=300)


class _Fhir(_Model):
    call_seconds: Decimal | int | None = Field(default=None, gt=0, le=30)
    connect_seconds: Decimal | int = Field(default=1, gt=0, le=30)
    reads_per_hook: int = Field(default=READS, ge=1, le=64)
    reads_per_server: int = Field(default=Limits().reads, ge=1, le=1024)


class _Store(_Model):
    url: _Name = DEFAULT_DB


class _Backend(_Model):
    client_id: _Name
    token_url: _Name
    key_file: _Name
    key_id: _Name
    algorithm: Algorithm = "ES384"
    scopes: list[_Name] = Field(default=list(scopes.SYSTEM_READ), min_length=1)
    jwks_url: _Name | None = None
    use: BackendUse = "when-insufficient"


class _Tenant(_Model):
    name: _Name
    zone: _Name
    fhir_bases: list[_Name] = []
    allow_http: bool = False
    overlay: _Name | None = None
    backend: _Backend | None = None
    gather: Gather = "parallel"


class _Client(_Model):
    id: _Name
    tenants: list[_Name] = Field(min_length=1)
    allowed: list[_Name] = []
    silent: bool = False


class _File(_Model):
    service: _Service = _Service()
    protocols: _Protocols = _Protocols()
    snooze: _Snooze | None = None
    body: _Body = _Body()
    fhir: _Fhir = _Fhir()
    store: _Store = _Store()
    tenants: list[_Tenant] = Field(min_length=1)
    clients: list[_Client] = []


class _SiteCode(_Model):
    concept: _Name
    kind: str = ""


class _Overlay(_Model):
    signed_by: _Name
    signed_on: date
    codes: dict[str, _SiteCode] = {}
    unit_when_absent: dict[str, _Name] = {}
    percent_means_fraction: list[_Name] = []
    static: list[_Name] = []
    arterial: list[_Name] = []
    generic_ecmo: Literal["veno-venous"] | None = None
    local_uln: dict[str, Decimal | int] = {}
    not_measured: list[_Name] = []
    absent_source: list[_Name] = []
    products: dict[str, list[_Name]] = {}
    irrelevant_products: list[_Name] = []
    conditions: dict[str, list[_Name]] = {}
    noradrenaline_salt: Literal["base", "tartrate"] = "base"
    pulse_oximetry: bool = False


def load(path: Path) -> Settings:
    """The settings of a file. Paths in it are relative to it. Raises SettingsError."""
    read = _validated(_File, _toml(path), path=path)
    service = read.service
    tenants = tuple(_tenant(tenant, number, path=path) for number, tenant in enumerate(read.tenants))
    names = [tenant.name for tenant in tenants]
    _unique(names, key="tenants.name", path=path, remedy="give every tenant a name of its own")
    _unique(
        [base for tenant in tenants for base in tenant.bases],
        key="tenants.fhir_bases",
        path=path,
        remedy="a FHIR base belongs to one tenant, once",
    )
    for number, client in enumerate(read.clients):
        if not set(client.tenants) <= set(names):
            raise SettingsError(f"{path}: clients[{number}].tenants: names a tenant that is not in [[tenants]]")
    _unique([client.id for client in read.clients], key="clients.id", path=path, remedy="list a client once")
    if read.fhir.call_seconds is not None and read.fhir.call_seconds > service.deadline_seconds:
        raise SettingsError(f"{path}: fhir.call_seconds: longer than service.deadline_seconds, which ends every call")
    if not service.allow_unauthenticated:
        raise SettingsError(
            f"{path}: service.allow_unauthenticated: client tokens are not checked yet, so anybody who reaches the "
            "service is answered: set it to true if only the EHR can reach it"
        )
    if len(tenants) > 1:
        raise SettingsError(
            f"{path}: tenants: callers that nobody authenticates cannot be told apart: configure one tenant"
        )
    return Settings(
        "file",
        tenants,
        host=service.host,
        port=service.port,
        clients=tuple(Client(c.id, tuple(c.tenants), tuple(c.allowed), c.silent) for c in read.clients),
        allow_unauthenticated=service.allow_unauthenticated,
        deadline_seconds=float(service.deadline_seconds),
        hooks_at_once=service.hooks_at_once,
        reads_per_hook=read.fhir.reads_per_hook,
        fhir=Limits(
            call_seconds=float(read.fhir.call_seconds or service.deadline_seconds * CALL_SHARE),
            connect_seconds=float(read.fhir.connect_seconds),
            reads=read.fhir.reads_per_server,
        ),
        body=BodyLimits(
            read.body.max_mib * 1024 * 1024, read.body.max_depth, read.body.max_number, float(read.body.max_seconds)
        ),
        db=read.store.url,
        suggest_on=service.suggest_on,
        not_evaluated_as=service.not_evaluated_as,
        cors_origins=tuple(
            _origin(origin, where=f"{path}: service.cors_origins[{number}]")
            for number, origin in enumerate(service.cors_origins)
        ),
        public_url=None if service.public_url is None else _public(service.public_url, where=f"{path}: service"),
        silenced=_silenced(read.protocols.silenced, where=f"{path}: protocols.silenced"),
        silent=_silenced(read.protocols.silent, where=f"{path}: protocols.silent"),
        snooze=None if read.snooze is None else Snooze(float(read.snooze.hours), frozenset(read.snooze.kinds)),
    )


def silenced_by(environment: Mapping[str, str]) -> frozenset[str]:
    """What the environment silences, in addition to a file. Raises SettingsError."""
    names = (name.strip() for name in environment.get(SILENCED, "").split(","))
    return _silenced([name for name in names if name], where=SILENCED)


def _silenced(said: Sequence[str] | str, *, where: str) -> frozenset[str]:
    """The ids, or "all" alone wherever it stands: nobody shall have to look up how it is written that day."""
    names = {said} if isinstance(said, str) else set(said)
    if EVERYTHING in names:
        return frozenset({EVERYTHING})
    if not names:
        return frozenset()
    known = dict.fromkeys((*(p.id for p in loader.load().knowledge.protocols), FOLLOW_UP, orders.ID))
    if not names <= known.keys():
        raise SettingsError(f'{where}: no protocol of that id: write "{EVERYTHING}", or some of {", ".join(known)}')
    return frozenset(names)


def load_overlay(path: Path) -> Overlay:
    """A site's overlay file; codes may be written with the short or the full name of their system.

    Raises SettingsError, also when nobody has signed it.
    """
    read = _validated(_Overlay, _toml(path), path=path)

    def named(code: str, where: str) -> str:
        system, bar, value = code.rpartition("|")
        if not (bar and system and value):
            raise SettingsError(f"{path}: {where}: write every code as system|code")
        return key(Coding(system, value))

    for code, unit in read.unit_when_absent.items():
        if not units.is_unit(unit):
            raise SettingsError(
                f"{path}: unit_when_absent: {code}: no unit that is accepted: write one of fhir_mappings/units.toml"
            )

    def listed(codes: Sequence[str], where: str) -> frozenset[str]:
        return frozenset(named(code, where) for code in codes)

    return Overlay(
        codes={named(code, "codes"): (entry.concept, entry.kind) for code, entry in read.codes.items()},
        unit_when_absent={named(code, "unit_when_absent"): unit for code, unit in read.unit_when_absent.items()},
        percent_means_fraction=listed(read.percent_means_fraction, "percent_means_fraction"),
        static=listed(read.static, "static"),
        arterial=listed(read.arterial, "arterial"),
        generic_ecmo_is_veno_venous=read.generic_ecmo is not None,
        local_uln={concept: Decimal(limit) for concept, limit in read.local_uln.items()},
        not_measured=frozenset(read.not_measured),
        absent_source=frozenset(read.absent_source),
        products={named(code, "products"): tuple(names) for code, names in read.products.items()},
        irrelevant_products=listed(read.irrelevant_products, "irrelevant_products"),
        conditions={named(code, "conditions"): tuple(names) for code, names in read.conditions.items()},
        noradrenaline_salt=read.noradrenaline_salt,
        pulse_oximetry=read.pulse_oximetry,
    )


def _tenant(read: _Tenant, number: int, *, path: Path) -> Tenant:
    where = f"{path}: tenants[{number}]"
    bases = tuple(
        _base(url, where=f"{where}.fhir_bases[{place}]", allow_http=read.allow_http)
        for place, url in enumerate(read.fhir_bases)
    )
    overlay = Overlay() if read.overlay is None else load_overlay(path.parent / read.overlay)
    zone = _zone(read.zone, where=f"{where}.zone")
    if read.gather == "scope-first" and not bases:
        raise SettingsError(f"{where}.gather: scope-first needs a server to read: add fhir_bases")
    tenant = Tenant(read.name, bases, zone, overlay, gather=read.gather)
    if read.backend is None:
        return tenant
    if len(bases) != 1:
        raise SettingsError(
            f"{where}.backend: its tokens are for one FHIR server: configure exactly one address in fhir_bases"
        )
    backend = _credentials(read.backend, where=f"{where}.backend", folder=path.parent, allow_http=read.allow_http)
    return replace(tenant, backend=backend, backend_use=read.backend.use)


def _credentials(read: _Backend, *, where: str, folder: Path, allow_http: bool) -> Credentials:
    for number, scope in enumerate(read.scopes):
        if not scopes.is_system(scope):
            raise SettingsError(f"{where}.scopes[{number}]: write a system scope like system/Observation.rs")
    try:
        key = load_key(folder / read.key_file, algorithm=read.algorithm)
    except ValueError as error:
        raise SettingsError(f"{where}.key_file: {error}") from None
    return Credentials(
        client_id=read.client_id,
        token_url=_endpoint(read.token_url, where=f"{where}.token_url", allow_http=allow_http),
        algorithm=read.algorithm,
        key_id=read.key_id,
        key=key,
        scopes=tuple(read.scopes),
        jwks_url="" if read.jwks_url is None else _endpoint(read.jwks_url, where=f"{where}.jwks_url", allow_http=False),
    )


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not UTF-8 text: save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        # Its messages say what and where ("at line 3, column 7"), never a value.
        raise SettingsError(f"{path}: not TOML: {error}") from None


def _validated(model: type[_M], data: Mapping[str, Any], *, path: Path) -> _M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise SettingsError(f"{path}: {_dotted(first['loc'])}: {_REMEDIES.get(first['type'], first['msg'])}") from None


_REMEDIES: Final = {
    "extra_forbidden": "no such key: remove it, or see docs/config.example.toml for how it is spelled",
    "missing": "is missing: add it",
}


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _base(url: str, *, where: str, allow_http: bool) -> str:
    try:
        base = address.parse(url)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None
    if base.host.endswith("."):
        raise SettingsError(f"{where}: write the host name without the last dot")
    if base.scheme == "http" and not (allow_http or base.loopback):
        raise SettingsError(
            f"{where}: http would send tokens and patient data unprotected: use https, or allow_http = true"
        )
    return str(base)


def _endpoint(url: str, *, where: str, allow_http: bool) -> str:
    """An address to post to, or to name: unlike one to append to, it keeps its last slash."""
    if "?" in url:
        raise SettingsError(f"{where}: the address must have no query")
    return _base(url, where=where, allow_http=allow_http) + ("/" if url.endswith("/") else "")


def _public(url: str, *, where: str) -> str:
    """The address that a card sends a clinician's browser to."""
    try:
        base = address.parse(url)
    except ValueError as error:
        raise SettingsError(f"{where}.public_url: {error}") from None
    if base.scheme == "http" and not base.loopback:
        raise SettingsError(f"{where}.public_url: a page that can be changed on its way says nothing: use https")
    return str(base)


def _origin(origin: str, *, where: str) -> str:
    try:
        base = address.parse(origin)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None
    if base.path:
        raise SettingsError(f"{where}: an origin is scheme, host and port, without a path")
    return base.origin


def _zone(name: str, *, where: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise SettingsError(f"{where}: not an IANA time zone: write it like Europe/Paris or UTC") from None


def _unique(values: Sequence[str], *, key: str, path: Path, remedy: str) -> None:
    if len(set(values)) != len(values):
        raise SettingsError(f"{path}: {key}: the same value twice: {remedy}")
