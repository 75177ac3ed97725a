"""How often 95% intervals of few networks cover the truth, and that a comparison says so."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgemarl.launch.report.cautions import FEW, cautions, sample_sentences
from edgemarl.marl import compare_controllers
from edgemarl.marl.evaluation.compare import mean_interval


def coverage(cells: int, trials: int = 300) -> float:
    rng, hits = np.random.default_rng(0), 0
    for trial in range(trials):
        interval = mean_interval(rng.normal(1.0, 0.3, cells), seed=trial, resamples=300)
        hits += interval.low <= 1.0 <= interval.high
    return hits / trials


@pytest.mark.parametrize(("cells", "covered"), [(2, 0.51), (FEW - 1, 0.78), (20, 0.92)])
def test_intervals_of_few_networks_cover_less_than_they_say(cells: int, covered: float) -> None:
    assert coverage(cells) == pytest.approx(covered, abs=0.07)


@pytest.mark.parametrize(("networks", "said"), [(1, False), (2, True), (4, True), (5, False)])
def test_a_comparison_of_few_networks_says_so(networks: int, said: bool) -> None:
    table = compare_controllers("sequential_offloading", ["random"], networks=networks, slots=4)
    assert [f"{networks} networks are few" in line for line in cautions(table)[:1]] == ([True] if said else [])


def test_few_training_seeds_are_said_and_one_or_many_are_not() -> None:

    table = compare_controllers("sequential_offloading", ["random"], networks=6, slots=4)
    for seeds, said in ((1, 0), (2, 1), (FEW, 0)):
        rows = [dataclasses.replace(table.rows[0], training_seeds=seeds)]
        assert len(sample_sentences(dataclasses.replace(table, rows=rows))) == said
