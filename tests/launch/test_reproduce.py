"""`reproduce`: which experiments a figure is, the short form, going on, trainings that figures share."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgemarl.launch.cli import main
from edgemarl.launch.commands import reproduce as command
from edgemarl.launch.commands.reproduce import ReproduceOptions, figures_of, plans_of
from edgemarl.launch.experiment.plan import Preset, Sweep, load_preset, make_plan, preset_names
from edgemarl.launch.experiment.quick import NETWORKS, POINTS, ends_and_middle, quick_preset
from edgemarl.launch.experiment.run import Experiment
from edgemarl.launch.recipes import resolved


def test_a_figure_is_a_preset_or_all_of_its_parts() -> None:
    assert figures_of("model_placement", ["fig5a"]) == ["fig5a"]
    assert figures_of("model_placement", ["fig5"]) == ["fig5a", "fig5b", "fig5c"]
    assert figures_of("model_placement", ["fig5b", "fig5", "learned_team"]) == [
        "fig5b", "fig5a", "fig5c", "learned_team",
    ]  # fmt: skip
    assert figures_of("model_pruning", ["fig10"]) == ["fig10"]
    assert figures_of("sampling_rate", ["fig7"]) == ["fig7"]  # not fig7_fixed, which is named itself
    assert set(figures_of("sampling_rate", [])) == {
        name.partition("/")[2] for name in preset_names() if name.startswith("sampling_rate/")
    }


def test_alone_it_lists_scenarios_and_figures(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["reproduce"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert "model_placement" in shown and "fig5a, fig5b" in shown and "learned_team" in shown


@pytest.mark.parametrize("figure", ["fig1", "fig99", "fig", "", "5a", "fig5.", "../quick"])
def test_an_unknown_figure_gets_one_line_that_lists_the_known_ones(
    figure: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", "model_placement", figure, "--out", str(tmp_path / "out")])
    told = capsys.readouterr().err.strip()
    assert ended.value.code == 2
    assert len(told.splitlines()) == 1
    assert "unknown figure" in told and "fig5a, fig5b" in told and "learned_team" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [name for name in preset_names() if "/" in name])
def test_the_short_form_of_every_preset_is_legal_and_smaller(name: str) -> None:
    preset = load_preset(name)
    short = quick_preset(preset)
    plan = make_plan(name, short, overrides={})
    assert "short form" in short.title and "SHORT FORM" in short.description
    assert short.networks <= NETWORKS and len(plan.points) <= POINTS
    whole_slots = make_plan(name, preset, overrides={}).slots
    assert short.slots is not None and short.warmup < short.slots <= whole_slots
    for learner, entry in short.learned.items():
        whole = resolved(preset.scenario, preset.learned[learner].train)
        assert entry.training_seeds == 1
        assert entry.train["agent_steps"] <= max(1, whole.get("agent_steps", 500_000) // 10 + 1)
        if whole.get("algorithm") in ("ddpg", "td3"):  # no larger part of the budget is random than in the whole run
            assert entry.train["random_steps"] == whole.get("random_steps", 1000) // 10


def test_ends_and_middle() -> None:
    assert [ends_and_middle(n) for n in (1, 2, 3, 4, 7)] == [[0], [0, 1], [0, 1, 2], [0, 1, 3], [0, 3, 6]]


def test_figures_whose_points_are_one_network_share_their_training(tmp_path: Path) -> None:
    """The default network is a point of every sweep of model_placement."""
    folders: list[set[Path]] = []
    for figure, plan in plans_of(ReproduceOptions("model_placement", ["fig5", "fig7"])).items():
        experiment = Experiment(plan, tmp_path / figure, runs=tmp_path / "runs")
        jobs = [job for jobs in experiment.jobs_at.values() for job in jobs if job.name == "td3"]
        assert len(jobs) == 3 * 3
        folders.append({job.run for job in jobs if job.run is not None})
    shared = set.intersection(*folders)
    assert len(shared) == 3 and all(run.parent == tmp_path / "runs" for run in shared)
    assert len(set.union(*folders)) == 3 * (1 + 2 * 5)


def test_a_learner_is_trained_where_its_preset_says(tmp_path: Path) -> None:
    plan = make_plan("fig4", load_preset("sampling_rate/fig4"), overrides={})
    experiment = Experiment(plan, tmp_path)
    trained = [point.value for point in plan.points if any(j.name == "ddpg" for j in experiment.jobs_at[point.label])]
    assert trained == [0.6, 0.8, 1.0]
    single = make_plan("fig4", load_preset("sampling_rate/fig4"), overrides={"arrival_mean": "0.7"})
    assert any(job.name == "ddpg" for job in Experiment(single, tmp_path).jobs_at[""])
    file = tmp_path / "mine.yaml"
    file.write_text(
        "title: t\nscenario: sampling_rate\nsweep: {field: arrival_mean, values: [0.6, 0.7]}\ncontrollers: [random]\n"
        "learned: {a: {at: [0.7]}}\n"
    )
    with pytest.raises(ValueError, match=r"at: \[0.7\] must be values of the sweep, its first one first"):
        load_preset(str(file))


def test_every_learner_of_a_figure_gets_the_training_seeds_that_are_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    learned = plans_of(ReproduceOptions("model_placement", ["fig5a"], training_seeds=2))["fig5a"].preset.learned
    assert len(learned) == 2 and {of.training_seeds for of in learned.values()} == {2}
    own = plans_of(ReproduceOptions("model_placement", ["fig5a"]))["fig5a"].preset.learned
    assert {of.training_seeds for of in own.values()} == {3}
    for wrong in ("0", "-1", "1.5", "x", "10000000"):
        with pytest.raises(SystemExit) as ended:
            main(["reproduce", "model_placement", "fig5a", "--training-seeds", wrong, "--out", str(tmp_path / "out")])
        told = capsys.readouterr().err
        assert ended.value.code == 2 and "training-seeds" in told
    assert not (tmp_path / "out").exists()


def test_the_same_command_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = Preset(
        title="small", scenario="sampling_rate", controllers=["random", "delay_myopic"], networks=2, slots=8, window=2,
        sweep=Sweep(field="arrival_mean", values=[0.6, 0.8]), figures=[],
    )  # fmt: skip
    monkeypatch.setattr(command, "load_preset", lambda name: small)
    options = ReproduceOptions("sampling_rate", ["fig4"], networks=2)
    command.reproduce(options, tmp_path, "edgemarl reproduce sampling_rate fig4")
    first = capsys.readouterr().out
    assert "finished results" not in first
    assert (tmp_path / "sampling_rate" / "fig4" / "report.html").is_file()
    command.reproduce(options, tmp_path, "edgemarl reproduce sampling_rate fig4")
    assert "4 finished results" in capsys.readouterr().out
    command.reproduce(ReproduceOptions("sampling_rate", ["fig4"], quick=True), tmp_path, "edgemarl reproduce ..")
    told = capsys.readouterr().out
    assert "short form (--quick)" in told and "finished results" not in told
    assert (tmp_path / "sampling_rate" / "quick" / "fig4" / "report.html").is_file()
