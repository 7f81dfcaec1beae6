"""docs/operate.md against the code, the manifests and the alert rules: what somebody types at night has to be there."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from app import cli, settings
from app.clients import ClientTable
from app.observe import metrics as observed
from app.observe.metrics import Metrics
from tests import npm
from tests.unit.test_docs import headings
from tests.unit.test_manifests import KUBERNETES, rendered_text, text
from tools import check_manifests

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "operate.md"
RULES = ROOT / "deploy" / "prometheus" / "rules.yaml"
RULE_TESTS = RULES.with_name("rules.test.yaml")
PARTS = ["You notice", "Clinicians see", "Do", "Over when"]
FOREIGN = {"up", "kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"}
"""Metrics of Prometheus and of Kubernetes themselves."""
NOT_OURS = {"synchronous_commit", "max_connections", "pg_dump", "pg_basebackup", "pg_restore"}
"""Words of PostgreSQL that look like keys."""
A_SITES = "deploy/kubernetes/site"
"""The folder that a site makes."""


@cache
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def blocks() -> str:
    """What stands in fences."""
    return "\n".join(re.findall(r"^```\w*\n(.*?)^```", page(), re.MULTILINE | re.DOTALL))


def spans() -> list[str]:
    """What stands in backticks, outside of fences."""
    without = re.sub(r"^```.*?^```", "", page(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", without)


# --- commands -------------------------------------------------------------------------------------------------


def typed() -> list[list[str]]:
    """Every `rescue-cds` command, in fences and out of them, as a shell would split it."""
    lines = [*blocks().splitlines(), *spans()]
    return [shlex.split(line, comments=True)[1:] for line in lines if re.match(r"rescue-cds [a-z]", line)]


def unknown(words: list[str]) -> str:
    """What of a command the command line does not know, or ''."""
    parser = cli._parser()
    options: set[str] = set()
    words = list(words)
    while (inner := _inner(parser)) and words and not words[0].startswith("-"):
        if words[0] not in inner:
            return words[0]
        parser = inner[words.pop(0)]
        options |= {word for action in parser._actions for word in action.option_strings}
    return next((word for word in words if word.startswith("--") and word not in options), "")


def _inner(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else {}


def test_every_command_is_one() -> None:
    named = {tuple(words[:2]) for words in typed()}
    assert {("db", "upgrade"), ("db", "check"), ("db", "purge"), ("decisions", "verify")} <= named
    assert [words for words in typed() if unknown(words)] == []


def test_a_command_that_is_none_is_found() -> None:
    assert unknown(["db", "improve"]) == "improve"
    assert unknown(["db", "check", "--hard"]) == "--hard"
    assert unknown(["serve", "--workers", "4"]) == ""


def test_every_object_that_kubectl_is_given_is_made_by_the_manifests() -> None:
    there = [one for overlay in ("sqlite", "postgresql") for one in yaml.safe_load_all(text(overlay)) if one]
    made = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in there}
    said = set(re.findall(r"\b(?:statefulset|job)/[\w-]+", page()))
    assert said == {"statefulset/rescue-cds", "job/rescue-cds-db-upgrade"}
    assert said <= made
    aliases = {"hpa": "horizontalpodautoscaler", "job": "job"}
    named = re.findall(r"(?:delete|patch) (hpa|job) ([\w-]+)", page())
    assert named
    assert {f"{aliases[kind]}/{name}" for kind, name in named} <= made
    policies = {one["metadata"]["name"] for one in there if one["kind"] == "NetworkPolicy"}
    assert {"fhir-and-authorisation", "database", "hooks-from-gateway", "operators-from-monitoring"} <= policies
    secrets = set(re.findall(r"secret generic ([\w-]+)", page()))
    assert secrets == set(
        re.findall(r"(?:secretName|secretKeyRef:\n\s+key: \w+\n\s+name): ([\w-]+)", text("postgresql"))
    )
    claimed = check_manifests.read(text("sqlite")).of("Job")[0]["spec"]["template"]["spec"]["volumes"]
    assert {v["persistentVolumeClaim"]["claimName"] for v in claimed if "persistentVolumeClaim" in v} == set(
        re.findall(r"patch pvc ([\w-]+)", page())
    )


def test_every_patch_of_a_command_is_taken() -> None:
    """Merged into what the manifests make, it is still an object that Kubernetes knows."""
    patches = dict(re.findall(r"patch (hpa|pvc) [\w-]+ --patch '([^']+)'", page()))
    assert set(patches) == {"hpa", "pvc"}
    there = check_manifests.read(text("postgresql"))
    [scaler] = there.of("HorizontalPodAutoscaler")
    claim = there.services[0]["spec"]["volumeClaimTemplates"][0]
    for one, patch in ((scaler, patches["hpa"]), (claim, patches["pvc"])):
        changed = merged(one, json.loads(patch))
        assert changed != one
        whole = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"} | changed
        assert check_manifests._against_schema(json.dumps(whole), check_manifests.OLDEST) == ""


def merged(one: Any, patch: Any) -> Any:
    if not isinstance(one, dict) or not isinstance(patch, dict):
        return patch
    return one | {key: merged(one.get(key), value) for key, value in patch.items()}


# --- keys, files, metrics -------------------------------------------------------------------------------------


def keys(model: type[BaseModel]) -> Iterator[str]:
    """Every key of a table of the configuration, and of the tables in it."""
    for name, field in model.model_fields.items():
        yield name
        for inner in re.findall(r"app\.\w+\.(\w+)", str(field.annotation)):
            table = getattr(settings, inner, None)
            if isinstance(table, type) and issubclass(table, BaseModel):
                yield from keys(table)


def test_every_key_is_one_of_the_configuration() -> None:
    known = {*keys(settings._File), *ClientTable.model_fields}
    assert {"drain_seconds", "spool_mib", "fhir_bases", "jwks_file", "leeway_seconds"} <= known
    said = {word for word in spans() if re.fullmatch(r"[a-z]+(?:_[a-z]+)+", word)}
    said = {word for word in said if not word.startswith("rescue_cds")} - NOT_OURS
    assert {"drain_seconds", "spool_mib", "key_file"} <= said
    assert said - known == set()


def test_every_key_stands_in_the_table_that_is_named() -> None:
    named = re.findall(r"`(\w+)` (?:and `(\w+)` )?of `\[(\w+)\]`", page())
    assert len(named) >= 5
    for first, second, table in named:
        model = settings._File.model_fields[table].annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        assert {first, second} - {""} <= set(model.model_fields), (first, second, table)


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    assert f"`drain_seconds` of `[service]` ({settings.DRAIN_SECONDS:g}; in the dev profile 0)" in page()
    assert f"`spool_mib` of `[store]` ({settings._Store().spool_mib})" in page()
    assert f"{settings._Store().spool_mib} * 1024 * 1024" in RULES.read_text(encoding="utf-8")
    assert f"`{settings.DATABASE}`" in page()
    assert f"`{settings.SILENCED}`" in page()


def test_every_variable_is_read_somewhere() -> None:
    said = set(re.findall(r"\bRESCUE_CDS_[A-Z]+(?:_[A-Z]+)*", page()))
    drill = (ROOT / "deploy" / "restore-drill.sh").read_text(encoding="utf-8")
    known = {settings.DATABASE, settings.SILENCED} | set(re.findall(r"RESCUE_CDS_[A-Z_]+", drill))
    assert said - known == set()


def test_every_file_is_there() -> None:
    said = {word for word in spans() if re.match(r"(?:deploy|docs|tools|tests)/", word)}
    said |= set(re.findall(r"\b(?:deploy|tools)/[\w./-]*\w", blocks()))
    said = {word.rstrip("/") for word in said if not word.startswith(A_SITES)}
    assert len(said) > 3
    assert [word for word in sorted(said) if not (ROOT / word).exists()] == []
    folders = set(re.findall(r"`(base|image|overlays/[\w/]+)`", page()))
    assert folders == {str(path.parent.relative_to(KUBERNETES)) for path in KUBERNETES.rglob("kustomization.yaml")} - {
        "upgrade"
    }


@cache
def exposed() -> dict[str, str]:
    """Every metric and its type, as an operator's Prometheus reads them."""
    made = Metrics(services=["a"], clients=["c"], tenants=["t"], reasons=["r"], whys=["w"])
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", made.text().decode(), re.MULTILINE))


def series() -> set[str]:
    more = ("_bucket", "_sum", "_count")
    known = set(exposed())
    return known | {f"{name}{end}" for name, kind in exposed().items() if kind == "histogram" for end in more}


def test_every_metric_of_the_page_is_exposed() -> None:
    said = set(re.findall(r"\brescue_cds_\w+", page())) - {"rescue_cds"}
    assert len(said) > 8
    assert said - series() == set()


# --- alerts ---------------------------------------------------------------------------------------------------


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_metric_of_an_alert_is_exposed() -> None:
    for rule in rules():
        said = set(re.findall(r"\b(?:rescue_cds|kubelet)_\w+|\bup\b", rule["expr"]))
        assert said, rule["alert"]
        assert said - series() - FOREIGN == set(), rule["alert"]


def test_every_label_of_an_alert_can_have_that_value() -> None:
    """One that never comes is an alert that never fires."""
    known = {"outcome": {*observed.OUTCOMES, *observed.READS, *observed.JWKS}, "state": set(observed.BREAKER)}
    known |= {"job": {"rescue-cds"}, "persistentvolumeclaim": {"data-rescue-cds-.+"}}
    found = 0
    for rule in rules():
        for label, value in re.findall(r'(\w+)=~?"([^"]+)"', rule["expr"]):
            found += 1
            assert set(value.split("|")) <= known[label], rule["alert"]
    assert found > 5


def test_what_an_alert_counts_is_there_from_the_start() -> None:
    """A series that appears with its first increase shows none. For answers the rule has `or vector(0)`."""
    made = Metrics(services=["a"], clients=["c"], tenants=["t"], reasons=["r"], whys=["w"]).text().decode()
    counted = {one for rule in rules() for one in re.findall(r"increase\((rescue_cds_\w+(?:{[^}]+})?)\[", rule["expr"])}
    assert 'rescue_cds_jwks_fetches_total{outcome="failed"}' in counted
    for one in sorted(counted - {"rescue_cds_answers_total"}):
        name, _, label = one.rstrip("}").partition("{")
        assert re.search(rf"^{name}(?:{{[^}}]*{label}[^}}]*}})? 0\.0$", made, re.MULTILINE), one


def test_the_page_has_each_alert_as_the_rules_have_it() -> None:
    cells = [
        [cell.strip() for cell in line.strip("| \n").split(" | ")]
        for line in page().splitlines()
        if line.startswith("| `RescueCds")
    ]
    there = headings(PAGE)
    expected = []
    for rule in rules():
        name, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert name == "docs/operate.md"
        assert anchor in there, rule["alert"]
        expected.append((f"`{rule['alert']}`", rule["labels"]["severity"], rule["annotations"]["summary"], anchor))
    assert [(*row[:3], row[3].partition("#")[2].rstrip(")")) for row in cells] == expected


def runbooks() -> dict[str, str]:
    parts = re.split(r"^### (.+)$", page().partition("\n## Runbooks\n")[2], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_runbook_says_the_four_things_in_their_order() -> None:
    assert len(runbooks()) > 10
    for name, told in runbooks().items():
        assert re.findall(r"^\*\*([A-Za-z ]+):\*\*", told, re.MULTILINE) == PARTS, name


def test_every_alert_is_named_where_it_leads_to() -> None:
    for rule in rules():
        anchor = rule["annotations"]["runbook"].partition("#")[2]
        [told] = [
            told
            for name, told in runbooks().items()
            if re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-") == anchor
        ]
        assert f"`{rule['alert']}`" in told.partition("**Clinicians see:**")[0], rule["alert"]


def test_every_alert_is_tested_both_ways() -> None:
    tests = yaml.safe_load(RULE_TESTS.read_text(encoding="utf-8"))["tests"]
    seen = [(one["alertname"], bool(one["exp_alerts"])) for test in tests for one in test["alert_rule_test"]]
    assert sorted(seen) == sorted((rule["alert"], fires) for rule in rules() for fires in (False, True))


def test_promtool_agrees() -> None:
    if shutil.which("promtool") is None:
        npm.absent("promtool", "promtool is absent (Debian: prometheus)")
    for arguments in (["check", "rules", "--lint-fatal", RULES.name], ["test", "rules", RULE_TESTS.name]):
        done = subprocess.run(["promtool", *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


# --- a site ---------------------------------------------------------------------------------------------------


def test_the_site_of_the_page_passes_the_check(tmp_path: Path) -> None:
    """As it is written there, with an image and a configuration of its own."""
    copied = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, copied)
    site = copied / "site"
    (site / "upgrade").mkdir(parents=True)
    [written] = re.findall(r"^```yaml\n(.*?)^```", page(), re.MULTILINE | re.DOTALL)
    (site / "kustomization.yaml").write_text(written, encoding="utf-8")
    example = (KUBERNETES / "base" / "config.toml").read_text(encoding="utf-8")
    (site / "config.toml").write_text(example.replace("example.org", "hospital.test"), encoding="utf-8")
    assert "names `../../overlays/postgresql/upgrade` and nothing else" in page()
    (site / "upgrade" / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        "resources:\n  - ../../overlays/postgresql/upgrade\n",
        encoding="utf-8",
    )
    image = copied / "image" / "kustomization.yaml"
    image.write_text(image.read_text(encoding="utf-8").replace("example.org", "hospital.test"), encoding="utf-8")
    both = f"{rendered_text(site)}\n---\n{rendered_text(site / 'upgrade')}"
    assert check_manifests.offences(check_manifests.read(both)) == []
    assert "10.20.30.20/32" in both
    assert "192.0.2." not in both
