"""What the decomposition of `sequential_offloading` costs: the coupled optimum against every agent's own optimum.

One device and the server are one Markov decision process on queues (u, s) in tenths of tasks. K identical devices on
one server behave like one device on a server with K^2 times the capacitance and 1/K of the rate, as far as the
randomness of their arrivals averages out. All three controls are solved and evaluated on the same lattice with the same
fading, so that the coupled optimum is a true lower bound of the other two.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from edgemarl.agents.sequential_offloading.model import DeviceModel, Lattice, OffloadingRows, ServerModel, work_set
from edgemarl.agents.sequential_offloading.value_iteration import (
    QUEUE_ROWS,
    SWEEPS_MAX,
    TENTHS,
    DeviceValues,
    accelerated,
    arrival_distribution,
    fading_bins,
    lowest_price,
)
from edgemarl.envs.arrays import Array
from edgemarl.envs.physics.radio import from_db
from edgemarl.envs.scenarios.sequential_offloading import SequentialOffloading
from edgemarl.envs.scenarios.sequential_offloading.config import SequentialOffloadingConfig

FADING_BINS = 8
PRICE_ROUNDS, PRICE_DAMPING = 6, 0.5
HORIZON_WEIGHT = 1e-7
"""Blocks whose discount is below this are left out of a sum."""


def mean_field(config: SequentialOffloadingConfig, num_devices: float) -> SequentialOffloadingConfig:
    """One device on a server that costs it what `num_devices` such devices would each pay on the given one."""
    return dataclasses.replace(
        config,
        num_devices=1,
        server_capacitance=config.server_capacitance * num_devices**2,
        server_cpu_hz_max=config.server_cpu_hz_max / num_devices,
    )


@dataclass(frozen=True)
class DevicePolicy:
    """What a device does on the lattice: kept queue and residual for every queue and fading.

    Attributes:
        cost: (U,) expected device cost of a block, without price.
        moves: (R U, U) sparse: weight of (residual r, kept queue) from queue u, over the fading.
        residual_tasks: (R,).
    """

    cost: Array
    moves: sparse.csr_matrix
    residual_tasks: Array


class CoupledProblem:
    """One device of a given mean gain and a mean-field server.

    Args:
        config: the network; its `num_devices` is replaced.
        mean_gain_db: mean gain over noise, in dB (1/W).
        num_devices: K that the server carries, also fractional.
        server_tasks_max: largest server queue of the lattice, in tasks of one device.
    """

    def __init__(
        self,
        config: SequentialOffloadingConfig,
        mean_gain_db: float = 34.0,
        num_devices: float = 1.0,
        server_tasks_max: float = 8.0,
    ) -> None:
        if not num_devices > 0.0:
            raise ValueError(f"num_devices = {num_devices!r} is not legal: must be > 0")
        self.scenario = SequentialOffloading(mean_field(config, num_devices))
        self.config = self.scenario.config
        self.mean_gain_per_w = np.atleast_1d(from_db(mean_gain_db))
        self.device = DeviceModel(self.scenario, work_set(self.config))
        self.server = ServerModel(self.config)
        self.arrivals = arrival_distribution(self.config)
        self.gain = fading_bins(FADING_BINS) * self.mean_gain_per_w  # (F,)
        self.server_queue = np.arange(round(server_tasks_max * TENTHS) + 1) / TENTHS
        self.serve_steps = min(len(self.server_queue) - 1, int(self.server.serve_max_tasks * TENTHS + 1e-9))
        self.serve_cost = self.server.serve_cost(np.arange(self.serve_steps + 1) / TENTHS)

    # --- every agent for itself --------------------------------------------------------------------------------------

    def device_policy(self, price: float) -> DevicePolicy:
        """The device's own optimum under a price per offloaded task."""
        values = DeviceValues(self.scenario, self.mean_gain_per_w, np.array([price]), bins=FADING_BINS).table
        queue = np.round(np.arange(TENTHS * QUEUE_ROWS) / TENTHS, 9)
        u, h = (a.ravel() for a in np.meshgrid(queue, self.gain, indexing="ij"))
        rows = OffloadingRows(u, h, np.zeros(len(u), np.int64), np.full(len(u), price))
        work = np.minimum(self.device.greedy(rows, values, np.zeros(len(u), np.int64)), u)
        residual, transmit, _ = self.device.transmit(u - work, h)
        kept = u - work - residual if self.config.residual_leaves_device else u - work
        cost = self.device.hold_cost * u + self.device.local_cost(work) + transmit
        kinds, kind = np.unique(np.round(residual, 6), return_inverse=True)
        moves = self._moves(kept, kind, len(kinds), len(queue))
        return DevicePolicy(cost.reshape(len(queue), -1).mean(axis=1), moves, kinds)

    def _moves(self, kept_tasks: Array, kind: Array, kinds: int, queues: int) -> sparse.csr_matrix:
        position = np.maximum(np.round(kept_tasks * TENTHS, 6), 0.0)
        low = np.minimum(position.astype(np.int64), queues - 2)
        inside = position - low
        source = np.repeat(np.arange(queues), FADING_BINS)
        rows = np.concatenate([kind * queues + low, kind * queues + low + 1])
        weights = np.concatenate([1.0 - inside, inside]) / FADING_BINS
        return sparse.csr_matrix((weights, (rows, np.tile(source, 2))), shape=(kinds * queues, queues))

    def arrive(self, kept: Array) -> Array:
        """Distribution over queues (U, ...) after the block's arrivals; the last queue takes what is above."""
        after = np.zeros_like(kept)
        for a, probability in enumerate(self.arrivals):
            shift = a * TENTHS
            after[shift:] += probability * kept[: len(kept) - shift]
            if shift:
                after[-1] += probability * kept[len(kept) - shift :].sum(axis=0)
        return after

    def offload_distribution(self, policy: DevicePolicy) -> Array:
        """(R,) long-run probability of each residual."""
        queue = np.zeros(policy.moves.shape[1])
        queue[0] = 1.0
        for _ in range(SWEEPS_MAX):
            moved = (policy.moves @ queue).reshape(len(policy.residual_tasks), -1)
            after = self.arrive(moved.sum(axis=0))
            if np.abs(after - queue).sum() < 1e-10:
                break
            queue = after
        return np.asarray(moved.sum(axis=1))

    def offload_matrix(self, residual_tasks: Array, probability: Array) -> Array:
        """(S, S): weights of the server queues reached from each queue left by service; the top takes what is above."""
        size = len(self.server_queue)
        matrix = np.zeros((size, size))
        rows = np.arange(size)
        for residual, weight in zip(residual_tasks, probability, strict=True):
            position = np.minimum(rows + residual * TENTHS, size - 1)
            low = np.minimum(position.astype(np.int64), size - 2)
            np.add.at(matrix, (rows, low), weight * (low + 1 - position))
            np.add.at(matrix, (rows, low + 1), weight * (position - low))
        return matrix

    def server_policy(self, residual_tasks: Array, probability: Array) -> tuple[Array, Array]:
        """The server's own optimum for independent offloads: tenths served (S,), value after service (S,)."""
        transition = self.offload_matrix(residual_tasks, probability)
        hold = self.server.hold_cost * self.server_queue
        values = np.zeros_like(hold)
        for _ in range(SWEEPS_MAX):
            after = self._continued(transition, values, residual_tasks, probability)
            best, pick = self.serve(self.config.discount * after)
            values, accurate = accelerated(values, hold + best, self.config.discount, (0,))
            if accurate:
                return pick, self._continued(transition, values, residual_tasks, probability)
        raise RuntimeError(f"value iteration of the server did not converge in {SWEEPS_MAX} sweeps")

    def _continued(self, transition: Array, values: Array, residual_tasks: Array, probability: Array) -> Array:
        """Expected value after an offload, linear above the lattice."""
        slope = (values[-1] - values[-1 - TENTHS]) / TENTHS
        rows = np.arange(len(values))[:, None]
        excess = np.maximum(rows + residual_tasks * TENTHS - (len(values) - 1), 0.0) @ probability
        return transition @ values + slope * excess

    def serve(self, left_value: Array) -> tuple[Array, Array]:
        """min_v c(v) + left_value(s - v) over tenths v: smallest (S, ...) and the tenths served (S, ...)."""
        best = left_value.copy()
        pick = np.zeros(best.shape, np.int64)
        for v in range(1, self.serve_steps + 1):
            value = left_value[:-v] + self.serve_cost[v]
            better = value < best[v:]
            np.copyto(best[v:], value, where=better)
            pick[v:][better] = v
        return best, pick

    def price(self, left_value: Array, served: Array, residual_tasks: Array, probability: Array) -> float:
        """gamma E[dV/ds] at what service leaves, in the long run."""
        size = len(self.server_queue)
        left = np.arange(size) - served
        transition = self.offload_matrix(residual_tasks, probability)[left]
        queue = np.full(size, 1.0 / size)
        for _ in range(SWEEPS_MAX):
            after = queue @ transition
            if np.abs(after - queue).sum() < 1e-10:
                break
            queue = after
        rise = np.diff(left_value, append=2.0 * left_value[-1] - left_value[-2]) * TENTHS
        return float(self.config.discount * (queue @ rise[left]))

    def priced_fixed_point(self) -> float:
        """lambda = gamma E[dV/ds] of the server's optimum for what devices offload under lambda."""
        price = lowest_price(self.config)
        for _ in range(PRICE_ROUNDS):
            policy = self.device_policy(price)
            probability = self.offload_distribution(policy)
            served, left_value = self.server_policy(policy.residual_tasks, probability)
            newest = self.price(left_value, served, policy.residual_tasks, probability)
            price = (1.0 - PRICE_DAMPING) * price + PRICE_DAMPING * newest
        return price

    def decentralized_cost(self, price: float = 0.0) -> float:
        """Discounted cost from the empty system if device and server each play their own optimum.

        The joint distribution of both queues is carried forward: the server's optimum takes offloads as independent,
        which they are not quite, but it is evaluated on what really arrives.
        """
        policy = self.device_policy(price)
        served, _ = self.server_policy(policy.residual_tasks, self.offload_distribution(policy))
        size, kinds = len(self.server_queue), len(policy.residual_tasks)
        cost_of_server = self.server.hold_cost * self.server_queue + self.serve_cost[served]
        serve = sparse.csr_matrix((np.ones(size), (np.arange(size), np.arange(size) - served)), shape=(size, size))
        offload = [sparse.csr_matrix(self.offload_matrix(np.array([r]), np.ones(1))) for r in policy.residual_tasks]
        joint = np.zeros((policy.moves.shape[1], size))
        joint[0, 0] = 1.0
        total, weight = 0.0, 1.0
        while weight > HORIZON_WEIGHT:
            total += weight * float(joint.sum(axis=1) @ policy.cost + joint.sum(axis=0) @ cost_of_server)
            moved = np.asarray(policy.moves @ (joint @ serve)).reshape(kinds, -1, size)
            joint = self.arrive(sum(part @ shift for part, shift in zip(moved, offload, strict=True)))
            weight *= self.config.discount
        return total

    # --- coupled -----------------------------------------------------------------------------------------------------

    def coupled_cost(self) -> float:
        """Discounted cost from the empty system under the coupled optimum.

        The joint minimum splits: G(u, h, s~) = min_x [device cost + gamma E V(u', s~ + r)], then
        V(u, s) = w3 u + w1 s + E_h min_v [server cost(v) + G(u, h, s - v)].
        """
        lattice = Lattice(self.device, [i / TENTHS for i in range(TENTHS)])
        sent, outage = lattice.transmit(self.gain[:, None], np.zeros(1))
        values = self._first_guess()
        queue = np.arange(QUEUE_ROWS) + np.arange(TENTHS)[:, None] / TENTHS
        hold = self.device.hold_cost * queue[:, :, None] + self.server.hold_cost * self.server_queue
        for _ in range(SWEEPS_MAX):
            new = hold + self._best_pair(lattice, sent, outage, values)
            values, accurate = accelerated(values, new, self.config.discount, (0, 1, 2))
            if accurate:
                return float(values[0, 0, 0])
        raise RuntimeError(f"value iteration of the coupled problem did not converge in {SWEEPS_MAX} sweeps")

    def _first_guess(self) -> Array:
        """Sum of the two own optima, (10, rows, S)."""
        price = lowest_price(self.config)
        device = DeviceValues(self.scenario, self.mean_gain_per_w, np.array([price]), bins=FADING_BINS).table.table
        policy = self.device_policy(price)
        _, server = self.server_policy(policy.residual_tasks, self.offload_distribution(policy))
        return device.reshape(QUEUE_ROWS, TENTHS).T[:, :, None] + server

    def _best_pair(self, lattice: Lattice, sent: Array, outage: Array, values: Array) -> Array:
        """E_h min over x and v of the rest of the block and the continuation, (10, rows, S)."""
        size = values.shape[2]
        after = self.config.discount * self._after_arrivals(values)
        tenths = np.concatenate([after[:, :-1], after[:1, 1:]], axis=0)  # (11, rows, S+10)
        at = lattice.residual_tasks * TENTHS
        below = np.floor(at + 1e-6).astype(int)
        inside = np.maximum(at - below, 0.0)
        shape = (len(at), lattice.depth + QUEUE_ROWS, size)
        gone, kept = np.full(shape, np.inf), np.full(shape, np.inf)
        for r, (low, part) in enumerate(zip(below, inside, strict=True)):
            upper = min(low + 1, TENTHS)
            kept[r, lattice.depth :] = (1.0 - part) * tenths[low, :, :size] + part * tenths[upper, :, :size]
            whole = tenths[0] if self.config.residual_leaves_device else (1 - part) * tenths[low] + part * tenths[upper]
            gone[r, lattice.depth :] = (1.0 - part) * whole[:, low : low + size] + part * whole[:, upper : upper + size]
        sent, held = np.where(outage, np.inf, sent), np.where(outage, 0.0, np.inf)
        blocked = [part if out.any() else part[:, :0] for part, out in zip(kept, outage, strict=True)]
        best = []
        for i in range(TENTHS):
            left = np.full((FADING_BINS, QUEUE_ROWS, size), np.inf)  # over what service leaves
            lattice.lower_by(left, i, gone, np.broadcast_to(sent, (*sent.shape[:2], size)), only_idle=False)
            lattice.lower_by(left, i, blocked, np.broadcast_to(held, (*held.shape[:2], size)), only_idle=False)
            best.append(self.serve_smallest(left).mean(axis=0))
        return np.stack(best)

    def serve_smallest(self, left_value: Array) -> Array:
        """min_v c(v) + left_value(.., s - v) along the last axis."""
        best = left_value.copy()
        for v in range(1, self.serve_steps + 1):
            np.minimum(best[..., v:], left_value[..., :-v] + self.serve_cost[v], out=best[..., v:])
        return best

    def _after_arrivals(self, values: Array) -> Array:
        """Expectation over arrivals at kept queues of rows + 1 whole tasks, on server queues up to one task above."""
        n, rows = len(self.arrivals) - 1, QUEUE_ROWS
        slope = values[:, -1:] - values[:, -2:-1]
        longer = np.concatenate([values, values[:, -1:] + slope * np.arange(1, n + 2)[:, None]], axis=1)
        expected = sum(p * longer[:, a : a + rows + 1] for a, p in enumerate(self.arrivals))
        rise = (expected[..., -1:] - expected[..., -1 - TENTHS : -TENTHS]) / TENTHS
        return np.concatenate([expected, expected[..., -1:] + rise * np.arange(1, TENTHS + 1)], axis=2)


def price_of_decentralization(
    config: SequentialOffloadingConfig, mean_gain_db: float = 34.0, num_devices_effective: float = 20.0
) -> dict[str, float]:
    """Discounted cost from the empty system: coupled optimum, own optima, own optima under the price's fixed point.

    Args:
        config: the network (its `num_devices` does not matter).
        mean_gain_db: mean gain of the device over noise, dB of 1/W.
        num_devices_effective: K that the mean-field server carries.

    Returns:
        `coupled`, `decentralized`, `priced` (costs), `decentralized_excess`, `priced_excess` (shares of the coupled
        cost), `price` (cost per offloaded task).
    """
    problem = CoupledProblem(config, mean_gain_db, num_devices_effective)
    coupled = problem.coupled_cost()
    price = problem.priced_fixed_point()
    alone, priced = problem.decentralized_cost(), problem.decentralized_cost(price)
    return {
        "num_devices_effective": float(num_devices_effective),
        "mean_gain_db": float(mean_gain_db),
        "coupled": coupled,
        "decentralized": alone,
        "priced": priced,
        "decentralized_excess": alone / coupled - 1.0,
        "priced_excess": priced / coupled - 1.0,
        "price": price,
    }
