"""The built site in a browser: pictures are there, tables sort, nothing is asked for elsewhere, no error is said."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from browser import looked_at, needs_browser

ROOT = Path(__file__).parents[2]
LOOK = """
const tables = [...document.querySelectorAll(".md-typeset table:not([class])")];
const first = tables.find(t => t.tBodies[0].rows.length > 2);
const texts = column => [...first.tBodies[0].rows].map(r => r.cells[column].textContent.trim());
const rows = texts(0).length;
first.tHead.rows[0].cells[0].firstChild.click(); const up = texts(0);
first.tHead.rows[0].cells[0].firstChild.click(); const down = texts(0);
return {up, down, rows, tables: tables.length, pictures: document.images.length,
  broken: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src),
  wide: document.documentElement.scrollWidth - innerWidth};
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@needs_browser
@pytest.mark.skipif(find_spec("mkdocs") is None, reason="the site's packages are not installed: make docs")
@pytest.mark.parametrize("name", ["start", "study", "sequential_offloading"])
def test_a_page_works_and_asks_nobody(name: str, built: Path, tmp_path: Path) -> None:
    found, console = looked_at(built / f"{name}.html", LOOK, tmp_path, beside=True)
    assert console == []
    assert [address for address in found["requests"] if not address.startswith("file:")] == []
    assert found["pictures"] > 1 and found["broken"] == []
    assert found["tables"] > 2 and found["rows"] > 2
    assert found["up"] == found["down"][::-1] and len(set(found["up"])) > 1
    assert found["wide"] <= 0
