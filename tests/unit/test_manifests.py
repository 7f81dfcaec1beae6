"""The Kubernetes manifests as kubectl renders them, and the tool that holds them to what they promise."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from app import settings
from tests import npm
from tests.unit.app.registry import Ehr
from tools import check_manifests as tool

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("sqlite", "postgresql")
OLDEST_KUBECTL = 21
"""The first kubectl 1.x whose `kustomize` knows components."""

Change = Callable[[list[dict[str, Any]]], object]


@cache
def why_not() -> str:
    """Why nothing can be rendered here, or ''."""
    if shutil.which("kubectl") is None:
        return "kubectl is absent (Debian 13: kubernetes-client)"
    told = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, check=False)
    try:
        minor = int(re.sub(r"\D", "", json.loads(told.stdout)["clientVersion"]["minor"]))
    except (ValueError, KeyError):
        return "kubectl does not say its version"
    return "" if minor >= OLDEST_KUBECTL else f"kubectl 1.{minor} renders no components: 1.{OLDEST_KUBECTL} does"


def rendered_text(folder: Path) -> str:
    if why_not():
        npm.absent("kubectl", why_not())
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), folder
    return done.stdout


@cache
def text(overlay: str) -> str:
    """The service and the upgrade of its database."""
    folder = KUBERNETES / "overlays" / overlay
    return f"{rendered_text(folder)}\n---\n{rendered_text(folder / 'upgrade')}"


def objects(overlay: str) -> list[dict[str, Any]]:
    return copy.deepcopy(list(tool.read(text(overlay)).objects))  # type: ignore[arg-type]


def found(changed: list[dict[str, Any]], *, example: bool = True) -> list[str]:
    return tool.offences(tool.read(yaml.safe_dump_all(changed)), example=example)


def one(there: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    return next(it for it in there if it["kind"] == kind and (not name or it["metadata"]["name"] == name))


def pod(there: list[dict[str, Any]], kind: str = "StatefulSet") -> Any:
    return one(there, kind)["spec"]["template"]["spec"]


def container(there: list[dict[str, Any]], kind: str = "StatefulSet") -> Any:
    return pod(there, kind)["containers"][0]


def config(there: list[dict[str, Any]], old: str, new: str) -> None:
    data = one(there, "ConfigMap")["data"]
    assert old in data["config.toml"]
    data["config.toml"] = data["config.toml"].replace(old, new)


def policy(there: list[dict[str, Any]], name: str) -> Any:
    return one(there, "NetworkPolicy", name)["spec"]


def without(there: list[dict[str, Any]], kind: str, name: str = "") -> None:
    there.remove(one(there, kind, name))


# --- what is shipped ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_shipped_keeps_every_rule(overlay: str) -> None:
    assert found(objects(overlay)) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_installation_goes_out_with_placeholders(overlay: str) -> None:
    said = "\n".join(found(objects(overlay), example=False))
    assert "image registry.example.org/rescue-cds" in said
    assert "example.org is a placeholder" in said
    assert "192.0.2.10/32 is a placeholder" in said


def test_the_example_of_the_configuration_is_one(tmp_path: Path) -> None:
    """With the keys beside it, as in the pod."""
    (tmp_path / "example-ehr.jwks.json").write_text(Ehr("example-ehr", "https://ehr.example.org").jwks(), "utf-8")
    example = (KUBERNETES / "base" / "config.toml").read_text(encoding="utf-8")
    file = tmp_path / "config.toml"
    file.write_text(example.replace("/run/secrets/rescue-cds", str(tmp_path)), encoding="utf-8")
    read = settings.load(file)
    assert read.profile == "site"
    assert {read.host, read.admin.host} == {"0.0.0.0"}  # noqa: S104 (compared, not bound)
    assert [client.id for client in read.clients] == ["example-ehr"]


def test_the_user_is_the_one_of_the_image() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"USER {tool.USER}:{tool.USER}" in dockerfile
    assert "VOLUME /var/lib/rescue-cds" in dockerfile


def test_no_manifest_but_one_names_the_image() -> None:
    named = [
        path
        for path in sorted(KUBERNETES.rglob("*.yaml"))
        if re.search(r"newName|image: (?!rescue-cds$)", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert named == [KUBERNETES / "image" / "kustomization.yaml"]


def test_another_configuration_is_a_rollout(tmp_path: Path) -> None:
    """The name of the ConfigMap changes with its content, and the pods' with it."""
    copied = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, copied)
    path = copied / "base" / "config.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("Europe/Paris", "Europe/Rome"), encoding="utf-8")
    names = []
    for folder in (KUBERNETES, copied):
        there = list(yaml.safe_load_all(rendered_text(folder / "overlays" / "sqlite")))
        name = one(there, "ConfigMap")["metadata"]["name"]
        assert [v["configMap"]["name"] for v in pod(there)["volumes"] if v["name"] == "config"] == [name]
        names.append(name)
    assert names[0] != names[1]


# --- every rule can fail --------------------------------------------------------------------------------------

ANY: list[tuple[str, Change, str]] = [
    ("misspelt", lambda t: container(t).update(readynessProbe={}), "readynessProbe"),
    ("two services", lambda t: t.append(copy.deepcopy(one(t, "StatefulSet"))), "2 workloads"),
    ("no upgrade", lambda t: without(t, "Job"), "0 jobs for `rescue-cds db upgrade`"),
    ("two images", lambda t: container(t, "Job").update(image="a.invalid/rescue-cds:9"), "different images"),
    ("another database", lambda t: container(t, "Job").update(env=[]), "need the same RESCUE_CDS_DB"),
    ("no tag", lambda t: container(t).update(image="a.invalid:5000/rescue-cds"), "name a version or a digest"),
    ("latest", lambda t: container(t).update(image="rescue-cds:latest"), "name a version or a digest"),
    ("root", lambda t: pod(t)["securityContext"].update(runAsUser=0), "runAsUser has to be 10001"),
    ("root of the job", lambda t: pod(t, "Job")["securityContext"].pop("runAsNonRoot"), "Job/rescue-cds-db-upgrade"),
    ("number for yes", lambda t: pod(t)["securityContext"].update(runAsNonRoot=1), "runAsNonRoot has to be True"),
    ("seccomp", lambda t: pod(t)["securityContext"].pop("seccompProfile"), "seccompProfile has to be"),
    ("token", lambda t: pod(t).pop("automountServiceAccountToken"), "automountServiceAccountToken"),
    ("network of the host", lambda t: pod(t).update(hostNetwork=True), "hostNetwork is for nobody"),
    ("path of the host", lambda t: pod(t)["volumes"].append({"name": "h", "hostPath": {"path": "/"}}), "volume h"),
    ("writable root", lambda t: container(t)["securityContext"].pop("readOnlyRootFilesystem"), "readOnlyRootFil"),
    ("capability", lambda t: container(t)["securityContext"]["capabilities"].update(add=["CHOWN"]), "capabilities"),
    ("privileged", lambda t: container(t)["securityContext"].update(privileged=True), "securityContext.privileged"),
    ("no limit", lambda t: container(t)["resources"]["limits"].pop("memory"), "resources.limits.memory"),
    ("writable keys", lambda t: container(t)["volumeMounts"][1].pop("readOnly"), "has to be read-only"),
    ("one key", lambda t: container(t)["volumeMounts"][1].update(subPath="a.json"), "with a subPath"),
    ("lax namespace", lambda t: one(t, "Namespace")["metadata"]["labels"].clear(), "enforce has to be restricted"),
    ("elsewhere", lambda t: one(t, "Service")["metadata"].update(namespace="default"), "one Namespace"),
    ("loopback", lambda t: config(t, '"0.0.0.0"                #', '"127.0.0.1" #'), "admin.host has to be"),
    ("no port", lambda t: config(t, "port = 8001", ""), "write service.port and admin.port"),
    ("another port", lambda t: config(t, "port = 8000", "port = 8002"), "are not those of config.toml"),
    ("probe of another", lambda t: container(t)["livenessProbe"]["httpGet"].update(path="/readyz"), "livenessProbe"),
    ("probe at hooks", lambda t: container(t)["startupProbe"]["httpGet"].update(port="hooks"), "startupProbe"),
    ("no probe", lambda t: container(t).pop("readinessProbe"), "readinessProbe has to ask /readyz"),
    ("nervous", lambda t: container(t)["livenessProbe"].update(failureThreshold=1), "only slow"),
    ("balancer", lambda t: one(t, "Service", "rescue-cds")["spec"].update(type="LoadBalancer"), "put what ends TLS"),
    ("metrics to all", lambda t: one(t, "Service")["spec"]["ports"].append({"name": "x", "port": 1}), "headless"),
    ("selects nothing", lambda t: one(t, "Service")["spec"].update(selector={"a": "b"}), "selects no pod"),
    ("short grace", lambda t: pod(t).update(terminationGracePeriodSeconds=30), "the end takes 36.4"),
    ("long drain", lambda t: config(t, "drain_seconds = 10", "drain_seconds = 50"), "the end takes 76.4"),
    ("several processes", lambda t: config(t, "port = 8000", "port = 8000\nworkers = 2"), "one process a pod"),
    ("spool in the pod", lambda t: config(t, "/var/lib/rescue-cds/spool", "/tmp/spool"), "store.spool"),
    ("no spool", lambda t: config(t, 'spool = "/var/lib/rescue-cds/spool"', ""), "store.spool"),
    (
        "disk of the pod",
        lambda t: one(t, "StatefulSet")["spec"]["persistentVolumeClaimRetentionPolicy"].update(whenScaled="Delete"),
        "Retain",
    ),
    (
        "secret",
        lambda t: t.append(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "rescue-cds"}}
        ),
        "Secret/s",
    ),
    (
        "key in the configuration",
        lambda t: one(t, "ConfigMap")["data"].update({"a.pem": "-----BEGIN EC PRIVATE KEY"}),
        "a.pem holds a key",
    ),
    (
        "password in the configuration",
        lambda t: config(t, "[store]", '[store]\nurl = "postgresql://u:secret@db/x"'),
        "config.toml holds a key or a password",
    ),
    (
        "password in the environment",
        lambda t: container(t)["env"].append({"name": "X", "value": "https://u:secret@proxy"}),
        "X holds a key or a password",
    ),
    ("open", lambda t: without(t, "NetworkPolicy", "default-deny"), "no NetworkPolicy denies"),
    ("half open", lambda t: policy(t, "default-deny")["policyTypes"].pop(), "no NetworkPolicy denies"),
    ("from all", lambda t: policy(t, "hooks-from-gateway")["ingress"][0].pop("from"), "allows everything"),
    ("to all", lambda t: policy(t, "fhir-and-authorisation")["egress"][0].update(to=[]), "allows everything"),
    ("all ports", lambda t: policy(t, "dns")["egress"][0].pop("ports"), "allows everything"),
    (
        "anywhere",
        lambda t: policy(t, "fhir-and-authorisation")["egress"][0]["to"][0]["ipBlock"].update(cidr="0.0.0.0/0"),
        "0.0.0.0/0: name single hosts",
    ),
    (
        "anywhere, newer",
        lambda t: policy(t, "fhir-and-authorisation")["egress"][0]["to"][0]["ipBlock"].update(cidr="::/0"),
        "::/0: name single hosts",
    ),
    (
        "a whole network",
        lambda t: policy(t, "fhir-and-authorisation")["egress"][0]["to"][0]["ipBlock"].update(cidr="10.0.0.0/8"),
        "10.0.0.0/8: name single hosts",
    ),
    (
        "every namespace",
        lambda t: policy(t, "hooks-from-gateway")["ingress"][0]["from"].append({"namespaceSelector": {}}),
        "every namespace",
    ),
    (
        "expression",
        lambda t: policy(t, "dns")["podSelector"].update(matchExpressions=[{"key": "a", "operator": "Exists"}]),
        "matchExpressions are not looked at",
    ),
    (
        "metrics for the gateway",
        lambda t: policy(t, "hooks-from-gateway")["ingress"][0]["ports"].append({"protocol": "TCP", "port": 8001}),
        "the same peer reaches hooks and the operators' port",
    ),
    (
        "unknown port",
        lambda t: policy(t, "hooks-from-gateway")["ingress"][0]["ports"].append({"protocol": "TCP", "port": 22}),
        "has no such port",
    ),
    ("no monitoring", lambda t: without(t, "NetworkPolicy", "operators-from-monitoring"), "in to port 8001"),
    (
        "closed to its FHIR server",
        lambda t: config(t, "https://fhir.example.org/r4", "https://fhir.example.org:8443/r4"),
        "fhir.example.org:8443 is let out by no NetworkPolicy",
    ),
    (
        "closed to that address",
        lambda t: config(t, "https://fhir.example.org/r4", "https://192.0.2.99/r4"),
        "192.0.2.99:443 is let out by no NetworkPolicy",
    ),
    (
        "closed to its traces",
        lambda t: config(t, "[store]", '[traces]\nendpoint = "https://o.example.org:4318/v1/traces"\n[store]'),
        "o.example.org:4318 is let out by no NetworkPolicy",
    ),
]

SQLITE: list[tuple[str, Change, str]] = [
    ("two", lambda t: one(t, "StatefulSet")["spec"].update(replicas=2), "SQLite is for one process: replicas"),
    ("unsaid", lambda t: one(t, "StatefulSet")["spec"].pop("replicas"), "SQLite is for one process: replicas"),
    ("deployment", lambda t: one(t, "StatefulSet").update(kind="Deployment"), "a StatefulSet, or strategy Recreate"),
    (
        "autoscaler",
        lambda t: t.append(one(objects("postgresql"), "HorizontalPodAutoscaler")),
        "SQLite is for one process: no autoscaler",
    ),
    (
        "lost with the pod",
        lambda t: container(t)["env"][0].update(value="sqlite+aiosqlite:////tmp/decisions.db"),
        "is not on a disk that outlives the pod",
    ),
    ("upgrade of nothing", lambda t: pod(t, "Job")["volumes"].pop(0), "is not on the disk of the service"),
]

POSTGRESQL: list[tuple[str, Change, str]] = [
    (
        "written down",
        lambda t: container(t).update(env=[{"name": "RESCUE_CDS_DB", "value": "postgresql://db/x"}]),
        "has to come from a secret",
    ),
    ("one", lambda t: one(t, "HorizontalPodAutoscaler")["spec"].update(minReplicas=1), "two or more"),
    ("one, unscaled", lambda t: without(t, "HorizontalPodAutoscaler"), "two or more"),
    ("both", lambda t: one(t, "StatefulSet")["spec"].update(replicas=2), "replicas beside an autoscaler"),
    ("all at once", lambda t: without(t, "PodDisruptionBudget"), "no PodDisruptionBudget"),
    ("one node", lambda t: pod(t).pop("topologySpreadConstraints"), "on different nodes"),
]

CASES = [
    *(pytest.param("postgresql", change, said, id=f"any: {name}") for name, change, said in ANY),
    *(pytest.param("sqlite", change, said, id=f"sqlite: {name}") for name, change, said in SQLITE),
    *(pytest.param("postgresql", change, said, id=f"postgresql: {name}") for name, change, said in POSTGRESQL),
]


@pytest.mark.parametrize(("overlay", "change", "said"), CASES)
def test_a_breach_is_named(overlay: str, change: Change, said: str) -> None:
    changed = objects(overlay)
    change(changed)
    assert [offence for offence in found(changed) if said in offence], found(changed)


def test_a_site_without_placeholders_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = text("postgresql").replace("registry.example.org", "registry.hospital.test")
    site = site.replace("example.org", "hospital.test").replace("192.0.2.", "10.20.30.")
    path = tmp_path / "site.yaml"
    path.write_text(site, encoding="utf-8")
    assert tool.main([str(path)]) == 0
    assert "15 objects, nothing wrong" in capsys.readouterr().out
    path.write_text(site.replace("10.20.30.11/32", "0.0.0.0/0"), encoding="utf-8")
    assert tool.main([str(path)]) == 1
    assert "fhir-and-authorisation: 0.0.0.0/0: name single hosts" in capsys.readouterr().err


def test_a_rendering_without_a_configuration_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nothing.yaml"
    path.write_text("kind: List\n", encoding="utf-8")
    assert tool.main([str(path)]) == 1
    assert "0 ConfigMaps with a config.toml" in capsys.readouterr().err


def test_the_configuration_of_the_example_can_be_read_alone() -> None:
    example = tomllib.loads((KUBERNETES / "base" / "config.toml").read_text(encoding="utf-8"))
    assert "url" not in example["store"], "the address of the database stands in RESCUE_CDS_DB"
