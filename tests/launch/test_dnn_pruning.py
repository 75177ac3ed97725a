"""Pruning profile of a user's network: what is removed, how FLOP are counted, the table that the scenario loads."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgemarl.envs import make_scenario
from edgemarl.envs.scenarios.model_pruning.config import ModelPruningConfig
from edgemarl.launch.cli import main
from edgemarl.launch.dnn.bearing_signals import bearing_signals
from edgemarl.launch.dnn.pruning import (
    FineTuning,
    count_flop,
    fine_tune,
    fitted_polynomial,
    load_profile,
    measured_accuracy,
    profile_pruning,
    pruned_copy,
)
from edgemarl.launch.experiment.plan import load_preset, make_plan

Batches = list[tuple[torch.Tensor, torch.Tensor]]


def small_cnn() -> nn.Module:
    """A CNN whose answer is the loudest of four channels; it need not be trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv1d(4, 8, 3, padding=1, groups=4), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 4)
        )
    scale = torch.tensor([1.0, 0.1])  # two kernels for each class, of which the second is small
    with torch.no_grad():
        model[0].weight.copy_(scale.repeat(4)[:, None, None].expand(8, 1, 3) / 3)
        model[0].bias.zero_()
        model[4].weight.fill_(1e-3)
        for label in range(4):
            model[4].weight[label, 2 * label : 2 * label + 2] = torch.tensor([1.0, 0.5])
        model[4].bias.zero_()
    return model


def loud_batches(count: int = 120) -> Batches:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, count)
    signal = rng.random((count, 4, 16)) * (0.3 + 1.2 * (np.arange(4) == label[:, None]))[..., None]
    return [(torch.as_tensor(signal, dtype=torch.float32), torch.as_tensor(label))]


def loud_train_and_test() -> tuple[Batches, Batches]:
    return loud_batches(), loud_batches()


def not_a_network() -> str:
    return "network"


def test_flop_are_two_for_every_weight_and_place() -> None:
    dense = 2 * (8 * 3 * 16) + 2 * (8 * 4)
    model = small_cnn()
    with torch.no_grad():
        model[4].weight.fill_(1.0)
    assert count_flop(model, torch.zeros(1, 4, 16)) == dense
    half = pruned_copy(model, 0.5)
    assert count_flop(half, torch.zeros(1, 4, 16)) == dense / 2  # linear in the rate
    picture = nn.Conv2d(3, 5, 3)
    assert count_flop(picture, torch.zeros(2, 3, 8, 8)) == 2 * 5 * 27 * 36


def test_the_smallest_kernels_and_connections_go() -> None:
    model = small_cnn()
    half = pruned_copy(model, 0.5)
    kept = half[0].weight.flatten(1).abs().sum(dim=1) > 0
    np.testing.assert_array_equal(kept, [True, False] * 4)
    assert torch.count_nonzero(half[4].weight) == 16
    assert torch.count_nonzero(model[0].weight) == 24  # the given network is left as it is
    assert measured_accuracy(model, loud_batches()) == measured_accuracy(half, loud_batches()) == 1.0


def test_fine_tuning_recovers_accuracy_and_keeps_what_was_removed() -> None:
    train, test = loud_train_and_test()
    plain = profile_pruning(small_cnn(), test, [0.5, 0.75])
    tuned = profile_pruning(small_cnn(), test, [0.5, 0.75], train, FineTuning(60, 0.05))
    assert plain.models[1].relative_accuracy < 0.8
    assert tuned.models[1].relative_accuracy > plain.models[1].relative_accuracy
    assert [m.flop for m in tuned.models] == [m.flop for m in plain.models]
    assert plain.models[0].pruning_rate == pytest.approx(1 - plain.models[0].flop / plain.flop)


def test_the_cubic_of_eq_1_is_found_again() -> None:
    rates = np.linspace(0.1, 0.9, 6)
    coefficients, error = fitted_polynomial(list(rates), list(1 - 0.1 * rates + 0.3 * rates**2 - 0.4 * rates**3))
    np.testing.assert_allclose(coefficients, [1.0, -0.1, 0.3, -0.4], atol=1e-9)
    assert error < 1e-12
    _, error = fitted_polynomial(ModelPruningConfig().model_pruning_rates, ModelPruningConfig().model_accuracies)
    assert error < 0.012  # the paper's own table is near a cubic


def test_the_command_writes_an_experiment_that_the_scenario_loads(tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    here = f"{__name__}:"
    with pytest.raises(SystemExit) as done:
        main(["profile-pruning", "--model", here + "small_cnn", "--data", here + "loud_train_and_test", "--rates",
              "0.25,0.5,0.75", "--out", str(out)])  # fmt: skip
    assert done.value.code == 0
    config = make_scenario("model_pruning", **load_profile(out)).config
    assert len(config.model_pruning_rates) == 3 and config.model_pruning_rates[1] == pytest.approx(0.5, abs=0.1)
    assert config.model_accuracies[1] == 1.0 and config.model_accuracies[2] < 1.0
    plan = make_plan("mine", load_preset(str(out)), overrides={})
    assert plan.points[0].scenario.config == config
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--rates", "0.5,0.1"], "rates"),
        (["--rates", "a"], "rates"),
        (["--rates", "1.0"], "rates"),
        (["--epochs", "-1"], "epochs"),
        (["--model", "no_such_module:f"], "no_such_module"),
        (["--model", "edgemarl.launch.dnn.pruning:nothing"], "nothing"),
        (["--model", "edgemarl.launch.dnn.pruning"], "must be module:Name or path/to/file.py:Name"),
        (["--model", f"{__name__}:not_a_network"], "torch.nn.Module"),
        (["--data", f"{__name__}:loud_batches", "--epochs", "1"], "training data"),
        (["--out", "profile.txt"], "profile.txt"),
    ],
)
def test_bad_options_are_named(
    options: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = f"{__name__}:"
    given = {"--model": here + "small_cnn", "--data": here + "loud_train_and_test", "--out": str(tmp_path / "o.yaml")}
    given |= dict(zip(options[::2], options[1::2], strict=True))
    with pytest.raises(SystemExit) as done:
        main(["profile-pruning", *(word for pair in given.items() for word in pair)])
    assert done.value.code == 2 and named in capsys.readouterr().err


def test_a_network_without_layers_cannot_be_pruned() -> None:
    with pytest.raises(ValueError, match="nothing can be pruned"):
        profile_pruning(nn.Flatten(), loud_batches(), [0.5])
    silent = small_cnn()
    with torch.no_grad():
        silent[4].weight.zero_()
        silent[4].bias.copy_(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    wrong = [(x[y < 3], y[y < 3]) for x, y in loud_batches()]
    with pytest.raises(ValueError, match="answers nothing right"):
        profile_pruning(silent, wrong, [0.5])


def test_faults_repeat_at_their_own_rate() -> None:
    """The envelope's spectrum of a faulty bearing has its line at the fault's repetition rate, a healthy one not."""
    signal, label = bearing_signals(np.random.default_rng(0), 400)
    assert signal.dtype == np.float32 and set(label) == {0, 1, 2, 3}
    spectrum = np.abs(np.fft.rfft(np.abs(np.diff(signal[:, 0], n=2)), axis=1)) ** 2
    frequency = np.fft.rfftfreq(signal.shape[2] - 2, 1 / 4000.0)
    for fault, per_revolution in ((1, 3.58), (2, 5.42), (3, 2.36)):
        line = np.abs(frequency - 30.0 * per_revolution).argmin()
        near = spectrum[:, line - 1 : line + 2].max(axis=1)
        assert near[label == fault].mean() > 2 * near[label == 0].mean()


# --- networks and data that people bring -----------------------------------------------------------------------------


class Mixed(nn.Module):
    """Layers that are pruned beside an LSTM, attention and a transposed convolution, which are not."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(4, 8, 3, padding=1)
        self.up = nn.ConvTranspose1d(8, 8, 1)
        self.memory = nn.LSTM(8, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.memory(self.up(self.first(x)).transpose(1, 2))
        y, _ = self.attention(y, y, y)
        return self.head(y.mean(1))  # type: ignore[no-any-return]


def test_all_products_that_run_are_counted_and_two_kinds_of_layers_shrink() -> None:
    steps = 16
    fixed = steps * (8 * 8 + 4 * 8 * (8 + 8) + 3 * 8 * 8) + 2 * steps * steps * 8
    pruned = steps * (8 * 4 * 3 + 8 * 8) + 8 * 4  # first, the projection behind attention, head
    torch.manual_seed(0)
    model = Mixed()
    assert count_flop(model, torch.zeros(2, 4, steps)) == 2 * (fixed + pruned)
    assert count_flop(pruned_copy(model, 0.5), torch.zeros(2, 4, steps)) == 2 * (fixed + pruned / 2)


def test_attention_is_trained_with_its_mask() -> None:
    """Its projection is read without being called, so that a mask in a hook would be of the first step for ever."""
    torch.manual_seed(0)
    half = pruned_copy(Mixed(), 0.5)
    before = half.attention.out_proj.weight.detach().clone()
    fine_tune(half, loud_batches(40), FineTuning(3, 0.01))
    after = half.attention.out_proj.weight.detach()
    assert torch.equal(before == 0, after == 0) and int((after == 0).sum()) == 32
    assert not torch.equal(before, after)


def test_data_that_can_be_read_once_are_kept_and_the_model_stays_in_its_mode() -> None:
    model = small_cnn().train()
    found = profile_pruning(model, iter(loud_batches()), [0.25, 0.5], iter(loud_batches()), FineTuning(1))
    assert len(found.models) == 2 and found.models[0].accuracy > 0.0
    assert model.training and all(part.training for part in model.modules())


class Locked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.lock = small_cnn(), threading.Lock()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)  # type: ignore[no-any-return]


class Wrong(Locked):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("not\ntoday")


class ByValues(Locked):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) if x.sum() > 0 else self.inner(2 * x)  # type: ignore[no-any-return]


def fails() -> None:
    raise RuntimeError("no\ndata")


def empty() -> Batches:
    return []


def single() -> list[torch.Tensor]:
    return [torch.zeros(1, 4, 16)]


def wide() -> Batches:
    return [(x, torch.stack([y, y], 1)) for x, y in loud_batches()]


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--model", "Locked", "Locked cannot be copied, so it cannot be pruned: TypeError: cannot pickle"),
        ("--model", "Wrong", "Wrong cannot run on an input of shape [(1, 4, 16)]: RuntimeError: not ("),
        ("--model", "ByValues", "ByValues cannot be profiled: its path depends on the values of the input ("),
        ("--model", "fails", "cannot be made: RuntimeError: no ("),
        ("--data", "fails", "cannot be made: RuntimeError: no ("),
        ("--data", "empty", "the data to test on are empty"),
        ("--data", "single", "a batch of data is a Tensor, must be a pair"),
        ("--data", "wide", "Sequential: outputs for 120 labels give classes of shape (120,), must be (120, 2)"),
        ("--data", "not_a_network", "a batch of data is a str"),
    ],
)
def test_what_goes_wrong_in_the_users_code_is_one_line(
    option: str, name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = f"{Path(__file__)}:"  # the other form of a target
    given = {"--model": here + "small_cnn", "--data": here + "loud_train_and_test", "--out": str(tmp_path / "o.yaml")}
    given[option] = here + name
    with pytest.raises(SystemExit) as done:
        main(["profile-pruning", *(word for pair in given.items() for word in pair)])
    error = capsys.readouterr().err
    assert done.value.code == 2 and message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
    if message.endswith("("):
        assert f"{Path(__file__).name}, line " in error
