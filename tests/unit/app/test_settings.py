"""Settings: what a file says, and what is refused with file, key and remedy."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from app import settings
from app.settings import SettingsError, dev, load, load_overlay

EXAMPLE = Path(__file__).parents[3] / "docs" / "config.example.toml"
TENANT = '[[tenants]]\nname = "a"\nzone = "Europe/Paris"\nfhir_bases = ["https://fhir.example.org/r4"]\n'
OPEN = "[service]\nallow_unauthenticated = true\n"


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
    assert example.profile == "file"
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
        (TENANT, r"service\.allow_unauthenticated: .*set it to true"),
        (OPEN + TENANT.replace("Europe/Paris", "Mars/Base"), r"tenants\[0\]\.zone: not an IANA"),
        (OPEN + TENANT.replace("Europe/Paris", "../../etc/passwd"), r"tenants\[0\]\.zone: not an IANA"),
        (OPEN + TENANT.replace("https:", "http:"), r"fhir_bases\[0\]: http would send"),
        (OPEN + TENANT.replace("//", "//user:secret@"), r"fhir_bases\[0\]: .*user name"),
        (OPEN + TENANT.replace("/r4", "/r4?x=1"), r"fhir_bases\[0\]: .*no query"),
        (OPEN + TENANT.replace(".org", ".org."), r"fhir_bases\[0\]: .*last dot|no plain host"),
        (OPEN + TENANT.replace('r4"]', 'r4", "https://FHIR.example.org:443/r4/"]'), "the same value twice"),
        (OPEN + TENANT + TENANT, "tenants.name: the same value twice"),
        (OPEN + TENANT + '[[tenants]]\nname = "b"\nzone = "UTC"\n', "configure one tenant"),
        (OPEN + TENANT + '[[clients]]\nid = "c"\ntenants = ["other"]\n', r"clients\[0\]\.tenants"),
        (OPEN + TENANT + '[[clients]]\nid = "c"\ntenants = ["a"]\n' * 2, "clients.id"),
        (OPEN + 'cors_origins = ["https://ehr.example.org/app"]\n' + TENANT, r"cors_origins\[0\]: an origin is"),
        (OPEN + 'cors_origins = ["*"]\n' + TENANT, r"cors_origins\[0\]"),
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
        + TENANT.replace("https:", "http:")
        + 'allow_http = true\n[[clients]]\nid = "c"\ntenants = ["a"]\nallowed = ["s"]\n'
    )
    read = load(written(tmp_path, text))
    assert (read.host, read.port, read.deadline_seconds) == ("0.0.0.0", 9000, 2.0)  # noqa: S104
    assert (read.suggest_on, read.not_evaluated_as) == ("pilot-full", "card")
    assert read.anonymous.modes == {"not-evaluated-as-card"}
    assert read.anonymous.client == settings.ANONYMOUS
    assert read.cors_origins == ("https://ehr.example.org",)
    assert read.body == settings.BodyLimits(1024 * 1024, 32, 32, 5.0)
    assert read.db == "sqlite+aiosqlite:////data/x.db"
    assert read.clients == (settings.Client("c", ("a",), ("s",)),)
    assert read.bases == ("http://fhir.example.org/r4",)
    assert "/data/x.db" not in repr(read)


def test_dev_profile_stays_on_this_machine() -> None:
    made = dev(fhir_urls=["http://127.0.0.1:8080/fhir/", "http://127.0.0.1:8080/fhir"], timezone="Europe/Berlin")
    assert made.profile == "dev"
    assert made.allow_unauthenticated
    assert made.bases == ("http://127.0.0.1:8080/fhir",)
    assert made.anonymous.tenant.zone.key == "Europe/Berlin"
    assert made.anonymous.modes == frozenset()
    for host in ("0.0.0.0", "192.168.1.2", "127.0.0.1.example.org"):  # noqa: S104
        with pytest.raises(SettingsError, match="write a config file"):
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
