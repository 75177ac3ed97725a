"""The report page: it answers in words; in a browser it draws, sorts, hides, finds, and asks nobody for anything."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from browser import looked_at, needs_browser

from edgemarl.launch.cli import main
from edgemarl.launch.commands.scale import findings
from edgemarl.launch.report.answer import answers, share
from edgemarl.launch.report.looks import PALETTE, REFERENCE, looks
from edgemarl.marl.evaluation.compare import Outcome, compare

PRESET = {
    "title": "Page",
    "scenario": "sequential_offloading",
    "sweep": {"field": "num_devices", "values": [2, 3]},
    "networks": 3, "slots": 60, "warmup": 50, "window": 10,
    "controllers": ["random", "fixed_power", "parametric_q", "parametric_q_priced"],
    "reference": "parametric_q",
    "figures": [
        {"kind": "bars"}, {"kind": "curves"}, {"kind": "sweep"}, {"kind": "tradeoff"}, {"kind": "scaling"},
        {"kind": "frontier", "metric": "cost", "against": "delay [s]"},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "page.yaml").write_text(yaml.safe_dump(PRESET))
    with pytest.raises(SystemExit) as stop:
        main(["compare", "--preset", str(folder / "page.yaml"), "--out", str(folder / "out")])
    assert stop.value.code == 0
    return folder / "out" / "report.html"


LOOK = """
const text = (table, row) => table.tBodies[0].rows[row].cells[0].textContent;
const numbers = (table, column) => [...table.tBodies[0].rows].map(r => Number(r.cells[column].dataset.key));
const table = document.querySelector("table.sortable"), button = i => table.tHead.rows[0].cells[i].firstChild;
button(2).click(); const up = numbers(table, 2);
button(2).click(); const down = numbers(table, 2);
button(0).click(); const names = [...table.tBodies[0].rows].map(r => r.cells[0].textContent);
const figures = [...document.querySelectorAll("figure")];
const drawn = figures.map(f => { const b = f.querySelector("svg").getBBox(); return b.width * b.height; });
const first = figures[1], toggle = first.querySelector(".choices button");
const visible = () => [...first.querySelectorAll("svg [id*=part]")].filter(p => p.style.display !== "none").length;
const before = visible(); toggle.click(); const hidden = visible(); toggle.click(); const after = visible();
const data = JSON.parse(document.getElementById("points").textContent);
const svg = first.querySelector("svg"), point = data[1].points[0];
first.scrollIntoView();
const at = new DOMPoint(point[1], point[2]).matrixTransform(svg.getScreenCTM());
svg.dispatchEvent(new PointerEvent("pointermove", {clientX: at.x, clientY: at.y, pointerType: "mouse", bubbles: true}));
const tip = document.getElementById("tip").textContent, tipped = !document.getElementById("tip").hidden;
const lines = data[1].parts[point[0]].flatMap(id => [...document.getElementById(id).querySelectorAll("path")]);
const starts = lines.map(line => line.getPointAtLength(0));
const near = starts.some(p => Math.hypot(p.x - point[1], p.y - point[2]) < 1);
const search = document.getElementById("search");
search.value = "bandwidth hz"; search.dispatchEvent(new Event("input"));
const rows = [...document.getElementById("parameters").tBodies[0].rows];
const found = rows.filter(r => !r.hidden).map(r => r.cells[0].textContent);
const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
const unnamed = [...document.querySelectorAll("[role=img]")].filter(e => !e.getAttribute("aria-label")).length;
return {up, down, names, drawn, before, hidden, after, tip, tipped, near, found, total: rows.length, unnamed, point,
  twice: ids.filter((id, i) => ids.indexOf(id) !== i), wide: document.documentElement.scrollWidth - innerWidth};
"""


@needs_browser
def test_the_page_works_in_a_browser_and_asks_nobody(report: Path, tmp_path: Path) -> None:
    found, console = looked_at(report, LOOK, tmp_path)
    assert console == []
    assert found["requests"] == []
    assert found["up"] == sorted(found["up"])
    assert found["down"] == found["up"][::-1]
    assert found["names"] == sorted(found["names"])
    assert len(found["drawn"]) == len(PRESET["figures"]) + 1  # type: ignore[arg-type] # and the cost's parts
    assert min(found["drawn"]) > 1e4
    assert found["hidden"] < found["before"] == found["after"]
    assert found["tipped"]
    assert found["tip"] == f"{found['point'][0]}: {found['point'][3]}"
    assert found["near"]  # the named point is where the line begins
    assert "bandwidth_hz" in found["found"]
    assert len(found["found"]) < found["total"]
    assert found["twice"] == []
    assert found["unnamed"] == 0
    assert found["wide"] <= 0


@needs_browser
def test_a_request_would_be_seen(report: Path, tmp_path: Path) -> None:
    page = tmp_path / "asking.html"
    page.write_text(report.read_text().replace("</main>", '<img src="http://127.0.0.1:9/a.png" alt="x"></main>'))
    found, console = looked_at(page, "return {};", tmp_path)
    assert found["requests"] or console


def test_the_page_is_small_and_whole(report: Path) -> None:
    page = report.read_text()
    assert len(page) < 3e6
    assert 'class="answer">num_devices = 2: with a price (parametric_q_priced) the devices cost' in page
    assert page.count("<svg") == len(PRESET["figures"]) + 1  # type: ignore[arg-type]
    assert page.count('<th scope="col">device computing</th>') == 2 and "their sum</th>" in page
    assert "Gap closed: from random (0%) to parametric_q (100%)" in page
    assert "nan [" not in page
    assert page.count("lower bound</td>") == 2


def point_result(
    costs: dict[str, tuple[str, str, float, float]], reference: str = "vi", links: tuple[str, ...] = ()
) -> Any:
    """A comparison of controllers: name -> kind, information, mean cost, message bytes."""
    scenario: Any = SimpleNamespace(
        name="s", cost_metric="cost", cost_divisor=1.0, summary_metrics={}, cost_label="cost", backlog_metrics={},
        cost_parts=lambda means: {},
        signalling=lambda: SimpleNamespace(centralized_bytes=240.0, decentralized_bytes=80.0, decentralized=links),
    )  # fmt: skip
    noise = np.linspace(0.9, 1.1, 8)
    noise /= noise.mean()
    outcomes = [
        Outcome(name, kind, information, {"cost": cost * noise}, message_bytes=sent)
        for name, (kind, information, cost, sent) in costs.items()
    ]
    comparison = compare(scenario, outcomes, baseline="random", reference=reference, resamples=200)
    parts = {o.controller: [SimpleNamespace(means=o.metrics)] for o in outcomes}
    return SimpleNamespace(comparison=comparison, parts=parts, point=SimpleNamespace(label="", scenario=scenario))


def test_the_first_sentence_answers_the_question() -> None:
    costs = {
        "random": ("baseline", "local", 20.0, 0.0), "ppo": ("learned", "local", 10.08, 0.0),
        "central": ("learned", "global", 10.0, 0.0), "q_priced": ("learned", "local", 9.99, 4.0),
        "vi": ("reference", "local", 10.1, 0.0),
    }  # fmt: skip
    (sentence,) = answers([point_result(costs)])
    assert sentence == (
        "Letting every device decide for itself (ppo) costs 0.8% [0.8, 0.8] more than the best that sees everything "
        "(central) and saves 2/3 of the signalling; with a price (q_priced) it costs 0.1% [0.1, 0.1] less."
    )
    del costs["central"], costs["q_priced"]
    (alone,) = answers([point_result(costs)])
    assert alone == (
        "ppo costs 0.2% [0.2, 0.2] less than the reference vi. No controller that sees everything was played."
    )
    (own,) = answers([point_result({**costs, "mine.py:Rule": ("learned", "local", 12.12, 0.0)})])
    assert own.startswith("mine.py:Rule costs 20.0% [20.0, 20.0] more than the reference vi; ppo costs 0.2%")
    costs["q_priced"] = ("learned", "local", 9.5, 4.0)
    costs["vi"] = ("learned", "local", 10.0, 0.0)
    del costs["ppo"]
    (price,) = answers([point_result(costs)])
    assert price.startswith("With a price (q_priced) the devices cost 5.0% [5.0, 5.0] less than where each decides")
    (best,) = answers([point_result({"random": costs["random"], "vi": ("reference", "local", 10.0, 0.0)})])
    assert best == "The best, vi, costs 50.0% less than random."
    assert answers([point_result({"random": costs["random"]})]) == []


def test_a_row_that_holds_what_is_broadcast_is_not_only_an_own_one() -> None:
    costs = {
        "random": ("baseline", "local", 20.0, 0.0), "rule": ("learned", "local", 10.5, 0.0),
        "all": ("learned", "global", 10.0, 0.0),
    }  # fmt: skip
    (sentence,) = answers([point_result(costs, "all", links=("device -> server: load", "server -> device: prices"))])
    assert sentence.startswith("Letting every device decide from its own row and what is broadcast (rule) costs 5.0%")


def test_a_rule_that_hears_a_price_does_not_decide_for_itself() -> None:
    costs = {
        "random": ("baseline", "local", 20.0, 0.0), "price_greedy": ("baseline", "local", 12.0, 0.0),
        "all": ("learned", "global", 10.0, 0.0),
    }  # fmt: skip
    (sentence,) = answers([point_result(costs, "all")])
    assert sentence.startswith("price_greedy costs 20.0%")
    assert "for itself" not in sentence


def test_who_hears_a_broadcast_does_not_decide_for_itself() -> None:
    costs = {
        "random": ("baseline", "local", 20.0, 0.0), "ppo": ("learned", "local", 10.5, 4.0),
        "vi_priced": ("reference", "local", 10.0, 0.0), "vi": ("reference", "local", 11.0, 0.0),
    }  # fmt: skip
    (sentence,) = answers([point_result(costs, "vi_priced")])
    assert sentence == (
        "Letting every device decide for itself (vi) costs 10.0% [10.0, 10.0] more than the reference vi_priced; "
        "with what is broadcast (ppo) it costs 5.0% [5.0, 5.0] more."
    )
    (learned,) = answers([point_result({**costs, "q": ("learned", "local", 11.5, 0.0)}, "vi_priced")])
    assert learned == sentence, "computed against computed"
    del costs["vi"]
    (alone,) = answers([point_result(costs, "vi_priced")])
    assert alone == "ppo costs 5.0% [5.0, 5.0] more than the reference vi_priced."
    del costs["vi_priced"]
    costs["joint"] = ("learned", "global", 11.0, 240.0)
    (below,) = answers([point_result(costs, "vi_priced")])
    assert below == (
        "ppo costs 4.5% [4.5, 4.5] less than the best that sees everything (joint) and saves 82% of the signalling."
    )
    cheaper = point_result({**costs, "joint": ("learned", "global", 10.4, 240.0)}, "vi_priced")
    rows = [dataclasses.replace(row, training_s=1.0) for row in cheaper.comparison.rows]
    cheaper.comparison = dataclasses.replace(cheaper.comparison, rows=rows[1:])
    (finding,) = findings([cheaper])
    assert finding.startswith(": joint costs 1.0% [1.0, 1.0] less than ppo and sends")


def test_shares_read_as_people_say_them() -> None:
    assert [share(v) for v in (2 / 3, 0.5, 0.8, 0.87, 0.999)] == ["2/3", "1/2", "4/5", "87%", "100%"]


def test_no_two_controllers_look_alike() -> None:
    kinds = ["learned"] * 14 + ["baseline"] * 14 + ["reference"] * 8
    rows: Any = [SimpleNamespace(controller=f"c{i}", kind=kind) for i, kind in enumerate(kinds)]
    found = looks(rows)
    assert len({(look.colour, look.marker, str(look.line)) for look in found.values()}) == len(rows)
    several = [look for name, look in found.items() if int(name[1:]) < 28 + 5]  # in curves, which have no markers
    assert len({(look.colour, str(look.line)) for look in several}) == len(several)
    few: Any = [
        SimpleNamespace(controller=f"c{i}", kind="learned" if i < 4 else "baseline") for i in range(len(PALETTE))
    ]
    assert len({look.colour for look in looks(few).values()}) == len(PALETTE)


# G. Machado, M. Oliveira, L. Fernandes, IEEE TVCG 15 (2009): severity 1, linear RGB
VISION = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour: str, vision: Any) -> np.ndarray:
    """CIELAB of a colour as somebody sees it."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(vision) @ linear, 0.0, 1.0)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ seen / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
def test_colours_are_told_apart_with_any_vision(vision: str) -> None:
    """At least 15 apart in CIELAB, several times what is just noticed, and dark enough for white paper."""
    colours = [lab(colour, VISION[vision]) for colour in (*PALETTE, REFERENCE)]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(colours, 2)) > 15.0
    assert max(colour[0] for colour in colours) < 80.0
