"""Numbers and vectors as people write them, and what messages repeat of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from typer.testing import CliRunner

from edgemarl.envs.config import LISTED, QUOTED, cut, quoted, unknown_name, vector, whole
from edgemarl.envs.registry import make_scenario, scenario_class, scenario_names
from edgemarl.launch.cli import app
from edgemarl.launch.commands.train import run_config, set_words
from edgemarl.launch.experiment.plan import parse_overrides


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e6", 10**6), ("1_000", 1000), (" 7 ", 7), (2.0, 2), (5, 5), ("1e17", 10**17)]
    + [(same, same) for same in ("1.5", "1e18", "1e999999999", "nan", "inf", "-", "", "1e30", "9" * 5000, None)],
)
def test_whole_numbers(text: Any, number: Any) -> None:
    assert whole(text) == number


@pytest.mark.parametrize("text", ["16,16", "16 16", "(16, 16)", "[16, 16]", " 16 , 16 ", "16,16,"])
def test_vectors(text: str) -> None:
    assert vector(text) == [16, 16]


@pytest.mark.parametrize(
    ("words", "hidden"),
    [("hidden=16,16", (16, 16)), ("hidden=16", (16,)), ("hidden=[8, 4]", (8, 4)), ("hidden=(8,)", (8,))],
)
def test_widths_of_layers_from_the_command_line(words: str, hidden: tuple[int, ...]) -> None:
    config = run_config("sequential_offloading", [], [words, "agent_steps=1e6"], 0)
    assert config.settings.hidden == hidden
    assert config.agent_steps == 1_000_000


def test_options_take_whole_numbers_in_any_form() -> None:
    ended = CliRunner().invoke(app, ["compare", "--scenario", "sampling_rate", "--networks", "1e30"])
    assert ended.exit_code == 2
    assert "'1e30' is not a whole number" in " ".join(ended.output.replace("│", "").split())
    ended = CliRunner().invoke(app, ["compare", "--scenario", "sampling_rate", "--networks", "1e9"])
    assert "networks = 1000000000 is not legal" in str(ended.exception)


@pytest.mark.parametrize(
    "fields",
    [
        {"num_devices": 3, "slot_s": 0.25, "residual_leaves_device": False},
        {"devices_per_service": (2, 3), "channel_gains": [1e-13, 2e-13, 3e-13]},
    ],
)
def test_printed_settings_make_the_same_network(fields: dict[str, Any]) -> None:
    name = "sampling_rate" if "channel_gains" in fields else "sequential_offloading"
    assert (
        make_scenario(name, **parse_overrides(set_words(fields)[1::2])).config == make_scenario(name, **fields).config
    )


HUGE = ("x" * 10**6, 10**10_000, [10**10_000], [[[[[1]]]]] * 1000, {"a": "b" * 1000}, "a\nb", None)


@pytest.mark.parametrize("value", HUGE, ids=range(len(HUGE)))
def test_messages_repeat_little(value: Any) -> None:
    assert len(quoted(value)) <= QUOTED
    assert "\n" not in quoted(value)
    assert len(unknown_name("field", quoted(value) * 20, ["x" * 1000] * 100)) < 1500


def test_cut_keeps_short_texts() -> None:
    assert cut("a  b\nc") == "a b c"
    assert cut("x" * 300, 10) == "xxxxxxx..."


def test_of_many_known_names_the_nearest_are_shown() -> None:
    few = unknown_name("field", "b0", [f"a{i}" for i in range(LISTED)], "show all")
    assert few.endswith("Known: " + ", ".join(f"a{i}" for i in range(LISTED)))
    many = unknown_name("field", "speed_900", [f"speed_{i}" for i in range(1000)] + ["speed_900x"], "show all")
    shown = many.partition("Known: ")[2].split(", ")
    assert shown[0] == "speed_900" and "speed_900x" in shown
    assert len(shown) == LISTED + 1 and shown[-1] == f"... and {1001 - LISTED} more (show all)"


@pytest.mark.parametrize("scenario", scenario_names())
def test_an_unknown_config_field_says_what_is_near_and_what_lists_the_rest(scenario: str) -> None:
    fields = [f.name for f in dataclasses.fields(scenario_class(scenario).config_type())]
    with pytest.raises(ValueError) as refused:
        make_scenario(scenario, **{f"{fields[0]}x": 1})
    message = str(refused.value)
    assert f"did you mean '{fields[0]}'" in message and len(message) < 800
    assert message.endswith(f"... and {len(fields) - LISTED} more (edgemarl scenarios {scenario})")
