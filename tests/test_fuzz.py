"""Everything that reads what a user wrote: plain values, or one readable line, in bounded time and memory.

A hundred inputs per reader in `make test`, the same in every run; 2,000 fresh ones with `pytest -m soak`.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from edgemarl.envs.reading import DEPTH_MAX, parse_yaml
from edgemarl.envs.registry import make_scenario, scenario_class, scenario_names
from edgemarl.launch.commands.preflight import read_runtime_env
from edgemarl.launch.commands.scale import parse_sizes
from edgemarl.launch.commands.sweep import chosen_controllers, chosen_sizes
from edgemarl.launch.commands.train import run_config
from edgemarl.launch.dnn.pruning import load_profile
from edgemarl.launch.experiment.plan import load_preset, make_plan, parse_overrides, scenario_preset
from edgemarl.launch.recipes import fields_of
from edgemarl.marl.training.config import RUN_FIELDS

SHORT, LONG = 100, 2000
SECONDS, MEBIBYTES, CHARACTERS = 10.0, 600, 6000
"""What one input may take at most, and how long a message is at most."""
HOSTILE = (
    "", "-", "~", "null", "true", "nan", ".inf", "-.inf", "0", "-1", "1e6", "1e9", "1e308", "1e400", "5e-324", "0x",
    "0xff", "9" * 5000, "1" + "0" * 400, "1_000", "1:2:99", "2001-13-45", "[]", "{}", "[[[]]]", "[" * 3000,
    "{a: " * 300,
    "&a [*a]", "*a", "? [1, 2] : 3", "<<: 1", "<<: [{a: 1}]", "!!int ''", "!!float x", "!!binary x", "!!timestamp y",
    "!!python/object/apply:os.getcwd []", "!!set {a, b}", "\t", "\x00", "\u2028", "\ufeff", "é" * 300, "'", '"', "|",
    "%YAML 3", "16,16", "(1, 2)", "[1,", "a:b", "json:loads", "../..", "/dev/null", "x" * 10_000, "1,2;3",
    "=", "==", "a=b=c",
)  # fmt: skip
hostile = st.sampled_from(HOSTILE) | st.text(max_size=30) | st.integers().map(str) | st.floats().map(str)


def laughs(name: str, levels: int = 9) -> str:
    """A thousand million values in a few hundred bytes."""
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join([*lines, f"{name}: *x{levels - 1}", ""])


@st.composite
def damaged(draw: st.DrawFn, text: str) -> str:
    """A file that was right before somebody edited it: words, lines and characters replaced, doubled or left out."""
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["word", "line", "double", "drop", "insert", "value"]))
        lines = text.split("\n")
        at = draw(st.integers(0, len(lines) - 1))
        if kind == "line":
            lines[at] = draw(hostile)
        elif kind == "double":
            lines.insert(at, lines[draw(st.integers(0, len(lines) - 1))])
        elif kind == "drop":
            del lines[at]
        elif kind == "value":
            lines[at] = lines[at].partition(":")[0] + ": " + draw(hostile)
        elif kind == "word":
            words = lines[at].split(" ")
            words[draw(st.integers(0, len(words) - 1))] = draw(hostile)
            lines[at] = " ".join(words)
        else:
            place = draw(st.integers(0, len(lines[at])))
            lines[at] = lines[at][:place] + draw(hostile) + lines[at][place:]
        text = "\n".join(lines)
    return text


def values_of(names: tuple[str, ...]) -> st.SearchStrategy[str]:
    """YAML whose entries have the right names and any values."""
    leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
    tree = st.recursive(leaf, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(max_size=5), t, max_size=3))
    return st.dictionaries(st.sampled_from(names), tree, max_size=6).map(
        lambda d: yaml.safe_dump(d, allow_unicode=True)
    )


def edited(text: str, names: tuple[str, ...]) -> st.SearchStrategy[bytes]:
    """Files: edited ones, ones with any values, any text, any bytes."""
    texts = damaged(text) | values_of(names) | hostile | st.sampled_from(names).map(laughs)
    return texts.map(lambda t: t.encode("utf-8", errors="surrogatepass")) | st.binary(max_size=200)


def assigned(names: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    """Texts such as `--set field=value` takes."""
    one = st.tuples(st.sampled_from(names) | hostile, hostile).map("=".join) | hostile
    return st.lists(one, min_size=1, max_size=3)


PRESET = """\
title: mine
scenario: sequential_offloading
set: {num_devices: 3, task_cycles: 5.0e8}
sweep: {field: num_devices, values: [2, 3], also: {slot_s: [0.1, 0.2]}}
networks: 2
slots: 20
warmup: 5
window: 5
controllers: [random, local, mine]
learned: {mine: {training_seeds: 2, train: {recipe: ppo, agent_steps: 1000}}}
baseline: random
reference: vi
figures: [{kind: bars, without: [local]}, {kind: training, metric: cost}]
calculations: [{title: t, function: "a:b", argument: x, values: [1, 2], columns: {a: b}}]
"""
CONTROLLERS = "mine: {recipe: ppo, lr: 1.0e-3, hidden: [16, 16]}\nother: {algorithm: ddpg, set: {num_devices: 2}}\n"
RECIPES = "base: {about: x, algorithm: ppo, set: {num_devices: 2}}\nmine: {based_on: base, lr: 1.0e-3}\n"
RUNTIME = "working_dir: .\nexcludes: [runs, '*.pt']\nenv_vars: {OMP_NUM_THREADS: '1'}\npip: [numpy]\n"
PRUNING = "title: t\nscenario: model_pruning\nset: {model_pruning_rates: [0.1, 0.5], model_accuracies: [0.99, 0.95]}\n"
FIELDS = {name: tuple(scenario_class(name).config_type.__pydantic_fields__) for name in scenario_names()}
PRESET_NAMES = ("title", "scenario", "set", "sweep", "networks", "slots", "warmup", "controllers", "learned", "figures")


def as_file(content: bytes, folder: Path) -> Path:
    path = folder / "given.yaml"
    path.write_bytes(content)
    return path


def read_preset(content: bytes, folder: Path) -> None:
    preset = load_preset(str(as_file(content, folder)))
    make_plan("mine", preset, overrides={})


def read_controllers(content: bytes, folder: Path) -> None:
    from edgemarl.marl.training.sweep import make_trials

    found = chosen_controllers(str(as_file(content, folder)), "sequential_offloading")
    make_trials({"scenario": "sequential_offloading"}, found, {}, [0])


def read_recipe(content: bytes, folder: Path) -> None:
    fields_of("sequential_offloading", f"{as_file(content, folder)}:mine")


def read_pruning(content: bytes, folder: Path) -> None:
    make_scenario("model_pruning", **load_profile(as_file(content, folder)))


def read_settings(name: str) -> Callable[[list[str], Path], None]:
    return lambda texts, folder: void(make_scenario(name, **parse_overrides(texts)))


def read_sizes(texts: list[str], folder: Path) -> None:
    from edgemarl.marl.training.sweep import make_trials

    make_trials({"scenario": "sequential_offloading"}, {"shared": {}}, chosen_sizes(texts), [0])


def read_names(text: str, folder: Path) -> None:
    names = [name.strip() for name in text.split(",") if name.strip()]
    make_plan("x", scenario_preset("sequential_offloading"), overrides={}, chosen=names)


def void(_: Any) -> None:
    return None


names = st.lists(hostile | st.sampled_from(["random", "vi", "vi,local", "runs/x"]), max_size=3).map(",".join)
READERS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any, Path], None]]] = {
    "preset": (edited(PRESET, PRESET_NAMES), read_preset),
    "sweep's controllers": (edited(CONTROLLERS, ("mine", "algorithm", "set")), read_controllers),
    "recipe": (edited(RECIPES, ("base", "mine", "based_on", "set")), read_recipe),
    "runtime environment": (
        edited(RUNTIME, ("working_dir", "excludes", "env_vars", "pip", "conda", "container", "config")),
        lambda content, folder: void(read_runtime_env(as_file(content, folder))),
    ),
    "pruning table": (edited(PRUNING, ("set", "title")), read_pruning),
    **{f"--set of {name}": (assigned(fields), read_settings(name)) for name, fields in FIELDS.items()},
    "--train": (
        assigned((*RUN_FIELDS, "lr", "hidden", "recipe", "one_hot", "minibatch")),
        lambda texts, folder: void(run_config("sequential_offloading", [], texts, 0)),
    ),
    "--sizes": (assigned(FIELDS["sequential_offloading"]), read_sizes),
    "--controllers": (names, read_names),
    "--controllers of sweep": (names, lambda text, folder: void(chosen_controllers(text, "sequential_offloading"))),
    "--devices": (names | hostile, lambda text, folder: void(parse_sizes(text))),
    "--preset": (hostile, lambda text, folder: void(load_preset(text))),
}  # fmt: skip


def hold(reader: tuple[st.SearchStrategy[Any], Callable[[Any, Path], None]], folder: Path, examples: int) -> None:
    """Try inputs on a reader: nothing but a ValueError of one readable line, within time and memory.

    A hundred are the same in every run; more are fresh.
    """
    strategy, read = reader
    fresh = examples > SHORT

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=not fresh,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def one(value: Any) -> None:
        started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            read(value, folder)
        except ValueError as error:
            assert 0 < len(str(error)) <= CHARACTERS, f"a message of {len(str(error))} characters"
            assert "\n" not in str(error)
        assert time.process_time() - started < SECONDS
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEBIBYTES * 1024

    (seed(time.time_ns())(one) if fresh else one)()


@pytest.mark.parametrize("reader", READERS)
def test_any_input_is_read_or_refused_in_one_line(reader: str, tmp_path: Path) -> None:
    hold(READERS[reader], tmp_path, SHORT)


@pytest.mark.soak
@pytest.mark.parametrize("reader", READERS)
def test_thousands_of_inputs_are_read_or_refused_in_one_line(reader: str, tmp_path: Path) -> None:
    hold(READERS[reader], tmp_path, LONG)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (laughs("title"), "more than 100,000 values"),
        ("a: &a [*a]", "an alias within what it stands for"),
        ("[" * (DEPTH_MAX + 1), f"more than {DEPTH_MAX} brackets"),
        ("[" * 100_000, f"more than {DEPTH_MAX} brackets"),
        ("a: 2001-13-45", "month must be in"),
        ("a: !!int x", "not YAML"),
        ("a: " + "9" * 5000, "not YAML"),
        ("a: [1\nb: 2", "line 2"),
    ],
)
def test_bombs_in_yaml_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_yaml(text, "it")
    assert len(str(caught.value)) < 300


def test_aliases_that_stay_small_are_read() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: {<<: {d: 3}, e: *a}", "it") == {
        "a": [1, 2], "b": [1, 2], "c": {"d": 3, "e": [1, 2]},
    }  # fmt: skip


@pytest.mark.parametrize("field", ["networks", "slots", "warmup", "window"])
def test_a_preset_asks_for_no_more_than_can_be_played(field: str, tmp_path: Path) -> None:
    path = as_file(
        f"title: t\nscenario: sampling_rate\ncontrollers: [random]\n{field}: 1000000000\n".encode(), tmp_path
    )
    with pytest.raises(ValueError, match=field):
        load_preset(str(path))
