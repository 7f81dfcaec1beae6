"""Whether Kubernetes manifests, as rendered, keep what docs/operate.md promises.

    for part in site site/upgrade; do kubectl kustomize deploy/kubernetes/$part; echo ---; done |
        .venv/bin/python tools/check_manifests.py

Looks at the service and its database upgrade together: every object against the schemas of Kubernetes (offline), then
what no schema knows: pods that are restricted, ports and probes that are the configuration's, networks that let in and
out only what is named, one replica with SQLite and more with PostgreSQL, no secret in a manifest, no placeholder left.
`--example` allows the placeholders of the files here. Prints `Kind/name: what is wrong`, and exits 1 if there is any.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

import kubernetes_validate  # type: ignore[import-untyped]
import yaml

from app import edge
from app.settings import DATABASE, Settings

Object = Mapping[str, Any]

OLDEST: Final = "1.30"
"""Of Kubernetes; the newest is what the package of schemas has."""
USER: Final = 10001
"""As the Dockerfile has it."""
NARROWEST: Final = {4: 24, 6: 64}
"""Version of IP -> the shortest prefix that still names hosts and no network of others."""
_PROBES: Final = {"startupProbe": "/startupz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
_PATIENCE: Final = 30
"""Seconds without an answer from the process itself, until it is taken for dead."""
_TEMPLATED: Final = ("StatefulSet", "Deployment", "DaemonSet", "Job")
_VOLUMES: Final = {"name", "configMap", "secret", "emptyDir", "persistentVolumeClaim"}
_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104  # nosec B104 # compared, never bound
_LEVELS: Final = ("enforce", "audit", "warn")
_NOBODYS: Final = tuple(
    ipaddress.ip_network(one) for one in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
)
"""Addresses of documentation (RFC 5737, RFC 3849)."""
_PLACEHOLDER: Final = re.compile(r"\bexample\.(?:org|com|net)\b")
_SECRET: Final = re.compile(r"PRIVATE KEY|://[^/\s:@\"']+:[^/\s@\"']+@|\"d\"\s*:")
"""A private key as PEM or JWK, or an address with a password."""


@dataclass(frozen=True, slots=True)
class Manifests:
    """All objects of one installation. `config` is what its config.toml says."""

    objects: tuple[Object, ...]
    config: Mapping[str, Any]

    def of(self, *kinds: str) -> list[Object]:
        return [one for one in self.objects if one.get("kind") in kinds]

    @property
    def services(self) -> list[Object]:
        """What runs the service, as it should be exactly one."""
        return [one for one in self.of(*_TEMPLATED) if one["kind"] != "Job"]

    @property
    def hook_port(self) -> int:
        return int(self.config.get("service", {}).get("port", 0))

    @property
    def admin_port(self) -> int:
        return int(self.config.get("admin", {}).get("port", 0))


def read(text: str) -> Manifests:
    """The objects of a stream of YAML documents. Raises ValueError where there is no usable configuration."""
    objects = tuple(one for one in yaml.safe_load_all(text) if one)
    files = [one["data"]["config.toml"] for one in objects if "config.toml" in (one.get("data") or {})]
    if len(files) != 1:
        raise ValueError(f"{len(files)} ConfigMaps with a config.toml: there has to be one")
    return Manifests(objects, tomllib.loads(files[0]))


def offences(manifests: Manifests, *, example: bool = False) -> list[str]:
    """What is wrong, in the order of the rules. `example`: placeholders may stand there."""
    rules = [*_RULES] if example else [*_RULES, _placeholders]
    return [found for rule in rules for found in rule(manifests)]


def _named(one: Object) -> str:
    return f"{one.get('kind', '?')}/{one.get('metadata', {}).get('name', '?')}"


def _pod(one: Object) -> Object:
    pod: Object = one["spec"]["template"]["spec"]
    return pod


def _labels(one: Object) -> Mapping[str, str]:
    labels: Mapping[str, str] = one["spec"]["template"]["metadata"]["labels"]
    return labels


def _containers(pod: Object) -> list[Object]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def _environment(one: Object) -> dict[str, Object]:
    """Of the first container, by name."""
    return {entry["name"]: entry for entry in _pod(one)["containers"][0].get("env", [])}


def _selects(selector: Object, labels: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())


# --- the rules ------------------------------------------------------------------------------------------------


def _schemas(manifests: Manifests) -> Iterator[str]:
    for one in manifests.objects:
        for version in (OLDEST, kubernetes_validate.latest_version()):
            wrong = _against_schema(json.dumps(one, sort_keys=True, default=str), version)
            if wrong:
                yield f"{_named(one)}: Kubernetes {version}: {wrong}"


@cache
def _against_schema(content: str, version: str) -> str:
    """What a schema says about an object (JSON), or ''. Kept, since each question reads megabytes of schemas."""
    try:
        kubernetes_validate.validate(json.loads(content), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.InvalidSchemaError) as error:
        return str(error.message)
    return ""


def _complete(manifests: Manifests) -> Iterator[str]:
    if len(manifests.services) != 1:
        yield f"{len(manifests.services)} workloads beside jobs: there has to be one"
    upgrades = [
        one for one in manifests.of("Job") if _pod(one)["containers"][0].get("args", [])[1:] == ["db", "upgrade"]
    ]
    if len(upgrades) != 1:
        yield f"{len(upgrades)} jobs for `rescue-cds db upgrade`: render the folder `upgrade`, too"
    used = [*manifests.services, *upgrades]
    if len({_pod(one)["containers"][0].get("image") for one in used}) > 1:
        yield "the service and the upgrade have different images: set it in deploy/kubernetes/image"
    databases = [_environment(one).get(DATABASE) for one in used]
    if not all(databases) or any(one != databases[0] for one in databases):
        yield f"the service and the upgrade need the same {DATABASE}"


def _images(manifests: Manifests) -> Iterator[str]:
    for one in manifests.of(*_TEMPLATED):
        for container in _containers(_pod(one)):
            name, _, tag = container.get("image", "").rpartition("/")[2].partition(":")
            if "@sha256:" not in container.get("image", "") and (not name or not tag or tag == "latest"):
                yield f"{_named(one)}: image {container.get('image')!r}: name a version or a digest"


def _restricted(manifests: Manifests) -> Iterator[str]:
    """The "restricted" pod security standard, and more: a root file system that is read-only, no token."""
    for one in manifests.of(*_TEMPLATED):
        pod, name = _pod(one), _named(one)
        wanted = {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER}
        context = pod.get("securityContext", {})
        for key, value in wanted.items():
            if context.get(key) != value or isinstance(context.get(key), bool) != isinstance(value, bool):
                yield f"{name}: securityContext.{key} has to be {value}"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: securityContext.seccompProfile has to be RuntimeDefault"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{name}: automountServiceAccountToken has to be false: the service never speaks to the cluster"
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.get(key):
                yield f"{name}: {key} is for nobody here"
        for volume in pod.get("volumes", []):
            if set(volume) - _VOLUMES:
                yield f"{name}: volume {volume['name']}: only {', '.join(sorted(_VOLUMES - {'name'}))}"
        for container in _containers(pod):
            yield from _restricted_container(container, where=f"{name}: {container['name']}")


def _restricted_container(container: Object, *, where: str) -> Iterator[str]:
    wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    context = container.get("securityContext", {})
    for key, value in wanted.items():
        if context.get(key) != value:
            yield f"{where}: securityContext.{key} has to be {value}"
    for key in set(context) - set(wanted):
        yield f"{where}: securityContext.{key} is the pod's to say"
    resources = container.get("resources", {})
    for kind, name in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
        if name not in resources.get(kind, {}):
            yield f"{where}: resources.{kind}.{name} is missing"
    for mount in container.get("volumeMounts", []):
        if mount["name"] in {"config", "keys"} and not mount.get("readOnly"):
            yield f"{where}: {mount['mountPath']} has to be read-only"
        if mount["name"] == "keys" and "subPath" in mount:
            yield f"{where}: {mount['mountPath']}: with a subPath a key that is replaced never arrives"


def _namespace(manifests: Manifests) -> Iterator[str]:
    for one in manifests.of("Namespace"):
        for level in _LEVELS:
            label = f"pod-security.kubernetes.io/{level}"
            if one["metadata"].get("labels", {}).get(label) != "restricted":
                yield f"{_named(one)}: label {label} has to be restricted"
    spaces = {one["metadata"].get("namespace") for one in manifests.objects if one["kind"] != "Namespace"}
    if len(spaces) != 1 or spaces != {one["metadata"]["name"] for one in manifests.of("Namespace")}:
        yield f"one Namespace has to hold everything; there are {sorted(map(str, spaces))}"


def _ports(manifests: Manifests) -> Iterator[str]:
    """Ports and hosts are the configuration's, and operators' is on no Service that clients reach."""
    for table in ("service", "admin"):
        if manifests.config.get(table, {}).get("host") != _EVERYWHERE:
            yield f'config.toml: {table}.host has to be "{_EVERYWHERE}" in a pod'
    if not manifests.hook_port or not manifests.admin_port:
        yield "config.toml: write service.port and admin.port, so that they can be compared"
    for one in manifests.services:
        container = _pod(one)["containers"][0]
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        if ports != {"hooks": manifests.hook_port, "operators": manifests.admin_port}:
            yield f"{_named(one)}: ports {ports} are not those of config.toml"
        for probe, path in _PROBES.items():
            asked = container.get(probe, {}).get("httpGet", {})
            if (asked.get("path"), ports.get(asked.get("port"), asked.get("port"))) != (path, manifests.admin_port):
                yield f"{_named(one)}: {probe} has to ask {path} at the operators' port"
        live = container.get("livenessProbe", {})
        if live.get("failureThreshold", 3) * live.get("periodSeconds", 10) < _PATIENCE:
            yield f"{_named(one)}: livenessProbe would end a service that is only slow"
    for one in manifests.of("Service"):
        spec = one["spec"]
        numbers = {ports.get(port.get("targetPort"), port.get("targetPort")) for port in spec["ports"]}
        if spec.get("type", "ClusterIP") != "ClusterIP" or spec.get("externalIPs"):
            yield f"{_named(one)}: is reached from outside of the cluster: put what ends TLS in front of it"
        headless = spec.get("clusterIP") == "None"
        if numbers != ({manifests.admin_port} if headless else {manifests.hook_port}):
            yield f"{_named(one)}: hooks through one Service, the operators' port through a headless one"
        if manifests.services and not _selects({"matchLabels": spec["selector"]}, _labels(manifests.services[0])):
            yield f"{_named(one)}: selects no pod of the service"


def _said(config: Mapping[str, Any]) -> Settings:
    """What the configuration says of its end, with the defaults of the service."""
    table, usual = config.get("service", {}), Settings("site", ())
    return replace(
        usual,
        drain_seconds=float(table.get("drain_seconds", usual.drain_seconds)),
        deadline_seconds=float(table.get("deadline_seconds", usual.deadline_seconds)),
    )


def _grace(manifests: Manifests) -> Iterator[str]:
    said = _said(manifests.config)
    ending = edge.Ending(drain_seconds=said.drain_seconds, grace_seconds=said.grace_seconds)
    for one in manifests.services:
        given = _pod(one).get("terminationGracePeriodSeconds", 30)
        if given < ending.longest_seconds:
            yield f"{_named(one)}: terminationGracePeriodSeconds is {given}; the end takes {ending.longest_seconds:g}"
    if manifests.config.get("service", {}).get("workers", 1) != 1:
        yield "config.toml: service.workers: one process a pod; more replicas in its place"


def _database(manifests: Manifests) -> Iterator[str]:
    """SQLite is for one process at a time; PostgreSQL's address is a secret, and is there for more than one."""
    scalers, budgets = manifests.of("HorizontalPodAutoscaler"), manifests.of("PodDisruptionBudget")
    for one in manifests.services:
        name, spec, entry = _named(one), one["spec"], _environment(one).get(DATABASE, {})
        url = str(entry.get("value", ""))
        if url.startswith("sqlite"):
            if spec.get("replicas") != 1:
                yield f"{name}: SQLite is for one process: replicas has to be 1"
            if one["kind"] != "StatefulSet" and spec.get("strategy", {}).get("type") != "Recreate":
                yield f"{name}: SQLite is for one process at a time: a StatefulSet, or strategy Recreate"
            if scalers:
                yield f"{_named(scalers[0])}: SQLite is for one process: no autoscaler"
            if not _lasts(one, url.partition(":///")[2]):
                yield f"{name}: the file of {DATABASE} is not on a disk that outlives the pod"
            continue
        if not entry.get("valueFrom", {}).get("secretKeyRef"):
            yield f"{name}: {DATABASE} holds a password: it has to come from a secret"
        least = [scaler["spec"].get("minReplicas", 1) for scaler in scalers] or [spec.get("replicas", 1)]
        if min(least) < 2:
            yield f"{name}: {min(least)} replica: two or more, so that one can end"
        if scalers and "replicas" in spec:
            yield f"{name}: replicas beside an autoscaler: each apply would undo what it decided"
        if not budgets:
            yield f"{name}: no PodDisruptionBudget"
        if not _pod(one).get("topologySpreadConstraints"):
            yield f"{name}: nothing keeps its replicas on different nodes"
    for one in manifests.of("Job"):
        url = str(_environment(one).get(DATABASE, {}).get("value", ""))
        if url.startswith("sqlite") and not _lasts(one, url.partition(":///")[2]):
            yield f"{_named(one)}: the file of {DATABASE} is not on the disk of the service"
    for one in manifests.services:
        spool = manifests.config.get("store", {}).get("spool", "")
        if not _lasts(one, spool):
            yield f"{_named(one)}: config.toml: store.spool has to be on a disk that outlives the pod"
        kept = one["spec"].get("persistentVolumeClaimRetentionPolicy", {})
        if {kept.get("whenDeleted", "Retain"), kept.get("whenScaled", "Retain")} != {"Retain"}:
            yield f"{_named(one)}: a disk may hold decisions that wait for the database: Retain"


def _lasts(one: Object, path: str) -> bool:
    """True where a path of the first container is on a claimed volume."""
    claimed = {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])}
    claimed |= {volume["name"] for volume in _pod(one).get("volumes", []) if "persistentVolumeClaim" in volume}
    mounts = [mount for mount in _pod(one)["containers"][0].get("volumeMounts", []) if mount["name"] in claimed]
    return any(PurePosixPath(mount["mountPath"]) in PurePosixPath(path).parents for mount in mounts)


def _secrets(manifests: Manifests) -> Iterator[str]:
    for one in manifests.objects:
        if one["kind"] == "Secret":
            yield f"{_named(one)}: secrets are made in the cluster and stand in no manifest"
        for key, text in (one.get("data") or {}).items():
            if _SECRET.search(str(text)):
                yield f"{_named(one)}: {key} holds a key or a password"
    for one in manifests.of(*_TEMPLATED):
        for container in _containers(_pod(one)):
            for entry in container.get("env", []):
                if _SECRET.search(str(entry.get("value", ""))):
                    yield f"{_named(one)}: {entry['name']} holds a key or a password"


def _networks(manifests: Manifests) -> Iterator[str]:
    policies = manifests.of("NetworkPolicy")
    if not any(
        one["spec"].get("podSelector") == {}
        and set(one["spec"].get("policyTypes", [])) == {"Ingress", "Egress"}
        and not one["spec"].get("ingress")
        and not one["spec"].get("egress")
        for one in policies
    ):
        yield "no NetworkPolicy denies whatever no other allows (podSelector {}, both policyTypes, no rule)"
    for one in policies:
        if "matchExpressions" in one["spec"].get("podSelector", {}):
            yield f"{_named(one)}: matchExpressions are not looked at here: write matchLabels"
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in one["spec"].get(direction, []):
                if not rule.get(peers) or not rule.get("ports"):
                    yield f"{_named(one)}: a rule without `{peers}` or without `ports` allows everything"
                for peer in rule.get(peers, []):
                    yield from (f"{_named(one)}: {what}" for what in _too_wide(peer))
    yield from _hooks_apart(manifests)
    yield from _reachable(manifests)


def _too_wide(peer: Object) -> Iterator[str]:
    if "ipBlock" in peer:
        network = ipaddress.ip_network(peer["ipBlock"]["cidr"])
        if network.prefixlen < NARROWEST[network.version]:
            yield f"{network}: name single hosts; at least /{NARROWEST[network.version]}"
    elif not peer.get("namespaceSelector", {}).get("matchLabels"):
        yield "every namespace, or every pod of this one: name it by matchLabels"


def _of_service(manifests: Manifests, direction: str) -> Iterator[tuple[Object, Object]]:
    """Each policy that selects pods of the service, with each of its rules in one direction."""
    for one in manifests.of("NetworkPolicy"):
        if manifests.services and _selects(one["spec"]["podSelector"], _labels(manifests.services[0])):
            yield from ((one, rule) for rule in one["spec"].get(direction, []))


def _hooks_apart(manifests: Manifests) -> Iterator[str]:
    """Whoever may call hooks reads no metrics, and the other way round."""
    known: dict[str, set[int]] = {}
    for one, rule in _of_service(manifests, "ingress"):
        ports = {port.get("port") for port in rule.get("ports", [])}
        if not ports <= {manifests.hook_port, manifests.admin_port}:
            yield f"{_named(one)}: lets in to {sorted(map(str, ports))}; the service has no such port"
        for peer in rule.get("from", []):
            known.setdefault(repr(peer), set()).update(ports)
    allowed = set().union(*known.values()) if known else set()
    for port in sorted({manifests.hook_port, manifests.admin_port} - allowed):
        yield f"no NetworkPolicy lets anybody in to port {port}"
    if any(len(ports) > 1 for ports in known.values()):
        yield "the same peer reaches hooks and the operators' port"


def _reachable(manifests: Manifests) -> Iterator[str]:
    """What the configuration connects to is let out, by port, and by address where it is one."""
    out = [
        (ipaddress.ip_network(peer["ipBlock"]["cidr"]), port.get("port"))
        for _, rule in _of_service(manifests, "egress")
        for peer in rule.get("to", [])
        if "ipBlock" in peer
        for port in rule.get("ports", [])
    ]
    for url in _outward(manifests.config):
        parsed = urlsplit(url)
        port = parsed.port or (80 if parsed.scheme == "http" else 443)
        try:
            address = ipaddress.ip_address(parsed.hostname or "")
        except ValueError:  # a name: where it leads is known in the cluster only
            let_out = any(one == port for _, one in out)
        else:
            let_out = any(one == port and address in network for network, one in out)
        if not let_out:
            yield f"config.toml: {parsed.hostname}:{port} is let out by no NetworkPolicy"


def _outward(config: Mapping[str, Any]) -> list[str]:
    """Every address of the configuration that the service connects to."""
    urls = [url for tenant in config.get("tenants", []) for url in tenant.get("fhir_bases", [])]
    urls += [tenant["backend"]["token_url"] for tenant in config.get("tenants", []) if "backend" in tenant]
    urls += [client["jwks_url"] for client in config.get("clients", []) if "jwks_url" in client]
    return urls + ([config["traces"]["endpoint"]] if "traces" in config else [])


def _placeholders(manifests: Manifests) -> Iterator[str]:
    for one in manifests.of(*_TEMPLATED):
        for container in _containers(_pod(one)):
            if _PLACEHOLDER.search(container.get("image", "")):
                yield f"{_named(one)}: image {container['image']}: a placeholder: set it in deploy/kubernetes/image"
    for one in manifests.of("ConfigMap"):
        # Comments may speak of examples.
        said = repr(tomllib.loads(one["data"]["config.toml"])) if "config.toml" in one["data"] else repr(one["data"])
        if found := _PLACEHOLDER.search(said):
            yield f"{_named(one)}: {found[0]} is a placeholder: replace base/config.toml by the site's own"
    for one in manifests.of("NetworkPolicy"):
        rules = [*one["spec"].get("ingress", []), *one["spec"].get("egress", [])]
        for peer in (peer for rule in rules for peer in [*rule.get("from", []), *rule.get("to", [])]):
            network = ipaddress.ip_network(peer["ipBlock"]["cidr"]) if "ipBlock" in peer else None
            if network is not None and any(
                network.version == nobodys.version and network.overlaps(nobodys) for nobodys in _NOBODYS
            ):
                yield f"{_named(one)}: {network} is a placeholder: write the site's own address"


_RULES: Final[tuple[Callable[[Manifests], Iterator[str]], ...]] = (
    *(_schemas, _complete, _images, _restricted, _namespace, _ports, _grace, _database, _secrets, _networks),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="check rendered manifests (docs/operate.md)")
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="rendered YAML; without any, standard input"
    )
    parser.add_argument("--example", action="store_true", help="placeholders may stand there")
    options = parser.parse_args(arguments)
    texts = [path.read_text(encoding="utf-8") for path in options.files] or [sys.stdin.read()]
    try:
        manifests = read("\n---\n".join(texts))
    except (ValueError, yaml.YAMLError) as error:
        sys.stderr.write(f"manifests: {error}\n")
        return 1
    found = offences(manifests, example=options.example)
    for one in found:
        sys.stderr.write(f"{one}\n")
    if not found:
        sys.stdout.write(f"manifests: {len(manifests.objects)} objects, nothing wrong\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
