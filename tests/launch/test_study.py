"""The study of all scenarios: what an answer holds, and the page that it is written on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from browser import looked_at, needs_browser

from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.policy import TrainedPolicy
from edgemarl.launch.cli import main
from edgemarl.launch.commands.scale import ScaleOptions, Study, make_study
from edgemarl.launch.commands.study import StudyOptions, make_studies
from edgemarl.launch.experiment.alone import measured_part
from edgemarl.launch.experiment.answers import answer
from edgemarl.launch.experiment.run import Experiment, PointResult
from edgemarl.launch.experiment.trained import learned_config
from edgemarl.launch.report.study_page import cost_table, exchange_table, needs_table, said, sort_key, write
from edgemarl.marl.algorithms.base import Run
from edgemarl.marl.evaluation.compare import Interval
from edgemarl.marl.training.config import resolve

SHIPPED = ("sequential_offloading", "sampling_rate", "model_partitioning", "model_pruning", "model_placement")


def untrained(run: Run, folder: Path) -> None:
    """A finished run's folder with the networks that training would have begun with."""
    torch.manual_seed(0)
    for role in run.roles:
        network = PolicyNetwork(run.algorithm.spec(run, role))
        about = {"train": run.config.to_dict(), "pooled": run.config.pooled, "message_entries": run.heard}
        about["agent_steps"] = run.config.agent_steps
        TrainedPolicy(network, run.config.scenario, role, about).save(folder / "policy" / f"{role}.pt")
    (folder / "checkpoint").mkdir()
    (folder / "config.json").write_text(json.dumps(run.config.to_dict()))
    steps = float(run.config.agent_steps)
    pd.DataFrame({"agent_steps": [steps], "time_s": [3.0], "cost": [8.0]}).to_parquet(folder / "curve.parquet")


class Measured(Experiment):
    """Plays here and measures."""

    def play(self, job, label):  # type: ignore[no-untyped-def]
        return measured_part(Experiment(self.plan, self.folder), job, label)


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, list[PointResult]]:
    """Two small sizes, learners as they begin."""
    folder = tmp_path_factory.mktemp("study")
    names = ["random", "fixed_power", "ppo", "ppo_central", "vi", "vi_priced"]
    study = make_study((2, 3), ScaleOptions(controllers=names, networks=2, agent_steps=100))
    results = []
    for plan in study.sizes:
        experiment = Measured(plan, folder)
        for job in experiment.jobs_at[plan.points[0].label]:
            if job.run is not None:
                entry = plan.preset.learned[job.controller]
                untrained(resolve(learned_config("sequential_offloading", entry, plan.points[0], 0)), job.run)
        results += experiment.run()
    return study, results


def test_an_answer_holds_the_best_of_either_side(studied: tuple[Study, list[PointResult]]) -> None:
    study, results = studied
    found = [answer(result, study.plan) for result in results]
    for a, result in zip(found, results, strict=True):
        assert (a.decentralized.row.controller, a.central.row.controller) == ("ppo", "ppo_central")
        assert a.rule is not None and a.rule.controller in ("random", "fixed_power")
        cost = {row.controller: row.cost.value for row in result.comparison.rows}
        assert a.price.value == pytest.approx(cost["ppo"] / cost["ppo_central"] - 1)
        # an untrained central network has no use for the pool yet: it acts as the decentralized one
        assert abs(a.price.value) < 1e-3
        assert dict(a.exchanges)["one price that the server broadcasts"].value == pytest.approx(
            cost["vi_priced"] / cost["vi"] - 1
        )
        assert a.bounded and all(above is None or above.value > 0 for above in a.above.values())
        assert a.decentralized.measured["peak_memory_bytes"] > 2**20
    assert [a.size for a in found] == [2, 3]


def test_a_study_without_one_side_is_refused(studied: tuple[Study, list[PointResult]]) -> None:
    study, (result, _) = studied
    rows = [row for row in result.comparison.rows if row.controller != "ppo_central"]
    alone = dataclasses.replace(result, comparison=dataclasses.replace(result.comparison, rows=rows))
    with pytest.raises(ValueError, match="learned controller of either kind"):
        answer(alone, study.plan)


def test_the_page_says_it_in_words_tables_and_pictures(
    studied: tuple[Study, list[PointResult]], tmp_path: Path
) -> None:
    study, results = studied
    answers = [answer(result, study.plan) for result in results]
    page = write(answers, tmp_path, "edgemarl study --quick")
    text, html = page.read_text(), page.with_suffix(".html").read_text()
    assert said(answers)[0] in text
    assert answers[-1].decentralized.row.message_bytes > 0.0  # the price that the server's online learner announces
    assert "3 devices: letting every agent decide from its own row and what is broadcast " in said(answers)[0]
    (told, _), *_ = answers[0].exchanges
    bought = Interval(-0.026, -0.03, -0.02)
    (sentence,) = said([dataclasses.replace(answers[0], exchanges=((told, bought),))])
    assert sentence.endswith(f"; hearing {told} lowers the cost by 2.6%.")
    for name, message_bytes, words in (("ppo", 0.0, "for itself"), ("priced_dqn", 0.0, "from its own row and a price")):
        row = dataclasses.replace(answers[0].decentralized.row, controller=name, message_bytes=message_bytes)
        side = dataclasses.replace(answers[0].decentralized, row=row)
        (sentence,) = said([dataclasses.replace(answers[0], decentralized=side)])
        assert f": letting every agent decide {words} " in sentence
    (sentence,) = said(
        [dataclasses.replace(answers[0], exchanges=((told, bought), ("a bid", Interval(0.5, 0.4, 0.6))))]
    )
    assert sentence.endswith("; hearing a bid raises the cost by 50.0%.")
    for table in (cost_table(answers), needs_table(answers), exchange_table(answers)):
        assert all(len(row) == len(table[0]) for row in table[1]) and table[1]
    assert f"| {' | '.join(cost_table(answers)[1][0])} |" in text
    for picture in ("cost", "bytes"):
        assert f"figures/{picture}.svg" in text and (tmp_path / "figures" / f"{picture}.svg").is_file()
    assert html.count("<svg") == 2 and 'src="http' not in html and len(html) < 3e6


LOOK = """
const table = document.querySelector("table.sortable"), button = i => table.tHead.rows[0].cells[i].firstChild;
const keys = column => [...table.tBodies[0].rows].map(r => Number(r.cells[column].dataset.key));
button(1).click(); const up = keys(1); button(1).click(); const down = keys(1);
const figures = [...document.querySelectorAll("figure")];
const drawn = figures.map(f => { const b = f.querySelector("svg").getBBox(); return b.width * b.height; });
const first = figures[0], toggle = first.querySelector(".choices button");
const visible = () => [...first.querySelectorAll("svg [id*=part]")].filter(p => p.style.display !== "none").length;
const before = visible(); toggle.click(); const hidden = visible(); toggle.click(); const after = visible();
const point = JSON.parse(document.getElementById("points").textContent)[0].points[0], svg = first.querySelector("svg");
first.scrollIntoView();
const at = new DOMPoint(point[1], point[2]).matrixTransform(svg.getScreenCTM());
svg.dispatchEvent(new PointerEvent("pointermove", {clientX: at.x, clientY: at.y, pointerType: "mouse", bubbles: true}));
const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
return {up, down, drawn, before, hidden, after, point, tip: document.getElementById("tip").textContent,
  unnamed: [...document.querySelectorAll("[role=img]")].filter(e => !e.getAttribute("aria-label")).length,
  twice: ids.filter((id, i) => ids.indexOf(id) !== i), wide: document.documentElement.scrollWidth - innerWidth};
"""


@needs_browser
def test_the_page_works_in_a_browser_as_a_report_does(studied: tuple[Study, list[PointResult]], tmp_path: Path) -> None:
    study, results = studied
    page = write([answer(result, study.plan) for result in results], tmp_path, "edgemarl study").with_suffix(".html")
    found, console = looked_at(page, LOOK, tmp_path)
    assert console == [] and found["requests"] == []
    assert found["up"] == sorted(found["up"]) and found["down"] == found["up"][::-1]
    assert len(found["drawn"]) == 2 and min(found["drawn"]) > 1e4
    assert found["hidden"] < found["before"] == found["after"]
    assert found["tip"] == f"{found['point'][0]}: {found['point'][3]}"
    assert found["twice"] == [] and found["unnamed"] == 0 and found["wide"] <= 0


def test_cells_sort_by_what_they_say() -> None:
    cells = ["1.4 ms", "2.0 s", "90 µs", "12 s"]
    assert sorted(cells, key=lambda cell: float(sort_key(cell))) == ["90 µs", "1.4 ms", "2.0 s", "12 s"]
    assert [sort_key(text) for text in ("-0.5% [-1.0, 0.1] `ppo`", "1,234", "`ppo`", "-")] == [-0.5, 1234.0, "ppo", "-"]


def test_the_short_form_asks_for_less() -> None:
    quick, whole = (make_studies(StudyOptions(SHIPPED, quick=quick)) for quick in (True, False))
    assert list(quick) == list(whole) and len(quick) >= 5
    for name in quick:
        assert len(quick[name].sizes) < len(whole[name].sizes)
        assert quick[name].plan.preset.networks < whole[name].plan.preset.networks


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scenarios", "offloading"], "unknown scenario 'offloading'"),
        (["--training-seeds", "0"], "training_seeds = 0"),
        (["--agent-steps", "0"], "agent_steps = 0"),
        (["--concurrent", "0"], "concurrent = 0"),
    ],
)
def test_bad_input_gives_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["study", *words, "--out", str(tmp_path / "out")])
    found = capsys.readouterr().err
    assert stop.value.code == 2 and message in found and found.count("\n") == 1
    assert not (tmp_path / "out").exists()
