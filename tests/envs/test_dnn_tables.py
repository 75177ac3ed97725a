"""Layer tables from files: whatever a file holds, it is a table or a ValueError of one line, and soon."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemarl.envs.dnn.profiles import LARGEST_BYTES, LayerProfile, load_profile, profiles_from, save_profile

BUDGETS = {"energy_budget_j": 1.0, "memory_budget_bytes": 1e6}
GOOD = LayerProfile(
    input_elements=12, macs=(30, 2, 7), parameters=(1, 1, 0), output_elements=(4, 2, 2), names=("a", "b.c", "d"),
    time_s=(0.25, 0.5, 1e-3), **BUDGETS,
)  # fmt: skip


def loaded(path: Path) -> LayerProfile | str:
    """The table, or the message."""
    try:
        return load_profile(path, **(BUDGETS if path.suffix == ".csv" else {}))
    except ValueError as error:
        message = str(error)
        assert "\n" not in message and len(message) < 600 and str(path) in message
        return message


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("good")
    for ending in (".csv", ".yaml"):
        save_profile(GOOD, folder / f"good{ending}")
        assert loaded(folder / f"good{ending}") == GOOD
    return {ending: (folder / f"good{ending}").read_bytes() for ending in (".csv", ".yaml")}


PARTS = st.one_of(
    st.sampled_from(
        b"\n|,|\"|'|:| |- |-|[|]|{|}|&a |*a|!!int |!!float x|!!python/object:os.system x|0x|1e999|nan|.inf|-.inf|~|null"
        b"|true|2001-01-01|<<: |? |%|#|\x00|\xff|\xef\xbb\xbf|\t|99999999999999999999|_|macs|names|time_s|layer|table: "
        b"|energy_budget_j: 0\n|---\n|...\n".split(b"|")
    ),
    st.binary(max_size=6),
)


@st.composite
def mutations(draw: st.DrawFn, text: bytes) -> bytes:
    """A good text with stretches cut out, doubled, moved, or replaced by what files of this kind are made of."""
    lines = text.splitlines(keepends=True)
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(text)))
        end = draw(st.integers(begin, min(len(text), begin + 12)))
        kind = draw(st.sampled_from(["replace", "double", "line"]))
        if kind == "replace":
            text = text[:begin] + draw(PARTS) + text[end:]
        elif kind == "double":
            text = text[:end] + text[begin:]
        else:
            lines = text.splitlines(keepends=True)
            i, j = (draw(st.integers(0, max(0, len(lines) - 1))) for _ in range(2))
            if lines:
                lines[i], lines[j] = lines[j], draw(st.sampled_from([lines[i], b""]))
            text = b"".join(lines)
    return text


@settings(max_examples=150)
@given(st.data(), st.sampled_from([".csv", ".yaml"]))
def test_a_changed_table_is_a_table_or_one_line(
    texts: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, ending: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"changed{ending}"
    path.write_bytes(data.draw(mutations(texts[ending])))
    found = loaded(path)
    if isinstance(found, LayerProfile):
        assert found.layers == len(found.parameters) == len(found.output_elements)
        assert found.local_macs[-1] < float("inf") and (found.activation_elements >= 0).all()
        assert all(isinstance(name, str) for name in found.names)


BODY = "input_elements: 12\nparameters: [1]\noutput_elements: [1]\nenergy_budget_j: 1\nmemory_budget_bytes: 1\n"
LAUGHS = "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("ending", "text", "message"),
    [
        (".yaml", "x0: &x0 [a]\n" + LAUGHS + "macs: *x11\n" + BODY, "unknown field 'x0'"),
        (".yaml", "macs: &m [*m]\n" + BODY, "macs holds a list"),
        (".yaml", "macs: [0x" + "f" * 100_000 + "]\n" + BODY, "macs holds a number of many digits"),
        (".yaml", "macs: [" + "9" * 5000 + "]\n" + BODY, "is not YAML: ValueError"),
        (".yaml", "macs: [1.0e+308, 1.0e+308]\n" + BODY.replace("[1]", "[1, 1]"), "macs add up to more than"),
        (".yaml", "[" * 50_000, "is not YAML: RecursionError"),
        (".yaml", "macs: !!int ''\n" + BODY, "is not YAML: IndexError"),
        (".yaml", "macs: [2001-01-01]\n" + BODY, "macs holds a date"),
        (".yaml", "macs: {1: 2}\n" + BODY, "macs = a dict is not legal: must be a list"),
        (".yaml", "macs: abc\n" + BODY, "macs = 'abc' is not legal: must be a list"),
        (".yaml", "names: [1]\nmacs: [1]\n" + BODY, "names holds 1; every entry must be a text"),
        (".yaml", "macs: [true]\n" + BODY, "macs holds True; every entry must be a number"),
        (".yaml", "macs: [1]\n" + BODY.replace("budget_j: 1", "budget_j: []"), "energy_budget_j = a list J is not"),
        (".yaml", "macs: [1]\n" + BODY.replace("budget_j: 1", "budget_j: true"), "energy_budget_j = True J is not"),
        (".yaml", "table: same.yaml\n" + BODY, "unknown field 'table'"),
        (".yaml", "3", "must be a mapping"),
        (".csv", "", "has no column 'layer'"),
        (".csv", "layer,name,macs,macs,parameters,output_elements\n0,i,0,0,0,5\n", "column 'macs' more than once"),
        (".csv", "layer,name,macs,parameters,output_elements\n0,i,0,0,5\n2,a,1,1,1\n1,b,1,1,1\n", "row 1 is layer '2'"),
        (".csv", "layer,name,macs,parameters,output_elements\n0,i,0,0,5\n1,a,1,1\n", "row 1 must have 5 entries"),
        (".csv", "layer,name,macs,parameters,output_elements\n0,i,0,0,5\n1,a,1,1,1,9\n", "row 1 must have 5 entries"),
        (".csv", "layer,name,macs,parameters,output_elements\n0,i,0,0,5\n1,a,inf,1,1\n", "macs holds inf"),
        (".csv", "layer,name\n0," + "x" * 200_000, "is not CSV"),
        (".csv", b"layer\xff", "is no text in UTF-8"),
    ],
)  # fmt: skip
def test_files_that_are_made_to_break_a_reader(
    ending: str, text: str | bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"same{ending}"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    start = time.perf_counter()
    found = loaded(path)
    assert isinstance(found, str) and message in found
    assert time.perf_counter() - start < 20.0  # some seconds at worst, on a busy machine


@pytest.mark.parametrize("ending", [".csv", ".yaml", ".txt"])
def test_absurd_sizes_are_not_read(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"large{ending}"
    with path.open("wb") as file:
        file.truncate(10**12)  # a hole: no space on disk
    found = loaded(path)
    assert isinstance(found, str) and f"at most {LARGEST_BYTES.get(ending, LARGEST_BYTES['.yaml'])} B" in found


def test_a_table_of_a_spreadsheet_is_read(tmp_path: Path, texts: dict[str, bytes]) -> None:
    path = tmp_path / "sheet.csv"
    path.write_bytes(b"\xef\xbb\xbf" + texts[".csv"].replace(b"\n", b"\r\n"))
    assert loaded(path) == GOOD


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"net": {"table": 3}}, "profiles.net.table = 3 is not legal"),
        ({"net": {"table": "x.csv", "energy": 1}}, "profiles.net: unknown field 'energy'"),
        ({"net": [1, 2]}, "profiles.net = a list is not legal"),
        ({"net": {3: 4}}, "profiles.net: unknown field '3'"),
        ({"net": {**BUDGETS, "input_elements": 1, "macs": 3, "parameters": [1], "output_elements": [1]}}, "macs = 3"),
    ],
)
def test_bad_entries_of_a_config(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profiles_from(values)
