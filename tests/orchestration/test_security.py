"""What docs/security.md says: no pickles, no secrets, nobody else listens, pages escape."""

import ast
import re
import subprocess

import polars as pl
import pytest
from conftest import ROOT

from orchestration import ui
from orchestration.page import Section, render_page

SOURCES = [path for folder in ("ml", "orchestration") for path in (ROOT / folder).rglob("*.py")]
_UNPICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
_SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bghp_\w{36}\b|\bxox[bp]-\w+"
    r"|(?i:password|passwd|secret|token)['\"]?\s*[:=]\s?['\"][^'\"$ {<]{8,}['\"]"
)
_KNOWN = {
    # Passwords of the tests' own servers.
    "tests/topology.py",
    "tests/orchestration/test_alerts.py",
    # psql's variables.
    "docker/postgres-init.sh",
}


def _walk():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            yield path.relative_to(ROOT), node


def test_nothing_is_unpickled():
    found = []
    for path, node in _walk():
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = [module or "", *(each.name for each in node.names)]
            found += [(path, name) for name in names if name.split(".")[0] in _UNPICKLING]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            said = f"{ast.unparse(node.func)}({[each.arg for each in node.keywords]})"
            if said.startswith(("torch.load", "torch.save")) or "allow_pickle" in said:
                found.append((path, said))
    assert found == []


def test_nothing_is_evaluated_and_no_shell_is_asked():
    found = [
        (path, ast.unparse(node)[:60])
        for path, node in _walk()
        if isinstance(node, ast.Call)
        and (
            ast.unparse(node.func) in ("eval", "exec", "os.system", "os.popen")
            or any(each.arg == "shell" for each in node.keywords)
        )
    ]
    assert found == []


def test_the_repository_holds_no_secret():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("no git checkout: its files can't be listed")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if name in _KNOWN or path.suffix in (".png", ".parquet") or not path.is_file():
            continue
        found += [(name, each[0][:20]) for each in _SECRETS.finditer(path.read_text())]
    assert found == []


def test_interfaces_listen_to_this_machine_alone(monkeypatch):
    monkeypatch.setattr(ui, "prepare_home", lambda _: None)
    started = []

    class Ended:
        pid = 0

        def __init__(self, command, **_):
            started.append(command)

        def wait(self, timeout=None):
            return 0

        poll = wait

    monkeypatch.setattr(ui.subprocess, "Popen", Ended)
    monkeypatch.setattr(ui.signal, "signal", lambda *_: None)
    assert ui.main() == 0
    assert [command[command.index("--host") + 1] for command in started] == ["127.0.0.1"] * 2


def test_pages_escape_what_was_delivered():
    hostile = "<script>alert(1)</script>"
    signals = pl.DataFrame(
        {
            "signal": ["costs"],
            "subject": [hostile],
            "statistic": [1.0],
            "limit": [2.0],
            "n_rows": [3],
            "is_alarm": [True],
        }
    )
    section = Section(title=hostile, note=hostile, panels=[], link=("x.html", hostile))
    page = render_page(
        title=hostile, summary=hostile, signals=signals, standing=[hostile], sections=[section]
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4
