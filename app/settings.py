"""What an operator decides: one TOML file, or the flags of the dev profile.

Everything is checked at start, and a wrong value stops the start with file, line, key and remedy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

from app.clients import ANONYMOUS, Around, Client, ClientTable, NotEvaluatedAs, TokenRules, TrustTable, registered
from app.clinical.table import EVERYTHING, FOLLOW_UP
from app.configuration import File, Model, Name, SettingsError, base, endpoint, no_wildcard, origin, unique
from app.gateway import address, scopes
from app.gateway.backend_services import Algorithm, Credentials, load_key
from app.gateway.budget import READS
from app.gateway.fhir import Limits
from app.names import SERVICES
from app.protocols import loader, orders
from app.store import address as databases
from app.store.decisions import SPOOL_BYTES
from fhir_mappings import units
from fhir_mappings.coding import Coding
from fhir_mappings.coding import key as coded
from fhir_mappings.facts import Overlay

SuggestOn = Literal["pilot-simple", "pilot-full"]
BackendUse = Literal["when-insufficient", "only-without-token"]
Gather = Literal["parallel", "scope-first"]

LOCAL_ORIGINS: Final = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?"
"""Browser origins of the dev profile, as a regular expression: pages of this machine on any port (reading 7)."""

CALL_SHARE: Final = Decimal("0.85")
"""Of the deadline, for one FHIR request where the file says nothing; the rest is for what its answer asks for."""

HOOKS_AT_ONCE: Final = 64
"""Calls being answered at once; beyond it the answer is 503 at once, instead of every answer late."""

HOOKS_WAITING: Final = 32
"""Calls that wait a tenth of a second for a place; beyond it 503 without waiting (knowledge: security 3.3)."""

DEFAULT_DB: Final = "sqlite+aiosqlite:///rescue-cds.db"

DATABASE: Final = "RESCUE_CDS_DB"
"""An environment variable with the database's address, before the file's: an address may hold a password, which belongs
into no file that many read, and on no command line."""

DRAIN_SECONDS: Final = 5.0
"""How long a service that has been told to end goes on serving: whoever sends it requests asks every few seconds
whether it is ready."""

RECORD_SECONDS: Final = 5.0
"""For what has been evaluated to be on the disk: the database's patience of some 2 s, then the spool; twice that."""

MOST_WORKERS: Final = 64

SILENT: Final = "silent"
"""The mode of a caller who is shown nothing, while everything is evaluated and recorded."""

SILENCED: Final = "RESCUE_CDS_SILENCED"
"""An environment variable that silences beside the file: "all", or ids with commas between them."""


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
class Caller:
    """Who asks. `modes` are switches of the client's record: `not-evaluated-as-card`, `silent`.

    `registered`: a client's token has been checked, and the tenant's bases are those that this client may name.
    """

    client: str
    tenant: Tenant
    modes: frozenset[str] = frozenset()
    registered: bool = False
    services: frozenset[str] = frozenset(SERVICES)
    origins: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Admin:
    """Where operators and their tools reach the service: health, metrics, statistics. Never where clients do."""

    host: str = "127.0.0.1"
    port: int = 8001


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
    reach the service. `spool` None: beside the SQLite file, or in the working directory (`app.store.decisions`).
    """

    profile: Literal["dev", "site"]
    tenants: tuple[Tenant, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    admin: Admin = field(default_factory=Admin)
    clients: tuple[Client, ...] = ()
    tokens: TokenRules = field(default_factory=TokenRules)
    open_discovery: bool = False
    workers: int = 1
    drain_seconds: float = DRAIN_SECONDS
    deadline_seconds: float = 1.4
    hooks_at_once: int = HOOKS_AT_ONCE
    hooks_waiting: int = HOOKS_WAITING
    traces: str | None = None
    reads_per_hook: int = READS
    fhir: Limits = field(default_factory=Limits)
    body: BodyLimits = field(default_factory=BodyLimits)
    db: str = field(default=DEFAULT_DB, repr=False)
    spool: Path | None = None
    spool_bytes: int = SPOOL_BYTES
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
        if self.public_url is not None or self.profile == "site":
            return self.public_url
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def in_postgresql(self) -> bool:
        """Whether several processes may share the record."""
        return self.db.startswith(("postgresql", "postgres:"))

    @property
    def replay(self) -> Literal["memory", "database"]:
        """Where used tokens are remembered: as configured, else where every process of the service finds them."""
        return self.tokens.replay or ("database" if self.in_postgresql else "memory")

    @property
    def grace_seconds(self) -> float:
        """For the answers that are being made when the service ends: waiting for a place, reading, recording."""
        return 1.0 + self.deadline_seconds + RECORD_SECONDS

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
        modes = self._modes(self.not_evaluated_as, silent=False)
        return Caller(ANONYMOUS, self.tenants[0], modes, origins=frozenset(self.cors_origins))

    def caller(self, client: Client, *, tenant: str) -> Caller:
        """The caller whose token said that he is this client, at that tenant."""
        (found,) = (one for one in self.tenants if one.name == tenant)
        bases = tuple(base for base in found.bases if base in client.fhir_bases)
        # The service's own credentials are for the tenant's one base: no other way in for who may not name it.
        backend = found.backend if bases == found.bases else None
        return Caller(
            client.id,
            replace(found, bases=bases, backend=backend),
            self._modes(client.not_evaluated_as, silent=client.silent),
            registered=True,
            services=client.services,
            origins=client.origins,
        )

    def _modes(self, not_evaluated_as: NotEvaluatedAs, *, silent: bool) -> frozenset[str]:
        modes = {"not-evaluated-as-card"} if not_evaluated_as == "card" else set()
        return frozenset(modes | ({SILENT} if silent or EVERYTHING in self.silent else set()))


def dev(
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    fhir_urls: Sequence[str] = (),
    timezone: str = "UTC",
    db: str = DEFAULT_DB,
) -> Settings:
    """The profile without a file: open to any client, so on this machine only. Raises SettingsError."""
    _check_bind("dev", host, key="--host")
    bases = tuple(dict.fromkeys(base(url, key="--fhir-url", http=True) for url in fhir_urls))
    tenant = Tenant("dev", bases, _zone(timezone, key="--timezone"))
    return Settings("dev", (tenant,), host=host, port=port, admin=Admin(port=port + 1), db=db, drain_seconds=0.0)


def bound(settings: Settings, *, host: str | None, port: int | None, workers: int | None = None) -> Settings:
    """The same with what the command line says of its address and processes, which changes nothing of who may bind
    where. Raises SettingsError."""
    made = replace(
        settings, host=host or settings.host, port=port or settings.port, workers=workers or settings.workers
    )
    _check_bind(made.profile, made.host, key="--host")
    _check_ports(made.port, first=made.admin.port, workers=made.workers, key="--port" if port else "--workers")
    return made


def database_of(option: str | None, environment: Mapping[str, str], *, otherwise: str) -> str:
    """The database's address: what the command line says, else the environment, else the file. Raises BadDatabase,
    which says where an address stands that is none."""
    for place, url in (("--db", option), (DATABASE, environment.get(DATABASE)), ("store.url", otherwise)):
        if url:
            with databases.named(place):
                databases.parsed(url)
            return url
    return otherwise


def check_workers(settings: Settings) -> None:
    """Raises SettingsError for several processes that would not share what they have to share."""
    if settings.workers == 1:
        return
    if not settings.in_postgresql:
        raise SettingsError("SQLite is for one process: use PostgreSQL or --workers 1", key="service.workers")
    if settings.clients and settings.replay != "database":
        raise SettingsError(
            'one token could be used once at each of the processes: write "database", or leave it out',
            key="trust.replay",
        )


def _check_ports(port: int, *, first: int, workers: int, key: str) -> None:
    """Each process has a port for operators, from the first on. Raises SettingsError."""
    last = first + workers - 1
    if port == first:
        raise SettingsError("is the port of both clients and operators: give each its own", key=key)
    if first < port <= last:
        raise SettingsError(
            "operators reach the processes at admin.port, admin.port + 1 and so on: let clients reach a port that is "
            "none of them",
            key=key,
        )
    if last > 65535:
        raise SettingsError("operators reach the last process at admin.port + workers - 1: write a lower one", key=key)


# --- the file ---------------------------------------------------------------------------------------------


class _Service(Model):
    profile: Literal["dev", "site"] = "site"
    host: Name = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    allow_unauthenticated: bool = False
    open_discovery: bool = False
    workers: int = Field(default=1, ge=1, le=MOST_WORKERS)
    drain_seconds: Decimal | int | None = Field(default=None, ge=0, le=300)
    deadline_seconds: Decimal | int = Field(default=Decimal("1.4"), gt=0, le=30)
    hooks_at_once: int = Field(default=HOOKS_AT_ONCE, ge=1, le=4096)
    hooks_waiting: int = Field(default=HOOKS_WAITING, ge=0, le=4096)
    suggest_on: SuggestOn = "pilot-simple"
    not_evaluated_as: NotEvaluatedAs = "412"
    cors_origins: list[Name] = []
    public_url: Name | None = None


class _Admin(Model):
    host: Name = Admin().host
    port: int = Field(default=Admin().port, ge=1, le=65535)


class _Traces(Model):
    endpoint: Name


class _Protocols(Model):
    silenced: list[Name] | Name = []
    silent: list[Name] | Name = []


class _Snooze(Model):
    hours: Decimal | int = Field(default=12, gt=0, le=168)
    kinds: list[Literal["undetermined", "thresholds-met", "course", "safety", "order-select", "order-sign"]] = [
        "undetermined"
    ]


class _Body(Model):
    max_mib: int = Field(default=32, ge=1, le=256)
    max_depth: int = Field(default=64, ge=8, le=512)
    max_number: int = Field(default=64, ge=16, le=1024)
    max_seconds: int = Field(default=20, ge=1, le=300)


class _Fhir(Model):
    call_seconds: Decimal | int | None = Field(default=None, gt=0, le=30)
    connect_seconds: Decimal | int = Field(default=1, gt=0, le=30)
    reads_per_hook: int = Field(default=READS, ge=1, le=64)
    reads_per_server: int = Field(default=Limits().reads, ge=1, le=1024)


class _Store(Model):
    url: Name = DEFAULT_DB
    spool: Name | None = None
    spool_mib: int = Field(default=SPOOL_BYTES // 2**20, ge=1, le=65536)


class _Backend(Model):
    client_id: Name
    token_url: Name
    key_file: Name
    key_id: Name
    algorithm: Algorithm = "ES384"
    scopes: list[Name] = Field(default=list(scopes.SYSTEM_READ), min_length=1)
    jwks_url: Name | None = None
    use: BackendUse = "when-insufficient"


class _Tenant(Model):
    name: Name
    zone: Name
    fhir_bases: list[Name] = []
    overlay: Name | None = None
    backend: _Backend | None = None
    gather: Gather = "parallel"


class _File(Model):
    service: _Service = _Service()
    admin: _Admin = _Admin()
    protocols: _Protocols = _Protocols()
    snooze: _Snooze | None = None
    body: _Body = _Body()
    fhir: _Fhir = _Fhir()
    store: _Store = _Store()
    traces: _Traces | None = None
    trust: TrustTable = TrustTable()
    tenants: list[_Tenant] = Field(min_length=1)
    clients: list[ClientTable] = []


class _SiteCode(Model):
    concept: Name
    kind: str = ""


class _Overlay(Model):
    signed_by: Name
    signed_on: date
    codes: dict[str, _SiteCode] = {}
    unit_when_absent: dict[str, Name] = {}
    percent_means_fraction: list[Name] = []
    static: list[Name] = []
    arterial: list[Name] = []
    generic_ecmo: Literal["veno-venous"] | None = None
    local_uln: dict[str, Decimal | int] = {}
    not_measured: list[Name] = []
    absent_source: list[Name] = []
    products: dict[str, list[Name]] = {}
    irrelevant_products: list[Name] = []
    conditions: dict[str, list[Name]] = {}
    noradrenaline_salt: Literal["base", "tartrate"] = "base"
    pulse_oximetry: bool = False


def load(path: Path) -> Settings:
    """The settings of a file. Paths in it are relative to it. Raises SettingsError."""
    file = File(path)
    read = file.validated(_File)
    try:
        return _settings(read, folder=path.parent)
    except SettingsError as error:
        raise file.located(error) from None


def _settings(read: _File, *, folder: Path) -> Settings:
    """Raises SettingsError with the key of what is wrong."""
    service = read.service
    dev_profile = service.profile == "dev"
    _check_bind(service.profile, service.host, key="service.host")
    _check_bind(service.profile, read.admin.host, key="admin.host")
    _check_ports(service.port, first=read.admin.port, workers=service.workers, key="admin.port")
    tenants = tuple(
        _tenant(tenant, key=f"tenants[{number}]", folder=folder, http=dev_profile)
        for number, tenant in enumerate(read.tenants)
    )
    unique([tenant.name for tenant in tenants], key="tenants[{}].name", remedy="give every tenant a name of its own")
    _check_bases(tenants)
    if len(tenants) > 1 and service.hooks_at_once < 2 * len(tenants):
        raise SettingsError(
            "leaves no place to each tenant, so that one could take all of them: at least twice the number of tenants",
            key="service.hooks_at_once",
        )
    public_url = None if service.public_url is None else _public(service.public_url, http=dev_profile)
    if read.fhir.call_seconds is not None and read.fhir.call_seconds > service.deadline_seconds:
        raise SettingsError("longer than service.deadline_seconds, which ends every call", key="fhir.call_seconds")
    clients = registered(
        read.clients,
        around=Around(
            folder=folder,
            dev=dev_profile,
            bases={tenant.name: tenant.bases for tenant in tenants},
            public_url=service.public_url,
            not_evaluated_as=service.not_evaluated_as,
        ),
    )
    _check_callers(read, tenants)
    origins = [
        origin(one, key=f"service.cors_origins[{number}]", http=dev_profile)
        for number, one in enumerate(service.cors_origins)
    ]
    return Settings(
        service.profile,
        tenants,
        host=service.host,
        port=service.port,
        admin=Admin(read.admin.host, read.admin.port),
        clients=clients,
        tokens=TokenRules(read.trust.leeway_seconds, read.trust.longest_seconds, read.trust.replay),
        open_discovery=service.open_discovery,
        workers=service.workers,
        drain_seconds=_drain(service.drain_seconds, dev=dev_profile),
        deadline_seconds=float(service.deadline_seconds),
        hooks_at_once=service.hooks_at_once,
        hooks_waiting=service.hooks_waiting,
        traces=None if read.traces is None else endpoint(read.traces.endpoint, key="traces.endpoint", http=dev_profile),
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
        spool=None if read.store.spool is None else folder / read.store.spool,
        spool_bytes=read.store.spool_mib * 2**20,
        suggest_on=service.suggest_on,
        not_evaluated_as=service.not_evaluated_as,
        cors_origins=tuple(dict.fromkeys([*origins, *(one for client in clients for one in sorted(client.origins))])),
        public_url=public_url,
        silenced=_silenced(read.protocols.silenced, key="protocols.silenced"),
        silent=_silenced(read.protocols.silent, key="protocols.silent"),
        snooze=_snooze(read),
    )


def _drain(said: Decimal | int | None, *, dev: bool) -> float:
    """Nobody asks a service on a desk whether it is ready."""
    return float(said) if said is not None else 0.0 if dev else DRAIN_SECONDS


def _check_bind(profile: str, host: str, *, key: str) -> None:
    if profile == "dev" and not address.is_loopback(host):
        raise SettingsError(
            "the dev profile may answer anybody, so it binds to 127.0.0.1, ::1 or localhost only; "
            'write a config file with profile = "site" to bind elsewhere',
            key=key,
        )


def _check_bases(tenants: Sequence[Tenant]) -> None:
    """A base is one tenant's, and so is everything below it: links to further pages may lead there."""
    owners: dict[str, str] = {}
    for number, tenant in enumerate(tenants):
        for place, one in enumerate(tenant.bases):
            if one in owners:
                raise SettingsError(
                    "the same value twice: a FHIR base belongs to one tenant, once",
                    key=f"tenants[{number}].fhir_bases[{place}]",
                )
            if any(
                f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")
                for other, owner in owners.items()
                if owner != tenant.name
            ):
                raise SettingsError(
                    "one lies below a FHIR base of another tenant: what is read of one could be of the other",
                    key=f"tenants[{number}].fhir_bases[{place}]",
                )
            owners[one] = tenant.name


def _check_callers(read: _File, tenants: Sequence[Tenant]) -> None:
    """Who is answered has to be said: clients with their keys, or anybody, never both."""
    service = read.service
    if read.clients:
        if service.allow_unauthenticated:
            raise SettingsError(
                "together with [[clients]] it would leave open what they lock: remove one of the two",
                key="service.allow_unauthenticated",
            )
        if service.cors_origins:
            raise SettingsError(
                "write the origins of each client into its own cors_origins", key="service.cors_origins"
            )
        return
    if service.open_discovery:
        raise SettingsError("without [[clients]] everything is open", key="service.open_discovery")
    if not service.allow_unauthenticated and service.profile != "dev":
        raise SettingsError(
            "who may call? add [[clients]] (rescue-cds clients add), or set it to true if something in front of the "
            "service lets only the EHR through",
            key="service.allow_unauthenticated",
        )
    if len(tenants) > 1:
        raise SettingsError(
            "callers that nobody authenticates cannot be told apart: configure one tenant, or [[clients]]",
            key="tenants",
        )


def _snooze(read: _File) -> Snooze | None:
    """Registered clients: one unchanged undetermined state in 12 h, unless the file says otherwise (reading 7)."""
    if read.snooze is None:
        return Snooze() if read.clients else None
    return Snooze(float(read.snooze.hours), frozenset(read.snooze.kinds)) if read.snooze.kinds else None


def silenced_by(environment: Mapping[str, str]) -> frozenset[str]:
    """What the environment silences, in addition to a file. Raises SettingsError."""
    names = (name.strip() for name in environment.get(SILENCED, "").split(","))
    return _silenced([name for name in names if name], key=SILENCED)


def _silenced(said: Sequence[str] | str, *, key: str) -> frozenset[str]:
    """The ids, or "all" alone wherever it stands: nobody shall have to look up how it is written that day."""
    names = {said} if isinstance(said, str) else set(said)
    if EVERYTHING in names:
        return frozenset({EVERYTHING})
    if not names:
        return frozenset()
    known = dict.fromkeys((*(p.id for p in loader.load().knowledge.protocols), FOLLOW_UP, orders.ID))
    if not names <= known.keys():
        raise SettingsError(f'no protocol of that id: write "{EVERYTHING}", or some of {", ".join(known)}', key=key)
    return frozenset(names)


def load_overlay(path: Path) -> Overlay:
    """A site's overlay file; codes may be written with the short or the full name of their system.

    Raises SettingsError, also when nobody has signed it.
    """
    file = File(path)
    try:
        return _overlay(file.validated(_Overlay))
    except SettingsError as error:
        raise file.located(error) from None


def _overlay(read: _Overlay) -> Overlay:
    """Raises SettingsError with the key of what is wrong."""

    def named(code: str, where: str) -> str:
        system, bar, value = code.rpartition("|")
        if not (bar and system and value):
            raise SettingsError("write every code as system|code", key=where)
        return coded(Coding(system, value))

    for code, unit in read.unit_when_absent.items():
        if not units.is_unit(unit):
            raise SettingsError(
                f"{code}: no unit that is accepted: write one of fhir_mappings/units.toml", key="unit_when_absent"
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


def _tenant(read: _Tenant, *, key: str, folder: Path, http: bool) -> Tenant:
    no_wildcard(read.name, key=f"{key}.name")
    bases = tuple(base(url, key=f"{key}.fhir_bases[{place}]", http=http) for place, url in enumerate(read.fhir_bases))
    overlay = Overlay() if read.overlay is None else load_overlay(folder / read.overlay)
    zone = _zone(read.zone, key=f"{key}.zone")
    if read.gather == "scope-first" and not bases:
        raise SettingsError("scope-first needs a server to read: add fhir_bases", key=f"{key}.gather")
    tenant = Tenant(read.name, bases, zone, overlay, gather=read.gather)
    if read.backend is None:
        return tenant
    if len(bases) != 1:
        raise SettingsError(
            "its tokens are for one FHIR server: configure exactly one address in fhir_bases", key=f"{key}.backend"
        )
    backend = _credentials(read.backend, key=f"{key}.backend", folder=folder, http=http)
    return replace(tenant, backend=backend, backend_use=read.backend.use)


def _credentials(read: _Backend, *, key: str, folder: Path, http: bool) -> Credentials:
    for number, scope in enumerate(read.scopes):
        if not scopes.is_system(scope):
            raise SettingsError("write a system scope like system/Observation.rs", key=f"{key}.scopes[{number}]")
    try:
        private = load_key(folder / read.key_file, algorithm=read.algorithm)
    except ValueError as error:
        raise SettingsError(str(error), key=f"{key}.key_file") from None
    return Credentials(
        client_id=read.client_id,
        token_url=endpoint(read.token_url, key=f"{key}.token_url", http=http),
        algorithm=read.algorithm,
        key_id=read.key_id,
        key=private,
        scopes=tuple(read.scopes),
        jwks_url="" if read.jwks_url is None else endpoint(read.jwks_url, key=f"{key}.jwks_url", http=http),
    )


def _public(url: str, *, http: bool) -> str:
    """The address that a card sends a clinician's browser to, and the audience of a client's token."""
    key = "service.public_url"
    no_wildcard(url, key=key)
    try:
        parsed = address.parse(url)
    except ValueError as error:
        raise SettingsError(str(error), key=key) from None
    if parsed.scheme == "http" and not http:
        raise SettingsError("a page that can be changed on its way says nothing: use https", key=key)
    if parsed.path.endswith("/cds-services"):
        raise SettingsError("write the part before /cds-services", key=key)
    return str(parsed)


def _zone(name: str, *, key: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise SettingsError("not an IANA time zone: write it like Europe/Paris or UTC", key=key) from None
