"""What the pages show is what the code says, and what they tell a reader to do works."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgemarl.agents import Team
from edgemarl.agents.playbook import Playbook
from edgemarl.agents.registry import playbook_of
from edgemarl.envs import make_scenario, scenario_class, scenario_names
from edgemarl.envs.config import config_fields
from edgemarl.envs.physics.queueing import md1_sojourn_s
from edgemarl.envs.physics.radio import fdma_rate_bps
from edgemarl.marl import rollout

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md"))


@pytest.fixture(scope="module")
def site() -> Any:
    """Imports a module of the site's build."""
    folder = str(DOCS / "_site")
    sys.path.insert(0, folder)
    yield import_module
    sys.path.remove(folder)


def test_pictures_are_what_the_script_draws(site: Any) -> None:
    for draw in site("pictures").PICTURES:
        assert (DOCS / "images" / f"{draw.__name__}.svg").read_text(encoding="utf-8") == draw().svg(), draw.__name__


@pytest.mark.parametrize("name", scenario_names())
def test_tables_of_a_scenario_hold_all_of_it(name: str, site: Any) -> None:
    """Every role, reward mode, parameter and controller has its row, and no cell breaks its table."""
    tables: ModuleType = site("tables")
    scenario = make_scenario(name)
    book: Playbook = playbook_of(name)
    spaces, parameters, controllers = tables.spaces(name), tables.parameters(name), tables.controllers(name)
    assert all(f"`{role.agent_ids[0]}`" in spaces for role in scenario.roles.values())
    assert all(f"| `{mode}` |" in tables.rewards(name) for mode in scenario.reward_modes)
    assert all(f"| `{row['name']}` |" in parameters for row in config_fields(scenario.config))
    assert all(f"| `{key}` |" in controllers for key in book.controllers)
    for text in (parameters, controllers, tables.signalling(name), tables.randomness(name), tables.presets(name)):
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines()}
        assert len(bars) == 1, text
    told = f"{scenario.signalling().centralized_bytes:,.0f} |"
    assert tables.signalling(name).endswith(told)


def test_every_mark_of_a_page_is_known(site: Any) -> None:
    hooks = site("hooks")
    used = {found[2] for page in PAGES for found in hooks.MARK.finditer(page.read_text(encoding="utf-8"))}
    assert used and used <= {*hooks.MADE, *hooks.FILES}
    assert "<!-- made:" not in hooks.filled((DOCS / "model_pruning.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "tag", ['<script src="https://cdn.example/a.js">', "<link href=//fonts.example/a.css>", '<img alt="" src="http://a/b.png">']
)  # fmt: skip
def test_what_is_loaded_from_elsewhere_is_found(tag: str, site: Any, caplog: pytest.LogCaptureFixture) -> None:
    page = type("Page", (), {"file": type("File", (), {"src_uri": "a.md"})})
    with caplog.at_level("WARNING"):
        site("hooks").on_post_page('<p><a href="https://arxiv.org">x</a><img src="images/a.svg"></p>', page=page)
        assert not caplog.records
        site("hooks").on_post_page(f"<p>{tag}</p>", page=page)
    assert "a.md loads something from elsewhere" in caplog.text


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda p: p.name
)
def test_links_of_the_front_pages_lead_somewhere(page: Path) -> None:
    """Also to headings; those of the site's pages are checked by its strict build."""
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8"))
    assert links
    for target, anchor in links:
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in heads}, anchor


def test_the_readme_is_a_screen_and_a_half() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def blocks(page: str) -> dict[str, str]:
    """Title -> code of the titled Python blocks of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return dict(re.findall(r'```python title="([^"]+)"\n(.*?)```', text, re.DOTALL))


def test_the_controllers_of_the_tutorial_play_and_stay_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that remembers closes half of the gap, as the page says; other devices' rows change nothing."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, code in blocks("tutorials/own_controller.md").items():
        (tmp_path / f"tutorial_{name}").write_text(code)
    scenario = make_scenario("sequential_offloading", num_devices=4, device_action="residual")
    trace = scenario.sample_trace(np.random.default_rng(0), 20, 200)

    def cost(team: Team) -> float:
        return float(rollout(team, scenario, trace, np.random.default_rng(0), warmup=50).means["cost"].mean()) / 4

    from edgemarl.agents import make_controller, make_policy

    steady = import_module("tutorial_steady").Steady
    server = make_controller(scenario, "server", "parametric_q")
    worst, best = (cost(make_policy(scenario, name)) for name in ("random", "parametric_q"))
    assert 0.3 < (worst - cost(Team("steady", {"device": steady(), "server": server}))) / (worst - best) < 0.7
    told = Team("told", {"device": steady(), "server": import_module("tutorial_announcing").Announcing()})
    assert np.isfinite(cost(told)) and told.message_bytes() == 4.0
    rows = np.random.default_rng(1).random((2, 4, 7))
    controller, other = steady(), steady()
    controller.reset(scenario, 2)
    other.reset(scenario, 2)
    changed = rows.copy()
    changed[:, 1:] = 0.9
    rng = np.random.default_rng(0)
    assert np.array_equal(controller.act(rows, rng).actions[:, 0], other.act(changed, rng).actions[:, 0])


def test_the_delay_formula_of_the_page_is_that_of_the_code() -> None:
    """docs/model_partitioning.md: T = (S/2)(1/(1-u) + 1) + psi/R + d/(x F), R = alpha B log2(1 + p h/(alpha B N0))."""
    scenario = make_scenario("model_partitioning")
    c = scenario.config
    trace = scenario.sample_trace(np.random.default_rng(0), 3)
    state, exogenous = scenario.initial_state(trace), scenario.exogenous(trace, 0)
    step = scenario.step(state, scenario.decode(state, {"device": np.full((3, 5), 4)}, exogenous), exogenous)
    d, cuts = step.details, scenario.cuts.at(np.full((3, 5), 4))
    service = cuts.local_cycles / d["device_cpu_hz"]
    u = np.minimum(exogenous.arrival_rate_hz * service, c.utilisation_cap)
    band = d["bandwidth_share"] * c.bandwidth_hz
    received = c.transmit_power_w * scenario.floored_gain(exogenous)
    rate = band * np.log2(1.0 + received / (band * c.noise_psd_w_per_hz))
    delay = (
        service / 2 * (1 / (1 - u) + 1)
        + cuts.sent_bits / rate
        + cuts.edge_cycles / (d["edge_cpu_share"] * c.edge_cpu_hz)
    )
    assert np.allclose(d["delay_s"], delay, rtol=1e-12)
    assert np.allclose(md1_sojourn_s(service, exogenous.arrival_rate_hz, c.utilisation_cap), d["device_delay_s"])
    assert np.allclose(fdma_rate_bps(d["bandwidth_share"], c.bandwidth_hz, d["full_band_snr"]), rate)


def test_the_example_of_the_action_residual_is_what_the_code_does() -> None:
    """docs/sequential_offloading.md: 4 tasks, 3 at most, 0.4 sent, 2.7 to leave: one stays, 2.6 are computed."""
    scenario = make_scenario("sequential_offloading", device_action="residual")
    w, most = scenario.config.task_cycles, scenario.config.device_work_cycles_max
    assert most == 3 * w
    work = scenario.work_leaving_residual(np.array([4.0 * w]), np.array([0.5 * 0.8 * w]), most, np.array([0.9 * most]))
    assert work / w == pytest.approx([2.6])


@pytest.mark.parametrize("name", scenario_names())
def test_a_scenario_page_begins_with_question_picture_numbers_command(name: str) -> None:
    first = (DOCS / f"{name}.md").read_text(encoding="utf-8").split("\n## ")[0]
    marks = ["**The question.**", f"](images/{name}.svg)", "\n|", f"edgemarl compare --preset {name}/"]
    places = [first.find(mark) for mark in marks]
    assert -1 not in places and places == sorted(places)
    assert scenario_class(name).name == name
