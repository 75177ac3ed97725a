"""A folder that holds several runs plays none of them until one is named; one that holds a single run plays it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgemarl.envs import make_scenario
from edgemarl.marl.training.trained import is_checkpoint, load_policy, named_run, policies_digest, saved_policies

CHECKPOINT = "learner_group/learner/rl_module"


def made(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(parents=True)


def run(path: Path) -> Path:
    """A run of ours, as far as names go."""
    made(path / "saves" / "00000010", path / "saves" / "00000010" / "checkpoint" / CHECKPOINT)
    return path


def test_several_runs_in_a_folder_are_named(tmp_path: Path) -> None:
    run(tmp_path / "b"), run(tmp_path / "deep" / "a")
    for use in (named_run, is_checkpoint, saved_policies, policies_digest):
        with pytest.raises(ValueError, match=r"holds runs b, deep/a: name one, such as .*b$"):
            use(tmp_path)
    with pytest.raises(ValueError, match="holds runs b, deep/a"):
        load_policy(tmp_path, make_scenario("sequential_offloading"))


def test_several_checkpoints_of_rllib_or_trials_in_a_folder_are_named(tmp_path: Path) -> None:
    made(tmp_path / "ppo" / CHECKPOINT, tmp_path / "sac" / CHECKPOINT)
    with pytest.raises(ValueError, match="holds runs ppo, sac"):
        is_checkpoint(tmp_path)
    trials = tmp_path / "tune"
    made(*(trials / trial / f"checkpoint_{i:06d}" / CHECKPOINT for trial in ("t1", "t2") for i in (0, 1)))
    with pytest.raises(ValueError, match="holds runs t1, t2"):
        is_checkpoint(trials)
    assert named_run(trials / "t1") == trials / "t1" and is_checkpoint(trials / "t1")


def test_many_runs_are_counted(tmp_path: Path) -> None:
    for i in range(9):
        run(tmp_path / f"r{i}")
    with pytest.raises(ValueError, match="holds runs r0, r1, r2, r3, r4, r5, and 3 more: name one"):
        named_run(tmp_path)


def test_a_single_run_in_a_folder_is_played_and_a_run_is_itself(tmp_path: Path) -> None:
    ours = run(tmp_path / "results" / "training" / "mine")
    assert named_run(tmp_path / "results") == named_run(ours) == ours and not is_checkpoint(tmp_path / "results")
    made(tmp_path / "other" / "checkpoint" / CHECKPOINT)
    assert named_run(tmp_path / "other") == tmp_path / "other" / "checkpoint" and is_checkpoint(tmp_path / "other")
    made(tmp_path / "empty" / "folder")
    assert named_run(tmp_path / "empty") == tmp_path / "empty" and not is_checkpoint(tmp_path / "empty")
