"""The command line: bad input gives one readable line and exit code 2; a tiny comparison writes everything."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from edgemarl.envs import registry as envs_registry
from edgemarl.envs.registry import make_scenario, scenario_class, scenario_names, scenario_texts
from edgemarl.launch.cli import main
from edgemarl.launch.experiment.plan import FigureSpec, load_preset, make_plan, preset_names, scenario_preset
from edgemarl.launch.report import figures
from edgemarl.marl.evaluation.traces import save_trace

ROOT = Path(__file__).parents[2]
TINY = {
    "title": "Tiny",
    "scenario": "sequential_offloading",
    "set": {"num_devices": 2},
    "networks": 3,
    "slots": 12,
    "warmup": 2,
    "window": 4,
    "controllers": ["random", "fixed_power", "parametric_q"],
    "reference": "parametric_q",
    "figures": [
        {"kind": "bars"},
        {"kind": "curves"},
        {"kind": "curves", "metric": "excess"},
        {"kind": "tradeoff", "without": ["random"]},
    ],
}


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of a command."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def preset_file(folder: Path, **changes: Any) -> str:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a preset, traces good and bad, a plain file and a run of another scenario."""
    preset_file(tmp_path)
    small = make_scenario("sequential_offloading", num_devices=2)
    trace = small.sample_trace(np.random.default_rng(0), 2, 12)
    save_trace(tmp_path / "good.parquet", small, trace)
    other = make_scenario("sequential_offloading", num_devices=3)
    save_trace(tmp_path / "three.parquet", other, other.sample_trace(np.random.default_rng(0), 2, 12))
    table = pd.read_parquet(tmp_path / "good.parquet")
    table.loc[4, "channel_gain_per_w"] = np.nan
    table.to_csv(tmp_path / "nan.csv", index=False)
    (tmp_path / "file").write_text("")
    (tmp_path / "empty_run").mkdir()
    return tmp_path


BAD = {
    "unknown scenario": (["compare", "--scenario", "sequential_ofloading"], "did you mean 'sequential_offloading'"),
    "unknown scenario to show": (["scenarios", "offloading"], "unknown scenario 'offloading'"),
    "a preset's file that is not there": (["compare", "--preset", "nope.yaml"], "preset nope.yaml: no such file"),
    "unknown preset": (["compare", "--preset", "quik"], "did you mean 'quick'"),
    "unknown controller": (
        ["compare", "--preset", "TINY", "--controllers", "parametrik_q"],
        "did you mean 'parametric_q'",
    ),
    "misspelt field": (["compare", "--preset", "TINY", "--set", "bandwith_hz=1e6"], "did you mean 'bandwidth_hz'"),
    "negative bandwidth": (["compare", "--preset", "TINY", "--set", "bandwidth_hz=-1"], "bandwidth_hz = '-1' Hz"),
    "no device": (["compare", "--preset", "TINY", "--set", "num_devices=0"], "num_devices = 0 is not legal"),
    "text for a number": (["compare", "--preset", "TINY", "--set", "slot_s=long"], "slot_s = 'long' s"),
    "no value": (["compare", "--preset", "TINY", "--set", "slot_s"], "must be field=value"),
    "a trace with NaN": (["compare", "--preset", "TINY", "--trace", "nan.csv"], "holds NaN"),
    "a trace of another K": (["compare", "--preset", "TINY", "--trace", "three.parquet"], "num_devices = 2"),
    "a trace that is not there": (["compare", "--preset", "TINY", "--trace", "none.csv"], "does not exist"),
    "an unwritable folder": (["compare", "--preset", "TINY", "--out", "file/out"], "cannot be written"),
    "an unwritable trace": (["trace", "sample", "--scenario", "sampling_rate", "--out", "file/t.csv"], "cannot write"),
    "an unwritable benchmark": (["bench", "--json", "file/b.json"], "cannot be written"),
    "no seeds": (["compare", "--preset", "TINY", "--networks", "0"], "networks = 0"),
    "a negative seed": (["compare", "--preset", "TINY", "--seed", "-1"], "'--seed': -1 is not legal"),
    "preset and scenario": (["compare", "--preset", "TINY", "--scenario", "sampling_rate"], "either --preset"),
    "an unknown option": (["compare", "--presett", "TINY"], "No such option"),
    "an unknown command": (["compaer"], "No such command"),
    "a run without a policy": (
        ["compare", "--preset", "TINY", "--controllers", "random,empty_run"],
        "no trained policy",
    ),
    "no run to resume": (["train", "--resume", "empty_run"], "no training run"),
    "no device to learn": (["train", "--set", "num_devices=0"], "num_devices = 0 is not legal"),
    "an unwritable run": (["train", "--out", "file/run"], "file/run cannot be written: Not a directory"),
    "a misspelt training field": (["train", "--train", "agentsteps=5"], "did you mean 'agent_steps'"),
    "an unknown benchmark": (["bench", "--only", "speed"], "unknown benchmark group"),
    "no cells": (["trace", "sample", "--scenario", "sampling_rate", "--out", "t.csv", "--cells", "0"], "cells = 0"),
    "a trace file of another kind": (
        ["trace", "describe", "tiny.yaml", "--scenario", "sampling_rate"],
        "has no column 'cell'",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_gives_one_line_and_exit_code_2(
    what: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    arguments, message = BAD[what]
    before = sorted(path.name for path in folder.rglob("*"))
    code, out, err = run(*[a.replace("TINY", "tiny.yaml") for a in arguments], capsys=capsys)
    assert code == 2
    assert re.search(message, err)
    assert err.startswith("edgemarl: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    left = {path for path in folder.rglob("*") if path.name not in before and path.suffix not in ("",)}
    assert not left  # nothing half-written


BAD_PRESETS = {
    "misspelt entry": ({"contollers": ["random"]}, "unknown entry 'contollers'; did you mean 'controllers'"),
    "no controller": ({"controllers": []}, "controllers = "),
    "no such figure": ({"figures": [{"kind": "pie"}]}, r"figures\.0\.kind = 'pie'"),
    "a warm-up as long as the trace": ({"warmup": 12}, "warmup = 12"),
    "a field that does not exist": ({"sweep": {"field": "devices", "values": [1]}}, "unknown field 'devices'"),
    "an illegal value in the sweep": ({"sweep": {"field": "num_devices", "values": [2, 0]}}, "num_devices = 0"),
    "an unknown metric": ({"figures": [{"kind": "bars", "metric": "speed"}]}, "unknown metric 'speed'"),
    "a figure without whom": ({"figures": [{"kind": "bars", "without": ["randon"]}]}, "did you mean 'random'"),
    "a misspelt training field": (
        {"controllers": ["random", "ppo"], "learned": {"ppo": {"train": {"agentsteps": 5}}}},
        "did you mean 'agent_steps'",
    ),
}


@pytest.mark.parametrize("what", BAD_PRESETS)
def test_a_bad_preset_is_named(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes, message = BAD_PRESETS[what]
    code, _, err = run(
        "compare", "--preset", preset_file(tmp_path, **changes), "--out", str(tmp_path / "o"), capsys=capsys
    )
    assert code == 2
    assert re.search(message, err.splitlines()[-1])


def test_a_process_ends_with_code_2_and_without_a_traceback(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "launch", "compare", "--preset", "nothing"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.count("\n") == 1


HEAVY = {"gymnasium", "matplotlib", "numba", "numpy", "pandas", "pyarrow", "ray", "scipy", "scipy.stats", "torch"}
"""Packages that take a tenth of a second or more to load."""
COMPILED = {"numba", "scipy"}
"""What a compiled slot needs; Numba looks at scipy's version."""


def loaded_by(code: str) -> set[str]:
    """Heavy packages that a fresh interpreter holds after some code."""
    ends = "import sys; print(*sys.modules, file=sys.stderr)"
    words = [sys.executable, "-c", f"{code}\n{ends}"]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    return HEAVY & set(found.stderr.split())


@pytest.mark.parametrize(
    ("code", "needed"),
    [
        ("import edgemarl.launch.cli", set()),
        ("from edgemarl.launch.cli import app\napp(['--help'], standalone_mode=False)", set()),
        ("from edgemarl.launch.cli import app\napp(['scenarios'], standalone_mode=False)", {"numpy", "gymnasium"}),
        ("import edgemarl.envs", {"numpy", "gymnasium"}),
        (
            "from edgemarl.envs import Scenario, Trace, quantity, scenario_names\nscenario_names()",
            {"numpy", "gymnasium"},
        ),
        ("from edgemarl.agents import Controller, Playbook, make_policy", {"numpy", "gymnasium"}),
        ("from edgemarl.envs import make_scenario\nmake_scenario('sampling_rate')", {"numpy", "gymnasium", *COMPILED}),
        (
            "from edgemarl.agents import make_policy\nfrom edgemarl.envs import make_scenario\n"
            "make_policy(make_scenario('sampling_rate'), 'random')",
            {"numpy", "gymnasium", *COMPILED},
        ),
    ],
)
def test_a_process_loads_what_it_needs_alone(code: str, needed: set[str]) -> None:
    assert loaded_by(code) <= needed


def test_texts_of_scenarios_are_those_of_their_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in scenario_names():
        cls = scenario_class(name)
        assert scenario_texts(name) == (cls.title, cls.paper)
    source = f"{envs_registry.__name__}._literals"
    monkeypatch.setattr(source, lambda file, name: {"title": "no paper"})  # as where a class computes its texts
    cls = scenario_class("sampling_rate")
    assert scenario_texts("sampling_rate") == (cls.title, cls.paper)


def test_comparing_rules_does_not_import_ray(tmp_path: Path) -> None:
    """Nor PyTorch, nor pandas, nor SciPy's statistics: a whole comparison with its bound, figures and page; nor does
    what a scaling study and a task of Ray begin with."""
    words = "compare --scenario sequential_offloading --set num_devices=2 --controllers random --networks 2 --slots 60"
    code = (
        "import edgemarl.launch.commands.show, edgemarl.launch.commands.bench, edgemarl.launch.experiment.elsewhere\n"
        "from edgemarl.launch.commands.scale import ScaleOptions, make_study\n"
        "make_study((2,), ScaleOptions(controllers=['random', 'vi_priced'], networks=2))\n"
        f"from edgemarl.launch.cli import app\n"
        f"app({[*words.split(), '--warmup', '50', '--out', str(tmp_path / 'out')]}, standalone_mode=False)"
    )
    assert loaded_by(code) == HEAVY - {"pandas", "ray", "scipy.stats", "torch"}
    assert "lower bound" in (tmp_path / "out" / "report.html").read_text()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished comparison."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.raises(SystemExit) as stop:
        main(["compare", "--preset", preset_file(folder), "--out", str(folder / "out"), "--seed", "4"])
    assert stop.value.code == 0
    return folder / "out"


def test_a_comparison_writes_numbers_and_figures(finished: Path) -> None:
    rows = pd.read_parquet(finished / "results.parquet")
    assert len(rows) == 3 * 3
    summary = json.loads((finished / "summary.json").read_text())
    assert (summary["seed"], summary["preset"]["networks"]) == (4, 3)
    assert summary["points"][0]["config"]["num_devices"] == 2
    assert set(summary["versions"]) >= {"python", "numpy", "ray", "torch"}
    row = next(r for r in summary["points"][0]["comparison"]["rows"] if r["controller"] == "fixed_power")
    cost = rows.query("controller == 'fixed_power'")["cost"].mean() / 2
    assert row["cost"]["value"] == pytest.approx(cost)
    assert row["cost"]["low"] < cost < row["cost"]["high"]
    names = ("1-bars", "2-curves", "3-curves-excess", "4-tradeoff", "cost-parts")
    drawn = {f"{name}.{ending}" for name in names for ending in ("png", "svg")}
    assert {p.name for p in (finished / "figures").iterdir()} == drawn
    assert not list(finished.rglob(".*"))


def test_the_page_needs_nothing_else(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)[^"']*""", page) == []
    assert "@import" not in page
    drawings = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    assert len(drawings) == 5
    assert all("<svg" in drawing for drawing in drawings)
    assert "edgemarl compare --preset" in page
    assert "cost per device and block" in page
    assert "Left out: random." in page
    assert ">fixed_power</text>" in drawings[3]
    assert ">random</text>" not in drawings[3]
    assert ">random</text>" in drawings[1]


@pytest.mark.parametrize("costs", [(1.0, 100.0), (1.0, 2.0)])
def test_curves_fill_their_panel(costs: tuple[float, ...]) -> None:
    """On a logarithmic axis, which costs far apart get, as on a linear one."""
    series = {f"rule {cost}": cost * np.linspace(1.0, 1.2, 6)[None].repeat(2, axis=0) for cost in costs}
    rows = [SimpleNamespace(controller=name, kind="baseline") for name in series]
    point = SimpleNamespace(label="", scenario=SimpleNamespace(cost_label="cost"))
    result: Any = SimpleNamespace(
        comparison=SimpleNamespace(rows=rows, reference=None, cells=2, bound=None),
        point=point,
        cost_windows=series.__getitem__,
    )
    plan: Any = SimpleNamespace(preset=SimpleNamespace(window=2, warmup=0), slots=12, trace_file=None)
    figure, _ = figures.draw(plan, [result], FigureSpec(kind="curves"))
    axes = figure.axes[0]
    low, high = axes.transData.inverted().transform(axes.transAxes.transform([(0, 0), (0, 1)]))[:, 1]
    shown = np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in axes.lines])
    place = axes.transAxes.inverted().transform(axes.transData.transform([(0, shown.min()), (0, shown.max())]))[:, 1]
    assert low < shown.min() < shown.max() < high
    assert place[1] - place[0] > 0.8


def test_finished_results_are_taken_from_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, preset = str(tmp_path / "out"), preset_file(tmp_path, figures=[])
    _, table, _ = run("compare", "--preset", preset, "--out", out, capsys=capsys)
    for text in ("random", "fixed_power", "parametric_q", "cost [95% CI]", "sent", "device", "[task/device]"):
        assert text in table
    parts = tmp_path / "out" / "parts"
    ages = {path.name: path.stat().st_mtime_ns for path in parts.glob("*__0.part")}
    assert len(ages) == 3
    (parts / "random__0.part").unlink()
    _, again, _ = run("compare", "--preset", preset, "--out", out, capsys=capsys)
    assert "2 finished results" in again
    kept = {path.name for path in parts.glob("*__0.part") if path.stat().st_mtime_ns == ages[path.name]}
    assert kept == {"fixed_power__0.part", "parametric_q__0.part"}
    _, other, _ = run("compare", "--preset", preset, "--out", out, "--seed", "1", capsys=capsys)
    assert "finished results" not in other


def test_an_interrupted_comparison_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgemarl.agents.sequential_offloading import rules

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rules.FixedPowerDevice, "act", interrupt)
    code, _, err = run("compare", "--preset", preset_file(tmp_path), "--out", str(tmp_path / "out"), capsys=capsys)
    assert code == 130
    assert "finished results are kept" in err
    assert [path.name for path in (tmp_path / "out" / "parts").iterdir()] == ["random__0.part"]


def test_controllers_meet_the_same_traces_and_seeds_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preset = preset_file(tmp_path, figures=[], controllers=["fixed_power"])
    results = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "9")):
        run("compare", "--preset", preset, "--out", str(tmp_path / name), "--seed", seed, capsys=capsys)
        results.append(pd.read_parquet(tmp_path / name / "results.parquet"))
    pd.testing.assert_frame_equal(results[0], results[1])
    assert (results[0]["cost"] != results[2]["cost"]).all()


def test_a_trace_file_is_what_controllers_meet(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preset, out = preset_file(folder, figures=[], controllers=["fixed_power"]), folder / "out"
    code, _, _ = run(
        "compare", "--preset", preset, "--trace", str(folder / "good.parquet"), "--out", str(out), capsys=capsys
    )
    assert code == 0
    assert len(pd.read_parquet(out / "results.parquet")) == 2  # the file's cells, not the preset's


def test_a_sweep_has_a_table_and_a_figure_over_its_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = {"field": "num_devices", "values": [1, 3], "label": "devices"}
    preset = preset_file(
        tmp_path, sweep=sweep, figures=[
            {"kind": "sweep", "metric": "discounted_cost"}, {"kind": "bars"},
            {"kind": "frontier", "metric": "cost", "against": "discounted_cost"},
        ],
    )  # fmt: skip
    code, table, _ = run("compare", "--preset", preset, "--out", str(tmp_path / "out"), capsys=capsys)
    assert code == 0
    assert "devices = 1" in table
    assert "devices = 3" in table
    assert (tmp_path / "out" / "figures" / "1-sweep-discounted_cost.svg").is_file()
    frontier = (tmp_path / "out" / "figures" / "3-frontier-cost.svg").read_text()
    assert frontier.count("<!-- devices = ") == 2  # both points are named


def test_traces_are_sampled_and_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "t.csv")
    options = ["--cells", "2", "--slots", "5", "--set", "num_devices=3"]
    assert run("trace", "sample", "--scenario", "sequential_offloading", "--out", file, *options, capsys=capsys)[0] == 0
    code, out, _ = run("trace", "describe", file, capsys=capsys)
    assert code == 0
    assert "2 networks, 5 steps of 0.5 s (2.5 s) of sequential_offloading" in out
    assert "channel_gain_per_w" in out


def test_scenarios_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run("scenarios", capsys=capsys)
    assert all(name in out for name in scenario_names())
    _, out, _ = run("scenarios", "sequential_offloading", capsys=capsys)
    assert "bandwidth_hz" in out
    assert "parametric_q_priced" in out


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_that_ships_is_legal(name: str) -> None:
    plan = make_plan(name, load_preset(name), overrides={})
    assert plan.points
    for learned in plan.preset.learned.values():
        from edgemarl.launch.experiment.trained import learned_config

        assert learned_config(plan.preset.scenario, learned, plan.points[0], 0).agent_steps > 0


def test_benchmarks_are_numbers_in_a_flat_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgemarl.marl import benchmarks

    monkeypatch.setattr(benchmarks, "GROUPS", {"clock": "time:get_clock_info", "count": f"{__name__}:counted"})
    monkeypatch.setattr("edgemarl.launch.commands.bench.GROUPS", benchmarks.GROUPS)
    file = tmp_path / "sub" / "bench.json"
    assert run("bench", "--json", str(file), "--only", "count", capsys=capsys)[0] == 0
    found = json.loads(file.read_text())
    assert found.pop("reference_s_count") > 0.0
    assert found == {"steps_per_s": 3.0}
    history, old = tmp_path / "history.md", tmp_path / "old.json"
    options = ["--only", "count", "--compare", str(old), "--history", str(history)]
    for before, code, mark in ((3.0, 0, "times: none"), (30.0, 1, "times: steps_per_s")):
        old.write_text(json.dumps(json.loads(file.read_text()) | {"steps_per_s": before}))
        found_code, shown, _ = run("bench", *options, capsys=capsys)
        assert (found_code, mark in shown) == (code, True)
    assert history.read_text().count("| `steps_per_s` | 3.00 |") == 2
    old.write_text("[1]")
    code, _, message = run("bench", *options, capsys=capsys)
    assert (code, "must hold one flat object of numbers" in message) == (2, True)


def counted() -> dict[str, float]:
    return {"steps_per_s": 3}


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    from edgemarl.envs.files import replacing

    path = tmp_path / "summary.json"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["summary.json"]


CALCULATION = {
    "title": "A share",
    "function": "edgemarl.marl.studies.price_of_decentralization:price_of_decentralization",
    "argument": "num_devices_effective",
    "values": [1, 50],
    "columns": {"num_devices_effective": "devices", "decentralized_excess": "excess"},
    "percent": ["decentralized_excess"],
}


def test_a_calculation_has_its_own_table_and_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgemarl.marl.studies import price_of_decentralization as module

    calls = []

    def share(config: Any, num_devices_effective: float) -> dict[str, float]:
        calls.append(num_devices_effective)
        return {"num_devices_effective": num_devices_effective, "decentralized_excess": 0.0123 * num_devices_effective}

    monkeypatch.setattr(module, "price_of_decentralization", share)
    preset = preset_file(tmp_path, figures=[], controllers=["fixed_power"], calculations=[CALCULATION])
    for _ in range(2):
        _, table, _ = run("compare", "--preset", preset, "--out", str(tmp_path / "out"), capsys=capsys)
        assert "1.23%" in table
    assert calls == [1, 50]  # the second time they are taken from the folder
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["calculations"][0]["rows"][1]["decentralized_excess"] == pytest.approx(0.615)
    assert (tmp_path / "out" / "figures" / "calculation-1.png").is_file()
    assert "61.50%" in (tmp_path / "out" / "report.html").read_text()


def test_a_calculation_is_a_function_of_the_product(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for function in ("os:getcwd", "edgemarl.agents.sampling_rate.reference:nothing"):
        preset = preset_file(tmp_path, calculations=[{**CALCULATION, "function": function}])
        code, _, err = run("compare", "--preset", preset, "--out", str(tmp_path / "out"), capsys=capsys)
        assert code == 2
        assert "is not a function of agents or marl" in err


def test_gap_ends_at_a_reference_that_is_compared() -> None:
    """Without the scenario's best reference the gap ends at the one that was asked for."""
    preset = scenario_preset("sequential_offloading")
    for chosen, reference in ((["random", "vi"], "vi"), (["vi", "vi_priced"], "vi_priced"), (["random"], "vi_priced")):
        assert make_plan("x", preset, overrides={}, chosen=chosen).reference == reference


def test_files_that_a_preset_names_may_lie_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own" / "tables").mkdir(parents=True)
    (tmp_path / "own" / "tables" / "net.yaml").write_text("")
    text = {
        "title": "Own",
        "scenario": "model_partitioning",
        "controllers": ["random"],
        "set": {"profiles": "tables/net.yaml"},
    }
    (tmp_path / "own" / "mine.yaml").write_text(yaml.safe_dump(text))
    monkeypatch.chdir(tmp_path)
    assert load_preset("own/mine.yaml").set["profiles"] == str(Path("own/tables/net.yaml"))
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "net.yaml").write_text("")
    assert load_preset("own/mine.yaml").set["profiles"] == "tables/net.yaml", "the working folder's own comes first"
    (tmp_path / "own" / "rule.py").write_text("")
    fields = {"profiles": {"a": {"table": "a.csv"}}}
    (tmp_path / "own" / "a.csv").write_text("")
    text |= {"set": fields, "controllers": ["random", "rule.py:Rule", "none.py:Rule"]}
    (tmp_path / "own" / "mine.yaml").write_text(yaml.safe_dump(text))
    preset = load_preset("own/mine.yaml")
    assert preset.set == {"profiles": {"a": {"table": str(Path("own/a.csv"))}}}
    assert preset.controllers == ["random", f"{Path('own/rule.py')}:Rule", "none.py:Rule"]


def test_help_of_profile_shows_what_it_takes_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["profile", "--help"])
    shown = capsys.readouterr().out
    assert "FILE.py:NAME --input" in shown and "--energy-budget-j" in shown and "import" in shown
