"""A page in a headless browser, without a driver: what it says on its console, what a script sees in it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--log-level=0",
    "--virtual-time-budget=4000", "--window-size=1200,1600", "--dump-dom",
)  # fmt: skip


def looked_at(page: Path, script: str, scratch: Path, *, beside: bool = False) -> tuple[Any, list[str]]:
    """Open a copy of a page in which `script`, the body of a function, runs last; `beside` it where it needs its files.

    Returns:
        what the script returns, with `requests`, the addresses that were asked for, beside it; the console's lines.
    """
    probe = (
        "<script>addEventListener('load', () => setTimeout(() => { const found = (() => {" + script + "})();"
        "found.requests = performance.getEntriesByType('resource').map(e => e.name)."
        "filter(n => !n.startsWith('data:'));"
        "const out = document.createElement('pre'); out.id = 'probe'; out.textContent = JSON.stringify(found);"
        "document.body.append(out); }, 100));</script>"
    )
    copy = (page.parent if beside else scratch) / "looked_at.html"
    text = page.read_text(encoding="utf-8")
    copy.write_text(text.replace("</body>", probe + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={scratch / 'profile'}", copy.as_uri()],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, f"the script did not end: {console} {done.stderr[-800:]}"
    return json.loads(html.unescape(found.group(1))), console
