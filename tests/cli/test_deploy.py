"""The deployment files, read by the programs that they are for: a typing error shows here, not in a cluster."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"
OWN = Path(sys.executable).parent


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def compose() -> list[str]:
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    has_plugin = shutil.which("docker") and subprocess.run(["docker", "compose", "version"]).returncode == 0
    return ["docker", "compose"] if has_plugin else []


def test_dockerfile_is_accepted_by_its_linter():
    run(OWN / "hadolint", DEPLOY / "Dockerfile")


def test_what_the_dockerfile_copies_is_there():
    root = DEPLOY.parents[1]
    sources = [
        word
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    assert len(sources) >= 4
    assert [source for source in sources if not (root / source).exists()] == []


def worker_command() -> list[str]:
    """What the worker's image runs, behind `nylon`."""
    [command] = re.findall(r'^CMD (\["worker".*\])$', (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    return json.loads(command)


def test_workers_image_starts_what_can_be_served(nylon, nylon_nats):
    env = {"NATS_SERVERS": nylon_nats.url, "NATS_GROUP": "auth_workers", "NYLON_READY_FILE": "/tmp/ready"}
    done = nylon(*worker_command(), "--check", cwd=DEPLOY.parent / "nats-auth", **env)
    assert done.code == 0, done.err
    assert "group:    auth_workers" in done.out


@pytest.mark.parametrize(
    ("name", "key"),
    [("compose.yaml", "stop_grace_period"), ("kubernetes/worker.yaml", "terminationGracePeriodSeconds")],
)
def test_worker_is_given_longer_than_it_takes_to_drain(name: str, key: str):
    command = worker_command()
    drain = float(command[command.index("--drain-timeout") + 1])
    *_, grace = re.findall(
        rf"{key}: (\d+)s?$", (DEPLOY / name).read_text(), re.MULTILINE
    )  # the worker comes last
    assert float(grace) >= drain + 5


def test_probe_looks_for_the_file_that_the_worker_makes():
    text = (DEPLOY / "kubernetes" / "worker.yaml").read_text()
    [made] = re.findall(r"name: NYLON_READY_FILE, value: (\S+)}", text)
    assert f"exec: {{command: [test, -e, {made}]}}" in text


@pytest.mark.skipif(not compose(), reason="neither docker-compose nor docker's compose plugin is installed")
def test_compose_file_is_accepted_by_its_client():
    resolved = run(*compose(), "-f", DEPLOY / "compose.yaml", "config")
    assert "replicas: 5" in resolved


@pytest.mark.parametrize("name", ["nats", "origin", "gateway", "worker"])
def test_manifest_is_valid_for_kubernetes(name: str):
    run(OWN / "kubernetes-validate", "--strict", DEPLOY / "kubernetes" / f"{name}.yaml")


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_manifests_are_put_together_by_kubectl():
    rendered = run("kubectl", "kustomize", DEPLOY / "kubernetes")
    assert rendered.count("kind: Deployment\nmetadata:") == 3
    assert "kind: HorizontalPodAutoscaler" in rendered


def test_gateways_configuration_is_valid(nylon):
    done = nylon("check", "-c", "nylon.yaml", cwd=DEPLOY / "kubernetes")
    assert done.code == 0, done.err
