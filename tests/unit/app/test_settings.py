"""Settings: what a file says, and what is refused with file, key and remedy."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from joserfc.jwk import ECKey, RSAKey

from app import settings, snooze
from app.configuration import SettingsError
from app.gateway.scopes import SYSTEM_READ
from app.settings import dev, load, load_overlay
from app.store.errors import BadDatabase

EXAMPLE = Path(__file__).parents[3] / "docs" / "config.example.toml"
TENANT = '[[tenants]]\nname = "a"\nzone = "Europe/Paris"\nfhir_bases = ["https://fhir.example.org/r4"]\n'
OPEN = "[service]\nallow_unauthenticated = true\n"


BACKEND = (
    '[tenants.backend]\nclient_id = "client-1"\ntoken_url = "https://auth.example.org/o/token/"\n'
    'key_file = "keys/backend.pem"\nkey_id = "kid-1"\n'
)
KEY = ECKey.generate_key("P-384")


def written(folder: Path, text: str, name: str = "config.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_documented_example_loads_and_shows_the_defaults(tmp_path: Path) -> None:
    example = load(EXAMPLE)
    minimal = load(
        written(
            tmp_path,
            OPEN + TENANT.replace('"a"', '"example-hospital"'),
        )
    )
    assert example == minimal
    assert example.profile == "site"
    assert example.bases == ("https://fhir.example.org/r4",)
    assert example.body == settings.BodyLimits()
    assert example.deadline_seconds == 1.4


def test_the_overlay_in_the_example_comment_loads(tmp_path: Path) -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").split("except the signature:")[1].splitlines()
    overlay = load_overlay(written(tmp_path, "\n".join(line.removeprefix("#")[1:] for line in lines)))
    assert overlay.percent_means_fraction == {"loinc|19994-3"}
    assert overlay.codes == {"https://hospital.example.org/codes|FIO2-V": ("fio2", "ventilator")}
    assert overlay.local_uln == {"alt": Decimal(45)}
    assert overlay.products == {"https://hospital.example.org/drugs|KIN100": ("anakinra",)}
    assert overlay.conditions == {"https://hospital.example.org/flags|DNR": ("comfort-care",)}
    assert overlay.generic_ecmo_is_veno_venous
    assert overlay.noradrenaline_salt == "tartrate"
    assert overlay.pulse_oximetry
    assert overlay.not_measured == {"ast"}
    assert overlay.absent_source == {"AllergyIntolerance"}
    assert overlay.static == {"https://hospital.example.org/codes|CRS"}
    assert overlay.arterial == {"loinc|2703-7"}
    assert overlay.unit_when_absent == {"https://hospital.example.org/codes|FIO2-V": "%"}
    assert overlay.irrelevant_products == {"https://hospital.example.org/drugs|123"}


def test_an_overlay_is_found_beside_the_file_and_its_systems_get_short_names(tmp_path: Path) -> None:
    written(tmp_path, 'signed_by = "Dr. A"\nsigned_on = 2026-01-01\nstatic = ["http://loinc.org|60827-3"]\n', "o.toml")
    tenant = load(written(tmp_path, OPEN + TENANT + 'overlay = "o.toml"\n')).anonymous.tenant
    assert tenant.overlay.static == {"loinc|60827-3"}
    assert tenant.zone.key == "Europe/Paris"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("signed_on = 2026-01-01\n", "signed_by: is missing"),
        ('signed_by = ""\nsigned_on = 2026-01-01\n', "signed_by"),
        (
            'signed_by = "x"\nsigned_on = 2026-01-01\nstatic = ["60827-3"]\n',
            r"static: write every code as system\|code",
        ),
        ('signed_by = "x"\nsigned_on = 2026-01-01\ngeneric_ecmo = "maybe"\n', "generic_ecmo"),
        (
            'signed_by = "x"\nsigned_on = 2026-01-01\n[unit_when_absent]\n"loinc|1988-5" = "?"\n',
            r"config\.toml:3: unit_when_absent: loinc\|1988-5: no unit .*units\.toml",
        ),
        ('signed_by = "x"\nsigned_on = 2026-01-01\nfio2 = 1\n', "fio2: no such key"),
    ],
)
def test_a_wrong_overlay_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_overlay(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[service\n", r"config\.toml: not TOML: .*line 1"),
        ("a = 1\na = 2\n", "line 2"),
        (OPEN, "tenants: is missing"),
        (OPEN + TENANT + "colour = 1\n", r"tenants\[0\]\.colour: no such key"),
        (OPEN + "port = 0\n" + TENANT, r"service\.port"),
        (OPEN + 'port = "80"\n' + TENANT, r"service\.port"),
        (OPEN + "deadline_seconds = 0\n" + TENANT, r"service\.deadline_seconds"),
        (OPEN + 'suggest_on = "always"\n' + TENANT, r"service\.suggest_on"),
        (OPEN + 'not_evaluated_as = "500"\n' + TENANT, r"service\.not_evaluated_as"),
        (TENANT, r"service\.allow_unauthenticated: who may call\? add \[\[clients\]\]"),
        (OPEN + TENANT.replace("Europe/Paris", "Mars/Base"), r"tenants\[0\]\.zone: not an IANA"),
        (OPEN + TENANT.replace("Europe/Paris", "../../etc/passwd"), r"tenants\[0\]\.zone: not an IANA"),
        (OPEN + TENANT.replace("https:", "http:"), r"fhir_bases\[0\]: http would send"),
        (OPEN + TENANT.replace("//", "//user:secret@"), r"fhir_bases\[0\]: .*user name"),
        (OPEN + TENANT.replace("/r4", "/r4?x=1"), r"fhir_bases\[0\]: .*no query"),
        (OPEN + TENANT.replace(".org", ".org."), r"fhir_bases\[0\]: .*last dot|no plain host"),
        (OPEN + TENANT.replace('r4"]', 'r4", "https://FHIR.example.org:443/r4/"]'), "the same value twice"),
        (OPEN + TENANT + TENANT, r"tenants\[1\]\.name: the same value twice"),
        (OPEN + TENANT + '[[tenants]]\nname = "b"\nzone = "UTC"\n', "configure one tenant"),
        (
            OPEN + TENANT + '[[tenants]]\nname = "b"\nzone = "UTC"\nfhir_bases = ["https://fhir.example.org/r4/b"]\n',
            r"tenants\[1\]\.fhir_bases\[0\]: one lies below a FHIR base of another tenant",
        ),
        (
            OPEN + "hooks_at_once = 3\n" + TENANT + '[[tenants]]\nname = "b"\nzone = "UTC"\n',
            r"toml:3: service\.hooks_at_once: leaves no place to each tenant",
        ),
        (OPEN + 'cors_origins = ["https://ehr.example.org/app"]\n' + TENANT, r"cors_origins\[0\]: an origin is"),
        (OPEN + 'cors_origins = ["*"]\n' + TENANT, r"config\.toml:3: service\.cors_origins\[0\]: no wildcards"),
        (OPEN + 'cors_origins = ["http://ehr.example.org"]\n' + TENANT, r"cors_origins\[0\]: .*use https"),
        (OPEN + 'profile = "dev"\nhost = "0.0.0.0"\n' + TENANT, r"toml:4: service\.host: the dev profile"),
        (OPEN + 'profile = "dev"\n[admin]\nhost = "::"\n' + TENANT, r"toml:5: admin\.host: the dev profile"),
        (OPEN + "[admin]\nport = 8000\n" + TENANT, r"toml:4: admin\.port: is the port of both clients and operators"),
        (OPEN + "workers = 3\n[admin]\nport = 7998\n" + TENANT, r"toml:5: admin\.port: operators reach the processes"),
        (OPEN + "workers = 65\n" + TENANT, r"toml:3: service\.workers"),
        (OPEN + "drain_seconds = 301\n" + TENANT, r"toml:3: service\.drain_seconds"),
        (OPEN + "open_discovery = true\n" + TENANT, r"toml:3: service\.open_discovery"),
        (OPEN + TENANT.replace("fhir.example.org", "*.example.org"), r"toml:6: tenants\[0\]\.fhir_bases\[0\]: no wild"),
        (OPEN + TENANT.replace('"a"', '"*"'), r"toml:4: tenants\[0\]\.name: no wildcards"),
        (
            OPEN + TENANT + TENANT.replace('"a"', '"b"').replace("https://fhir", "https://FHIR"),
            r"toml:10: tenants\[1\]\.fhir_bases\[0\]: .*belongs to one tenant",
        ),
        (OPEN + '[traces]\nendpoint = "http://c.example.org/v1/traces"\n' + TENANT, r"toml:4: traces\.endpoint: http"),
    ],
)
def test_a_wrong_file_is_refused_by_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        load(written(tmp_path, text))
    assert "config.toml" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_missing_or_unreadable_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(SettingsError, match="save the file as UTF-8"):
        load(tmp_path / "latin.toml")


def test_values_reach_their_settings(tmp_path: Path) -> None:
    text = (
        '[service]\nhost = "0.0.0.0"\nport = 9000\nallow_unauthenticated = true\ndeadline_seconds = 2\n'
        'suggest_on = "pilot-full"\nnot_evaluated_as = "card"\ncors_origins = ["https://EHR.example.org:443"]\n'
        "[body]\nmax_mib = 1\nmax_depth = 32\nmax_number = 32\nmax_seconds = 5\n"
        '[store]\nurl = "sqlite+aiosqlite:////data/x.db"\n'
        + '[admin]\nhost = "10.0.0.1"\nport = 9100\n[traces]\nendpoint = "https://otel.example.org/v1/traces"\n'
        + TENANT
    )
    read = load(written(tmp_path, text))
    assert (read.host, read.port, read.deadline_seconds) == ("0.0.0.0", 9000, 2.0)  # noqa: S104
    assert (read.suggest_on, read.not_evaluated_as) == ("pilot-full", "card")
    assert read.anonymous.modes == {"not-evaluated-as-card"}
    assert read.anonymous.client == settings.ANONYMOUS
    assert read.cors_origins == ("https://ehr.example.org",)
    assert read.body == settings.BodyLimits(1024 * 1024, 32, 32, 5.0)
    assert read.db == "sqlite+aiosqlite:////data/x.db"
    assert read.clients == ()
    assert read.admin == settings.Admin("10.0.0.1", 9100)
    assert read.traces == "https://otel.example.org/v1/traces"
    assert "/data/x.db" not in repr(read)


def test_dev_profile_stays_on_this_machine() -> None:
    made = dev(fhir_urls=["http://127.0.0.1:8080/fhir/", "http://127.0.0.1:8080/fhir"], timezone="Europe/Berlin")
    assert made.profile == "dev"
    assert (made.clients, made.admin.port) == ((), 8001)
    assert made.bases == ("http://127.0.0.1:8080/fhir",)
    assert made.anonymous.tenant.zone.key == "Europe/Berlin"
    assert made.anonymous.modes == frozenset()
    for host in ("0.0.0.0", "192.168.1.2", "127.0.0.1.example.org"):  # noqa: S104
        with pytest.raises(SettingsError, match=r"--host: the dev profile may answer anybody.*write a config file"):
            dev(host=host)
    with pytest.raises(SettingsError, match="--timezone"):
        dev(timezone="Nowhere")
    with pytest.raises(SettingsError, match="--fhir-url"):
        dev(fhir_urls=["ftp://x"])


def test_a_sent_server_is_looked_up_never_used() -> None:
    made = dev(fhir_urls=["http://127.0.0.1:8080/fhir"])
    assert made.base_of("HTTP://127.0.0.1:8080/fhir/") == "http://127.0.0.1:8080/fhir"
    assert made.anonymous.tenant.base_of("http://127.0.0.1:8080/fhir") == "http://127.0.0.1:8080/fhir"
    assert made.base_of("http://127.0.0.1:8081/fhir") is None


# --- credentials of the service's own ---------------------------------------------------------------------


def with_key(folder: Path, content: bytes = KEY.as_pem(private=True), *, mode: int = 0o600) -> Path:
    path = folder / "keys" / "backend.pem"
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(mode)
    return folder


def test_without_credentials_there_are_none(tmp_path: Path) -> None:
    tenant = load(written(tmp_path, OPEN + TENANT)).anonymous.tenant
    assert tenant.backend is None
    assert dev().anonymous.tenant.backend is None


def test_credentials_are_read_with_their_key(tmp_path: Path) -> None:
    tenant = load(written(with_key(tmp_path), OPEN + TENANT + BACKEND)).anonymous.tenant
    backend = tenant.backend
    assert backend is not None
    assert (backend.client_id, backend.key_id, backend.algorithm) == ("client-1", "kid-1", "ES384")
    assert backend.token_url == "https://auth.example.org/o/token/", "a last slash is part of an audience"
    assert backend.key == KEY
    assert (backend.scopes, backend.jwks_url) == (SYSTEM_READ, "")
    assert tenant.backend_use == "when-insufficient"
    assert "client-1" not in repr(tenant)
    assert "joserfc" not in repr(backend)


def test_every_key_of_credentials_reaches_its_place(tmp_path: Path) -> None:
    text = BACKEND.replace("/o/token/", ":443/token") + (
        'algorithm = "RS384"\nscopes = ["system/*.read"]\njwks_url = "https://cds.example.org/jwks.json"\n'
        'use = "only-without-token"\n'
    )
    folder = with_key(tmp_path, RSAKey.generate_key(2048).as_pem(private=True))
    tenant = load(written(folder, OPEN + TENANT + text)).anonymous.tenant
    assert tenant.backend is not None
    assert tenant.backend.token_url == "https://auth.example.org/token"
    assert (tenant.backend.algorithm, tenant.backend.scopes) == ("RS384", ("system/*.read",))
    assert tenant.backend.jwks_url == "https://cds.example.org/jwks.json"
    assert tenant.backend_use == "only-without-token"


def test_the_credentials_in_the_example_comment_load_and_show_every_key(tmp_path: Path) -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").split("# [tenants.backend]")[1].split("\n\n")[0].splitlines()
    block = "\n".join(["[tenants.backend]", *(line.removeprefix("#") for line in lines)])
    block = block.replace('"backend.pem"', '"keys/backend.pem"')
    tenant = load(written(with_key(tmp_path), OPEN + TENANT + block)).anonymous.tenant
    minimal = load(written(tmp_path, OPEN + TENANT + BACKEND, "minimal.toml")).anonymous.tenant
    assert tenant.backend is not None
    assert minimal.backend is not None
    assert (tenant.backend.algorithm, tenant.backend.scopes) == (minimal.backend.algorithm, minimal.backend.scopes)
    assert tenant.backend_use == minimal.backend_use
    assert set(tomllib.loads(block)["tenants"]["backend"]) == set(settings._Backend.model_fields)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('key_id = "kid-1"\n', "", r"backend\.key_id: is missing"),
        ('key_id = "kid-1"\n', 'key_id = "kid-1"\nsecret = "x"\n', r"backend\.secret: no such key"),
        ("https://auth", "http://auth", r"backend\.token_url: http would send tokens"),
        ("https://auth", "auth", r"backend\.token_url: the address has to start with"),
        ("token/", "token/?a=b", r"backend\.token_url: the address must have no query"),
        ("token/", "token/#a", r"backend\.token_url: not a plain address"),
        ("keys/backend.pem", "none.pem", r"backend\.key_file: cannot be read: No such file"),
        ("keys/backend.pem", "keys", r"backend\.key_file: is not a file"),
        ('key_id = "kid-1"', 'key_id = "kid-1"\nalgorithm = "RS384"', r"backend\.key_file: holds no RSA private key"),
        ('key_id = "kid-1"', 'key_id = "kid-1"\nalgorithm = "none"', r"backend\.algorithm"),
        ('key_id = "kid-1"', 'key_id = "kid-1"\nscopes = []', r"backend\.scopes"),
        (
            'key_id = "kid-1"',
            'key_id = "kid-1"\nscopes = ["system/*.rs", "openid"]',
            r"backend\.scopes\[1\]: write a system scope",
        ),
        ('key_id = "kid-1"', 'key_id = "kid-1"\nuse = "always"', r"backend\.use"),
        ('key_id = "kid-1"', 'key_id = "kid-1"\njwks_url = "http://a.example.org/"', r"backend\.jwks_url: http would"),
        ("https://fhir.example.org/r4", 'https://a.example.org/r4", "https://b.example.org/r4', "exactly one address"),
        ('fhir_bases = ["https://fhir.example.org/r4"]\n', "", "exactly one address"),
    ],
)
def test_wrong_credentials_are_refused_by_key(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = OPEN + TENANT + BACKEND
    assert text.count(old) == 1
    with pytest.raises(SettingsError, match=said) as caught:
        load(written(with_key(tmp_path), text.replace(old, new)))
    assert re.search(r"config\.toml:\d+: tenants\[0\]\.backend", str(caught.value))


def test_a_key_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"tenants\[0\]\.backend\.key_file: others may read the key: chmod 600"):
        load(written(with_key(tmp_path, mode=0o644), OPEN + TENANT + BACKEND))


def test_http_is_for_trying_things_out_on_one_machine(tmp_path: Path) -> None:
    text = OPEN + TENANT.replace("https:", "http:") + BACKEND.replace("https:", "http:")
    with pytest.raises(SettingsError, match=r'toml:6: tenants\[0\]\.fhir_bases\[0\]: http would .*profile = "dev"'):
        load(written(with_key(tmp_path), text))
    found = load(written(tmp_path, text.replace("[service]", '[service]\nprofile = "dev"')))
    assert found.profile == "dev"
    assert found.bases == ("http://fhir.example.org/r4",)
    backend = found.anonymous.tenant.backend
    assert backend is not None
    assert backend.token_url == "http://auth.example.org/o/token/"


def test_the_dev_profile_of_a_file_is_open_without_saying_so_twice(tmp_path: Path) -> None:
    found = load(written(tmp_path, '[service]\nprofile = "dev"\n' + TENANT))
    assert (found.clients, found.host, found.published_at) == ((), "127.0.0.1", "http://127.0.0.1:8000")


def test_the_command_line_cannot_open_what_the_file_keeps_on_this_machine(tmp_path: Path) -> None:
    found = load(written(tmp_path, '[service]\nprofile = "dev"\n' + TENANT))
    assert settings.bound(found, host=None, port=9000).port == 9000
    with pytest.raises(SettingsError, match="--host: the dev profile"):
        settings.bound(found, host="0.0.0.0", port=None)  # noqa: S104
    with pytest.raises(SettingsError, match="--port: is the port of both"):
        settings.bound(found, host=None, port=found.admin.port)
    assert settings.bound(found, host=None, port=None, workers=3).workers == 3
    with pytest.raises(SettingsError, match=r"--port: operators reach the processes at admin\.port, admin\.port \+ 1"):
        settings.bound(found, host=None, port=found.admin.port + 2, workers=3)
    with pytest.raises(SettingsError, match="--workers: operators reach the last process"):
        settings.bound(replace(found, admin=settings.Admin(port=65535)), host=None, port=None, workers=2)


# --- several processes, and their end ---------------------------------------------------------------------------


def test_how_long_it_serves_on(tmp_path: Path) -> None:
    assert settings.dev().drain_seconds == 0
    assert load(written(tmp_path, OPEN + TENANT)).drain_seconds == 5
    assert load(written(tmp_path, OPEN + "drain_seconds = 0.5\n" + TENANT)).drain_seconds == 0.5
    assert load(written(tmp_path, '[service]\nprofile = "dev"\n' + TENANT)).drain_seconds == 0
    found = load(written(tmp_path, '[service]\nprofile = "dev"\ndrain_seconds = 3\ndeadline_seconds = 4\n' + TENANT))
    assert (found.drain_seconds, found.grace_seconds) == (3, 10)


def test_where_used_tokens_are_remembered_follows_the_database(tmp_path: Path) -> None:
    found = load(written(tmp_path, OPEN + TENANT))
    assert (found.replay, found.in_postgresql) == ("memory", False)
    for url in ("postgresql://u@h/d", "postgresql+asyncpg://u@h/d", "postgres://u@h/d"):
        assert replace(found, db=url).replay == "database"
    for said in ("memory", "database"):
        chosen = load(written(tmp_path, OPEN + f'[trust]\nreplay = "{said}"\n' + TENANT))
        assert {chosen.replay, replace(chosen, db="postgresql://u@h/d").replay} == {said}


def test_the_database_is_chosen_by_whoever_is_nearest() -> None:
    option, environment, file = (f"sqlite+aiosqlite:///{name}.db" for name in ("option", "environment", "file"))
    assert settings.database_of(option, {"RESCUE_CDS_DB": environment}, otherwise=file) == option
    assert settings.database_of(None, {"RESCUE_CDS_DB": environment}, otherwise=file) == environment
    assert settings.database_of(None, {}, otherwise=file) == file
    assert settings.database_of(None, {"RESCUE_CDS_DB": ""}, otherwise=file) == file


@pytest.mark.parametrize(
    ("option", "environment", "file", "place"),
    [
        ("secret", "x", "x", "--db"),
        (None, "secret", "x", "RESCUE_CDS_DB"),
        ("", "", "secret", "store.url"),
    ],
)
def test_an_address_that_is_none_is_said_with_its_place(
    option: str | None, environment: str, file: str, place: str
) -> None:
    with pytest.raises(BadDatabase, match=f"^{place}: not a database address") as caught:
        settings.database_of(option, {"RESCUE_CDS_DB": environment}, otherwise=file)
    assert "secret" not in str(caught.value)


# --- how FHIR servers are read ----------------------------------------------------------------------------


def test_how_servers_are_read_can_be_set(tmp_path: Path) -> None:
    text = OPEN + "deadline_seconds = 2.0\n" + TENANT + 'gather = "scope-first"\n'
    assert load(written(tmp_path, text)).fhir.call_seconds == pytest.approx(1.7)
    fhir = "[fhir]\ncall_seconds = 0.9\nconnect_seconds = 0.3\nreads_per_hook = 4\nreads_per_server = 12\n"
    made = load(written(tmp_path, text.replace("[[tenants]]", fhir + "[[tenants]]")))
    assert (made.fhir.call_seconds, made.fhir.connect_seconds, made.fhir.reads) == (0.9, 0.3, 12)
    assert (made.reads_per_hook, made.tenants[0].gather) == (4, "scope-first")


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("call_seconds = 0", "fhir.call_seconds"),
        ("reads_per_hook = 0", "fhir.reads_per_hook"),
        ("reads_per_server = 5000", "fhir.reads_per_server"),
        ("pages = 3", "fhir.pages"),
    ],
)
def test_a_wrong_way_of_reading_stops_the_start(tmp_path: Path, line: str, key: str) -> None:
    with pytest.raises(SettingsError, match=key):
        load(written(tmp_path, f"{OPEN}[fhir]\n{line}\n{TENANT}"))


def test_a_wrong_gather_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"tenants\[0\]\.gather"):
        load(written(tmp_path, OPEN + TENANT + 'gather = "some"\n'))


def test_a_call_that_would_outlast_the_deadline_stops_the_start(tmp_path: Path) -> None:
    """The deadline would end it, and the circuit breaker would never learn that the server is silent."""
    with pytest.raises(SettingsError, match=r"fhir\.call_seconds: longer than service\.deadline_seconds"):
        load(written(tmp_path, f"{OPEN}[fhir]\ncall_seconds = 5\n{TENANT}"))


def test_scope_first_without_a_server_stops_the_start(tmp_path: Path) -> None:
    tenant = '[[tenants]]\nname = "a"\nzone = "UTC"\ngather = "scope-first"\n'
    with pytest.raises(SettingsError, match=r"tenants\[0\]\.gather: .* add fhir_bases"):
        load(written(tmp_path, OPEN + tenant))


# --- what is silenced, and where the service is published ---------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("silenced = []", set()),
        ('silenced = ["pilot-simple", "rct-stage-3"]', {"pilot-simple", "rct-stage-3"}),
        ('silenced = "pilot-followup"', {"pilot-followup"}),
        ('silenced = "all"', {"all"}),
        ('silenced = ["pilot-simple", "all"]', {"all"}),
    ],
)
def test_what_is_silenced(tmp_path: Path, text: str, said: set[str]) -> None:
    assert load(written(tmp_path, f"{OPEN}[protocols]\n{text}\n{TENANT}")).silenced == said


@pytest.mark.parametrize(
    "text", ['["pilot-simpel"]', '"everything"', '["pilot-simple", "P-CRP"]', '[""]', "true", "[1]"]
)
def test_an_id_that_nobody_has_stops_the_start(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"config\.toml:\d+: protocols\.silenced") as refused:
        load(written(tmp_path, f"{OPEN}[protocols]\nsilenced = {text}\n{TENANT}"))
    if "pilot-simpel" in text:
        assert 'write "all", or some of pilot-simple, pilot-full, ' in str(refused.value)
        assert "pilot-followup" in str(refused.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, set()),
        ("", set()),
        (" , ", set()),
        ("all", {"all"}),
        (" pilot-simple , pilot-full ", {"pilot-simple", "pilot-full"}),
        ("pilot-simple,all", {"all"}),
    ],
)
def test_the_environment_silences_too(value: str | None, said: set[str]) -> None:
    environment = {} if value is None else {"RESCUE_CDS_SILENCED": value}
    assert settings.silenced_by(environment) == said


def test_a_misspelt_environment_is_refused_by_its_name() -> None:
    with pytest.raises(SettingsError, match='RESCUE_CDS_SILENCED: no protocol of that id: write "all"'):
        settings.silenced_by({"RESCUE_CDS_SILENCED": "ALL"})


@pytest.mark.parametrize(
    ("url", "published"),
    [
        ("https://CDS.example.org:443/rescue/", "https://cds.example.org/rescue"),
        ("https://cds.example.org:8443", "https://cds.example.org:8443"),
    ],
)
def test_a_public_address(tmp_path: Path, url: str, published: str) -> None:
    assert load(written(tmp_path, f'{OPEN}public_url = "{url}"\n{TENANT}')).published_at == published


@pytest.mark.parametrize(
    "url", ["http://cds.example.org", "cds.example.org", "https://u:secret@h.example.org", "https://h/x?y=1", "ftp://h"]
)
def test_a_public_address_that_nobody_should_follow_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match=r"config\.toml:3: service\.public_url: ") as refused:
        load(written(tmp_path, f'{OPEN}public_url = "{url}"\n{TENANT}'))
    assert "secret" not in str(refused.value)


def test_without_a_public_address_only_this_machine_knows_its_own(tmp_path: Path) -> None:
    assert load(written(tmp_path, OPEN + TENANT)).published_at is None
    assert dev(port=8123).published_at == "http://127.0.0.1:8123"
    assert dev(host="::1").published_at == "http://[::1]:8000"


# --- what is not shown ---------------------------------------------------------------------------------------


def test_nothing_is_snoozed_and_nobody_is_silent_unless_the_file_says_so(tmp_path: Path) -> None:
    found = load(written(tmp_path, f"{OPEN}{TENANT}"))
    assert (found.snooze, found.silent, found.anonymous.modes) == (None, frozenset(), frozenset())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", settings.Snooze(12.0, frozenset({"undetermined"}))),
        ("hours = 1.5", settings.Snooze(1.5, frozenset({"undetermined"}))),
        (
            'hours = 24\nkinds = ["order-select", "safety"]',
            settings.Snooze(24.0, frozenset({"order-select", "safety"})),
        ),
    ],
)
def test_what_is_snoozed(tmp_path: Path, text: str, expected: settings.Snooze) -> None:
    assert load(written(tmp_path, f"{OPEN}[snooze]\n{text}\n{TENANT}")).snooze == expected


@pytest.mark.parametrize("text", ["hours = 0", "hours = 169", 'kinds = ["everything"]', "minutes = 5"])
def test_what_cannot_be_snoozed(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"config\.toml:\d+: snooze"):
        load(written(tmp_path, f"{OPEN}[snooze]\n{text}\n{TENANT}"))


@pytest.mark.parametrize(
    ("text", "silent", "modes"),
    [
        ('silent = "all"', {"all"}, {"silent"}),
        ('silent = ["pilot-simple", "order-checks"]', {"pilot-simple", "order-checks"}, set()),
        ("silent = []", set(), set()),
    ],
)
def test_what_is_silent(tmp_path: Path, text: str, silent: set[str], modes: set[str]) -> None:
    found = load(written(tmp_path, f"{OPEN}[protocols]\n{text}\n{TENANT}"))
    assert (found.silent, found.anonymous.modes) == (silent, modes)


def test_a_silent_protocol_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"protocols\.silent: no protocol of that id.*order-checks"):
        load(written(tmp_path, f'{OPEN}[protocols]\nsilent = ["pilot"]\n{TENANT}'))


def test_the_kinds_of_the_file_are_those_that_answers_have() -> None:
    kinds = settings._Snooze.model_json_schema()["properties"]["kinds"]["items"]["enum"]
    assert tuple(kinds) == snooze.KINDS
