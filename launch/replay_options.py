"""The words of `edgemarl replay`; what they do is loaded when they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def replay_command(
    controller: Annotated[str, typer.Argument(metavar="RUN|NAME", help="Training run, or a controller's name.")],
    other: Annotated[str | None, typer.Argument(metavar="RUN|NAME", help="Another one, beside it.")] = None,
    scenario: Annotated[str | None, typer.Option(help="Scenario; default: that of the run or the trace file.")] = None,
    out: Annotated[Path, typer.Option(help="File to write: .gif, .html (a player), .mp4 (needs ffmpeg).")] = Path(
        "replay.gif"
    ),
    slots: Annotated[int, typer.Option(help="Slots that are shown.")] = 60,
    first: Annotated[
        int | None, typer.Option(help="Slots that are played before, unseen; default: 10, or what the trace has left.")
    ] = None,
    trace: Annotated[Path | None, typer.Option(help="Trace file whose first cell is played.")] = None,
    fps: Annotated[float, typer.Option(help="Slots per second.")] = 5.0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a config field.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")] = 0,
) -> None:
    """Show an episode as a moving picture: one controller, or two side by side on the same trace."""
    from edgemarl.launch.commands.replay import replay_command as play

    names = [controller] if other is None else [controller, other]
    play(names, scenario, out, slots, first, trace, settings or [], seed, fps)
