"""Runs in a storage: a mirrored run goes on elsewhere; a killed run leaves one checkpoint and its curve."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest

from edgemarl.marl.training.config import TrainConfig
from edgemarl.marl.training.folder import RunFolder
from edgemarl.marl.training.run import train
from edgemarl.marl.training.storage import ARCHIVE, stored_train
from edgemarl.marl.training.trained import load_policy

SMALL = {"device_action": "split", "num_devices": 3, "episode_blocks": 20}


def small(**values: Any) -> TrainConfig:
    settings = {"set": SMALL, "cells": 4, "slots": 10, "minibatch": 40, "epochs": 1, "lr_final": 1.0, "seed": 3}
    return TrainConfig(**{**settings, "agent_steps": 320, **values})


@pytest.fixture(scope="module")
def whole(local_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four iterations without a break."""
    path = tmp_path_factory.mktemp("whole")
    train(small(agent_steps=640), path)
    return path


def test_run_in_a_url_goes_on_on_another_machine(whole: Path) -> None:
    """The second half starts from nothing but the URL, and equals the run without a break."""
    storage = "memory://runs/deep"
    first = stored_train(small(), "a", storage)
    shutil.rmtree(first.path)  # the machine is gone
    second = stored_train(small(agent_steps=640), "a", storage)
    pd.testing.assert_series_equal(second.curve["cost"], RunFolder(whole).curve()["cost"])
    files = fsspec.filesystem("memory")
    assert {path.rsplit("/", 1)[1] for path in files.ls("/runs/deep/a", detail=False)} == {
        "config.json", "curve.parquet", "policy", "signature", "manifest.json", ARCHIVE,
    }  # fmt: skip
    with files.open("/runs/deep/a/curve.parquet") as file:
        assert pd.read_parquet(file)["iteration"].tolist() == [1, 2, 3, 4]
    assert load_policy(second.path, small().make_scenario()).name
    shutil.rmtree(second.path)


def test_fresh_run_replaces_the_one_in_the_storage(local_cluster: None, tmp_path: Path) -> None:
    storage = tmp_path.as_uri()
    for expected in (1, 2):
        result = stored_train(small(agent_steps=160 * expected), "b", storage, resume=False)
        assert result.curve["iteration"].tolist() == list(range(1, expected + 1))
        shutil.rmtree(result.path)
    assert pd.read_parquet(tmp_path / "b" / "curve.parquet")["iteration"].tolist() == [1, 2]


def test_storage_that_cannot_be_used_is_named() -> None:
    with pytest.raises(ValueError, match=r"storage nosuch://x/a cannot be used: .*nosuch"):
        stored_train(small(), "a", "nosuch://x")
