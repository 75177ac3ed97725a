"""Replays: what is drawn is what was played, every scenario has a portrait, files are small, bad input is one line."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from browser import looked_at, needs_browser
from matplotlib.figure import Figure
from PIL import Image

from edgemarl.agents.registry import make_policy
from edgemarl.envs.registry import make_scenario, scenario_names
from edgemarl.envs.scenario import Scenario
from edgemarl.launch.cli import main
from edgemarl.launch.commands import replay as replaying
from edgemarl.launch.replay import record, replay, writers
from edgemarl.launch.replay.film import Film
from edgemarl.launch.replay.portraits import ledger, portrait_for
from edgemarl.marl.evaluation.rollout import rollout

SMALL = {
    "sequential_offloading": {"num_devices": 4},
    "model_pruning": {"num_devices": 6, "num_gateways": 2},
    "model_placement": {"num_gateways": 2, "devices_per_gateway": 3},
}


def small(name: str) -> Scenario:
    return make_scenario(name, **SMALL.get(name, {}))


def trace_of(scenario: Scenario, slots: int = 5) -> Any:
    return scenario.sample_trace(np.random.default_rng(3), 1, slots)


@pytest.mark.parametrize("name", scenario_names())
def test_the_cost_that_ticks_is_the_tables(name: str) -> None:
    scenario = small(name)
    trace = trace_of(scenario, 8)
    film = record(scenario, make_policy(scenario, "random"), trace, seed=5)
    rng = np.random.default_rng(np.random.SeedSequence([5, 2, 0]))
    played = rollout(make_policy(scenario, "random"), scenario, trace, rng)
    assert film.costs()[-1] == pytest.approx(played.means[scenario.cost_metric][0] / scenario.cost_divisor)
    assert [moment.t for moment in film.moments] == list(range(8))


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_has_a_portrait_of_its_own(name: str) -> None:
    scenario = small(name)
    portrait = portrait_for(scenario)
    assert portrait is not ledger
    trace = trace_of(scenario)
    film = Film([record(scenario, make_policy(scenario, "random"), trace)])
    pictures = list(film.pictures())
    assert len(pictures) == 5
    assert (pictures[0] != pictures[3]).any()
    assert len(np.unique(pictures[3].reshape(-1, 3), axis=0)) > 20
    assert scenario.cost_label in film.said(2)


def test_a_portrait_shows_decisions_not_only_the_state() -> None:
    """Two controllers in the same first slot differ in what they do alone."""
    scenario = make_scenario("sequential_offloading", num_devices=4)
    trace = trace_of(scenario)
    film = record(scenario, make_policy(scenario, "random"), trace)
    moment = film.moments[4]
    still = dataclasses.replace(moment.step, details={k: np.zeros_like(v) for k, v in moment.step.details.items()})
    idle = dataclasses.replace(film, moments=[*film.moments[:4], dataclasses.replace(moment, step=still)])
    busy_picture, idle_picture = (next(iter(Film([f], first=4).pictures())) for f in (film, idle))
    changed = (busy_picture != idle_picture).any(axis=2)
    assert changed[100:360].any()
    assert not changed[360:].any()  # the cost line is the same


def test_messages_are_recorded() -> None:
    scenario = make_scenario("sequential_offloading", num_devices=3)
    film = record(scenario, make_policy(scenario, "parametric_q_priced"), trace_of(scenario))
    price = film.moments[-1].messages[("server", "device")]
    assert price.shape == (1,)
    figure = Figure()
    portrait_for(scenario).draw(figure.add_subplot(), film.moments[-1], scenario)
    words = {text.get_text() for text in figure.axes[0].texts}
    assert f"price of the server: {10 * price[0]:.3g} per offloaded task" in words
    plain = record(scenario, make_policy(scenario, "parametric_q"), trace_of(scenario))
    assert plain.moments[-1].messages == {}


def test_a_gif_of_two_controllers(tmp_path: Path) -> None:
    scenario = make_scenario("sequential_offloading")
    done: list[tuple[int, int]] = []
    out = replay(
        scenario, ["random", "parametric_q"], tmp_path / "new" / "cell.gif", slots=6, first=2, fps=4.0,
        progress=lambda *numbers: done.append(numbers),
    )  # fmt: skip
    with Image.open(out) as picture:
        assert (picture.n_frames, picture.size) == (6, (920, 490))  # type: ignore[attr-defined]
        assert picture.info["duration"] == 250
    assert out.stat().st_size < 6 * 33_000  # 60 slots stay below 2 MB
    assert done[-1] == (6, 6)
    again = replay(scenario, ["random", "parametric_q"], tmp_path / "again.gif", slots=6, first=2, fps=4.0)
    assert again.read_bytes() == out.read_bytes()


@needs_browser
def test_a_page_plays_by_itself(tmp_path: Path) -> None:
    scenario = make_scenario("sequential_offloading", num_devices=4)
    out = replay(scenario, ["random"], tmp_path / "cell.html", slots=4, first=0)
    script = """
    const img = document.getElementById("picture"), slot = document.getElementById("slot"), first = img.src;
    slot.value = 2; slot.dispatchEvent(new Event("input"));
    const moved = img.src !== first, said = document.getElementById("said").textContent;
    document.onkeydown({key: "ArrowRight", target: document.body});
    return {moved, said, value: slot.value, button: document.getElementById("play").textContent};
    """
    found, console = looked_at(out, script, tmp_path)
    assert console == []
    assert found["requests"] == []
    assert found["moved"]
    assert found["said"].startswith("slot 3 of 4; cost per device and block so far: random ")
    assert (found["value"], found["button"]) == ("3", "play")


def test_mp4_without_ffmpeg_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers.shutil, "which", lambda program: None)
    with pytest.raises(ValueError, match="needs the program ffmpeg"):
        replay(make_scenario("sequential_offloading"), ["random"], tmp_path / "x.mp4")


@pytest.mark.skipif(not writers.shutil.which("ffmpeg"), reason="no ffmpeg here")
def test_mp4(tmp_path: Path) -> None:
    out = replay(make_scenario("sequential_offloading", num_devices=3), ["random"], tmp_path / "x.mp4", slots=3)
    assert out.read_bytes()[4:8] == b"ftyp"


class Drawn:
    CAPTION = "a scenario's own"

    @staticmethod
    def draw(axes: Any, moment: Any, scenario: Any) -> None:
        axes.text(0.5, 0.5, str(moment.t))


def test_a_scenario_of_another_package() -> None:
    """It brings a portrait, or its agents' costs are drawn; a wrong one is named."""
    base = type(make_scenario("sequential_offloading"))
    foreign = type("Foreign", (base,), {"name": "corridor"})(base.config_type(num_devices=2))
    assert portrait_for(foreign) is ledger
    film = Film([record(foreign, make_policy(small("sequential_offloading"), "random"), trace_of(foreign))])
    assert len(list(film.pictures())) == 5
    own = type("Own", (base,), {"name": "corridor", "replay_portrait": f"{__file__}:Drawn"})()
    assert portrait_for(own).CAPTION == Drawn.CAPTION
    wrong = type("Wrong", (base,), {"name": "corridor", "replay_portrait": f"{__file__}:SMALL"})()
    with pytest.raises(ValueError, match="has no draw"):
        portrait_for(wrong)


BAD = {
    "no such form": (["random", "--scenario", "sampling_rate", "--out", "x.avi"], r"out = x\.avi is not legal"),
    "no such controller": (["randon", "--scenario", "sampling_rate"], "did you mean 'random'"),
    "no scenario": (["random"], "needs --scenario"),
    "no slots": (["random", "--scenario", "sampling_rate", "--slots", "0"], "slots = 0"),
    "no time": (["random", "--scenario", "sampling_rate", "--fps", "0"], "fps = 0"),
    "a misspelt field": (
        ["random", "--scenario", "sampling_rate", "--set", "server_hzz=1"],
        "did you mean 'server_hz'",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words, message = BAD[what]
    with pytest.raises(SystemExit) as stop:
        main(["replay", *words])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert re.search(message, err)
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_command_plays_a_trace_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from edgemarl.marl.evaluation.traces import save_trace

    scenario = make_scenario("sequential_offloading", num_devices=3)
    save_trace(tmp_path / "t.parquet", scenario, trace_of(scenario, 6))
    out = tmp_path / "cell.gif"
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "replay",
                "random",
                "--trace",
                str(tmp_path / "t.parquet"),
                "--slots",
                "3",
                "--first",
                "2",
                "--out",
                str(out),
            ]
        )
    assert stop.value.code == 0
    assert "slots 2 to 4" in capsys.readouterr().out
    with Image.open(out) as picture:
        assert picture.n_frames == 3  # type: ignore[attr-defined]


def test_beside_a_class_a_run_is_played_in_the_scenarios_own_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a comparison: the class is written for them, and the run is translated."""
    run = SimpleNamespace(scenario="sequential_offloading", set={"device_action": "split", "num_devices": 3})
    monkeypatch.setattr(replaying, "_runs", lambda controllers: [run])
    for controllers, fields in ((["runs/a"], run.set), (["runs/a", "mine.py:Rule"], {"num_devices": 3})):
        assert replaying._network_of(controllers, None, "sequential_offloading") == fields


def test_the_first_picture_shows_something(tmp_path: Path) -> None:
    """In the first slot of an episode nobody waits: it begins later, as late as a short trace lets it."""
    scenario = small("sequential_offloading")
    for trace, slots, first in ((None, 3, writers.FIRST), (trace_of(scenario, 8), 5, 3), (trace_of(scenario), 5, 0)):
        assert writers.first_shown(None, slots, trace) == first
        out = replay(scenario, ["random"], tmp_path / "cell.gif", slots=slots, trace=trace)
        with Image.open(out) as picture:
            assert picture.n_frames == slots  # type: ignore[attr-defined]
    assert writers.first_shown(0, 3) == 0
