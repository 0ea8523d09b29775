"""docker/ without Docker: linters, schemas, Dagster's own loaders, and that files agree."""

import shlex
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml
from conftest import ROOT
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.instance.config import dagster_instance_config
from dagster._core.launcher import WorkerStatus
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster._grpc.types import CanCancelExecutionResult
from dagster._serdes import serialize_value
from topology import PASSWORDS, read_compose, read_image_environment

from orchestration.launcher import SupervisedRunLauncher

DOCKER = ROOT / "docker"
_BIN = Path(sys.executable).parent
_SET = {**PASSWORDS, "DAGSTER_PASSWORD_HASH": "$2a$14$hash"}


@pytest.fixture(scope="module")
def services():
    return read_compose(**_SET)


def _run(program, *arguments, **environment):
    done = subprocess.run(
        [_BIN / program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PATH": str(_BIN), "HOME": "/nowhere", **environment} if environment else None,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_linters_and_schemas_pass():
    _run("hadolint", DOCKER / "Dockerfile")
    _run(
        "check-jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        DOCKER / "compose.yaml",
    )
    _run("kubernetes-validate", "--strict", "--quiet", DOCKER / "kubernetes" / "liftloop.yaml")
    _run(
        "caddy",
        "adapt",
        "--config",
        DOCKER / "Caddyfile",
        "--adapter",
        "caddyfile",
        DAGSTER_SITE="http://:3000",
        MLFLOW_SITE="http://:5000",
        DAGSTER_LOGIN="somebody",
        DAGSTER_PASSWORD_HASH=_SET["DAGSTER_PASSWORD_HASH"],
    )


def test_nothing_starts_without_its_secrets():
    for name in _SET:
        with pytest.raises(KeyError, match=name):
            read_compose(**{each: value for each, value in _SET.items() if each != name})


def test_only_the_proxy_is_published_and_on_this_host(services):
    published = {name: each["ports"] for name, each in services.items() if "ports" in each}
    assert set(published) == {"proxy"}
    assert all(port.startswith("127.0.0.1:") for port in published["proxy"])


def test_services_and_volumes_are_there_and_healthy_is_defined(services):
    volumes = yaml.safe_load((DOCKER / "compose.yaml").read_text())["volumes"]
    for name, service in services.items():
        assert "healthcheck" in service, name
        assert set(service.get("depends_on", {})) <= set(services), name
        sources = [each.split(":")[0] for each in service.get("volumes", [])]
        assert all(each in volumes or (DOCKER / each).exists() for each in sources), name


def test_the_instance_is_one_that_dagster_takes(monkeypatch, tmp_path):
    environment = read_compose(**_SET)["liftloop"]["environment"] | read_image_environment()
    for name, value in environment.items():
        if name.startswith("DAGSTER_"):
            monkeypatch.setenv(name, value)
    settings, _ = dagster_instance_config(str(DOCKER))
    assert settings["storage"]["postgres"]["postgres_db"]["port"] == {
        "env": "DAGSTER_POSTGRES_PORT"
    }
    # The launcher is built when it is first asked for: a wrong one would load, and launch nothing.
    text = yaml.safe_load((DOCKER / "dagster.yaml").read_text())
    kept = {key: value for key, value in text.items() if key not in ("storage",)}
    kept["compute_logs"]["config"]["base_dir"] = str(tmp_path)
    kept["local_artifact_storage"]["config"]["base_dir"] = str(tmp_path)
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(kept))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, SupervisedRunLauncher)
        assert instance.run_launcher.supports_check_run_worker_health
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert instance.freshness_enabled
        assert instance.global_op_concurrency_default_limit == 1


def test_code_servers_are_where_the_workspace_looks(services):
    origins = location_origins_from_yaml_paths([str(DOCKER / "workspace.yaml")])
    looked = {each.location_name: (each.host, each.port) for each in origins}
    served = {}
    for name, service in services.items():
        words = shlex.split(service["command"]) if isinstance(service.get("command"), str) else []
        if "grpc" in words:
            location = words[words.index("--location-name") + 1]
            served[location] = (name, int(words[words.index("-p") + 1]))
    assert looked == served


def test_the_cluster_runs_what_compose_runs(services):
    values = yaml.safe_load((DOCKER / "kubernetes" / "dagster-values.yaml").read_text())
    deployed = values["dagster-user-deployments"]["deployments"]
    commands = [services[name]["command"] for name in ("liftloop", "liftloop_gpu")]
    for each, command in zip(deployed, commands, strict=True):
        assert command.endswith(" ".join(each["dagsterApiGrpcArgs"]))
        assert f"-p {each['port']} " in command
        assert each["includeConfigInLaunchedRuns"] == {"enabled": True}
    gpu = deployed[1]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert gpu["nodeSelector"]
    assert gpu["tolerations"]
    manifests = list(yaml.safe_load_all((DOCKER / "kubernetes" / "liftloop.yaml").read_text()))
    (mlflow,) = [each for each in manifests if each["kind"] == "Deployment"]
    ours, theirs = (
        {each for each in command if not each.startswith(("--allowed", "--cors"))}
        for command in (
            mlflow["spec"]["template"]["spec"]["containers"][0]["args"],
            services["mlflow"]["command"],
        )
    )
    assert ours == theirs


class _Server:
    """A code server that knows a run, doesn't, or isn't there."""

    def __init__(self, answer):
        self.answer = answer

    def can_cancel_execution(self, request, timeout):
        if self.answer is None:
            raise DagsterUserCodeUnreachableError("nobody there")
        return serialize_value(CanCancelExecutionResult(can_cancel=self.answer))


@pytest.mark.parametrize(
    ("answer", "grace", "expected"),
    [
        (True, 60, WorkerStatus.RUNNING),
        (False, 60, WorkerStatus.NOT_FOUND),
        (None, 60, WorkerStatus.RUNNING),
        (None, 0, WorkerStatus.FAILED),
    ],
)
def test_a_run_is_lost_once_its_server_is(monkeypatch, answer, grace, expected):
    launcher = SupervisedRunLauncher(unreachable_grace_seconds=grace)
    monkeypatch.setattr(
        SupervisedRunLauncher, "_get_grpc_client_for_termination", lambda *_: _Server(answer)
    )
    run = dg.DagsterRun(job_name="nightly")
    assert launcher.check_run_worker_health(run).status == expected


def test_a_server_that_answers_again_was_never_lost(monkeypatch):
    launcher = SupervisedRunLauncher(unreachable_grace_seconds=0)
    answers = iter([True, None, True])
    monkeypatch.setattr(
        SupervisedRunLauncher,
        "_get_grpc_client_for_termination",
        lambda *_: _Server(next(answers)),
    )
    run = dg.DagsterRun(job_name="nightly")
    statuses = [launcher.check_run_worker_health(run).status for _ in range(3)]
    assert statuses == [WorkerStatus.RUNNING, WorkerStatus.FAILED, WorkerStatus.RUNNING]
    assert launcher._unreachable_since == {}
