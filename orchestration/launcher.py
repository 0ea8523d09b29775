"""Launching runs on code servers, and noticing those that went down with their server.

Reads: the Dagster instance, code servers. Writes: what Dagster's default launcher writes.
"""

import time
from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
from dagster._config.config_schema import UserConfigSchema
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import ConfigurableClassData, deserialize_value

_ANSWER_SECONDS = 10


class SupervisedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher, which can also tell whether a run is still there.

    The default one can't: a run whose code server died with it, as a container dies, would stay
    'started' until the longest run allowed has passed, and keep its pool slots. This one asks the
    server that started the run. One that doesn't know the run any more was restarted since; one
    that doesn't answer for ``unreachable_grace_seconds`` is taken to be gone. Run monitoring then
    marks the run as failed, and run retries try it again.

    Parameters
    ----------
    unreachable_grace_seconds
        How long a server may not answer, as while it is busy or restarts.
    """

    def __init__(
        self, unreachable_grace_seconds: int = 60, inst_data: ConfigurableClassData | None = None
    ) -> None:
        self._grace_seconds = unreachable_grace_seconds
        self._unreachable_since: dict[str, float] = {}
        super().__init__(inst_data)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Return what dagster.yaml may set."""
        return {"unreachable_grace_seconds": dg.Field(int, is_required=False, default_value=60)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> Self:
        """Return it as the instance asks for it."""
        return cls(inst_data=inst_data, **config_value)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Say that run monitoring may ask."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return whether the server that started a run still has it."""
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            # Finished meanwhile, or run by a command on this machine, which clears up by itself.
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        try:
            request = CanCancelExecutionRequest(run_id=run.run_id)
            answer = client.can_cancel_execution(request, timeout=_ANSWER_SECONDS)
        except DagsterUserCodeUnreachableError:
            since = self._unreachable_since.setdefault(run.run_id, time.monotonic())
            if time.monotonic() - since < self._grace_seconds:
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            return CheckRunHealthResult(WorkerStatus.FAILED, "its code server does not answer")
        self._unreachable_since.pop(run.run_id, None)
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "its code server was restarted")
