"""BenchMARL trains, and its policies and checkpoints are controllers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("benchmarl.experiment", exc_type=ImportError)  # it lacks what it imports from newer TorchRLs

from actors import SCENARIO, acts_as_its_file
from sections import Section, costs

from edgemarl.agents import make_policy, policy_of


def test_a_policy_does_what_it_does_in_its_environment(section: Section) -> None:
    found = section("BenchMARL")
    acts_as_its_file(found["experiment"].policy, f"{found['folder']}/ippo.pt")


def test_a_checkpoint_of_an_experiment_is_a_policy(section: Section) -> None:
    found = section("BenchMARL")
    (checkpoint,) = found["folder"].glob("experiments/*/checkpoints/*.pt")
    of_file = make_policy(SCENARIO, str(checkpoint))
    of_object = policy_of(SCENARIO, found["experiment"].policy, "ippo")
    np.testing.assert_array_equal(costs(of_file, SCENARIO), costs(of_object, SCENARIO))
