"""The client registry: what a record says, and what stops the start, each with file, line and remedy."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from joserfc.jwk import RSAKey

from app import settings
from app.clients import Algorithm, ClientTable
from app.configuration import SettingsError
from app.names import ORDER_SIGN, PATIENT_VIEW, SERVICES
from app.settings import Snooze, load
from cds_hooks import trust
from tests.unit.app.registry import BASE, Ehr, configuration

EXAMPLE = Path(__file__).parents[3] / "docs" / "config.example.toml"
EHR = Ehr("ehr", "https://ehr.example.org")
OTHER = Ehr("other", "https://other.example.org", kid="key-2")
TWO = {"north": ["https://north.example.org/r4"], "south": ["https://south.example.org/r4"]}
SANDBOX = {
    "kty": "EC",
    "crv": "P-384",
    "kid": "44823f3d-0b01-4a6c-a80e-b9d3e8a7226f",
    "x": "dw_JGR8nB2I6XveNxUOl2qk699ZPLM2nYI5STSdiEl9avAkrm3CkfYMbrrjr8laB",
    "y": "Sm3mLE-n1zYNla_aiE3cb3nZsL51RbC7ysw3q8aJLxGm-hx79RPMYpITDjp7kgzy",
}
"""The public sandbox's public key, as in its repository."""


def test_a_record_says_as_little_as_it_must(tmp_path: Path) -> None:
    (client,) = load(configuration(tmp_path, EHR.block(tmp_path, tenants=["hospital"]))).clients
    assert (client.id, client.issuer, client.audiences) == ("ehr", "https://ehr.example.org", (BASE,))
    assert (client.jwks_file, client.jwks_url) == (tmp_path / "ehr.jwks.json", None)
    assert client.algorithms == {"ES384", "RS384"}
    assert client.fhir_bases == ("https://fhir.example.org/r4",)
    assert client.services == set(SERVICES)
    assert (client.origins, client.silent, client.not_evaluated_as) == (frozenset(), False, "412")
    assert (client.tenant_of(None), client.tenant_of("hospital"), client.tenant_of("x")) == (
        "hospital",
        "hospital",
        None,
    )


def test_every_key_of_a_record_reaches_its_place(tmp_path: Path) -> None:
    block = EHR.block(
        tmp_path,
        jwks_url="https://EHR.example.org:443/jwks/",
        algorithms=["RS256", "ES384"],
        audiences=["https://CDS-2.example.org:443/rescue/"],
        tenants=["north", "south"],
        fhir_bases=["https://NORTH.example.org/r4/"],
        services=[PATIENT_VIEW],
        cors_origins=["https://EHR.example.org:443"],
        silent=True,
        not_evaluated_as="card",
    )
    block += '[clients.tenant_claims]\n"urn:epic:123" = "north"\n'
    found = load(configuration(tmp_path, block, tenants=TWO))
    (client,) = found.clients
    assert client.jwks_url == "https://ehr.example.org/jwks/", "an address to name keeps its last slash"
    assert client.jku == "https://EHR.example.org:443/jwks/", "and a token may name it as it was written"
    assert client.algorithms == {"RS256", "ES384"}
    assert client.audiences == ("https://cds-2.example.org/rescue", "https://CDS-2.example.org:443/rescue")
    assert client.services == {PATIENT_VIEW}
    assert found.cors_origins == ("https://ehr.example.org",)
    assert (client.tenant_of(None), client.tenant_of("urn:epic:123"), client.tenant_of("south")) == (
        None,
        "north",
        "south",
    )
    caller = found.caller(client, tenant="south")
    assert (caller.tenant.bases, caller.registered) == ((), True), "north's base is no way into south"
    assert caller.modes == {"silent", "not-evaluated-as-card"}
    assert found.caller(client, tenant="north").tenant.bases == ("https://north.example.org/r4",)


def test_registered_clients_are_not_told_the_same_undetermined_state_again_and_again(tmp_path: Path) -> None:
    block = EHR.block(tmp_path, tenants=["hospital"])
    assert load(configuration(tmp_path, block)).snooze == Snooze(12.0, frozenset({"undetermined"}))
    assert load(configuration(tmp_path, block, more="[snooze]\nkinds = []\n")).snooze is None
    assert load(configuration(tmp_path, block, more="[snooze]\nhours = 2\n")).snooze == Snooze(2.0)


def test_what_tokens_may_be_can_be_set(tmp_path: Path) -> None:
    block = EHR.block(tmp_path, tenants=["hospital"])
    assert load(configuration(tmp_path, block)).tokens == settings.TokenRules()
    more = '[trust]\nleeway_seconds = 0\nlongest_seconds = 300\nreplay = "database"\n'
    assert load(configuration(tmp_path, block, more=more)).tokens == settings.TokenRules(0, 300, "database")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": 1}, r"clients\[0\]\.colour: no such key"),
        ({"allowed": []}, r"clients\[0\]\.allowed: no such key"),
        ({"id": "a b"}, r"clients\[0\]\.id: "),
        ({"id": None}, r"clients\[0\]\.id: is missing"),
        ({"id": "anonymous"}, r"clients\[0\]\.id: is whom nobody has registered"),
        ({"issuer": None}, r"clients\[0\]\.issuer: is missing"),
        ({"issuer": "https://*.example.org"}, r"clients\[0\]\.issuer: no wildcards"),
        ({"issuer": "http://ehr.example.org"}, r"clients\[0\]\.issuer: an issuer is an https address"),
        ({"issuer": "https://sandbox.cds-hooks.org"}, r"clients\[0\]\.issuer: the private key .* is published"),
        ({"jwks_file": None}, r"clients\[0\]: has no keys: add jwks_file, or jwks_url"),
        ({"jwks_file": "none.json"}, r"clients\[0\]\.jwks_file: cannot be read: No such file"),
        ({"jwks_file": "."}, r"clients\[0\]\.jwks_file: cannot be read"),
        ({"jwks_file": "config.toml"}, r"clients\[0\]\.jwks_file: "),
        ({"jwks_url": "http://ehr.example.org/jwks"}, r"clients\[0\]\.jwks_url: http would"),
        ({"jwks_url": "https://ehr.example.org/jwks?x=1"}, r"clients\[0\]\.jwks_url: .*no query"),
        ({"jwks_url": "https://*/jwks"}, r"clients\[0\]\.jwks_url: no wildcards"),
        ({"algorithms": ["none"]}, r"clients\[0\]\.algorithms\[0\]"),
        ({"algorithms": ["HS256"]}, r"clients\[0\]\.algorithms\[0\]"),
        ({"algorithms": []}, r"clients\[0\]\.algorithms"),
        ({"algorithms": ["RS384"]}, r"clients\[0\]\.jwks_file: holds no key for this client's algorithms"),
        ({"audiences": ["http://cds.example.org"]}, r"clients\[0\]\.audiences\[0\]: http would"),
        (
            {"audiences": ["https://cds.example.org/cds-services"]},
            r"audiences\[0\]: write the part before /cds-services",
        ),
        ({"audiences": ["*"]}, r"clients\[0\]\.audiences\[0\]: no wildcards"),
        ({"tenants": []}, r"clients\[0\]\.tenants"),
        ({"tenants": ["elsewhere"]}, r"clients\[0\]\.tenants\[0\]: names a tenant that is not"),
        ({"tenants": ["*"]}, r"clients\[0\]\.tenants\[0\]: no wildcards"),
        ({"tenants": ["hospital", "hospital"]}, r"clients\[0\]\.tenants\[1\]: the same value twice"),
        ({"fhir_bases": ["https://elsewhere.example.org/r4"]}, r"fhir_bases\[0\]: is no FHIR base of this client's"),
        ({"fhir_bases": ["http://fhir.example.org/r4"]}, r"clients\[0\]\.fhir_bases\[0\]: http would"),
        ({"services": ["sepsis"]}, r"clients\[0\]\.services: no service of that id"),
        ({"services": ["*"]}, r"clients\[0\]\.services\[0\]: no wildcards"),
        ({"services": []}, r"clients\[0\]\.services"),
        ({"cors_origins": ["https://ehr.example.org/app"]}, r"clients\[0\]\.cors_origins\[0\]: an origin is"),
        ({"cors_origins": ["http://ehr.example.org"]}, r"clients\[0\]\.cors_origins\[0\]: .*use https"),
        ({"cors_origins": ["*"]}, r"clients\[0\]\.cors_origins\[0\]: no wildcards"),
        ({"silent": "yes"}, r"clients\[0\]\.silent"),
        ({"not_evaluated_as": "200"}, r"clients\[0\]\.not_evaluated_as"),
    ],
)
def test_a_record_that_cannot_stand_stops_the_start(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = configuration(tmp_path, EHR.block(tmp_path, **({"tenants": ["hospital"]} | change)))
    with pytest.raises(SettingsError, match=said) as caught:
        load(path)
    line = int(str(caught.value).removeprefix(f"{path}:").partition(":")[0])
    assert (
        path.read_text(encoding="utf-8")
        .splitlines()[line - 1]
        .startswith(("[[clients]]", "jwks_file =", *(f"{key} =" for key in change)))
    )


@pytest.mark.parametrize(
    ("service", "more", "said"),
    [
        ("allow_unauthenticated = true", "", r"service\.allow_unauthenticated: together with \[\[clients\]\]"),
        ('cors_origins = ["https://ehr.example.org"]', "", r"service\.cors_origins: write the origins of each client"),
        ("", "[trust]\nleeway_seconds = 301\n", r"trust\.leeway_seconds"),
        ("", "[trust]\nlongest_seconds = 86400\n", r"trust\.longest_seconds"),
        ("", '[trust]\nreplay = "off"\n', r"trust\.replay"),
        ("", '[trust]\nissuers = "*"\n', r"trust\.issuers: no such key"),
    ],
)
def test_what_does_not_go_with_clients(tmp_path: Path, service: str, more: str, said: str) -> None:
    path = configuration(tmp_path, EHR.block(tmp_path, tenants=["hospital"]), service=service, more=more)
    with pytest.raises(SettingsError, match=said):
        load(path)


def test_two_clients_are_two(tmp_path: Path) -> None:
    first = EHR.block(tmp_path, tenants=["hospital"])
    for second, said in (
        (OTHER.block(tmp_path, tenants=["hospital"], id="ehr"), r":17: clients\[1\]\.id: the same value twice"),
        (OTHER.block(tmp_path, tenants=["hospital"], issuer=EHR.issuer), r":18: clients\[1\]\.issuer: the same value"),
        (OTHER.block(tmp_path, tenants=["hospital"], jwks_file="ehr.jwks.json"), "holds a key of another client"),
    ):
        with pytest.raises(SettingsError, match=said):
            load(configuration(tmp_path, first, second))
    assert len(load(configuration(tmp_path, first, OTHER.block(tmp_path, tenants=["hospital"]))).clients) == 2


def test_two_clients_have_two_key_sets(tmp_path: Path) -> None:
    """As of a file; an address that is named beside a file is not fetched."""
    url = "https://keys.example.org/jwks"
    same = [ehr.block(tmp_path, tenants=["hospital"], jwks_file=None, jwks_url=url) for ehr in (EHR, OTHER)]
    with pytest.raises(SettingsError, match=r"clients\[1\]\.jwks_url: holds the keys of another client"):
        load(configuration(tmp_path, *same))
    beside = OTHER.block(tmp_path, tenants=["hospital"], jwks_url=url)
    assert len(load(configuration(tmp_path, same[0], beside)).clients) == 2


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"x": "east"}, "means a tenant that is not in this client's tenants"),
        ({"south": "north"}, "is the name of another tenant"),
        ({"*": "north"}, "no wildcards"),
    ],
)
def test_what_a_claim_means_is_one_tenant(tmp_path: Path, claims: dict[str, str], said: str) -> None:
    block = EHR.block(tmp_path, tenants=["north", "south"])
    block += "[clients.tenant_claims]\n" + "".join(f"{json.dumps(k)} = {json.dumps(v)}\n" for k, v in claims.items())
    with pytest.raises(SettingsError, match=rf"clients\[0\]\.tenant_claims: {said}"):
        load(configuration(tmp_path, block, tenants=TWO))


def test_without_an_address_nobody_knows_the_audience(tmp_path: Path) -> None:
    path = configuration(tmp_path, EHR.block(tmp_path, tenants=["hospital"]))
    path.write_text(path.read_text(encoding="utf-8").replace("public_url", "# public_url"), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"clients\[0\]: under which address does this client call"):
        load(path)


def test_the_client_in_the_example_comment_loads_and_shows_every_key_and_default(tmp_path: Path) -> None:
    example = EXAMPLE.read_text(encoding="utf-8")
    lines = example.split("# [[clients]]")[1].split("\n\n")[0].splitlines()
    block = "\n".join(["[[clients]]", *(line.removeprefix("#") for line in lines)])
    (tmp_path / "example-ehr.jwks.json").write_text(EHR.jwks(), encoding="utf-8")
    tenants = {"example-hospital": ["https://fhir.example.org/r4"]}
    (shown,) = load(configuration(tmp_path, block, tenants=tenants)).clients
    shortest = Ehr("example-ehr", "https://ehr.example.org").block(tmp_path, tenants=["example-hospital"])
    (least,) = load(configuration(tmp_path, shortest, tenants=tenants)).clients
    assert replace(shown, jwks_url=None, jku=None, tenants=least.tenants) == least
    assert shown.tenant_of("urn:example:org:4711") == "example-hospital"
    assert set(tomllib.loads(block)["clients"][0]) == set(ClientTable.model_fields)


def test_a_key_set_that_anybody_may_write_is_refused(tmp_path: Path) -> None:
    path = configuration(tmp_path, EHR.block(tmp_path, tenants=["hospital"]))
    (tmp_path / "ehr.jwks.json").chmod(0o666)
    with pytest.raises(
        SettingsError, match=r"config\.toml:\d+: clients\[0\]\.jwks_file: anybody may write it.*chmod o-w"
    ):
        load(path)


def test_keys_that_everybody_has_are_for_trying_things_out(tmp_path: Path) -> None:
    path = configuration(tmp_path, EHR.block(tmp_path, tenants=["hospital"]))
    (tmp_path / "ehr.jwks.json").write_text(json.dumps({"keys": [SANDBOX]}), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"clients\[0\]\.jwks_file: holds a key whose private half is published"):
        load(path)
    text = path.read_text(encoding="utf-8").replace("[service]", '[service]\nprofile = "dev"')
    path.write_text(text, encoding="utf-8")
    assert load(path).clients[0].id == "ehr"


def test_credentials_of_the_service_are_no_way_round_a_record(tmp_path: Path) -> None:
    """A client that may not name the tenant's base does not read it by the service's own credentials either."""
    (tmp_path / "backend.pem").write_bytes(RSAKey.generate_key(2048).as_pem(private=True))
    (tmp_path / "backend.pem").chmod(0o600)
    backend = (
        '[tenants.backend]\nclient_id = "c"\ntoken_url = "https://a.example.org/token"\nkey_file = "backend.pem"\n'
        'key_id = "k"\nalgorithm = "RS384"\n'
    )
    path = configuration(tmp_path, EHR.block(tmp_path, tenants=["hospital"], fhir_bases=[], services=[ORDER_SIGN]))
    path.write_text(path.read_text(encoding="utf-8").replace("[[clients]]", backend + "[[clients]]"), encoding="utf-8")
    found = load(path)
    assert found.tenants[0].backend is not None
    assert found.caller(found.clients[0], tenant="hospital").tenant.backend is None


def test_an_address_is_an_audience_as_it_was_written_too(tmp_path: Path) -> None:
    path = configuration(tmp_path, EHR.block(tmp_path, tenants=["hospital"]))
    path.write_text(path.read_text(encoding="utf-8").replace(BASE, "https://CDS.example.org:443/"), encoding="utf-8")
    assert load(path).clients[0].audiences == (BASE, "https://CDS.example.org:443")


def test_every_algorithm_that_can_be_verified_can_be_registered() -> None:
    assert set(get_args(Algorithm)) == set(trust.ALGORITHMS)
