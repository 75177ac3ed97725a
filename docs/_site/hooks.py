"""Hooks of the site's build: parts that the code knows are filled in, and nothing is loaded from elsewhere.

A line `<!-- made: WORD ARGUMENTS -->` of a page is replaced by what `tables.MADE[WORD]` or `FILES[WORD]` returns.
"""

from __future__ import annotations

import json
import logging
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tables import MADE  # MkDocs puts a hook's folder on the path while it loads it

ROOT = Path(__file__).resolve().parents[2]
log = logging.getLogger("mkdocs.hooks.edgemarl")
MARK = re.compile(r"^( *)<!-- made: (\w+)(.*?) -->$", re.MULTILINE)
LOADED = re.compile(r"<(?:script|img|iframe|link|source|video)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>", re.I)


def filled(markdown: str) -> str:
    """A page with its marked lines replaced, indented as they are."""

    def part(found: re.Match[str]) -> str:
        indent, word, arguments = found[1], found[2], found[3].split()
        return textwrap.indent({**MADE, **FILES}[word](*arguments), indent)

    text = MARK.sub(part, markdown)
    return re.sub(r"\]\((?:\.\./)?SECURITY\.md", "](security.md", text)  # the checkout's file is a page of the site


def included(name: str) -> str:
    """A Markdown file of the checkout without its title; links are turned to where pages of the site lead."""
    text = (ROOT / name).read_text(encoding="utf-8").split("\n", 1)[1]
    text = re.sub(r"\]\(docs/", "](", text)
    return re.sub(r"\[([^\]]+)\]\((?:examples|CONTRIBUTING)[^)]*\)", r"\1", text)


def code(name: str) -> str:
    """A source file of the checkout, as it is."""
    return (ROOT / name).read_text(encoding="utf-8").rstrip()


def notebook(name: str) -> str:
    """The cells of a notebook and what they printed, with links between notebooks as links between their pages."""
    parts = []
    for cell in json.loads((ROOT / "docs" / "notebooks" / name).read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"]).rstrip()
        if cell["cell_type"] == "markdown":
            text = re.sub(r"\]\((\d)_\w+\.ipynb\)", r"](notebook_\1.md)", text)
            parts.append(text.replace("](../tutorials/", "]("))
            continue
        parts.append(f"```python\n{text}\n```")
        parts += [shown for output in cell["outputs"] if (shown := _shown(output))]
    return "\n\n".join(parts)


def _shown(output: Mapping[str, Any]) -> str:
    """What a cell printed or drew."""
    picture = output.get("data", {}).get("image/png")
    if picture:
        return f'<img alt="what the cell above draws" src="data:image/png;base64,{"".join(picture.split())}">'
    text = "".join(output.get("text", "")).rstrip()
    return f"```text\n{text}\n```" if text else ""


FILES = {"include": included, "code": code, "notebook": notebook}
"""Word after `<!-- made:` -> what a file of the checkout becomes in a page."""


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Tables of the site sort as those of a report do."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "tables.js", abs_src_path=str(ROOT / "launch" / "report" / "tables.js")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    return filled(markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    for tag in LOADED.findall(output):
        if 'rel="canonical"' not in tag and "rel=canonical" not in tag:
            log.warning("%s loads something from elsewhere: %s", page.file.src_uri, tag)
    return output
