"""A save is there whole or not at all, at every moment at which a run may be killed; whatever is damaged is noticed."""

from __future__ import annotations

import io
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage import flip_bit

from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.policy import TrainedPolicy
from edgemarl.agents.trained.spec import network_spec
from edgemarl.envs import files
from edgemarl.envs.registry import make_scenario
from edgemarl.launch.experiment.store import Part, Store
from edgemarl.marl import trust
from edgemarl.marl.training import saves
from edgemarl.marl.training.saves import (
    MANIFEST,
    DamagedError,
    Save,
    commit,
    from_newest,
    last_good,
    save_folders,
    set_damaged_aside,
)

CONFIG = {"algorithm": "ppo"}


def write_files(number: int) -> Callable[[Path], None]:
    """Three files whose content says which save they are of."""

    def write(folder: Path) -> None:
        for name in ("checkpoint/state.pkl", "curve.parquet", "policy/device.pt"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(f"{name} of save {number}")

    return write


def make(run: Path, number: int, problem: str = "") -> Save:
    about = {"iteration": number, "agent_steps": 10 * number, "time_s": 1.0, "config": CONFIG, "problem": problem}
    return commit(run, about, write_files(number))


def content(save: Save) -> set[str]:
    """The numbers of the saves that a save's files are of, all checked."""
    save.check()
    return {save.read(name).decode().rsplit(" ", 1)[1] for name in save.manifest["files"]}


CALLS = ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir", "open")
"""What a process does to the disk: it is killed before the n-th of them."""


def killed_before(n: int, do: Callable[[], None]) -> bool:
    """Do it in a process that dies without any clean-up before its n-th call; whether it died."""
    process = os.fork()
    if process == 0:
        count = 0

        def dying(call: Callable[..., object]) -> Callable[..., object]:
            def counted(*args: object, **kwargs: object) -> object:
                nonlocal count
                count += 1
                if count == n:
                    os._exit(9)
                return call(*args, **kwargs)

            return counted

        for name in CALLS:
            setattr(os, name, dying(getattr(os, name)))
        do()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9


def test_a_kill_at_any_moment_leaves_the_save_before_or_the_new_one(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    trust.signature(b"")  # the key is there
    for n in range(1, 200, 1 if request.config.getoption("markexpr") == "soak" else 7):
        run = tmp_path / str(n)
        for number in (1, 2):
            make(run, number)
        died = killed_before(n, lambda run=run: make(run, 3))  # type: ignore[misc]
        found = from_newest(run, content)
        assert found in ({"2"}, {"3"}), f"killed before call {n}"
        files.remove_temporaries(run / "saves")  # what the next command does when it has the lock
        assert content(make(run, 4)) == {"4"}
        assert from_newest(run, content) == {"4"}
        assert not [path for path in (run / "saves").iterdir() if path.name.startswith(files.PREFIX)]
        if not died:
            break
    assert not died
    assert n > 40  # so many moments


@pytest.mark.parametrize("name", ["checkpoint/state.pkl", "curve.parquet", "policy/device.pt", MANIFEST])
def test_a_file_that_is_missing_or_changed_is_named_and_the_save_before_is_used(name: str, tmp_path: Path) -> None:
    def damage_newest() -> None:
        file = save_folders(run)[0] / name
        flip_bit(file, rng)

    rng = random.Random(0)
    for how in ("removed", "flipped", "cut"):
        run = tmp_path / how
        for number in (1, 2):
            make(run, number)
        file = save_folders(run)[0] / name
        if how == "removed":
            file.unlink()
        elif how == "flipped":
            damage_newest()
        else:
            file.write_bytes(file.read_bytes()[:-1])
        assert from_newest(run, content) == {"1"}
        shutil.rmtree(save_folders(run)[1])
        with pytest.raises(DamagedError, match=f"no save that is whole.*{name}"):
            from_newest(run, content)


def test_a_file_that_was_put_into_a_save_is_noticed(tmp_path: Path) -> None:
    save = make(tmp_path, 1)
    (save.path / "checkpoint" / "other.pkl").write_bytes(b"")
    with pytest.raises(DamagedError, match=r"other\.pkl is no file of this save"):
        save.check()


def test_damaged_saves_are_set_aside_and_go_with_the_next_one(tmp_path: Path) -> None:
    for number in (1, 2):
        make(tmp_path, number)
    (save_folders(tmp_path)[0] / "curve.parquet").unlink()
    used = Save.open(save_folders(tmp_path)[1])
    set_damaged_aside(tmp_path, used)
    assert [path.name for path in save_folders(tmp_path)] == ["00000001"]
    make(tmp_path, 2)
    assert sorted(path.name for path in (tmp_path / "saves").iterdir()) == ["00000001", "00000002"]


def test_the_last_good_save_outlives_those_of_a_training_that_went_wrong(tmp_path: Path) -> None:
    for number, problem in enumerate(["", "", "loss = inf", "loss = inf", "loss = inf"], start=1):
        make(tmp_path, number, problem)
    assert [path.name for path in save_folders(tmp_path)] == ["00000005", "00000004", "00000002"]
    good = last_good(tmp_path)
    assert good is not None
    assert good.manifest["iteration"] == 2


def test_files_and_folders_are_on_the_disk_before_they_are_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As databases do: the files, then their folders, then the rename, then the folder that holds the name."""
    done: list[tuple[str, str]] = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def synced(descriptor: int) -> None:
        done.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    for name, real in (("rename", rename), ("replace", replace)):
        monkeypatch.setattr(os, name, lambda a, b, real=real: (done.append(("rename", str(a))), real(a, b)))  # type: ignore[misc]
    path = make(tmp_path, 1).path
    at = next(i for i, (what, _) in enumerate(done) if what == "rename")
    temporary = done[at][1]
    before = {file for what, file in done[:at] if what == "fsync"}
    written = {str(Path(temporary) / file.relative_to(path)) for file in [path, *path.rglob("*")]}
    assert before >= written
    assert ("fsync", str(path.parent)) in done[at:]
    done.clear()
    Store(tmp_path / "results").write(tmp_path / "results" / "parts" / "a.part", part(), "mark")
    (what, name), (then, moved), (last, folder) = done
    assert (what, then, last) == ("fsync", "rename", "fsync")
    assert (name, folder) == (moved, str(tmp_path / "results" / "parts"))


def part() -> Part:
    return Part({"cost": np.arange(3.0)}, np.ones((3, 4)), {"controller": "a"})


def policy() -> TrainedPolicy:
    role = make_scenario("sequential_offloading").roles["device"]
    torch.manual_seed(0)
    spec = network_spec(role.observation_space.shape[0], role.action_space)
    return TrainedPolicy(PolicyNetwork(spec), "sequential_offloading", "device", {"train": {}})


def test_one_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(1)
    whole = policy().to_bytes()
    assert TrainedPolicy.from_bytes(whole, "a.pt").role == "device"
    for _ in range(40):
        damaged = flip_bit(io.BytesIO(whole), rng)
        with pytest.raises(ValueError, match=r"a\.pt"):
            TrainedPolicy.from_bytes(damaged, "a.pt")
    store, file = Store(tmp_path), tmp_path / "parts" / "a.part"
    for _ in range(40):
        store.write(file, part(), "mark")
        assert store.read(file, "mark") is not None
        flip_bit(file, rng)
        assert store.read(file, "mark") is None
    assert "a.part is damaged: it is computed again" in caplog.text


def test_only_what_this_user_made_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = make(tmp_path, 1)
    assert save.trusted
    monkeypatch.setenv(trust.KEY, "the key of somebody else ............")
    assert not save.trusted
    monkeypatch.setenv(trust.KEY, "short")
    with pytest.raises(ValueError, match=r"EDGEMARL_KEY has 5 characters, must have at least 32"):
        _ = save.trusted


def test_a_save_that_a_run_removes_meanwhile_is_never_taken_for_somebody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone after it was opened, it stays trusted; gone while it is opened, it is one that cannot be read."""
    save = make(tmp_path, 1)
    files.remove_folder(save.path)
    assert save.trusted
    second, whole = make(tmp_path, 2), saves.verified_manifest

    def removed(content: bytes, file: Path) -> Any:
        files.remove_folder(second.path)
        return whole(content, file)

    monkeypatch.setattr(saves, "verified_manifest", removed)
    with pytest.raises(DamagedError, match="was removed while it was read"):
        Save.open(second.path)


def test_the_key_is_made_once_and_is_nobody_elses_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(trust.KEY, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    first = trust.signature(b"a")
    file = tmp_path / "edgemarl" / "key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["key"]
    assert trust.signature(b"a") == first
    assert trust.is_signed(b"a", first)
    assert not trust.is_signed(b"b", first)
    monkeypatch.setenv(trust.KEY, trust.shared_key())
    assert trust.signature(b"a") == first
    monkeypatch.delenv(trust.KEY)
    file.chmod(0o644)
    with pytest.raises(ValueError, match="can be read by others"):
        trust.signature(b"a")


def test_settings_that_name_code_are_found_wherever_they_are() -> None:
    settings = {"algorithm": "x.py:A", "fixed": {"server": "device=a+server=os:system"}, "trace": "a:b", "hidden": [64]}
    assert trust.code_named(settings) == ["x.py:A", "os:system"]
    assert trust.code_named({"algorithm": "ppo", "fixed": {"server": "vi"}, "settings": {"imitate": {}}}) == []
