"""The code tables themselves: complete, unique, of the right shape, and each code with its source."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from importlib import resources

import pytest

from fhir_mappings import codebook, medications, procedures
from fhir_mappings.answers import fold
from fhir_mappings.codebook import Code
from fhir_mappings.coding import addresses, loinc_check_digit_holds
from fhir_mappings.words import words

FILES = ("ingredients", "conditions", "procedures", "allergies", "vaccines")
SHAPES = {
    "snomed": r"\d{6,18}",
    "rxnorm": r"\d{2,8}",
    "atc": r"[A-Z](\d\d([A-Z]([A-Z](\d\d)?)?)?)?",
    "icd10": r"[A-Z](\d[\dA-Z]?(\.\d[\dA-Z]{0,3})?)?",
    "cvx": r"\d{2,3}",
    "ops": r"\d-\d{3}(\.[\da-z]{1,2})?",
    "mimic-chart": r"\d{6}",
    "loinc": r"\d{1,7}-\d",
    "https://smt.esante.gouv.fr/terminologie-ccam": r"[A-Z]{4}\d{3}",
    "http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-medication-icu": r"\d{6}",
    "http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown-uv-ips": r"no-[a-z-]+",
}
MAY_QUESTION = {"infection-systemic", "covid19-suspected"}


def every_code() -> list[tuple[str, Code]]:
    return [(name, code) for name in FILES for code in codebook.load(name).codes]


@pytest.mark.parametrize("name", FILES)
def test_no_code_stands_twice(name: str) -> None:
    counted = Counter(f"{code.system}|{code.code}" for code in codebook.load(name).codes)
    assert [code for code, times in counted.items() if times > 1] == []


@pytest.mark.parametrize("name", FILES)
def test_every_concept_has_a_text_and_every_code_a_source(name: str) -> None:
    tables = codebook.load(name).tables
    not_concepts = {"implies", "products", "routes", "route-words", "topical", "devices", "words", "text-screen"}
    assert [concept for concept, table in tables.items() if concept not in not_concepts and not table.get("text")] == []
    assert [code for code in codebook.load(name).codes if len(code.source) < 8] == []


def test_every_code_has_the_shape_of_its_system() -> None:
    wrong = [
        f"{name}: {code.system}|{code.code}"
        for name, code in every_code()
        if not re.fullmatch(SHAPES.get(code.system, "no such system"), code.code)
        or (code.system == "loinc" and not loinc_check_digit_holds(code.code))
    ]
    assert wrong == []


@pytest.mark.parametrize("system", SHAPES)
def test_every_system_has_an_address_to_search_with(system: str) -> None:
    assert re.match(r"https?://|urn:", addresses(system)[0])


def test_snomed_check_digits_hold() -> None:
    """SNOMED CT identifiers end in a Verhoeff digit, which exposes a wrong or swapped digit."""
    wrong = [
        f"{name}: {code.code}" for name, code in every_code() if code.system == "snomed" and not _verhoeff(code.code)
    ]
    assert wrong == []


def test_a_check_digit_that_does_not_hold_is_seen() -> None:
    assert _verhoeff("840539006")
    assert not _verhoeff("840539007")


def _verhoeff(code: str) -> bool:
    multiply = [[(a + b) % 5 if a < 5 and b < 5 else _dihedral(a, b) for b in range(10)] for a in range(10)]
    permute = [list(range(10)), [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
    for _ in range(6):
        permute.append([permute[-1][permute[1][digit]] for digit in range(10)])
    check = 0
    for place, digit in enumerate(reversed(code)):
        check = multiply[check][permute[place % 8][int(digit)]]
    return check == 0


def _dihedral(a: int, b: int) -> int:
    """Composition in the dihedral group of the pentagon: rotations 0-4, reflections 5-9."""
    if a < 5:
        return 5 + (a + b) % 5
    if b < 5:
        return 5 + (a - b) % 5
    return (a - b) % 5


def test_an_unverified_condition_code_only_asks() -> None:
    unverified = {code.concept for code in codebook.load("conditions").codes if not code.verified}
    assert unverified <= MAY_QUESTION


def test_words_of_diagnoses_are_written_as_they_are_compared() -> None:
    tables = codebook.load("conditions").tables
    for name, table in tables.items():
        for spelling in table.get("words", ()):
            plain = spelling.strip("*")
            assert plain == fold(plain), f"{name}: {spelling}"
            assert plain, name


SCREENED = {
    "asthma",
    "autoimmune",
    "cirrhosis",
    "comfort-care",
    "hbv",
    "hepatic-failure",
    "hlh",
    "hsv-vzv",
    "infection-opportunistic",
    "infection-systemic",
    "lactation",
    "lactose-intolerance",
    "myocarditis",
    "oligo-anuria",
    "pml",
    "pregnancy",
    "tb-active",
    "tb-latent",
    "transplant",
    "vte-mace",
}


def test_every_group_that_a_rule_asks_for_has_words() -> None:
    tables = codebook.load("conditions").tables
    assert {name for name, table in tables.items() if table.get("words")} == SCREENED


def test_a_prefix_is_no_whole_code_system() -> None:
    assert [code for _, code in every_code() if code.prefix and not code.code] == []


def test_every_product_and_route_has_a_source() -> None:
    tables = codebook.load("ingredients").tables
    for row in (
        *tables["products"].values(),
        *tables["routes"].values(),
        *codebook.load("procedures").tables["devices"].values(),
    ):
        assert len(row["source"]) >= 8
    for name in ("route-words", "topical"):
        assert tables[name]["source"].startswith(("ours", "WHO"))


def test_products_do_not_hide_the_code_of_an_ingredient() -> None:
    book = codebook.load("ingredients")
    exact = {f"{code.system}|{code.code}" for code in book.codes if not code.prefix}
    assert exact.isdisjoint(book.tables["products"])


def test_names_are_lower_case_and_made_of_words() -> None:
    tables = codebook.load("ingredients").tables
    for ingredient in medications.ingredient_names():
        names = tables[ingredient]["names"]
        assert names, ingredient
        for name in names:
            assert name == name.lower()
            assert words(name)


def test_every_drug_of_the_interaction_list_is_there() -> None:
    """Clinical 2.6, with the study drugs, the relaxants, nitric oxide and almitrine."""
    wanted = [
        "anakinra",
        "ruxolitinib",
        "cisatracurium",
        "atracurium",
        "rocuronium",
        "vecuronium",
        "pancuronium",
        "mivacurium",
        "suxamethonium",
        "almitrine",
        "atazanavir",
        "boceprevir",
        "ceritinib",
        "clarithromycin",
        "cobicistat",
        "darunavir",
        "idelalisib",
        "indinavir",
        "itraconazole",
        "ketoconazole",
        "lopinavir",
        "mifepristone",
        "nefazodone",
        "nelfinavir",
        "posaconazole",
        "ritonavir",
        "saquinavir",
        "telaprevir",
        "telithromycin",
        "tucatinib",
        "voriconazole",
        "fluconazole",
        "amiodarone",
        "aprepitant",
        "fosaprepitant",
        "ciclosporin",
        "conivaptan",
        "crizotinib",
        "diltiazem",
        "dronedarone",
        "erythromycin",
        "imatinib",
        "isavuconazole",
        "letermovir",
        "nilotinib",
        "verapamil",
        "apalutamide",
        "carbamazepine",
        "enzalutamide",
        "fosphenytoin",
        "lumacaftor",
        "mitotane",
        "phenobarbital",
        "phenytoin",
        "primidone",
        "rifampicin",
        "bosentan",
        "efavirenz",
        "etravirine",
        "modafinil",
        "nafcillin",
        "rifabutin",
        "rifapentine",
        "adalimumab",
        "etanercept",
        "golimumab",
        "infliximab",
        "baricitinib",
        "tofacitinib",
        "upadacitinib",
        "filgotinib",
        "abrocitinib",
        "fedratinib",
        "pacritinib",
        "momelotinib",
        "canakinumab",
        "rilonacept",
        "tocilizumab",
        "sarilumab",
        "siltuximab",
        "abatacept",
        "azathioprine",
        "cyclophosphamide",
        "everolimus",
        "methotrexate",
        "mycophenolate",
        "rituximab",
        "sirolimus",
        "tacrolimus",
        "prednisone",
        "prednisolone",
        "methylprednisolone",
        "hydrocortisone",
        "dexamethasone",
    ]
    listed = set(medications.ingredient_names())
    assert set(wanted) <= listed
    assert {"certolizumab pegol", "nitric oxide", "st john's wort"} <= listed


def test_words_of_procedures_are_those_the_mapping_reads() -> None:
    assert set(codebook.load("procedures").tables["words"]) == {
        "invasive",
        "non-invasive",
        "ecmo",
        "prone",
        "dialysis",
        "source",
    }
    assert "ecmo-vv" in procedures.concept_names()


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_plain_toml(name: str) -> None:
    text = resources.files("fhir_mappings").joinpath(f"concepts/{name}.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)
    assert "\t" not in text
