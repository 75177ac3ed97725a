"""Tables as spreadsheets, data-frame libraries and instruments write them: one frame of plain columns for each.

What a file is follows from its first bytes, not from its name: Parquet, Feather, or text, plain or compressed (gzip,
Zstandard, bzip2, xz, LZ4). Text may have any of `, ; | tab` or spaces between columns, decimal commas, a byte order
mark, UTF-16, comment lines and quotes. A folder is read as one table whose parts are files and whose `name=value`
folders are columns, as partitioned data sets are written. Anything else, such as a workbook, is refused with
what to do.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemarl.marl.evaluation.text_tables import TextForm, read_text

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

ABOUT = b"edgemarl"
"""Key of what a Parquet file says of itself; a text file says it in a first line `# edgemarl {..}`."""
TEXT_BYTES_MAX = 2**30
"""Text, unpacked, that is read at most."""
ENTRIES_MAX = 2**28
"""Rows times columns that are read at most (2 GiB as numbers)."""
SCENARIO_CHARACTERS_MAX = 200
FILES_MAX = 10_000
"""Files of a folder that are read at most."""

FOREIGN = (
    (b"PK\x03\x04", "a workbook or a zip archive", "save the sheet as CSV, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as CSV"),
    (b"\x89HDF", "an HDF5 file", "write the table with pandas' to_parquet or to_csv"),
    (b"\x80\x04", "a pickle, which may run code", "write the table with pandas' to_parquet or to_csv"),
    (b"\x80\x05", "a pickle, which may run code", "write the table with pandas' to_parquet or to_csv"),
    (b"\x93NUMPY", "a NumPy array without column names", "write it with pandas' to_parquet, one column per quantity"),
    (b"SQLite format 3", "a database", "export the table as CSV"),
    (b"MATLAB 5.0", "a MATLAB file", "write the table with writetable(.., 'FILE.csv')"),
)
"""First bytes of what is not read, what it is, what to do."""
JSON = re.compile(rb"\s*(\{\s*[\"}]|\[\s*[\[{\"\d-])")


@dataclasses.dataclass(frozen=True)
class TableFile:
    """A table from a file.

    Attributes:
        frame: its columns as NumPy arrays; text where a column holds text.
        about: what the file says of itself (empty for a foreign file).
        notes: how it was read, where that was not obvious.
        headed: the columns have names of their own; else they are called "1", "2", ..
    """

    frame: pd.DataFrame
    about: dict[str, Any]
    notes: tuple[str, ...] = ()
    headed: bool = True


def read_table(path: str | Path, form: TextForm | None = None) -> TableFile:
    """Read a file, or all files of a folder.

    Args:
        path: a file or a folder.
        form: what is known of a text file beforehand.

    Raises:
        ValueError: nothing there, not a table, too large, a table of something else than numbers, texts and stamps.
    """
    import pandas as pd

    path, form = Path(path), form or TextForm()
    if not path.is_dir():
        return _read_file(path, form)
    parts: list[TableFile] = []
    files = folder_files(path)
    for file in files:
        part = _read_file(file, form)
        frame = part.frame.assign(**_partition_columns(file.relative_to(path)))
        if parts and set(frame.columns) != set(parts[0].frame.columns):
            raise ValueError(f"{path}: {file.name} and {files[0].name} have different columns")
        parts.append(dataclasses.replace(part, frame=frame))
    whole = pd.concat([part.frame for part in parts], ignore_index=True)
    return dataclasses.replace(parts[0], frame=whole, notes=(f"{len(files)} files", *parts[0].notes))


def folder_files(path: Path) -> list[Path]:
    """The files of a data set's folder, in order; hidden ones and those that begin with `_` hold no rows."""
    hidden = (".", "_")
    files = [f for f in sorted(path.rglob("*")) if f.is_file() and not f.relative_to(path).name.startswith(hidden)]
    if not files:
        raise ValueError(f"folder {path} holds no table")
    if len(files) > FILES_MAX:
        raise ValueError(f"folder {path} holds {len(files)} files; at most {FILES_MAX} are read")
    return files


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file, or of all files of a folder."""
    path, total = Path(path), hashlib.sha256()
    try:
        for file in folder_files(path) if path.is_dir() else [path]:
            total.update(file.read_bytes())
    except OSError as error:
        raise ValueError(f"table {path} cannot be read: {error.strerror or error}") from None
    return total.hexdigest()


def read_about(path: str | Path) -> dict[str, Any]:
    """What a trace file says of itself, without reading its rows; empty for a foreign file.

    Raises:
        ValueError: as `read_table`.
    """
    path = Path(path)
    file = folder_files(path)[0] if path.is_dir() else path
    kind = _kind(file)
    if kind == "parquet":
        return _parquet_about(file, _parquet(file).schema_arrow)
    if kind == "text":
        return about_of(file, unpacked(file, 2**20))
    return {}


def about_of(path: Path, data: bytes) -> dict[str, Any]:
    """What a text file says of itself in its first line, also when a spreadsheet has put quotes around it."""
    first = data[:TEXT_BYTES_MAX].removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].strip()
    if first.startswith(b'"# edgemarl '):
        first = first.rstrip(b",;\t ").removeprefix(b'"').removesuffix(b'"').replace(b'""', b'"')
    if not first.startswith(b"# edgemarl "):
        return {}
    return _checked_about(path, first.removeprefix(b"# edgemarl "))


def _checked_about(path: Path, text: bytes) -> dict[str, Any]:
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        about = None
    if (
        not isinstance(about, dict)
        or not isinstance(about.get("config", {}), dict)
        or not isinstance(about.get("scenario", ""), str)
        or len(about.get("scenario", "")) > SCENARIO_CHARACTERS_MAX
    ):
        raise ValueError(f"{path}: what the file says of itself ('edgemarl') is damaged: write the file again")
    return about


# --- one file --------------------------------------------------------------------------------------------------


def _kind(path: Path) -> str:
    """ "parquet", "feather" or "text", by the first bytes of the file, unpacked."""
    if not path.is_file():
        raise ValueError(f"table {path} does not exist")
    try:
        with path.open("rb") as file:
            first = file.read(4)
    except OSError as error:
        raise ValueError(f"table {path} cannot be read: {error.strerror or error}") from None
    if first == b"PAR1":
        return "parquet"
    head = unpacked(path, 512)
    if head.startswith(b"ARROW1"):
        return "feather"
    for magic, what, advice in FOREIGN:
        if head.startswith(magic):
            raise ValueError(f"{path} is {what}: {advice}")
    if JSON.match(head.removeprefix(b"\xef\xbb\xbf")):
        raise ValueError(f"{path} is JSON: write the table with pandas' to_parquet or to_csv")
    if path.suffix in (".parquet", ".feather") and not path.name.startswith("."):
        raise ValueError(f"{path} is not a readable {path.suffix[1:]} table: its first bytes are not those of one")
    return "text"


def _read_file(path: Path, form: TextForm) -> TableFile:
    import pyarrow

    kind = _kind(path)
    try:
        if kind == "text":
            data = unpacked(path, TEXT_BYTES_MAX + 1)
            if len(data) > TEXT_BYTES_MAX:
                raise ValueError(f"{path} holds more than {TEXT_BYTES_MAX / 2**30:g} GiB of text: write it as Parquet")
            about = about_of(path, data)
            text = read_text(path, data, form)
            return TableFile(_plain_frame(path, text.table, form.columns), about, text.notes, text.headed)
        if kind == "parquet":
            file = _parquet(path)
            _check_size(path, file.metadata.num_rows, file.metadata.num_columns)
            table, about = file.read(), _parquet_about(path, file.schema_arrow)
        else:
            import pyarrow.feather

            table, about = pyarrow.feather.read_table(path), {}
            _check_size(path, table.num_rows, table.num_columns)
        return TableFile(_plain_frame(path, table, form.columns), about)
    except (OSError, pyarrow.ArrowException, OverflowError) as error:
        what = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path} is not a readable {kind} table: {what}") from None


def _parquet(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path} is not a readable parquet table: {str(error).splitlines()[0][:200]}") from None


def _parquet_about(path: Path, schema: Any) -> dict[str, Any]:
    text = (schema.metadata or {}).get(ABOUT)
    return {} if text is None else _checked_about(path, text)


def _check_size(path: Path, rows: int, columns: int) -> None:
    if rows * max(columns, 1) > ENTRIES_MAX:
        raise ValueError(f"{path} holds {rows} rows of {columns} columns; at most {ENTRIES_MAX} entries are read")


def unpacked(path: Path, most: int) -> bytes:
    """The first `most` bytes of a file, unpacked if it is compressed."""
    import bz2
    import lzma
    import zlib

    import pyarrow

    packings = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
    try:
        with path.open("rb") as file:
            first = file.read(6)
            file.seek(0)
            if first.startswith(b"BZh"):
                return _first(bz2.BZ2File(file), most)
            if first.startswith(b"\xfd7zXZ"):
                return _first(lzma.LZMAFile(file), most)
            packing = next((name for magic, name in packings.items() if first.startswith(magic)), None)
            if packing is None:
                return _first(file, most)
            with pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), packing) as stream:
                return _first(stream, most)
    except (OSError, EOFError, pyarrow.ArrowException, zlib.error, lzma.LZMAError) as error:
        what = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise ValueError(f"table {path} cannot be unpacked: {what}") from None


def _first(stream: Any, most: int) -> bytes:
    """The first `most` bytes, piece by piece: what is asked for at once is reserved at once."""
    out = io.BytesIO()
    while out.tell() < most:
        part = stream.read(min(2**22, most - out.tell()))
        if not part:
            break
        out.write(part)
    return out.getvalue()


def _partition_columns(path: Path) -> dict[str, Any]:
    """Columns that the names of folders give, such as `cell=3`."""
    pairs = [part.partition("=") for part in path.parts[:-1]]
    return {name: int(value) if value.lstrip("-").isdecimal() else value for name, sign, value in pairs if sign}


# --- plain columns -----------------------------------------------------------------------------------------------


def _plain_frame(path: Path, table: pyarrow.Table, wanted: Collection[str] | None) -> pd.DataFrame:
    """NumPy columns of an Arrow table: index columns are columns, categories their values, decimals floats."""
    names = table.column_names
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ValueError(f"{path} has two columns '{twice[0]}'")
    keep = [i for i, name in enumerate(names) if wanted is None or name in wanted]
    columns = [_plain_column(path, names[i], table.column(i)) for i in keep]
    import pyarrow

    plain = pyarrow.Table.from_arrays(columns, names=[names[i] for i in keep])
    frame: pd.DataFrame = plain.to_pandas(ignore_metadata=True)
    return frame.drop(columns=_index_columns(frame))


def _plain_column(path: Path, name: str, column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    import pyarrow
    from pyarrow import types

    kind = column.type
    if isinstance(kind, pyarrow.BaseExtensionType):
        column = pyarrow.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
        kind = column.type
    if types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if types.is_nested(kind):
        raise ValueError(f"{path}: column '{name}' holds {kind}s; write one column for each entry")
    if types.is_decimal(kind) or types.is_null(kind) or types.is_float16(kind):
        return column.cast(pyarrow.float64())
    if types.is_string_view(kind) or types.is_large_string(kind):
        return column.cast(pyarrow.string())
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        raise ValueError(f"{path}: column '{name}' holds bytes, must hold numbers, texts or stamps")
    return column


def _index_columns(frame: pd.DataFrame) -> list[str]:
    """Columns without a name of their own that are empty or number the rows, as data frames write their index."""
    columns = [str(n) for n in frame if str(n).startswith("__index_level_")]
    for name in (str(n) for n in frame if n == "" or str(n).startswith("Unnamed:")):
        column = frame[name]
        if column.isna().all() or (column.dtype.kind in "iu" and column.is_unique):
            columns.append(name)
    return columns
