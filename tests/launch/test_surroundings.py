"""What surrounds a command spoils no work: a notebook's settings, another encoding, LaTeX, odd folder names."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgemarl.launch import progress
from edgemarl.launch.console import wide_console
from edgemarl.launch.report.style import own_style

LAUNCH = Path(__file__).parents[2] / "launch"


@pytest.fixture
def hostile(tmp_path: Path) -> dict[str, str]:
    """A notebook's drawing backend that is not installed, a terminal without a micro sign, LaTeX that is not there."""
    settings = tmp_path / "matplotlib"
    settings.mkdir()
    (settings / "matplotlibrc").write_text("text.usetex: True\nsavefig.format: pdf\naxes.facecolor: black\n")
    return {
        **os.environ, "MPLBACKEND": "module://not_installed_here.backend_inline", "PYTHONIOENCODING": "ascii",
        "MPLCONFIGDIR": str(settings), "PATH": os.path.dirname(sys.executable),
    }  # fmt: skip


def test_compare_ends_well_whatever_surrounds_it(tmp_path: Path, hostile: dict[str, str]) -> None:
    out = tmp_path / "mine[/b][red]:cat:$x$ é"
    preset = tmp_path / "tiny[/i].yaml"
    preset.parent.mkdir()
    preset.write_text(
        "title: '[/b] µ'\nscenario: sequential_offloading\nset: {num_devices: 2}\nnetworks: 2\nslots: 20\nwindow: 5\n"
        "controllers: [random, local]\n",
        encoding="utf-8",
    )
    words = ["compare", "--preset", str(preset), "--out", str(out)]
    ended = subprocess.run(
        [sys.executable, "-m", "launch", *words], env=hostile, capture_output=True, cwd=LAUNCH.parent, check=False
    )
    assert ended.returncode == 0, ended.stderr.decode()
    assert (out / "report.html").is_file()
    assert (out / "figures" / "1-bars.png").is_file()
    said = ended.stdout.decode("ascii")
    assert f"report: {str(out).replace('é', '?')}/report.html" in said


@pytest.mark.parametrize("text", ["[/b]", "[red]x[/red]", ":cat:", "a[/b]/$x$", "\\[x"])
def test_terminal_prints_what_it_is_given(text: str) -> None:
    console = wide_console()
    console.file = io.StringIO()
    console.print(text, soft_wrap=True)
    assert console.file.getvalue() == f"{text}\n"


def test_every_command_prints_through_the_plain_console() -> None:
    for path in LAUNCH.rglob("*.py"):
        if path.name == "console.py":
            continue
        imported = {
            f"{node.module}.{name.name}"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
            for name in node.names
        }
        assert not imported & {"rich.console.Console", "rich.markup.escape", "rich.print"}, path


def test_figures_have_a_style_of_their_own() -> None:
    import matplotlib as mpl

    with mpl.rc_context({"text.usetex": True, "font.size": 3}):
        with own_style():
            assert not mpl.rcParams["text.usetex"]
            assert mpl.rcParams["font.size"] == 10
        assert mpl.rcParams["text.usetex"]


def test_a_log_and_a_notebook_get_few_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line for what is done; of what takes long one after 10 s, 20 s, 40 s; no carriage return, no escape."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.Bars() as bars:
        assert not bars.terminal
        for second in range(100):
            clock[0] = float(second)
            bars("long", second, 100)
            bars("noted", second, 100, note="said elsewhere")
        bars("long", 100, 100)
        bars("long", 100, 100)
    said = capsys.readouterr().err
    assert said.splitlines() == [
        "long: 10 of 100, 10 s", "long: 20 of 100, 20 s", "long: 40 of 100, 40 s", "long: 80 of 100, 80 s",
        "long: 100 of 100, 99 s",
    ]  # fmt: skip
    assert "\r" not in said and "\x1b" not in said


def test_a_notebook_has_a_terminal_and_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("JPY_PARENT_PID", "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")  # to rich a terminal
    monkeypatch.delenv("TTY_INTERACTIVE", raising=False)
    assert progress.Bars().terminal and wide_console().is_terminal
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    assert not progress.Bars().terminal and not wide_console().is_terminal
