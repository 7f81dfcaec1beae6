"""What a server says it can be asked, and searches that are fitted to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.gateway.capability import Capability, Fitted, Parameters, fitted, optional, read
from fhir_mappings.errors import Unreadable

NONE: frozenset[str] = frozenset()


def resource(kind: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "searchParam": [{"name": name, "type": "token"} for name in names], **more}


def statement(*resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    rest = [{"mode": "server", "resource": list(resources)}]
    return {"resourceType": "CapabilityStatement", "status": "active", "fhirVersion": "4.0.1", "rest": rest, **more}


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


HAPI = statement(
    resource(
        "Observation",
        *("_id", "_lastUpdated", "_text", "category", "code", "code-value-quantity", "combo-code", "date"),
        *("derived-from", "encounter", "patient", "status", "subject", "value-quantity"),
        interaction=[{"code": "read"}, {"code": "search-type"}],
        searchInclude=["*", "Observation:patient"],
        profile="http://hl7.org/fhir/StructureDefinition/Observation",
    ),
    resource("MedicationRequest", "_id", "authoredon", "code", "intent", "medication", "patient", "status", "subject"),
    resource("Patient", "_id", "birthdate", "identifier"),
    software={"name": "HAPI FHIR Server", "version": "8.8.0"},
    implementation={"description": "HAPI FHIR R4 Server", "url": "http://127.0.0.1:8080/fhir"},
    format=["application/fhir+json", "json"],
)
EPIC = statement(
    resource("MedicationRequest", "patient", "status", "intent", "category", "date"),
    resource("Observation", "patient", "category", "code", "date", "_id"),
    software={"name": "Epic", "version": "August 2026"},
)
ORACLE = statement(
    resource("MedicationAdministration", "patient", "subject", "_id", "status", "performed"),
    resource("Observation", "_id", "subject", "code", "category", "date", "_lastUpdated"),
    resource("Binary"),
    software={"name": "Oracle Health Millennium"},
)
SEARCH: Parameters = (
    ("patient", "p1"),
    ("code", "http://loinc.org|1988-5"),
    ("date", "ge2026-01-01"),
    ("status", "final,amended"),
    ("_sort", "-date"),
    ("_count", "50"),
)


def sent(params: Parameters, *, kind: str, server: dict[str, Any], refused: frozenset[str] = NONE) -> Fitted:
    return fitted(params, resource_type=kind, capability=read(encoded(server)), refused=refused)


# --- reading a statement ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "software"),
    [(HAPI, "HAPI FHIR Server 8.8.0"), (EPIC, "Epic August 2026"), (ORACLE, "Oracle Health Millennium")],
)
def test_the_software_names_itself(document: dict[str, Any], software: str) -> None:
    assert read(encoded(document)).software == software


def test_the_version_of_fhir_is_told() -> None:
    assert read(encoded(HAPI)).fhir_version == "4.0.1"


def test_the_parameters_of_each_type_are_kept() -> None:
    parameters = read(encoded(EPIC)).parameters
    assert parameters["MedicationRequest"] == {"patient", "status", "intent", "category", "date"}
    assert parameters["Observation"] == {"patient", "category", "code", "date", "_id"}


def test_a_type_that_is_not_listed_is_not_offered() -> None:
    capability = read(encoded(EPIC))
    assert capability.offers("Observation")
    assert not capability.offers("Immunization")


@pytest.mark.parametrize(
    "document",
    [
        {"resourceType": "CapabilityStatement"},
        {"resourceType": "CapabilityStatement", "rest": []},
        {"resourceType": "CapabilityStatement", "rest": [{"mode": "server"}]},
        statement(),
        {"resourceType": "CapabilityStatement", "rest": [{"mode": "client", "resource": [resource("Patient")]}]},
        statement({"searchParam": [{"name": "patient"}]}),
    ],
)
def test_where_no_type_is_listed_everything_is_offered_and_taken(document: dict[str, Any]) -> None:
    capability = read(encoded(document))
    assert capability.offers("Observation")
    assert capability.takes("Observation", "date")


@pytest.mark.parametrize("kind", [{"type": "Binary"}, {"type": "Binary", "searchParam": []}])
def test_a_type_without_parameters_says_nothing_of_them(kind: dict[str, Any]) -> None:
    capability = read(encoded(statement(kind)))
    assert capability.offers("Binary")
    assert capability.takes("Binary", "date")


def test_nothing_known_is_nothing_refused() -> None:
    capability = Capability()
    assert capability.offers("Anything")
    assert capability.takes("Anything", "any")


@pytest.mark.parametrize("name", ["_id", "_count", "_sort", "_total", "_include", "_lastUpdated"])
def test_what_begins_with_an_underscore_is_taken_undeclared(name: str) -> None:
    assert read(encoded(EPIC)).takes("MedicationRequest", name)


@pytest.mark.parametrize("name", ["authoredon", "code", "subject", "Status", "status:not", "patient.name"])
def test_other_undeclared_parameters_are_not_taken(name: str) -> None:
    assert not read(encoded(EPIC)).takes("MedicationRequest", name)


def test_all_rest_entries_of_the_server_count() -> None:
    document = statement(resource("Observation", "patient"))
    document["rest"].append({"mode": "server", "resource": [resource("Condition", "subject")]})
    document["rest"].append({"resource": [resource("Procedure", "date")]})
    assert set(read(encoded(document)).parameters) == {"Observation", "Condition", "Procedure"}


def test_what_the_server_does_as_a_client_does_not_count() -> None:
    document = statement(resource("Observation", "patient"))
    document["rest"].append({"mode": "client", "resource": [resource("Observation", "date"), resource("Condition")]})
    capability = read(encoded(document))
    assert not capability.offers("Condition")
    assert not capability.takes("Observation", "date")


def test_a_type_in_two_rest_entries_takes_the_parameters_of_both() -> None:
    document = statement(resource("Observation", "patient", "date"))
    document["rest"].append({"mode": "server", "resource": [resource("Observation", "code")]})
    capability = read(encoded(document))
    assert all(capability.takes("Observation", name) for name in ("patient", "date", "code"))


@pytest.mark.parametrize("software", [{}, {"version": "1"}, {"name": "S"}])
def test_half_a_software_entry_is_read(software: dict[str, str]) -> None:
    document = statement(resource("Observation"), software=software)
    assert read(encoded(document)).software == "".join(software.values())


def test_members_that_we_do_not_read_may_be_of_any_shape() -> None:
    document = statement(resource("Observation", "patient", extension={"odd": [[1]]}), contact=7, document="x")
    assert read(encoded(document)).parameters == {"Observation": {"patient"}}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"CapabilityStatement"',
        b"{",
        b"<html>Sorry</html>",
        b"\xff\xfe",
        b'{"resourceType":"CapabilityStatement","rest":[{"resource":[{"type":"\xff"}]}]}',
        b'{"resourceType":"Conformance","rest":[]}',
        b'{"resourceType":"OperationOutcome"}',
        b'{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"CapabilityStatement"}}]}',
        b"{}",
        b'{"resourceType":7}',
        b'{"resourceType":"CapabilityStatement","rest":{}}',
        b'{"resourceType":"CapabilityStatement","rest":[null]}',
        b'{"resourceType":"CapabilityStatement","rest":[{"resource":[{"type":["Observation"]}]}]}',
        b'{"resourceType":"CapabilityStatement","rest":[{"resource":[{"searchParam":[{"name":7}]}]}]}',
        b'{"resourceType":"CapabilityStatement"} {}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"resourceType":"CapabilityStatement","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_statement_is_unreadable(raw: bytes) -> None:
    with pytest.raises(Unreadable, match="not the JSON of a CapabilityStatement"):
        read(raw)


@settings(max_examples=60, deadline=None)
@given(
    document=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["rest", "mode", "resource", "type", "searchParam", "name", "software"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=15,
    )
)
def test_any_json_is_a_statement_or_unreadable(document: Any) -> None:
    raw = encoded(
        {**document, "resourceType": "CapabilityStatement"} if isinstance(document, dict) else {"rest": document}
    )
    try:
        capability = read(raw)
    except Unreadable:
        return
    assert isinstance(document, dict)
    assert all(isinstance(names, frozenset) for names in capability.parameters.values())


# --- fitting a search -------------------------------------------------------------------------------------


def test_a_search_that_the_server_knows_is_sent_whole() -> None:
    assert sent(SEARCH, kind="Observation", server=HAPI) == Fitted(SEARCH)


def test_undeclared_parameters_are_left_out_and_named_in_order() -> None:
    search = sent(SEARCH, kind="MedicationRequest", server=EPIC)
    assert search.unsent == ("code",)
    assert [name for name, _ in search.params] == ["patient", "date", "status", "_sort", "_count"]


def test_a_parameter_that_stands_twice_is_named_once() -> None:
    params = (("patient", "p1"), ("authoredon", "ge2026"), ("authoredon", "le2027"), ("code", "x"))
    assert sent(params, kind="MedicationRequest", server=EPIC).unsent == ("authoredon", "code")


def test_a_parameter_that_stands_twice_is_sent_twice() -> None:
    params = (("patient", "p1"), ("date", "ge2026"), ("date", "le2027"))
    assert sent(params, kind="MedicationRequest", server=EPIC).params == params


def test_patient_becomes_subject_where_only_that_is_declared() -> None:
    search = sent(SEARCH, kind="Observation", server=ORACLE)
    assert search.params[0] == ("subject", "Patient/p1")
    assert "patient" not in search.unsent


def test_patient_stays_where_both_are_declared() -> None:
    assert sent(SEARCH, kind="Observation", server=HAPI).params[0] == ("patient", "p1")


def test_a_server_that_declares_neither_is_still_asked_for_one_patient() -> None:
    server = statement(resource("Observation", "code"))
    assert sent(SEARCH, kind="Observation", server=server).params[0] == ("patient", "p1")


def test_a_search_by_subject_is_never_sent_without_it() -> None:
    params = (("subject", "Patient/p1"), ("code", "x"))
    assert sent(params, kind="Observation", server=EPIC).params[0][1].endswith("p1")


def test_what_was_refused_before_is_left_out() -> None:
    search = sent(SEARCH, kind="Observation", server=HAPI, refused=frozenset({"_sort", "status"}))
    assert search.unsent == ("status", "_sort")
    assert [name for name, _ in search.params] == ["patient", "code", "date", "_count"]


def test_refused_underscore_parameters_are_left_out_too() -> None:
    search = sent(SEARCH, kind="MedicationRequest", server=EPIC, refused=frozenset({"_sort"}))
    assert "_sort" in search.unsent


ALL_OF_IT: Parameters = (*SEARCH, ("subject", "Patient/p1"), ("_id", "o1"), ("_include", "x"))


def test_a_search_can_do_without_all_but_whose_data_and_codes_and_page_size() -> None:
    assert optional(ALL_OF_IT, resource_type="Observation", capability=Capability()) == {
        *("date", "status", "_sort", "_include")
    }


def test_a_search_of_a_small_type_can_do_without_codes_too() -> None:
    assert optional(ALL_OF_IT, resource_type="Condition", capability=Capability()) == {
        *("code", "date", "status", "_sort", "_include")
    }


def test_a_search_of_what_is_needed_has_nothing_optional() -> None:
    assert (
        optional(
            (("patient", "p1"), ("code", "x"), ("_count", "5")), resource_type="Observation", capability=Capability()
        )
        == NONE
    )


def test_what_is_declared_is_not_what_was_refused() -> None:
    assert optional(SEARCH, resource_type="Observation", capability=read(encoded(HAPI))) == {"_sort"}


def test_codes_of_observations_are_sent_undeclared() -> None:
    server = statement(resource("Observation", "patient"))
    assert "code" in dict(sent(SEARCH, kind="Observation", server=server).params)


KIND = "Observation"
NAMES = st.sampled_from(["patient", "subject", "code", "date", "status", "category", "_count", "_sort", "_id", "x:not"])
PARAMS = st.lists(st.tuples(NAMES, st.sampled_from(["1", "2"])), max_size=8).map(tuple)
CAPABILITIES = st.dictionaries(
    st.sampled_from(["Observation", "Condition"]), st.frozensets(NAMES, max_size=6), max_size=2
).map(lambda parameters: Capability(parameters=parameters))


def lately(params: Parameters) -> frozenset[str]:
    """What such a search would have been refused for, by a server that says nothing of itself."""
    return optional(params, resource_type=KIND, capability=Capability())


def by_patient(params: Parameters) -> list[tuple[str, str]]:
    """The search with the patient's bare id, whichever of its two names that has."""
    return [
        ("patient", value.removeprefix("Patient/")) if name == "subject" else (name, value) for name, value in params
    ]


def whose(params: Parameters) -> list[str]:
    return [value for name, value in by_patient(params) if name == "patient"]


@settings(max_examples=120, deadline=None)
@given(params=PARAMS, capability=CAPABILITIES, before=PARAMS)
def test_fitting_never_drops_whose_data_are_asked_for(
    params: Parameters, capability: Capability, before: Parameters
) -> None:
    search = fitted(
        params,
        resource_type=KIND,
        capability=capability,
        refused=lately(before),
    )
    assert whose(search.params) == whose(params)


@settings(max_examples=120, deadline=None)
@given(params=PARAMS, capability=CAPABILITIES, before=PARAMS)
def test_fitting_never_adds_a_parameter(params: Parameters, capability: Capability, before: Parameters) -> None:
    search = fitted(
        params,
        resource_type=KIND,
        capability=capability,
        refused=lately(before),
    )
    remaining = iter(by_patient(params))
    assert all(param in remaining for param in by_patient(search.params))


@settings(max_examples=120, deadline=None)
@given(params=PARAMS, capability=CAPABILITIES, before=PARAMS)
def test_every_parameter_is_sent_or_named_as_unsent(
    params: Parameters, capability: Capability, before: Parameters
) -> None:
    search = fitted(
        params,
        resource_type=KIND,
        capability=capability,
        refused=lately(before),
    )
    kept = {name for name, _ in by_patient(search.params)}
    assert kept | set(search.unsent) == {name for name, _ in by_patient(params)}
    assert kept.isdisjoint(search.unsent)


@settings(max_examples=120, deadline=None)
@given(params=PARAMS, capability=CAPABILITIES, before=PARAMS)
def test_fitting_what_is_fitted_changes_nothing(params: Parameters, capability: Capability, before: Parameters) -> None:
    refused = lately(before)
    once = fitted(params, resource_type=KIND, capability=capability, refused=refused)
    assert fitted(once.params, resource_type=KIND, capability=capability, refused=refused) == Fitted(once.params)


def test_no_parameter_of_a_patient_is_in_a_repr() -> None:
    assert "p-canary" not in repr(Fitted((("patient", "p-canary"),)))
