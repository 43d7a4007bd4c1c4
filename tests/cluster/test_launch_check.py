"""Mistakes planted in good launch files are found, each with its line, and nothing else is."""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.launch import check, tools
from cluster.launch.errors import LaunchError
from cluster.launch.findings import Finding
from tests.cluster import specs

FILES = {
    "exclusive": ("slurm", "medsweep.sbatch", {}),
    "shared": ("slurm", "medsweep.sbatch", {"exclusive": False}),
    "job": ("kuberay", "rayjob.yaml", {}),
    "cluster": ("kuberay", "raycluster.yaml", {}),
    "claim": ("kuberay", "storage.yaml", {"storage_class": "nfs", "storage_size": 10}),
    "aws": ("aws", "cluster.yaml", {"spot": True}),
    "gcp": ("gcp", "cluster.yaml", {"spot": True}),
    "onprem": ("onprem", "cluster.yaml", {}),
    "image": ("aws", "Dockerfile", {}),
}


@dataclass(frozen=True)
class Mistake:
    """A change of one file.

    Attributes:
        file: key of FILES.
        old: pattern of what is replaced, found once or `nth`.
        new: what stands there instead.
        rule: rule that finds it.
        at: pattern of the line, in the changed file, that the finding names; default: where the
            change is.
        nth: which occurrence is changed, from 0.
    """

    file: str
    old: str
    new: str
    rule: str
    at: str | None = None
    nth: int = 0


def whole(line: str) -> str:
    """A pattern for a line with its end, to take it out."""
    return rf"^{line}.*\n"


MISTAKES = [
    # ---- KubeRay
    Mistake("job", r"entrypoint:", "entrypont:", "schema"),
    Mistake("job", r"ray\.io/v1$", "ray.io/v1alpha1", "schema"),
    Mistake("job", r"kind: RayJob", "kind: RayJobs", "schema"),
    Mistake("job", r"SidecarMode", "SideCarMode", "schema"),
    Mistake("job", r'num-cpus: .0.', "num-cpus: 0", "schema"),
    Mistake("job", r'num-cpus: .0.', "num-cpus: '4'", "head-schedules-nothing"),
    Mistake("job", r"num-gpus: .0.", "num-gpus: '1'", "head-schedules-nothing"),
    Mistake("job", r"limits:\n +cpu: '2'", "limits:\n                nvidia.com/gpu: '1'\n"
            "                cpu: '2'", "head-schedules-nothing", "gpu: '1'"),
    Mistake("job", whole(r"    authOptions:\n      mode: token"), "", "token-auth",
            "rayClusterSpec"),
    Mistake("job", r"mode: token", "mode: disabled", "token-auth"),
    Mistake("job", r"rayVersion: 2\.60\.0", "rayVersion: 2.9.3", "ray-version"),
    Mistake("job", r"medsweep:2\.60\.0-1", "medsweep:2.54.0-1", "ray-version", nth=1),
    Mistake("job", r"medsweep:2\.60\.0-1", "medsweep:latest", "ray-version"),
    Mistake("job", r"minReplicas: 4", "minReplicas: 9", "min-max"),
    Mistake("job", r"minReplicas: 4", "minReplicas: -1", "schema"),
    Mistake("job", whole(" +- name: shm\n +mountPath: /dev/shm"), "", "shm", "volumeMounts",
            nth=1),
    Mistake("job", r"medium: Memory", "medium: ''", "shm"),
    Mistake("job", r"nvidia\.com/gpu: '8'", "nvidia.com/gpu: '4'", "limits", nth=1),
    Mistake("job", r"nvidia\.com/gpu: '8'", "nvidia.com/gpu: '4'", "limits",
            r"nvidia\.com/gpu: '8'"),
    Mistake("job", r"persistentVolumeClaim:\n +claimName: results", "hostPath:\n"
            "              path: /data", "shared-storage"),
    Mistake("job", r"persistentVolumeClaim:\n +claimName: results", "emptyDir: {}",
            "shared-storage", "- name: results\n +mountPath", nth=1),
    Mistake("job", r"--out /shared", "--out /scratch", "shared-storage"),
    Mistake("job", r"AfterJobFinishes: true", "AfterJobFinishes: false", "cleanup"),
    Mistake("job", r"serviceType: ClusterIP", "serviceType: LoadBalancer", "exposed"),
    Mistake("job", r"version: v2", "version: v1", "autoscaler"),
    Mistake("job", r"terminationGracePeriodSeconds: 120", "terminationGracePeriodSeconds: 5",
            "grace", nth=1),
    Mistake("cluster", r"runAsUser: 1000", "runAsUser: 0", "non-root"),
    Mistake("cluster", r"maxReplicas:", "maxReplica:", "schema",
            "maxReplica:"),
    Mistake("cluster", r"groupName: workers", "groupName: !!python/name:os.system w", "yaml"),
    Mistake("claim", r"- ReadWriteMany", "- ReadWriteOnce", "shared-storage", "accessModes"),
    # ---- Ray's cluster launcher
    Mistake("aws", r"^max_workers: 4", "max_worker: 4", "ray-schema"),
    Mistake("aws", r"InstanceType: big", "InstanceTyp: big", "machine-schema"),
    Mistake("aws", r"MarketType: spot", "MarketType: cheap", "machine-schema"),
    Mistake("aws", r"head_node_type: head", "head_node_type: boss", "ray-schema"),
    Mistake("aws", r"CPU: 0", "CPU: 8", "head-schedules-nothing"),
    Mistake("aws", r"CPU: 0", "CPU: 0\n      GPU: 1", "head-schedules-nothing", "GPU: 1"),
    Mistake("aws", r"min_workers: 4", "min_workers: 7", "min-max"),
    Mistake("aws", r"^max_workers: 4", "max_workers: 2", "min-max"),
    Mistake("aws", whole(r"  - --shm-size=8g"), "", "shm", "run_options"),
    Mistake("aws", r"medsweep:2\.60\.0-1", "medsweep:2.60.1", "ray-version"),
    Mistake("aws", r"127\.0\.0\.1", "0.0.0.0", "exposed"),  # noqa: S104
    Mistake("aws", r"--num-cpus=0 ", "", "head-schedules-nothing"),
    Mistake("aws", r"export RAY_AUTH_MODE=token (?=.*--head)", "export ", "token-auth"),
    Mistake("aws", r"(?<=- )export RAY_AUTH_MODE=token (?=.*--address)",
            "export RAY_AUTH_MODE=disabled ", "token-auth"),
    Mistake("aws", r"  /home/ray/.ray/medsweep_token: .*", "  /home/ray/token: ~/token",
            "token-auth", "^file_mounts"),
    Mistake("aws", r"  - -v /shared:/shared", "  worker_run_options:\n  - -v /shared:/shared",
            "shared-storage", "- -v /shared"),
    Mistake("aws", r"-v /shared:/shared", "-v /tmp/out:/shared", "shared-storage"),
    Mistake("aws", r"\$RAY_HEAD_IP:6379", "$RAY_HEAD_IP:6380", "ports"),
    Mistake("gcp", r"preemptible: true", "preemptable: true", "machine-schema"),
    Mistake("gcp", r"acceleratorCount: 8", "acceleratorCount: eight", "machine-schema"),
    Mistake("onprem", r"head_ip: 10\.0\.0\.1", "head_ips: 10.0.0.1", "machine-schema"),
    Mistake("onprem", r" --autoscaling-config=\S+", "", "autoscaler"),
    # ---- Slurm
    Mistake("exclusive", r"#SBATCH --requeue", "#SBATCH --requeu", "sbatch-option"),
    Mistake("exclusive", whole("#SBATCH --requeue"), "", "sbatch-requeue", "#SBATCH --output"),
    Mistake("exclusive", whole("#SBATCH --signal"), "", "sbatch-signal", "#SBATCH --output"),
    Mistake("exclusive", r"B:USR1@120", "USR1@120", "sbatch-signal"),
    Mistake("exclusive", r"B:USR1@120", "B:USR1@5", "sbatch-signal"),
    Mistake("exclusive", r"--open-mode=append", "--open-mode=truncate", "sbatch-open-mode"),
    Mistake("exclusive", r"set -euo pipefail\n", "", "strict-shell", "export STUDY"),
    Mistake("exclusive", r"set -euo pipefail", "set -u", "strict-shell"),
    Mistake("exclusive", r"NODES=4", "NODES=3", "same-numbers"),
    Mistake("exclusive", r"RAY_VERSION=2\.60\.0", "RAY_VERSION=2.59.0", "ray-version"),
    Mistake("exclusive", r"RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled", "token-auth"),
    Mistake("exclusive", whole(r'export RAY_AUTH_TOKEN_PATH'), "", "token-auth", "set -euo"),
    Mistake("exclusive", r"export RAY_AUTH_TOKEN_PATH=.*",
            "export RAY_AUTH_TOKEN=0123456789abcdef0123456789abcdef\n"
            'export RAY_AUTH_TOKEN_PATH="$HOME/t"', "no-secrets", "RAY_AUTH_TOKEN=0"),
    Mistake("exclusive", r"dashboard-host=127\.0\.0\.1", "dashboard-host=0.0.0.0", "exposed"),
    Mistake("exclusive", r'OUT="/shared/results', 'OUT="/tmp', "shared-storage"),
    Mistake("exclusive", whole("#SBATCH --exclusive"), "", "exclusive", "ray symmetric-run --add"),
    Mistake("exclusive", r'\[\[ -f "\$STATE/driver\.code"', '[[ -f "$STATE/done.code"',
            "guarded-end"),
    Mistake("exclusive", whole(r'    echo "\$code" > '), "", "guarded-end", "medsweep run"),
    Mistake("exclusive", r'kill -TERM "\$\(cat', 'kill -USR1 "$(cat', "notice", r'^exit "\$code"'),
    Mistake("exclusive", r"trap notify USR1\n", "", "notice", r'^exit "\$code"'),
    Mistake("exclusive", r"code == 75", "code == 1", "requeue-on-75", r'^exit "\$code"'),
    Mistake("exclusive", r'^fi$', "", "bash-syntax", r"\Z"),
    Mistake("exclusive", r'head -n 1\)"', 'head -n 1)"; rm -r $host/*', "shellcheck-SC2115"),
    Mistake("shared", r"SLURM_JOB_ID % 1200 \* 10", "1200", "shared-nodes", "ray start "),
    Mistake("shared", r"dashboard-port=\"\$\(\(BASE \+ 1\)\)\"", 'dashboard-port="$((BASE + 2))"',
            "ports", "ray-client-server-port"),
    Mistake("shared", r'kill -TERM "\$step" 2> /dev/null \|\| true', "ray stop", "shared-nodes"),
    Mistake("shared", r' --temp-dir="\$folder"', "", "shared-nodes", "ray start "),
    # ---- Dockerfile
    Mistake("image", r"ray:2\.60\.0-py311-cu128", "ray:latest", "ray-version"),
    Mistake("image", r"ray:2\.60\.0-py311", "ray:2.41.0-py311", "ray-version"),
    Mistake("image", r"USER ray", "USER root", "non-root"),
    Mistake("image", r"ENV RAY_AUTH_MODE=token", "ENV RAY_AUTH_TOKEN=letmein", "no-secrets"),
    Mistake("image", r"ENV RAY_AUTH_MODE=token", "ARG REGISTRY_PASSWORD", "no-secrets"),
    Mistake("image", r" -c constraints\.txt", "", "pinned"),
    Mistake("image", whole("HEALTHCHECK"), "", "healthcheck", "USER ray"),
    Mistake("image", r"COPY --chown=ray:users medrec ./medrec", "COPY . .", "layers"),
    Mistake("image", r"HEALTHCHECK", "HEALTHCHEK", "instruction"),
]  # fmt: skip


def original(file: str) -> str:
    provider, name, changes = FILES[file]
    return specs.rendered(provider, **changes).files[name]


def planted(mistake: Mistake) -> tuple[str, int]:
    """The changed text, and the line that is to be named."""
    text = original(mistake.file)
    matches = list(re.finditer(mistake.old, text, flags=re.MULTILINE))
    assert matches, f"nothing to change for {mistake}"
    match = matches[mistake.nth]
    changed = text[: match.start()] + mistake.new + text[match.end() :]
    if mistake.at is None:
        return changed, text[: match.start()].count("\n") + 1
    # The place nearest to the change, as names repeat in head and workers.
    places = list(re.finditer(mistake.at, changed, flags=re.MULTILINE))
    assert places, f"no line {mistake.at!r} for {mistake}"
    place = min(places, key=lambda found: abs(found.start() - match.start()))
    return changed, changed[: place.start()].count("\n") + 1


def name(mistake: Mistake) -> str:
    return f"{mistake.file}-{mistake.rule}-{re.sub(r'[^a-zA-Z0-9]+', '_', mistake.old)[:30]}"


@pytest.mark.parametrize("mistake", MISTAKES, ids=name)
def test_mistake_is_found_at_its_line(mistake: Mistake):
    text, line = planted(mistake)
    found = check.check_text("file", text, specs.RAY)
    told = "\n".join(map(str, found))
    assert [(f.line, f.rule) for f in found] == [(line, mistake.rule)], f"line {line}:\n{told}"
    assert found[0].value
    assert found[0].remedy.endswith((".", "?"))


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_found_in_the_unchanged_file(file: str):
    assert not check.check_text(file, original(file), specs.RAY)


def test_there_are_at_least_thirty_mistakes_of_every_kind():
    assert len(MISTAKES) >= 30
    assert {mistake.file for mistake in MISTAKES} == set(FILES)


@pytest.mark.parametrize(
    "secret",
    [
        "AKIA" + "ABCDEFGHIJKLMNOP",
        "password: hunter2hunter2hunter2",
        "-----BEGIN RSA PRIVATE KEY-----",
        "RAY_AUTH_TOKEN: 0123456789abcdef0123456789abcdef",
        "s3://key:secret@bucket/x",
    ],
)
@pytest.mark.parametrize("file", ["exclusive", "job", "aws", "image"])
def test_secrets_are_found_in_every_kind_and_not_repeated(file: str, secret: str):
    lines = original(file).splitlines()
    lines.insert(3, f"# {secret}")
    (found,) = check.check_text(file, "\n".join(lines) + "\n", specs.RAY)
    assert (found.line, found.rule) == (4, "no-secrets")
    assert secret.split()[-1] not in str(found)


def test_a_literal_token_in_a_pod_is_found():
    entry = r"\1env:\n\1- name: RAY_AUTH_TOKEN\n\1  value: letmein\n\1image:"
    text = re.sub(r"^( +)image:", entry, original("job"), count=1, flags=re.MULTILINE)
    (found,) = check.check_text("job", text, specs.RAY)
    assert found.rule == "no-secrets"
    assert text.splitlines()[found.line - 1].strip() == "value: letmein"


HOSTILE = {
    "tag": "kind: !!python/object/apply:os.system ['true']\n",
    "bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{n}: &{n} [{','.join([f'*{p}'] * 9)}]\n" for p, n in itertools.pairwise("abcdefgh")
    )
    + "kind: RayJob\n",
    "circle": "kind: &a [*a]\n",
    "deep": "kind: " + "[" * 5000 + "]" * 5000,
    "twice": "kind: RayJob\nkind: RayCluster\n",
    "broken": "kind: [RayJob\n",
    "large": "kind: RayJob\n#" + "x" * 1_100_000,
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_yaml_is_refused_at_once(text: str):
    (found,) = check.check_text("file", text, specs.RAY)
    assert found.rule == "yaml"


def test_what_is_no_launch_file_is_said_to_be_none(tmp_path: Path):
    (found,) = check.check_text("file", "hello\n", specs.RAY)
    assert found.rule == "kind"
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LaunchError, match="no text"):
        check.check_files([tmp_path / "binary"])


def test_a_missing_program_is_mentioned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "job.sbatch"
    path.write_text(original("shared"))
    monkeypatch.setattr(tools, "found", lambda name: None)
    checked = check.check_files([path])
    assert not checked.failed
    assert checked.notes == ("shellcheck is not installed, so it was not run.",)


def test_a_finding_is_one_line():
    finding = Finding("a.yaml", 3, "rule", "value", "Do it.")
    assert str(finding) == "a.yaml:3: rule: value. Do it."
