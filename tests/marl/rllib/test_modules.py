"""Networks and their RLModule: one network per agent in one module, action spaces, normalisation."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchDiagGaussian
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from scipy import stats

from edgemarl.agents.trained import layers
from edgemarl.agents.trained.heads import head_of
from edgemarl.agents.trained.layers import Perceptron, _plain, perceptron
from edgemarl.agents.trained.networks import Normaliser, PolicyNetwork
from edgemarl.agents.trained.spec import NetworkSpec, network_spec
from edgemarl.marl.algorithms.ppo import BatchedPPOLearner
from edgemarl.marl.rllib.modules import ActorCriticModule
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.setup import module_specs, rllib_config

AGENTS, ROWS = 3, 40
CONFIG = TrainConfig(
    set={"device_action": "split", "num_devices": AGENTS}, policies="independent", hidden=(8, 8), minibatch=10_000
)


def stacked_learner() -> Any:
    specs = module_specs(resolve(CONFIG))
    del specs.rl_module_specs["server"]
    config = rllib_config(resolve(CONFIG)).multi_agent(policies={"device"}).rl_module(rl_module_spec=specs)
    learner = BatchedPPOLearner(config=config, module_spec=specs)
    learner.build()
    return learner


def separate_learner(stacked: Any) -> Any:
    """Each agent's network as an RLModule of its own, with the weights that it has in the stacked module."""
    whole = stacked.module["device"].unwrapped()
    alone = NetworkSpec.from_dict({**whole.spec.to_dict(), "agents": 0})
    names = [f"device_{i}" for i in range(AGENTS)]
    spec = RLModuleSpec(
        module_class=ActorCriticModule,
        observation_space=whole.observation_space,
        action_space=whole.action_space,
        model_config={"spec": alone.to_dict(), "critic_hidden": (8, 8), "pool": 0, "foreseen": 0, "group_size": 0},
    )
    specs = MultiRLModuleSpec(rl_module_specs=dict.fromkeys(names, spec))
    config = rllib_config(resolve(CONFIG)).multi_agent(policies=set(names)).rl_module(rl_module_spec=specs)
    learner = BatchedPPOLearner(config=config, module_spec=specs)
    learner.build()
    for i, name in enumerate(names):
        learner.module[name].load_state_dict(own_part(whole, i))
    return learner


def own_part(module: Any, agent: int) -> dict[str, torch.Tensor]:
    """Agent's slice of a stacked module's weights, in the layout of a shared module."""
    parts = {}
    for name, value in module.state_dict().items():
        part = value[agent]
        parts[name] = part.T.clone() if ".weights." in name else part.reshape(-1).clone()
    return parts


def rows(seed: int) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray[Any, Any]:
        return rng.standard_normal((ROWS, AGENTS, *shape)).astype(np.float32)

    return {
        Columns.OBS: normal(7),
        Columns.ACTIONS: normal(2),
        Columns.ACTION_DIST_INPUTS: 0.1 * normal(4),
        Columns.ACTION_LOGP: 0.1 * normal() - 2,
        Postprocessing.ADVANTAGES: normal(),
        Postprocessing.VALUE_TARGETS: 5 * normal(),
    }


def gradients(learner: Any, batch: dict[str, np.ndarray[Any, Any]]) -> dict[str, torch.Tensor]:
    tensors = {"device": SampleBatch({k: torch.from_numpy(v) for k, v in batch.items()})}
    out = learner.module.forward_train(tensors)
    found = learner.compute_gradients(learner.compute_losses(fwd_out=out, batch=tensors))
    clipped = learner.postprocess_gradients(found)
    return {name: clipped[p].clone() for name, p in learner.module["device"].unwrapped().named_parameters()}


def test_gradient_of_an_agent_depends_on_its_own_data_only() -> None:
    learner = stacked_learner()
    batch = rows(0)
    before = gradients(learner, batch)
    for column in (Columns.OBS, Postprocessing.ADVANTAGES, Postprocessing.VALUE_TARGETS):
        batch[column] = batch[column].copy()
        batch[column][:, 1] *= 3.0
    after = gradients(learner, batch)
    for name, gradient in before.items():
        torch.testing.assert_close(gradient[[0, 2]], after[name][[0, 2]], rtol=0, atol=0)
        assert not torch.allclose(gradient[1], after[name][1]), name


def test_stacked_module_learns_as_separate_modules_do() -> None:
    """Three epochs of PPO on one batch: every weight ends where the agent's own RLModule and optimiser take it."""
    stacked = stacked_learner()
    separate = separate_learner(stacked)
    start = own_part(stacked.module["device"].unwrapped(), 0)
    batch = rows(1)
    stacked.update(batch=MultiAgentBatch({"device": SampleBatch(batch)}, ROWS), num_epochs=3, minibatch_size=10_000)
    each = {f"device_{i}": SampleBatch({k: v[:, i] for k, v in batch.items()}) for i in range(AGENTS)}
    separate.update(batch=MultiAgentBatch(each, ROWS), num_epochs=3, minibatch_size=10_000)
    for i in range(AGENTS):
        ours = own_part(stacked.module["device"].unwrapped(), i)
        theirs = separate.module[f"device_{i}"].state_dict()
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-6)
    moved = own_part(stacked.module["device"].unwrapped(), 0)
    assert (moved["policy.body.weights.0"] - start["policy.body.weights.0"]).abs().max() > 1e-3


def test_first_weights_of_wide_layers_have_the_scale_of_orthogonal_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    scales = []
    for limit in (1024, 4):
        monkeypatch.setattr(layers, "ORTHOGONAL_MAX", limit)
        torch.manual_seed(0)
        scales.append([float(w.detach().square().mean()) for w in Perceptron(60, (90, 40), 70).weights])
    np.testing.assert_allclose(scales[1], scales[0], rtol=0.1)
    orthogonal = layers._first_weights(3, 90, 2.0)  # one narrow side: the decomposition is quick
    torch.testing.assert_close(orthogonal @ orthogonal.T, 4.0 * torch.eye(3))


def test_stacked_network_equals_separate_networks() -> None:
    whole = PolicyNetwork(NetworkSpec(4, "box", (2,), (0.0, 0.0), (1.0, 1.0), agents=AGENTS))
    x = torch.randn(5, AGENTS, 4)
    out = whole(x)
    for i in range(AGENTS):
        alone = PolicyNetwork(NetworkSpec(4, "box", (2,), (0.0, 0.0), (1.0, 1.0)))
        alone.load_state_dict(own_part(whole, i))
        torch.testing.assert_close(out[:, i], alone(x[:, i]))


@pytest.mark.parametrize("agents", [0, AGENTS])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_gradients_of_the_fused_layers_equal_those_of_autograd(agents: int, activation: Any) -> None:
    """Values, and gradients of weights, biases and inputs, against PyTorch's operations one by one, in float64."""
    network = Perceptron(4, (8, 6), 3, agents, activation=activation).double()
    shape = (agents, 50, 4) if agents else (50, 4)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    parts = [*network.weights, *network.biases]
    layers = ([*network.weights], [*network.biases], activation)
    expected, found = _plain(x, *layers), perceptron(x, *layers)
    torch.testing.assert_close(found, expected)
    pull = torch.randn_like(expected)
    for ours, theirs in zip(*(torch.autograd.grad(out, [x, *parts], pull) for out in (found, expected)), strict=True):
        assert ours.is_contiguous()
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(perceptron(x, *layers), expected)


@pytest.mark.parametrize(
    "space",
    [
        gymnasium.spaces.Box(np.float32([0, -2]), np.float32([1, 6])),
        gymnasium.spaces.Discrete(5, start=2),
        gymnasium.spaces.MultiDiscrete([3, 4]),
    ],
    ids=["box", "discrete", "multidiscrete"],
)
def test_actions_lie_in_their_space_and_follow_the_distribution(space: gymnasium.Space[Any]) -> None:
    spec = network_spec(3, space)
    parameters = np.random.default_rng(0).standard_normal(
        (1, 1, head_of(spec).outputs * (2 if spec.kind == "box" else 1))
    )
    many = np.broadcast_to(parameters, (20_000, *parameters.shape[1:])).astype(np.float32)
    drawn = head_of(spec).sample(many, np.random.default_rng(1))
    for action in head_of(spec).to_env(drawn)[:50, 0]:
        assert space.contains(np.asarray(action, space.dtype) if space.shape else int(action)), action
    if spec.kind == "box":
        mean, log_std = np.split(parameters[0, 0], 2)
        np.testing.assert_allclose(drawn.mean(axis=(0, 1)), mean, atol=0.05)
        np.testing.assert_allclose(drawn.std(axis=(0, 1)), np.exp(log_std), rtol=0.05)
    else:
        logits = parameters[0, 0, : spec.choices[0]]
        shares = np.exp(logits) / np.exp(logits).sum()
        first = drawn[:, 0] if spec.kind == "discrete" else drawn[:, 0, 0]
        np.testing.assert_allclose(np.bincount(first, minlength=len(shares)) / len(first), shares, atol=0.02)
        assert np.all(head_of(spec).greedy(parameters).ravel()[0] == logits.argmax())


def test_a_draw_behind_a_late_tanh_has_the_density_of_the_gaussian() -> None:
    """Whole numbers below it are as likely as the normal law says: LyMDO's cut is floor((L + 1)(tanh(y) + 1)/2)."""
    spec = network_spec(3, gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32), squash="tanh_late", log_std=0.2)
    head, (mean, log_std), draws, layers = head_of(spec), (0.4, 0.2), 40_000, 4
    parameters = np.tile(np.float32([mean, log_std]), (draws, 1))
    y = head.sample(parameters, np.random.default_rng(0))
    cut = np.minimum(np.floor(head.to_env(y)[:, 0] * (layers + 1)), layers)
    edges = np.r_[-np.inf, np.arctanh(np.linspace(-1.0, 1.0, layers + 2)[1:-1]), np.inf]
    expected = np.diff(stats.norm.cdf(edges, mean, np.exp(log_std)))
    np.testing.assert_allclose(np.bincount(cut.astype(int)) / draws, expected, atol=0.01)
    logp = TorchDiagGaussian.from_logits(torch.from_numpy(parameters)).logp(torch.from_numpy(y)).numpy()
    np.testing.assert_allclose(logp, stats.norm.logpdf(y[:, 0], mean, np.exp(log_std)), atol=1e-4)
    raw = torch.from_numpy(head.to_env(y))
    np.testing.assert_allclose(head.from_env(raw).numpy(), y, atol=1e-6)  # type: ignore[attr-defined]
    greedy = head.to_env(head.greedy(parameters[:1]))
    np.testing.assert_allclose(head.graph(torch.from_numpy(parameters[:1])).numpy(), greedy, rtol=1e-6)
    assert head.loss(torch.from_numpy(parameters[:1]), torch.from_numpy(greedy)).item() < 1e-12


@pytest.mark.parametrize("agents", [0, 3])
def test_a_policy_starts_from_its_first_action(agents: int) -> None:
    spec = network_spec(4, gymnasium.spaces.Box(np.float32([0, -2]), np.float32([1, 6])), agents=agents)
    network = PolicyNetwork(spec)
    network.start_from([0.8, 5.0])
    rows = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (50, agents or 1, 4)).astype(np.float32))
    with torch.no_grad():
        actions = head_of(spec).to_env(head_of(spec).greedy(network(rows).numpy()))
    np.testing.assert_allclose(actions, np.broadcast_to([0.8, 5.0], actions.shape), atol=0.15)


def test_a_grid_makes_one_choice_of_a_box() -> None:
    """Every point is reached, corners are the bounds, and each action has the Box's shape."""
    box = gymnasium.spaces.Box(np.float32([[0], [-2]]), np.float32([[1], [6]]))
    spec = network_spec(3, box, grid=(2, 5))
    assert (spec.kind, head_of(spec).outputs, head_of(spec).action_size) == ("discrete", 10, 2)
    actions = head_of(spec).to_env(np.arange(10).reshape(2, 5))
    assert actions.shape == (2, 5, 2, 1)
    expected = [[a, b] for a in (0.0, 1.0) for b in (-2.0, 0.0, 2.0, 4.0, 6.0)]
    np.testing.assert_allclose(actions.reshape(10, 2), expected)
    for wrong in ((2,), (1, 5), (40, 40)):
        with pytest.raises(ValueError, match="grid"):
            network_spec(3, box, grid=wrong)
    with pytest.raises(ValueError, match="grid divides a Box"):
        network_spec(3, gymnasium.spaces.Discrete(3), grid=(3,))


def test_masked_choices_are_never_taken() -> None:
    spec = network_spec(3, gymnasium.spaces.Discrete(4))
    network = PolicyNetwork(spec)
    mask = torch.tensor([[True, False, False, True]]).expand(500, 4)
    with torch.no_grad():
        parameters = network(torch.randn(500, 3), mask).numpy()
    assert set(head_of(spec).sample(parameters, np.random.default_rng(0))) == {0, 3}


def test_unbounded_action_space_is_refused() -> None:
    with pytest.raises(ValueError, match="not bounded"):
        network_spec(3, gymnasium.spaces.Box(-np.inf, np.inf, (2,)))


def test_running_moments_equal_those_of_all_rows_together() -> None:
    data = np.random.default_rng(0).normal(3.0, 2.0, (600, 4))
    normaliser = Normaliser(4)
    for part in np.split(data, [50, 300]):
        normaliser.merge(len(part), part.mean(axis=0), part.var(axis=0))
    np.testing.assert_allclose(normaliser.mean.numpy(), data.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(normaliser.variance.numpy(), data.var(axis=0), rtol=1e-12)
    scaled = normaliser(torch.from_numpy(data.astype(np.float32))).numpy()
    np.testing.assert_allclose(scaled.std(axis=0), 1.0, rtol=1e-3)
    pooled, rows = Normaliser(4), data.reshape(200, 3, 4)  # an agent axis, one network
    pooled.merge(len(rows), rows.mean(axis=0), rows.var(axis=0))
    np.testing.assert_allclose(pooled.variance.numpy(), data.var(axis=0), rtol=1e-12)
    assert float(pooled.count) == 600


def test_entry_that_never_varied_is_shown_as_zero_whatever_it_is_later() -> None:
    data = np.random.default_rng(0).random((500, 2)).astype(np.float32)
    data[:, 1] = 0.2
    normaliser = Normaliser(2)
    for part in np.split(data, 5):
        normaliser.merge(len(part), part.mean(axis=0, dtype=np.float64), part.var(axis=0))
    shown = normaliser(torch.tensor([[0.5, 0.2], [0.5, 0.02]])).numpy()
    np.testing.assert_array_equal(shown[:, 1], 0.0)
    np.testing.assert_allclose(shown[:, 0], (0.5 - data[:, 0].mean()) / data[:, 0].std(), rtol=1e-4)
