"""What pruning does to a network of the user's own: FLOP and accuracy at several rates, as `model_pruning` needs them.

As in the model_pruning paper (Sec. II-B): the fraction p of the kernels of every convolution with the smallest L1 norm
and the fraction p of the smallest weights of every fully connected layer are set to zero; then the network is trained
again. Accuracies are relative to the full network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn
from torch.nn.utils import parametrize, prune

from edgemarl.envs.checks import checked_function
from edgemarl.envs.files import write_text
from edgemarl.envs.reading import read_mapping
from edgemarl.launch.dnn.trace import trace
from edgemarl.launch.dnn.user_code import Refused, network_name, user_code

DEGREE = 3
"""Of the polynomial (1); the paper found higher ones no better."""
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Batches = Iterable[Any]
"""Yields (inputs, class indices)."""
EMPTY = "the data to test on are empty: must be batches (inputs, classes)"


@dataclass(frozen=True)
class PrunedModel:
    """One pruned network.

    Attributes:
        nominal_rate: fraction of kernels and connections that were removed in every layer.
        pruning_rate: fraction of the FLOP that are saved: what the scenario calls p.
        flop: FLOP of one inference.
        accuracy: share of right answers.
        relative_accuracy: accuracy over the full network's, at most 1: what the scenario calls A.
    """

    nominal_rate: float
    pruning_rate: float
    flop: float
    accuracy: float
    relative_accuracy: float


@dataclass(frozen=True)
class PruningProfile:
    """The full network's FLOP and accuracy, its pruned versions, and the cubic A(p) of eq. (1) with A(0) = 1.

    Attributes:
        coefficients: a_0 .. a_3, p as a fraction; fewer where there are fewer models than that.
        fit_error: largest deviation of the polynomial from the measured accuracies.
    """

    flop: float
    accuracy: float
    models: tuple[PrunedModel, ...]
    coefficients: tuple[float, ...]
    fit_error: float

    def config_fields(self) -> dict[str, list[float]]:
        """The fields of `model_pruning` that the measurement gives."""
        return {
            "model_pruning_rates": [round(m.pruning_rate, 6) for m in self.models],
            "model_accuracies": [round(m.relative_accuracy, 6) for m in self.models],
        }


@dataclass(frozen=True)
class FineTuning:
    """Training after pruning: Adam on the cross entropy.

    Attributes:
        epochs: passes over the training data; 0: none.
        learning_rate: of Adam.
    """

    epochs: int = 0
    learning_rate: float = 1e-3


def profile_pruning(
    model: nn.Module,
    test: Batches,
    rates: Sequence[float],
    train: Batches | None = None,
    tuning: FineTuning | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PruningProfile:
    """Prune copies of a trained network and measure them; the given one is left as it is.

    Args:
        model: a trained classifier whose convolutions and linear layers are pruned.
        test: batches on which accuracy is measured.
        rates: nominal pruning rates, rising, each in [0, 1).
        train: batches for training after pruning.
        tuning: how long; default not at all.
        progress: called with (done, total).

    Raises:
        ValueError: illegal rates or epochs, fine-tuning without data, nothing to prune, a network that is never right,
            whatever goes wrong in the network or the data.
    """
    tuning = tuning or FineTuning()
    checked_function("progress", progress, "networks done and networks in all")
    _check(model, rates, train, tuning)
    with user_code("the data cannot be read"):
        test = list(test) if isinstance(test, Iterator) else test  # they are gone through many times
        train = list(train) if isinstance(train, Iterator) else train
        batch = _first_inputs(test)
    flop, accuracy = count_flop(model, batch), measured_accuracy(model, test)
    if accuracy == 0.0:
        raise ValueError("the full network answers nothing right: relative accuracies do not exist; is it trained?")
    models = []
    for i, rate in enumerate(rates):
        if progress is not None:
            progress(i, len(rates))
        pruned = pruned_copy(model, rate)
        if train is not None and tuning.epochs:
            fine_tune(pruned, train, tuning)
        cost, right = count_flop(pruned, batch), measured_accuracy(pruned, test)
        models.append(PrunedModel(rate, 1.0 - cost / flop, cost, right, min(1.0, right / accuracy)))
    if progress is not None:
        progress(len(rates), len(rates))
    coefficients, error = fitted_polynomial(
        [m.pruning_rate for m in models], [m.relative_accuracy for m in models]
    )  # fmt: skip
    return PruningProfile(flop, accuracy, tuple(models), coefficients, error)


def _check(model: nn.Module, rates: Sequence[float], train: Batches | None, tuning: FineTuning) -> None:
    if not rates or any(not 0.0 <= r < 1.0 for r in rates) or list(rates) != sorted(set(rates)):
        raise ValueError(f"rates = {list(rates)} is not legal: must rise and be >= 0 and < 1")
    if tuning.epochs < 0 or tuning.learning_rate <= 0.0:
        raise ValueError(
            f"epochs = {tuning.epochs}, learning_rate = {tuning.learning_rate:g} are not legal: must be >= 0 and > 0"
        )
    if tuning.epochs and train is None:
        raise ValueError(f"epochs = {tuning.epochs} needs training data: the data factory must return (train, test)")
    if not _layers(model):
        raise ValueError(f"{type(model).__name__} has no convolution and no linear layer: nothing can be pruned")


def _first_inputs(test: Batches) -> torch.Tensor:
    for batch in test:
        if not isinstance(batch, tuple | list) or len(batch) != 2 or not isinstance(batch[0], torch.Tensor):
            raise Refused(f"a batch of data is a {type(batch).__name__}, must be a pair of tensors (inputs, classes)")
        return batch[0]
    raise Refused(EMPTY)


def _layers(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, (*CONVOLUTIONS, nn.Linear))]


def pruned_copy(model: nn.Module, rate: float) -> nn.Module:
    """A copy without the given fraction of kernels (smallest L1 norm) and connections (smallest weight), masks held.

    Raises:
        ValueError: a model that cannot be copied, or a weight that is no parameter.
    """
    name = network_name(model)
    with user_code(f"{name} cannot be copied, so it cannot be pruned"):
        pruned = copy.deepcopy(model)
    for layer in _layers(pruned):
        with user_code(f"{name}: a weight of {layer} cannot be pruned"):
            _mask(layer, rate)
    return pruned


class _Mask(nn.Module):
    """A parametrization that holds weights at zero."""

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        mask: Any = self.mask
        return weight * mask


def _mask(layer: nn.Module, rate: float) -> None:
    full: Any = layer.weight
    weight = full.detach()
    whole = torch.ones_like(weight)
    if isinstance(layer, nn.Linear):
        parametrize.register_parametrization(
            layer, "weight", _Mask(prune.L1Unstructured(rate).compute_mask(weight, whole))
        )
        return
    mask = prune.LnStructured(rate, n=1, dim=0).compute_mask(weight, whole)
    parametrize.register_parametrization(layer, "weight", _Mask(mask))
    if layer.bias is not None:  # a kernel that is gone has no output
        parametrize.register_parametrization(layer, "bias", _Mask(mask.flatten(1).amax(dim=1)))


def fine_tune(model: nn.Module, train: Batches, tuning: FineTuning) -> None:
    """Train in place; pruned weights stay zero.

    Raises:
        ValueError: a model, or data, that fail.
    """
    optimiser = torch.optim.Adam(model.parameters(), lr=tuning.learning_rate)
    with user_code(f"{network_name(model)} cannot be trained"):
        model.train()
        for _ in range(tuning.epochs):
            for inputs, labels in train:
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(inputs), labels).backward()
                optimiser.step()


def measured_accuracy(model: nn.Module, test: Batches) -> float:
    """Share of inputs whose largest output is the right class.

    Raises:
        ValueError: a model, or data, that fail or do not fit, no data at all.
    """
    right = seen = 0
    with user_code(f"{network_name(model)} cannot be tested"), _evaluating(model), torch.no_grad():
        for inputs, labels in test:
            predicted = model(inputs).argmax(dim=1)
            if predicted.shape != labels.shape:
                raise Refused(
                    f"{network_name(model)}: outputs for {len(labels)} labels give classes of shape"
                    f" {tuple(predicted.shape)}, must be {tuple(labels.shape)} as the labels"
                )
            right += int((predicted == labels).sum())
            seen += len(labels)
    if not seen:
        raise ValueError(EMPTY)
    return right / seen


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and what was before after it."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def count_flop(model: nn.Module, inputs: torch.Tensor) -> float:
    """FLOP of one inference: two for every weight that is not zero and every place where it is used.

    All convolutions and matrix products that run are counted, also those that are not pruned (recurrent layers,
    attention).

    Args:
        model: any classifier.
        inputs: a batch, of which the first entry is used.

    Raises:
        ValueError: a model whose work depends on the values of its input, or that cannot run.
    """
    tape = trace(model, (inputs[:1],), density=True)
    return 2.0 * sum(operation.nonzero_macs for operation in tape.operations)


def fitted_polynomial(rates: Sequence[float], accuracies: Sequence[float]) -> tuple[tuple[float, ...], float]:
    """Least-squares cubic of eq. (1) through the measured points and (0, 1): a_0 .. a_3 and the largest deviation."""
    p, a = np.append(0.0, rates), np.append(1.0, accuracies)
    degree = min(DEGREE, len(np.unique(p)) - 1)
    polynomial = np.polynomial.Polynomial.fit(p, a, degree).convert()
    return tuple(float(c) for c in polynomial.coef), float(np.abs(polynomial(p) - a).max())


# --- files ---------------------------------------------------------------------------------------------------------


def write_profile(profile: PruningProfile, path: Path, title: str) -> None:
    """Write the table as an experiment that `compare --preset FILE` runs; its `set` holds the scenario's fields."""
    experiment = {
        "title": title,
        "description": f"Full network: {profile.flop:.6g} FLOP, accuracy {profile.accuracy:.4f}.",
        "scenario": "model_pruning",
        "set": {**profile.config_fields(), "gateway_broadcast": "rank"},
        "networks": 5,
        "slots": 20,
        "window": 5,
        "controllers": ["random", "threshold", "cell_plan_static_100", "near_optimal"],
    }
    write_text(path, yaml.safe_dump(experiment, sort_keys=False))


def load_profile(path: Path) -> dict[str, Any]:
    """The scenario's fields in a file of `write_profile`: `make_scenario("model_pruning", **load_profile(path))`.

    Raises:
        ValueError: it cannot be read, or holds no such fields.
    """
    fields = read_mapping(path, f"pruning table {path}").get("set")
    if not isinstance(fields, dict) or not all(isinstance(name, str) for name in fields):
        raise ValueError(f"pruning table {path} has no `set` that maps config fields to values")
    return fields
