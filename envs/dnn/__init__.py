"""Deep networks as tables of logical layers: the shipped ones, files, and a profiler for a network of your own."""

from typing import Any

from edgemarl.envs.dnn.profiles import LayerProfile, load_profile, save_profile, shipped_profiles

__all__ = ["LayerProfile", "load_profile", "profile", "save_profile", "shipped_profiles"]


def profile(module: Any, example: Any, *, repeats: int = 5) -> Any:
    """Table of the logical layers of a `torch.nn.Module`: `edgemarl.envs.dnn.profiler.profile`, which imports torch."""
    from edgemarl.envs.dnn.profiler import profile as run

    return run(module, example, repeats=repeats)
