"""The layers of a perceptron as one differentiable operation, for CPUs: the same numbers in half the time.

Three things count with layers of 64 units and thousands of rows. tanh(x) = 2 sigmoid(2 x) - 1 is computed in place
(PyTorch's tanh takes four times as long as its sigmoid; they agree to 2e-7). A weight's gradient is a product of two
thin matrices over the rows, whose time depends on which one comes first: the narrower one. One operation for all layers
keeps nothing but the activations.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from edgemarl.agents.trained.spec import Activation

ORTHOGONAL_MAX = 1024
"""Widest layers on both sides whose first weights are orthogonal."""


def perceptron(x: torch.Tensor, weights: Sequence[Any], biases: Sequence[Any], activation: str) -> torch.Tensor:
    """Layers with an activation ("tanh" or "relu") between them.

    Args:
        x: (M, d) with weights (out, in) and biases (out,); or (n, M, d) with weights (n, in, out), biases (n, 1, out).
    """
    tracing: bool = torch.jit.is_tracing()  # type: ignore[no-untyped-call]
    if tracing or torch.compiler.is_compiling():  # exports hold PyTorch's plain operations
        return _plain(x, weights, biases, activation)
    if torch.is_grad_enabled():
        out: torch.Tensor = _Recorded.apply(x, activation, *weights, *biases)  # type: ignore[no-untyped-call]
        return out
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = _affine(x, weight, bias)
        if i < len(weights) - 1:
            x = _activated_(x, activation)
    return x


def _plain(x: torch.Tensor, weights: Sequence[Any], biases: Sequence[Any], activation: str) -> torch.Tensor:
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = _affine(x, weight, bias)
        if i < len(weights) - 1:
            x = torch.tanh(x) if activation == "tanh" else torch.relu(x)
    return x


def _affine(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.baddbmm(bias, x, weight) if x.dim() == 3 else torch.nn.functional.linear(x, weight, bias)


def _activated_(x: torch.Tensor, activation: str) -> torch.Tensor:
    """The activation, in place."""
    return x.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0) if activation == "tanh" else x.relu_()


def kept_forward(
    x: torch.Tensor, weights: Sequence[Any], biases: Sequence[Any], activation: str
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Outputs, and the input of every layer: all that `backward` needs of them."""
    inputs = []
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        inputs.append(x)
        x = _affine(x, weight, bias)
        if i < len(weights) - 1:
            x = _activated_(x, activation)
    return x, inputs


def backward(
    gradient: torch.Tensor,
    inputs: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    activation: str,
    of_weight: Sequence[bool],
    of_bias: Sequence[bool],
    of_input: slice | None,
) -> tuple[list[torch.Tensor | None], list[torch.Tensor | None], torch.Tensor | None]:
    """Gradients of weights, biases and these entries of the input, those that are asked for, from the outputs'."""
    of_weights: list[torch.Tensor | None] = [None] * len(weights)
    of_biases: list[torch.Tensor | None] = [None] * len(weights)
    for i in range(len(weights) - 1, -1, -1):
        if of_weight[i]:
            of_weights[i] = _weight_gradient(inputs[i], gradient)
        if of_bias[i]:
            of_biases[i] = gradient.sum(dim=-2, keepdim=gradient.dim() == 3)
        if i:
            gradient = _before_activation_(_input_gradient(gradient, weights[i]), inputs[i], activation)
    if of_input is None:
        return of_weights, of_biases, None
    entering = weights[0][:, of_input]  # inputs are a weight's second axis, shared or stacked
    return of_weights, of_biases, _input_gradient(gradient, entering)


class Layers(NamedTuple):
    """A perceptron's parameters as lists, and its gradients without a recorded graph.

    With small layers PyTorch's own work for an update (walking the modules, recording and replaying the graph) takes
    several times as long as the products. Shapes as those of `perceptron`; the numbers are those of autograd.
    """

    weights: tuple[torch.Tensor, ...]
    biases: tuple[torch.Tensor, ...]
    activation: str

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Outputs, and the input of every layer."""
        return kept_forward(x, self.weights, self.biases, self.activation)

    def gradients(self, inputs: Sequence[torch.Tensor], gradient: torch.Tensor) -> dict[torch.Tensor, Any]:
        """Parameter -> gradient, from the inputs of `forward` and the gradient of its outputs."""
        all_of_them = [True] * len(self.weights)
        of_weights, of_biases, _ = backward(
            gradient, inputs, self.weights, self.activation, all_of_them, all_of_them, None
        )
        return dict(zip((*self.weights, *self.biases), (*of_weights, *of_biases), strict=True))

    def input_gradient(self, inputs: Sequence[torch.Tensor], gradient: torch.Tensor, entries: slice) -> torch.Tensor:
        """The gradient of these entries of the first input alone."""
        none_of_them = [False] * len(self.weights)
        _, _, of_input = backward(gradient, inputs, self.weights, self.activation, none_of_them, none_of_them, entries)
        assert of_input is not None
        return of_input


class _Recorded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, activation: str, *parameters: torch.Tensor) -> torch.Tensor:
        count = len(parameters) // 2
        out, inputs = kept_forward(x, parameters[:count], parameters[count:], activation)
        ctx.activation = activation
        ctx.save_for_backward(*inputs, *parameters[:count])
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        count = len(ctx.saved_tensors) // 2
        inputs, weights = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        of_input, _, *asked = ctx.needs_input_grad
        of_weights, of_biases, of_x = backward(
            gradient, inputs, weights, ctx.activation, asked[:count], asked[count:], slice(None) if of_input else None
        )
        return of_x, None, *of_weights, *of_biases


def _weight_gradient(x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Of (out, in) for x (M, in), or of (n, in, out) for x (n, M, in): the narrower factor comes first."""
    if x.shape[-1] < gradient.shape[-1]:
        product = x.transpose(-2, -1) @ gradient
        return product if x.dim() == 3 else product.t().contiguous()
    product = gradient.transpose(-2, -1) @ x
    return product.transpose(1, 2).contiguous() if x.dim() == 3 else product


def _input_gradient(gradient: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.bmm(gradient, weight.transpose(1, 2)) if gradient.dim() == 3 else gradient @ weight


def _before_activation_(gradient: torch.Tensor, activated: torch.Tensor, activation: str) -> torch.Tensor:
    """The gradient in front of an activation, from the activation's value, in place."""
    if activation == "tanh":
        torch.ops.aten.tanh_backward.grad_input(gradient, activated, grad_input=gradient)
    else:
        torch.ops.aten.threshold_backward.grad_input(gradient, activated, 0.0, grad_input=gradient)
    return gradient


class Perceptron(nn.Module):
    """A perceptron with orthogonal start (`_first_weights`) and zero biases; shared (..., d) or stacked (M, n, d).

    `blind` are inputs that a fresh network does not use: it starts as one without them and learns what they are for.
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        agents: int = 0,
        output_gain: float = 1.0,
        activation: Activation = "tanh",
        blind: range = range(0),
    ) -> None:
        super().__init__()
        self.activation = activation
        sizes = [inputs, *hidden, outputs]
        self.agents = agents
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for i, (rows, columns) in enumerate(itertools.pairwise(sizes)):
            gain = output_gain if i == len(hidden) else math.sqrt(2.0)
            used = [c for c in range(rows) if i or c not in blind]
            layers = [torch.zeros(columns, rows) for _ in range(max(agents, 1))]
            for layer in layers:
                layer[:, used] = _first_weights(columns, len(used), gain)
            if agents:
                self.weights.append(nn.Parameter(torch.stack(layers).transpose(1, 2).contiguous()))
                self.biases.append(nn.Parameter(torch.zeros(agents, 1, columns)))
            else:
                self.weights.append(nn.Parameter(layers[0]))
                self.biases.append(nn.Parameter(torch.zeros(columns)))

    def listed(self) -> Layers:
        """The parameters, listed once; they stay the module's own."""
        return Layers((*self.weights,), (*self.biases,), self.activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.agents:  # agent first: one batched product per layer
            return perceptron(x.transpose(0, 1), [*self.weights], [*self.biases], self.activation).transpose(0, 1)
        out = perceptron(x.reshape(-1, x.shape[-1]), [*self.weights], [*self.biases], self.activation)
        return out.reshape(*x.shape[:-1], out.shape[-1])


def _first_weights(outputs: int, inputs: int, gain: float) -> torch.Tensor:
    """(outputs, inputs) orthogonal; where both are large a Gaussian of the same mean square, nearly orthogonal.

    The decomposition behind an orthogonal matrix takes seconds from thousands of units on, many times an update.
    """
    weights = torch.empty(outputs, inputs)
    if min(outputs, inputs) <= ORTHOGONAL_MAX:
        return nn.init.orthogonal_(weights, gain)
    return nn.init.normal_(weights, 0.0, gain / math.sqrt(max(outputs, inputs)))
