"""An archive of a run may come from anywhere: whatever would write elsewhere than below its folder is refused."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgemarl.marl.training import archive
from edgemarl.marl.training.archive import pack, unpack


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"x") -> Callable[..., None]:
    def add(packed: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        info.size = len(content) if kind == tarfile.REGTYPE else 0
        packed.addfile(info, io.BytesIO(content))

    return add


ATTACKS: dict[str, list[Callable[..., None]]] = {
    "absolute": [member("/tmp/edgemarl-test-evil")],
    "upwards": [member("saves/../../evil")],
    "symbolic link": [member("saves", tarfile.SYMTYPE, "/tmp"), member("saves/evil")],
    "hard link": [member("a", tarfile.LNKTYPE, "/etc/passwd")],
    "link through links (CVE-2025-4517)": [
        member("d/" * 60 + "a", tarfile.SYMTYPE, "../" * 80), member("d/" * 60 + "a/evil"),
    ],
    "device": [member("zero", tarfile.CHRTYPE)],
    "pipe": [member("pipe", tarfile.FIFOTYPE)],
    "twice": [member("config.json"), member("config.json")],
    "backslash": [member("..\\evil")],
    "empty": [member(".")],
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_archive_that_would_write_elsewhere_is_refused(attack: str, tmp_path: Path) -> None:
    file, folder = tmp_path / "run.tar", tmp_path / "inner" / "run"
    folder.mkdir(parents=True)
    with tarfile.open(file, "w") as packed:
        for add in ATTACKS[attack]:
            add(packed)
    with pytest.raises(ValueError, match=r"run\.tar is not"):
        unpack(file, folder, "run.tar")
    assert {path.name for path in tmp_path.rglob("*")} <= {"run.tar", "inner", "run", "config.json"}
    assert not Path("/tmp/edgemarl-test-evil").exists()


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MEMBERS_MAX", 3)
    monkeypatch.setattr(archive, "BYTES_MAX", 20_000)
    for names, content, message in (
        (range(4), b"", "more than 3 files"),
        (range(1), b"0" * 30_000, "more than 20000 B"),
    ):
        file = tmp_path / f"{len(names)}.tar"
        with tarfile.open(file, "w") as packed:
            for name in names:
                member(str(name), content=content)(packed)
        with pytest.raises(ValueError, match=message):
            unpack(file, tmp_path / "run", "run.tar")


def test_compressed_and_cut_archives_are_refused(tmp_path: Path) -> None:
    for mode, name in (("w:gz", "packed"), ("w", "cut")):
        with tarfile.open(tmp_path / name, mode) as packed:  # type: ignore[call-overload]
            member("config.json", content=b"0" * 5000)(packed)
    cut = tmp_path / "cut"
    cut.write_bytes(cut.read_bytes()[:3000])
    for name in ("packed", "cut"):
        with pytest.raises(ValueError, match="is not a whole tar archive"):
            unpack(tmp_path / name, tmp_path / f"{name}-run", name)


def test_what_is_packed_comes_out_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "saves" / "1").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (run / "saves" / "1" / "curve").write_bytes(bytes(range(256)) * 100)
    (run / "saves" / "1" / ".tmp-other").touch()
    pack(run, ["config.json", "saves/1"], tmp_path / "run.tar")
    (tmp_path / "other").mkdir()
    unpack(tmp_path / "run.tar", tmp_path / "other", "run.tar")
    found = {p.relative_to(tmp_path / "other").as_posix(): p for p in (tmp_path / "other").rglob("*") if p.is_file()}
    assert set(found) == {"config.json", "saves/1/curve"}
    assert found["saves/1/curve"].read_bytes() == bytes(range(256)) * 100
