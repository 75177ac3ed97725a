"""A film as a file: GIF, HTML that needs nothing else, or MP4 where ffmpeg is there."""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgemarl.agents.api import checked_policy
from edgemarl.agents.registry import make_policy
from edgemarl.envs.arrays import Array
from edgemarl.envs.checks import checked_function, checked_integer, checked_number, checked_path, checked_seed
from edgemarl.envs.config import quoted
from edgemarl.envs.files import replacing
from edgemarl.envs.scenario import Scenario, checked_scenario
from edgemarl.launch.replay.film import Film
from edgemarl.launch.replay.recording import record

FORMS = (".gif", ".html", ".mp4")
COLOURS = 64
"""Colours of a picture: enough for flat areas and soft edges of letters, few enough for small files."""
FIRST = 10
"""Slots that are played before those that are shown: in the first one of an episode nobody waits yet."""
Progress = Callable[[int, int], None]


def check_form(out: Path) -> None:
    """Refuse a file that cannot be written, before anything is played.

    Raises:
        ValueError: another ending than .gif, .html, .mp4; .mp4 without ffmpeg.
    """
    if out.suffix not in FORMS:
        raise ValueError(f"out = {out} is not legal: must end in {', '.join(FORMS)}")
    if out.suffix == ".mp4" and shutil.which("ffmpeg") is None:
        raise ValueError(f"{out} needs the program ffmpeg, which is not there: .gif and .html need nothing")


def first_shown(first: int | None, slots: int, trace: Any = None) -> int:
    """The first slot that is shown: as given, else `FIRST`, or what a trace that is shorter leaves of it."""
    if first is not None:
        return first
    return FIRST if trace is None else max(0, min(FIRST, trace.slots - slots))


def replay(
    scenario: Scenario, controllers: Sequence[str | Any], out: Path | str, *, slots: int = 60, first: int | None = None,
    trace: Any = None, seed: int = 0, fps: float = 5.0, progress: Progress | None = None,
) -> Path:  # fmt: skip
    """Play one controller, or two on the same trace, and write the episode as a moving picture.

    ```
    replay(make_scenario("sequential_offloading"), ["random", "vi"], "cell.gif")
    ```

    Args:
        scenario: what is played.
        controllers: one or two: names of the scenario's playbook, or policies.
        out: file to write: .gif, .html, .mp4.
        slots: slots that are shown.
        first: slots that are played before the first one that is shown; default: `FIRST`, in whose picture there is
            something to see, or what a shorter trace leaves of it.
        trace: its first cell is played; default: the first network that `compare` plays with this seed.
        seed: of the trace and of the controllers' own randomness.
        fps: slots per second.
        progress: called with pictures done and pictures in all.

    Raises:
        ValueError: an unknown controller, more than two, a number outside its range, a file that cannot be written.
    """
    scenario, out = checked_scenario(scenario), checked_path("out", out)
    check_form(out)
    slots, seed = checked_integer("slots", slots, 1), checked_seed("seed", seed)
    if first is not None:
        first = checked_integer("first", first, 0)
    if trace is not None:
        scenario.check_trace(trace)
    first = first_shown(first, slots, trace)
    if not 0.1 <= checked_number("fps", fps, 0.0) <= 50.0:
        raise ValueError(f"fps = {fps:g} slots/s is not legal: must be >= 0.1 and <= 50")
    checked_function("progress", progress, "pictures done and pictures in all")
    if isinstance(controllers, str) or not isinstance(controllers, Sequence) or len(controllers) not in (1, 2):
        raise ValueError(
            f"controllers = {quoted(controllers)} is not legal: must be a list of one controller, or of two that are "
            "shown side by side"
        )
    policies = [
        make_policy(scenario, c) if isinstance(c, str) else checked_policy(c, "controllers") for c in controllers
    ]
    if trace is None:
        rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
        trace = scenario.sample_trace(rng, 1, first + slots)
    elif trace.slots < first + slots:
        raise ValueError(f"first + slots = {first + slots} is not legal: the trace holds {trace.slots} slots")
    else:
        trace = trace.shortened(first + slots)
    film = Film([record(scenario, policy, trace, seed) for policy in policies], first)
    write(film, out, fps, progress)
    return out


def write(film: Film, out: Path, fps: float, progress: Progress | None = None) -> None:
    """Write a film in the form that the file's ending says.

    Raises:
        ValueError: as `check_form`; a folder that cannot be written.
    """
    check_form(out)
    pictures = []
    for i, picture in enumerate(film.pictures()):
        pictures.append(Image.fromarray(picture))
        if progress is not None:
            progress(i + 1, len(film))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as temporary:
            {".gif": _gif, ".html": _html, ".mp4": _mp4}[out.suffix](film, pictures, temporary, fps)
    except OSError as error:
        raise ValueError(f"{out} cannot be written: {error.strerror or error}") from error


def _palette(pictures: Sequence[Image.Image]) -> Image.Image:
    """One palette for all pictures, so that what does not move is stored once."""
    chosen = [pictures[i] for i in sorted({0, len(pictures) // 2, len(pictures) - 1})]
    joined = Image.new("RGB", (chosen[0].width, sum(picture.height for picture in chosen)))
    for i, picture in enumerate(chosen):
        joined.paste(picture, (0, i * picture.height))
    return joined.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE)


def _flat(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    palette = _palette(pictures)
    return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]


def _gif(film: Film, pictures: Sequence[Image.Image], path: Path, fps: float) -> None:
    head, *rest = _flat(pictures)
    duration = [round(1000 / fps)] * len(pictures)
    duration[-1] = max(duration[-1], 2000)  # the result stays for a moment
    head.save(path, format="GIF", save_all=True, append_images=rest, duration=duration, loop=0, optimize=False)


def _html(film: Film, pictures: Sequence[Image.Image], path: Path, fps: float) -> None:
    """A page with a player of its own: pause, a slider, arrow keys."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("edgemarl.launch", "replay"), autoescape=True, undefined=StrictUndefined
    )
    frames = []
    for i, picture in enumerate(_flat(pictures)):
        data = io.BytesIO()
        picture.save(data, format="PNG", optimize=True)
        frames.append((base64.b64encode(data.getvalue()).decode(), film.said(i)))
    page = environment.get_template("player.html.j2").render(
        title=film.title, caption=film.caption, frames=frames, fps=fps, width=pictures[0].width,
        height=pictures[0].height,
    )  # fmt: skip
    path.write_text(page, encoding="utf-8")


def _mp4(film: Film, pictures: Sequence[Image.Image], path: Path, fps: float) -> None:
    width, height = pictures[0].size
    even = "pad=ceil(iw/2)*2:ceil(ih/2)*2:color=white"  # the format wants even sizes
    command = ["ffmpeg", "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
               "-r", f"{fps:g}", "-i", "-", "-vf", even, "-pix_fmt", "yuv420p", "-f", "mp4", str(path)]  # fmt: skip
    raw: Array = np.stack([np.asarray(picture) for picture in pictures])
    done = subprocess.run(command, input=raw.tobytes(), capture_output=True, check=False)
    if done.returncode:
        raise OSError(f"ffmpeg: {done.stderr.decode(errors='replace').strip()[-200:]}")
