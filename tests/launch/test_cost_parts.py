"""The cost's parts add up to it in every scenario; tables and figures show them; names and gaps stay readable."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemarl.agents.playbook import Bound
from edgemarl.agents.registry import make_policy
from edgemarl.envs.registry import make_scenario, scenario_names
from edgemarl.launch.experiment.place import default_folder
from edgemarl.launch.report.cautions import growth_sentences, reference_sentences
from edgemarl.launch.report.figures import draw_cost_parts
from edgemarl.launch.report.names import elided, short_names
from edgemarl.launch.report.parts import COLOURS, HATCHES, parts_table, terms
from edgemarl.launch.report.tables import _columns, _fitting, cells, gap_cell, gap_sentence
from edgemarl.marl.evaluation.compare import Comparison, Interval, Outcome, compare
from edgemarl.marl.evaluation.growth import growth_of
from edgemarl.marl.evaluation.rollout import rollout

WEIGHTS: dict[str, dict[str, tuple[float, float]]] = {
    "sequential_offloading": {
        "device_queue_weight": (1e-9, 1e-8), "server_queue_weight": (1e-9, 1e-8), "device_energy_weight": (0.1, 90.0),
        "server_energy_weight": (0.01, 9.0), "drop_cost_per_task": (1.0, 90.0), "device_queue_tasks_max": (1.0, 5.0),
        "server_queue_tasks_per_device_max": (0.05, 1.0),
    },
    "sampling_rate": {"overflow_penalty_s": (0.1, 9.0), "device_queue_limit_bits": (1e4, 1e6)},
    "model_partitioning": {"delay_weight": (1.0, 99.0)},
    "model_pruning": {"drop_penalty": (1.0, 200.0), "utilisation_weight": (0.1, 5.0), "delay_weight": (0.0, 5.0)},
    "model_placement": {},
}  # fmt: skip
"""Fields that weigh a term, or make one that is 0 in the default network."""


@pytest.mark.parametrize("name", scenario_names())
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_the_parts_add_up_to_the_cost(name: str, data: st.DataObject) -> None:
    """Whatever the weights, the controller and the draw, slot by slot and over an episode."""
    fields = {field: data.draw(st.floats(*ends), field) for field, ends in WEIGHTS.get(name, {}).items()}
    scenario = make_scenario(name, **fields)
    controller = data.draw(st.sampled_from(["random", "uniform"]), "controller")
    seed = data.draw(st.integers(0, 2**32 - 1), "seed")
    trace = scenario.sample_trace(np.random.default_rng(seed), 3, 8)
    result = rollout(make_policy(scenario, controller), scenario, trace, np.random.default_rng(seed), window_slots=1)
    for means in (result.means, result.windows):
        found = scenario.cost_parts(means)
        if found:
            total, size = sum(found.values()), sum(abs(v) for v in found.values())
            assert np.abs(total - means[scenario.cost_metric]).max() <= 1e-9 * np.max(size)
        else:
            assert name == "model_placement"  # one term: the accuracy
    assert len(found) <= len(COLOURS) == len(HATCHES)


def test_every_weighted_term_occurs() -> None:
    """No part is 0 in every network: a term that is left out would pass the sum above only if it never occurred."""
    fields = {"device_queue_tasks_max": 1.0, "server_queue_tasks_per_device_max": 0.05}
    scenario = make_scenario("sequential_offloading", **fields)
    trace = scenario.sample_trace(np.random.default_rng(0), 2, 40)
    means = rollout(make_policy(scenario, "random"), scenario, trace, np.random.default_rng(0)).means
    assert min(float(v.min()) for v in scenario.cost_parts(means).values()) > 0.0


def table_of(costs: dict[str, float], bound: float | None = None, **columns: float) -> Any:
    """A point's result: controllers and their costs on four networks, which `vi` and `random` bound."""
    metrics = {f"m{i}": value for i, value in enumerate(columns.values())}
    scenario: Any = SimpleNamespace(
        name="s", cost_metric="cost", cost_divisor=2.0, cost_label="cost per device",
        summary_metrics={label: (f"m{i}",) for i, label in enumerate(columns)}, backlog_metrics={"queue [task]": "q"},
        signalling=lambda: SimpleNamespace(centralized_bytes=8.0, decentralized_bytes=4.0),
        cost_parts=lambda means: {"a": 0.75 * means["cost"], "never": 0.0 * means["cost"], "b": 0.25 * means["cost"]},
    )  # fmt: skip
    noise = np.array([0.9, 1.0, 1.0, 1.1])
    outcomes = [
        Outcome(
            name, "baseline", "local",
            {"cost": cost * noise, "q": noise, **{m: v * noise for m, v in metrics.items()}},
            growth={"q": (cost > 20) * noise}, slots=100,
        )
        for name, cost in costs.items()
    ]  # fmt: skip
    limit = None if bound is None else Bound(np.full(4, bound), True, "every controller")
    comparison = compare(scenario, outcomes, baseline="random", reference="vi", bound=limit, resamples=100)
    return SimpleNamespace(comparison=comparison, point=SimpleNamespace(label="", scenario=scenario))


def test_parts_are_divided_as_the_cost_is() -> None:
    result = table_of({"random": 10.0, "vi": 8.0})
    assert terms(result) == ["a", "b"]
    table = parts_table(result)
    assert table is not None
    for row in table["rows"]:
        *parts, total = [key for _, key in row["cells"][1:]]
        assert sum(parts) == pytest.approx(total)
    assert result.comparison.as_dict()["rows"][0]["parts"] == {"a": 3.75, "never": 0.0, "b": 1.25}


def test_bars_add_up_and_a_long_one_is_cut() -> None:
    """What a bar is stacked from ends at the cost; one that dwarfs the others ends outside, with its number."""
    costs = {"random": 10.0, "awful": 300.0, "vi": 8.0, "other": 9.0}
    figure, caption = draw_cost_parts([table_of(costs)])
    (axes,) = figure.axes
    ends: dict[float, float] = {}
    for bar in axes.patches:
        ends[bar.get_y()] = max(ends.get(bar.get_y(), 0.0), bar.get_x() + bar.get_width())
    assert sorted(ends.values()) == pytest.approx(sorted(cost / 2.0 for cost in costs.values()))
    assert axes.get_xlim()[1] < 150.0 and [text.get_text() for text in axes.texts] == ["150 →"]
    assert "made of, each part at its weight: a, b." in caption and "cut" in caption
    assert not draw_cost_parts([table_of({"random": 10.0, "vi": 8.0})])[0].axes[0].texts


def test_a_gap_far_below_zero_is_explained() -> None:
    comparison: Comparison = table_of(
        {"random": 10.0, "poor": 11.0, "awful": 30.0, "vi": 8.0, "better": 7.0}
    ).comparison
    shares = {row.controller: gap_cell(row.gap_closed) for row in comparison.rows}
    assert shares["awful"] == "<-100%" and shares["poor"].startswith("-50.0%") and shares["vi"] == "100.0%"
    assert comparison.row("awful").gap_closed.value == pytest.approx(-10.0)  # type: ignore[union-attr]
    assert gap_sentence(comparison) == (
        "Gap closed: from `random` (0%) to `vi` (100%); above 100%: costs less than `vi`; below 0%: costs more than "
        "`random`; <-100%: more by over the whole gap."
    )
    assert [cells(row, comparison)[3][0] for row in comparison.rows][2] == "<-100%"
    assert gap_sentence(table_of({"random": 10.0, "vi": 8.0}).comparison) == (
        "Gap closed: from `random` (0%) to `vi` (100%)."
    )
    assert gap_sentence(table_of({"vi": 8.0}).comparison) == ""
    assert gap_cell(None) == "-"
    assert gap_cell(Interval(-1.0, -1.2, -0.8)) == "-100.0% [-120.0, -80.0]"


def test_a_reference_that_is_none_is_said() -> None:
    """Where it is far above the bound, or clearly beaten; not where it is level with the best."""
    assert reference_sentences(table_of({"random": 10.0, "vi": 8.0, "level": 7.97}).comparison) == []
    assert reference_sentences(table_of({"random": 10.0}).comparison) == []
    beaten = {"random": 10.0, "vi": 8.0, "good": 7.6, "better": 7.2}
    assert reference_sentences(table_of(beaten).comparison) == [
        "`vi` is not shown to be near the optimum here: `better` costs 10.0% less than it (and 1 more is below it)."
    ]
    near, far = table_of({"random": 10.0, "vi": 8.0}, bound=7.0), table_of({"random": 10.0, "vi": 8.0}, bound=4.0)
    assert reference_sentences(near.comparison) == []
    assert reference_sentences(far.comparison) == [
        "`vi` is not shown to be near the optimum here: it costs 100.0% [85.0, 110.0] more than the lower bound."
    ]


def test_a_growing_backlog_is_said() -> None:
    (said,) = growth_sentences(table_of({"random": 10.0, "poor": 21.0, "awful": 30.0}).comparison)
    assert said == (
        "Not stationary: the backlog 'queue' still grew in the second half of the run, by 1.00 task per slot under "
        "`poor` and by 1.00 under `awful`. Their costs depend on how many slots are played."
    )
    assert growth_of("q", np.zeros((1, 4)), np.ones((1, 4)), 100).per_slot == 0.0


def test_a_terminal_of_120_columns_shows_the_table() -> None:
    long = {f"a_controller_of_a_long_name_{i}_and_more": 9.0 for i in range(3)}
    few = table_of({"random": 10.0, "vi": 8.0, **long}, **{f"measured thing {i} [J/block]": 1.0 for i in range(12)})
    shown, left = _fitting(_columns(few.comparison.rows, few.comparison))
    assert sum(column.width + 2 for column in shown) <= 120
    assert [c.name for c in shown[:2]] == ["controller", "information"] and "measured thing 0" in [
        c.name for c in shown
    ]
    assert "measured thing 11" in left and "gap closed" not in left
    none = table_of({"random": 10.0, "vi": 8.0}, dropped=0.0, queue=1.0)
    assert "dropped" not in [c.name for c in _columns(none.comparison.rows, none.comparison)]


@given(st.lists(st.text("ab_", min_size=1, max_size=60), unique=True, min_size=1, max_size=12), st.integers(5, 40))
def test_short_names_stay_distinct(names: list[str], width: int) -> None:
    found = short_names(names, width)
    assert len(set(found.values())) == len(names)
    assert all(short == name for name, short in found.items() if len(name) <= width)


def test_a_long_name_keeps_both_ends() -> None:
    assert elided("runs/of_a_long_name/ppo_seed_7", 20) == "runs/of_…/ppo_seed_7"
    short = short_names(["x" * 30 + "_seed_1", "x" * 30 + "_seed_2"])
    assert [s[-7:] for s in short.values()] == ["_seed_1", "_seed_2"] and max(map(len, short.values())) == 28
    inside = short_names(["a" * 40 + "1" + "b" * 40, "a" * 40 + "2" + "b" * 40])
    assert len(set(inside.values())) == 2


@pytest.mark.parametrize(
    ("named", "folder"),
    [
        ("quick", "results/quick"), ("sequential_offloading/fig6", "results/sequential_offloading/fig6"),
        ("tiny.yaml", "results/tiny"), ("/somewhere/else/tiny.yml", "results/tiny"), ("../up.yaml", "results/up"),
        ("/abs/net.py:Corridor", "results/net-Corridor"), ("mine.net:Corridor", "results/mine.net-Corridor"),
        ("a/b.py:nested.Class", "results/b-nested.Class"),
    ],
)  # fmt: skip
def test_results_lie_below_the_working_folder(named: str, folder: str) -> None:
    assert default_folder(named).as_posix() == folder
