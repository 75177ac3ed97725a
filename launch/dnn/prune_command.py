"""`profile-pruning`: measure a network of the user's own at several pruning rates and write the scenario's table."""

from __future__ import annotations

import shlex
from pathlib import Path

import torch
from rich.table import Table

from edgemarl.launch.console import plain_console
from edgemarl.launch.dnn.pruning import FineTuning, PruningProfile, profile_pruning, write_profile
from edgemarl.launch.dnn.user_code import load_factory, made_module, user_code
from edgemarl.launch.progress import Bars


def profile_pruning_command(
    model: str, data: str, rates: str, epochs: int, learning_rate: float, out: Path, seed: int
) -> None:
    """Prune, fine-tune, measure, fit and write.

    Args:
        model: "module:Name" or "path/to/file.py:Name" that returns a trained `torch.nn.Module`.
        data: likewise, that returns batches (inputs, classes) to test on, or (train, test).
        rates: nominal pruning rates with commas.
        epochs, learning_rate: of the training after pruning.
        out: YAML file.
        seed: of the order in which a shuffling data loader draws.

    Raises:
        ValueError: a factory that cannot be loaded or returns something else, illegal rates, a file that cannot be
            written, whatever goes wrong in the user's code.
    """
    try:
        nominal = [float(rate) for rate in rates.split(",")]
    except ValueError:
        raise ValueError(f"rates = {rates} is not legal: must be numbers with commas, such as 0.1,0.5") from None
    if out.suffix not in (".yaml", ".yml") or not out.parent.is_dir():
        raise ValueError(f"output file {out} is not legal: must be a .yaml file in a folder that exists")
    tuning = FineTuning(epochs, learning_rate)
    build, load = load_factory(model, "network"), load_factory(data, "data")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = made_module(build, model)
        with user_code(f"data '{data}' cannot be made"):
            batches = load()
        train, test = batches if isinstance(batches, tuple) and len(batches) == 2 else (None, batches)
        with Bars() as bars:
            profile = profile_pruning(
                network, test, nominal, train, tuning, lambda done, total: bars("prune and measure", done, total)
            )
    write_profile(profile, out, f"Pruned versions of {model}")
    _show(profile, out)


def _show(profile: PruningProfile, out: Path) -> None:
    console = plain_console()
    console.print(f"full network: {profile.flop:.4g} FLOP per inference, accuracy {profile.accuracy:.4f}")
    table = Table("nominal rate", "FLOP", "pruning rate", "accuracy", "relative accuracy")
    for m in profile.models:
        table.add_row(
            f"{m.nominal_rate:g}", f"{m.flop:.4g}", f"{m.pruning_rate:.4f}", f"{m.accuracy:.4f}",
            f"{m.relative_accuracy:.4f}",
        )  # fmt: skip
    console.print(table)
    terms = " ".join(f"{c:+.4f} p^{i}" for i, c in enumerate(profile.coefficients))
    console.print(f"A(p) = {terms}; largest deviation {profile.fit_error:.4f}")
    console.print(f"written: {out}; try: edgemarl compare --preset {shlex.quote(str(out))}", soft_wrap=True)
