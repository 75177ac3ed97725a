"""Deep networks as tables of logical layers: the shipped ones, and files."""

from edgemarl.envs.dnn.profiles import LayerProfile, load_profile, save_profile, shipped_profiles

__all__ = ["LayerProfile", "load_profile", "save_profile", "shipped_profiles"]
