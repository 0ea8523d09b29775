"""The documentation builds, and its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PAGES = ("README.md", "CHANGELOG.md", "docker/README.md", "benchmarks/RESULTS.md")
_LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def _anchors(page):
    """Return a page's anchors, as GitHub and the site name them."""
    titles = _HEADING.findall(page.read_text())
    plain = [re.sub(r"[^\w\s-]", "", title.strip().lower()) for title in titles]
    return {re.sub(r"\s", "-", title) for title in plain}


@pytest.mark.parametrize("page", PAGES)
def test_links_of_pages_outside_the_site_lead_somewhere(page):
    source = ROOT / page
    links = _LINK.findall(source.read_text())
    for path, anchor in links:
        target = (source.parent / path) if path else source
        assert target.exists(), path
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target), f"{path}#{anchor}"


def test_the_site_builds_and_every_link_and_anchor_is_there(tmp_path):
    built = subprocess.run(
        [Path(sys.executable).parent / "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-3000:]
    api = (tmp_path / "api" / "index.html").read_text()
    assert all(
        f'id="{name}"' in api for name in ("ml.pipeline.decide", "ml.ope.gate.decide_promotion")
    )
    assert (tmp_path / "results" / "index.html").exists()
