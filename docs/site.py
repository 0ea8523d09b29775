"""The site's pages that lie elsewhere in the repository, and links to them."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parent.parent
_ELSEWHERE = {"results.md": "benchmarks/RESULTS.md", "containers.md": "docker/README.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add them, and a list of the decision records."""
    for name, path in _ELSEWHERE.items():
        text = (_ROOT / path).read_text()
        files.append(File.generated(config, name, content=text))
    lines = [
        "# Decisions",
        "",
        "Why it is as it is; one record a decision, kept as it was written.",
        "",
    ]
    for path in sorted((_ROOT / "docs" / "adr").glob("*.md")):
        title = path.read_text().splitlines()[0].lstrip("# ")
        lines.append(f"- [{title}](adr/{path.name})")
    files.append(File.generated(config, "decisions.md", content="\n".join(lines) + "\n"))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Turn links into the repository into links within the site."""
    for name, path in _ELSEWHERE.items():
        markdown = re.sub(rf"\]\((?:\.\./)+{re.escape(path)}", f"]({name}", markdown)
    return re.sub(r"\]\((?:\.\./)+docs/", "](", markdown)
