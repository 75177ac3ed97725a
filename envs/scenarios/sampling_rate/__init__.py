"""How finely devices sample, and where the inference runs, with guaranteed accuracy; see `scenario.py`."""

from edgemarl.envs.scenarios.sampling_rate.config import (
    SamplingRateConfig,
    default_config,
    printed_config,
    scaled,
    tight_config,
)
from edgemarl.envs.scenarios.sampling_rate.scenario import (
    SamplingRate,
    SamplingRateDecisions,
    SamplingRateExogenous,
    SamplingRateState,
    SamplingRateTrace,
)

__all__ = [
    "SamplingRate",
    "SamplingRateConfig",
    "SamplingRateDecisions",
    "SamplingRateExogenous",
    "SamplingRateState",
    "SamplingRateTrace",
    "default_config",
    "printed_config",
    "scaled",
    "tight_config",
]
