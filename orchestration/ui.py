"""Both user interfaces on localhost: Dagster's and MLflow's, until Ctrl-C.

Reads: the state folder. Writes: what people do in the interfaces.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from orchestration.settings import REPOSITORY, prepare_home, read_settings

DAGSTER_PORT, MLFLOW_PORT = "3000", "5000"
GRACE_SECONDS = 15


def main() -> int:
    """Start both, print where they are, stop both together."""
    settings = read_settings()
    prepare_home(settings)
    tools = Path(sys.executable).parent
    commands = {
        f"Dagster http://127.0.0.1:{DAGSTER_PORT}": [
            str(tools / "dagster"),
            "dev",
            "--workspace",
            str(REPOSITORY / "workspace.yaml"),
            "--host",
            "127.0.0.1",
            "--port",
            DAGSTER_PORT,
        ],
        f"MLflow  http://127.0.0.1:{MLFLOW_PORT}": [
            str(tools / "mlflow"),
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            MLFLOW_PORT,
            "--workers",
            "1",
            "--backend-store-uri",
            settings.tracking_uri,
            "--default-artifact-root",
            str(settings.home / "mlflow" / "artifacts"),
        ],
    }
    processes = [
        subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True, env=os.environ)
        for command in commands.values()
    ]
    print("\n".join([*commands, "Ctrl-C stops both."]), flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        return max(process.wait() for process in processes)
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(processes)


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """Interrupt each process group as Ctrl-C would, and end what doesn't listen."""
    for force in (signal.SIGINT, signal.SIGKILL):
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, force)
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=GRACE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
