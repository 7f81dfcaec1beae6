"""`rescue-cds decisions`: what is printed of a record that was written by the service, and the exit statuses."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app import cli
from app.decisions import command
from tests.integration.hospital import FHIR, SERVICE, decision, hook, opened, ordering

MET = "demo-full-protocol"
REMOVED = "demo-us-units"
COMMENT = "not for \x1b[31mthis patient"


@dataclass(slots=True)
class Written:
    """A record with one decision of each of these kinds."""

    path: Path
    ids: dict[str, str] = field(default_factory=dict)
    cards: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"sqlite+aiosqlite:///{self.path}"


async def _write(folder: Path) -> Written:
    written = Written(folder / "written.db")
    async with opened(folder, db=written.url) as hospital:
        for name in (MET, "demo-ward", REMOVED):
            answer = await hospital.call(hook(name))
            written.ids[name] = decision(answer)["id"]
            for card in answer.json()["cards"][:1]:
                written.cards[name] = card["uuid"]
        refused = await hospital.call(hook(MET, fhir=None))
        assert refused.status_code == 412
        coded = {"coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "72435"}]}
        draft = {
            "resourceType": "MedicationRequest",
            "id": "d1",
            "status": "draft",
            "intent": "order",
            "subject": {"reference": f"Patient/{MET}"},
            "medicationCodeableConcept": coded | {"text": "a\u202eb"},
        }
        written.ids["order"] = decision(await hospital.post(ordering(MET, draft, hook="order-sign")))["id"]
        entry = {
            "card": written.cards[MET],
            "outcome": "overridden",
            "overrideReason": {"reason": {"code": "other", "system": "urn:x"}, "userComment": COMMENT},
            "outcomeTimestamp": "2026-11-23T12:01:00Z",
        }
        told = await hospital.client.post(f"/cds-services/{SERVICE}/feedback", json={"feedback": [entry]})
        assert told.status_code == 200
        await hospital.store.remove_patient(REMOVED, tenant="dev")
    return written


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return asyncio.run(_write(tmp_path_factory.mktemp("record")))


def run(written: Written, *arguments: str) -> int:
    return cli.main(["decisions", *arguments, "--db", written.url])


def test_show_says_what_was_seen_and_why(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(written, "show", written.ids[MET]) == 0
    out = capsys.readouterr().out
    assert f"Decision {written.ids[MET]}" in out
    for said in (
        "Card 1 [info] protocol",
        "Investigational",
        "suggestion: ",
        "create: ",
        "pilot-simple: met (scope: ",
        "S-FERRITIN",
        "Ferritin: > 1000 µg/L",
        "by the authority of: the token of the hook",
        "knowledge files: ",
        "published_at: http://127.0.0.1:8000",
        "overridden of card",
        "decision: entry ",
        "link: The pilot letter",
    ):
        assert said in out, said
    for said in (
        "crp: 214 mg/L at ",
        "hbsag: negative (written: Negative) at ",
        "sarscov2_pcr: positive (written: Detected) at ",
        "propofol: ordered at ",
        "sex: female; Patient",
    ):
        assert said in out, said
    assert ": present" not in out
    assert " h old" in out
    assert "removed" not in out


def test_stored_text_does_nothing_to_the_terminal(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (MET, "order"):
        for more in ((), ("--json",)):
            assert run(written, "show", written.ids[name], *more) == 0
            out = capsys.readouterr().out
            assert all(line.isprintable() for line in out.splitlines())
    run(written, "show", written.ids[MET])
    assert "not for \\x1b[31mthis patient" in capsys.readouterr().out


def test_show_as_json_holds_everything(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(written, "show", written.ids[MET], "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert found["patient"] == MET
    assert found["facts"]["measurements"]
    assert found["answer"]["cards"][0]["uuid"] == written.cards[MET]
    assert found["feedback"][0]["comment"] == COMMENT
    assert found["switches"]["suggest_on"] == "pilot-simple"
    assert [link["kind"] for link in found["chain"]] == ["decision"]


def test_a_decision_is_found_by_the_beginning_of_its_id_and_by_its_card(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (written.ids[MET][:8], written.ids[MET].upper(), written.cards[MET]):
        assert run(written, "show", name) == 0
        assert f"Decision {written.ids[MET]}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ffffffff-ffff-4fff-8fff-ffffffffffff", "no decision and no card of that id"),
        ("1234567", "at least 8 characters"),
        ("no/such id!", "not an id"),
        ("%%%%%%%%", "not an id"),
    ],
)
@pytest.mark.parametrize("action", ["show", "rerun"])
def test_an_unknown_id_is_exit_status_2(
    written: Written, capsys: pytest.CaptureFixture[str], action: str, name: str, said: str
) -> None:
    assert run(written, action, name) == 2
    err = capsys.readouterr().err
    assert err.startswith("rescue-cds: ")
    assert said in err


@pytest.mark.parametrize("action", ["show", "rerun"])
def test_a_decision_whose_row_is_gone_is_told_from_one_that_never_was(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    copied = copy(written, tmp_path)
    with closing(sqlite3.connect(copied.path)) as connection:
        connection.execute("pragma foreign_keys = off")
        connection.execute("delete from decisions where id = ?", (written.ids[MET],))
        connection.commit()
    for name in (written.ids[MET], written.ids[MET][:8], written.cards[MET]):
        assert run(copied, action, name) == 2
        err = capsys.readouterr().err
        assert "the chain has an entry for it: run `rescue-cds decisions verify`" in err
        assert "in this database" not in err
    assert run(copied, "verify") == 1
    out = capsys.readouterr().out
    assert f"decisions {written.ids[MET]}: was removed" in out
    assert "rows: 4: entries for 5 decisions (1 without patient data, removed on purpose), 1 entry of feedback; " in out


def test_a_beginning_that_several_share_is_refused_with_their_names(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = copy(written, tmp_path)
    twins = ["aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002"]
    with closing(sqlite3.connect(copied.path)) as connection:
        connection.execute("pragma foreign_keys = off")
        for name, id_ in zip((MET, "demo-ward"), twins, strict=True):
            connection.execute("update decisions set id = ? where id = ?", (id_, written.ids[name]))
        connection.commit()
    assert run(copied, "show", "aaaaaaaa") == 2
    err = capsys.readouterr().err
    assert all(id_ in err for id_ in twins)


def copy(written: Written, folder: Path) -> Written:
    made = Written(folder / "copy.db", dict(written.ids), dict(written.cards))
    with closing(sqlite3.connect(written.path)) as source, closing(sqlite3.connect(made.path)) as target:
        source.backup(target)
    return made


def test_after_a_removal_it_says_so_and_shows_what_is_left(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(written, "show", written.ids[REMOVED]) == 0
    out = capsys.readouterr().out
    assert "The patient's data have been removed" in out
    assert "The answer is no longer there." in out
    assert f"a card: protocol [info], {written.cards[REMOVED]}" in out
    assert "pilot-simple: met" in out
    assert "removal: entry " in out
    assert f"patient    {REMOVED}" not in out
    assert "Investigational" not in out


def test_a_card_of_a_removed_decision_still_finds_it(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(written, "show", written.cards[REMOVED]) == 0
    assert f"Decision {written.ids[REMOVED]}" in capsys.readouterr().out


def test_a_list_is_without_patients(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(written, "list") == 0
    out = capsys.readouterr().out
    assert all(id_ in out for id_ in written.ids.values())
    assert "demo-" not in out
    assert out.splitlines()[0].split() == ["id", "at", "(UTC)", "tenant", "client", "hook", "outcome", "cards", "flags"]


def test_a_list_can_be_cut(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    run(written, "list", "--outcome", "out-of-scope")
    assert [row.split()[0] for row in capsys.readouterr().out.splitlines()[1:]] == [written.ids["demo-ward"]]
    run(written, "list", "--limit", "2")
    assert len(capsys.readouterr().out.splitlines()) == 3
    run(written, "list", "--client", "nobody")
    assert capsys.readouterr().out == "no decision\n"
    run(written, "list", "--until", "2026-11-22")
    assert capsys.readouterr().out == "no decision\n"
    run(written, "list", "--since", "2026-11-23", "--until", "2026-11-23", "--tenant", "dev")
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_rerun_says_identical_and_by_which_versions(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(written, "rerun", written.ids[MET]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{written.ids[MET]}: identical (made by rescue-cds ")
    assert ", evaluated again by " in out


def test_rerun_of_a_period_sums_up(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(written, "rerun", "--since", "2026-11-23", "--until", "2026-11-24") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == (
        "5 decisions: 4 identical, 0 differ, 1 without the patient's data, 0 could not be evaluated again"
    )


def test_rerun_of_a_removed_decision_by_its_id_is_exit_status_4(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(written, "rerun", written.ids[REMOVED]) == command.NOT_POSSIBLE
    assert "not possible: the patient's data have been removed" in capsys.readouterr().out


def test_rerun_of_what_was_changed_is_exit_status_3(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = copy(written, tmp_path)
    with closing(sqlite3.connect(copied.path)) as connection:
        connection.execute(
            'update decisions set verdicts = replace(verdicts, \'"S-CRP":"met"\', \'"S-CRP":"not-met"\') where id = ?',
            (written.ids[MET],),
        )
        connection.commit()
    assert run(copied, "rerun", written.ids[MET], written.ids["demo-ward"]) == command.DIFFERS
    out = capsys.readouterr().out
    assert "  verdicts.pilot-simple.criteria.S-CRP\n    then: not-met\n    now:  met\n" in out
    assert "1 identical, 1 differ" in out
    assert run(copied, "rerun", "--json", "--since", "2026-11-23") == command.DIFFERS
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["id"]: row["verdict"] for row in rows}[written.ids[MET]] == "differs"
    assert len(rows) == 5


def test_knowledge_that_is_gone_or_was_changed_is_said(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = copy(written, tmp_path)
    with closing(sqlite3.connect(copied.path)) as connection:
        connection.execute("update knowledge set files = replace(files, 'value = 1000,', 'value = 1001,')")
        connection.commit()
    assert run(copied, "rerun", written.ids[MET]) == command.NOT_POSSIBLE
    assert "it was changed" in capsys.readouterr().out
    assert run(copied, "show", written.ids[MET]) == 0
    out = capsys.readouterr().out
    assert "titles are left out: " in out
    assert "S-FERRITIN" in out
    with closing(sqlite3.connect(copied.path)) as connection:
        connection.execute("delete from knowledge")
        connection.commit()
    assert run(copied, "rerun", "--since", "2026-11-01") == command.NOT_POSSIBLE
    assert "5 decisions: 0 identical, 0 differ" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rerun",), "name decisions by their ids, or a period"),
        (("rerun", "aaaaaaaa", "--since", "7d"), "name decisions by their ids, or a period"),
        (("rerun", "aaaaaaaa", "--tenant", "dev"), "go with --since"),
        (("list", "--since", "yesterday"), "--since: write 2026-11-01"),
        (("list", "--since", "2026-11-23T12:00:00"), "--since: a timestamp needs its zone: write 2026-11-23T12:00:00Z"),
        (("list", "--since", "99999999999d"), "--since: no year of any decision: write one from 1900 to 2200"),
        (("list", "--until", "9999-12-31"), "--until: no year of any decision: write one from 1900 to 2200"),
        (("list", "--outcome", "foo"), "--outcome: no decision has the outcome 'foo': one of card, deceased, "),
        (("list", "--outcome", "none"), "--outcome: no decision has the outcome 'none'"),
        (("rerun", "--since", "7d", "--outcome", "foo"), "nothing-to-say, out-of-scope, patient-user, silent, snoozed"),
        (("list", "--since", "24h", "--until", "2d"), "--since: lies behind --until"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_command_line_that_says_nothing_is_refused(
    written: Written, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert run(written, *arguments) == 2
    assert said in capsys.readouterr().err


def test_a_database_that_is_not_there_is_exit_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["decisions", "list", "--db", f"sqlite+aiosqlite:///{tmp_path}/none.db"]) == 2
    assert "none.db" in capsys.readouterr().err


def test_nothing_is_written(written: Written) -> None:
    before = written.path.read_bytes()
    for arguments in (("list",), ("show", written.ids[MET]), ("rerun", "--since", "2026-11-23")):
        run(written, *arguments)
    assert written.path.read_bytes() == before


def test_the_configuration_says_the_zone_and_the_database(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "site.toml"
    config.write_text(
        f'[service]\nprofile = "dev"\n[store]\nurl = "{written.url}"\n'
        f'[[tenants]]\nname = "h"\nzone = "Asia/Tokyo"\nfhir_bases = ["{FHIR}"]\n'
    )
    assert cli.main(["decisions", "list", "--config", str(config), "--since", "2026-11-24"]) == 0
    assert capsys.readouterr().out == "no decision\n"
    assert cli.main(["decisions", "list", "--config", str(config), "--until", "2026-11-23"]) == 0
    shown: Any = capsys.readouterr().out
    assert len(shown.splitlines()) == 6
