"""What a storage holds as a local folder: a shared folder itself, or a copy of what is at an fsspec URL.

Loads neither PyTorch nor Ray: rules are played and kept in a storage without them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from edgemarl.marl.scratch import scratch


def is_url(storage: str | None) -> bool:
    """Whether a storage is an fsspec URL, else it is a folder."""
    return storage is not None and "://" in storage


@contextlib.contextmanager
def local_copy(where: str) -> Iterator[Path]:
    """A folder with what a storage holds; of a URL a copy in a temporary folder, whose new files are sent at the end.

    Raises:
        ValueError: a URL that cannot be used.
    """
    if not is_url(where):
        yield Path(where)
        return
    import fsspec

    with scratch() as folder:
        try:
            files, root = fsspec.core.url_to_fs(where)
            if files.exists(root):
                files.get(f"{root.rstrip('/')}/", f"{folder}/", recursive=True)
        except (ImportError, ValueError, OSError) as error:
            raise ValueError(f"storage {where} cannot be used: {error}") from error
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        try:
            yield folder
        finally:
            for path in sorted(folder.rglob("*")):
                new = path.is_file() and before.get(path) != path.stat().st_mtime_ns
                if new and not any(part.startswith(".") for part in path.relative_to(folder).parts):
                    target = f"{root.rstrip('/')}/{path.relative_to(folder).as_posix()}"
                    files.makedirs(os.path.dirname(target), exist_ok=True)
                    files.put_file(str(path), target)


def storage_path(storage: str | None, out: str) -> str:
    """Where a run is, for people."""
    return f"{storage.rstrip('/')}/{out}" if storage is not None else os.fspath(out)
