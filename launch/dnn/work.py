"""Multiply-accumulate operations of torch's operators: convolutions and matrix products.

One multiplication of complex numbers counts as the four real ones that it takes. Padding counts as any other element,
and attention as if nothing were masked. What is neither (activations, norms, pooling, embeddings, sorting, FFT,
solving) counts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

Arguments = Sequence[Any]
SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)


class Uncounted(ValueError):
    """An operator that multiplies and that nothing here counts; the message names it."""


def _matrices(a: Tensor, b: Tensor) -> int:
    """(.., n, k) times (.., k, m); a sparse matrix works with its entries alone."""
    columns = b.shape[-1] if b.dim() > 1 else 1
    if a.layout in SPARSE:
        return a._nnz() * columns
    return a.numel() * columns


def _convolution(x: Tensor, weight: Tensor, out: Tensor, transposed: bool) -> int:
    """Every output (of a transposed one: every input) is one kernel's width of products."""
    places = x if transposed else out
    return places.numel() // places.shape[1] * weight.numel()


def _attention(query: Tensor, key: Tensor, value: Tensor) -> int:
    """Scores and their sum of values, with all heads of the queries."""
    return prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _recurrent(steps: Tensor, *weights: Tensor) -> int:
    """One layer and direction of an LSTM over (steps, batch, features)."""
    return prod(steps.shape[:-1]) * sum(weight.numel() for weight in weights)


def _grouped(a: Tensor, b: Tensor) -> int:
    """Products of groups of rows (or columns, or of the inner axis): however they are divided, the work is the same."""
    both = a.dim() == b.dim() == 3
    return (a.shape[0] if both else 1) * a.shape[-2] * a.shape[-1] * b.shape[-1]


def _three_factors(a: Arguments, out: Tensor) -> int:
    """A product of three tensors, each with axes of length 1 where it does not reach, summed over some axes."""
    sizes = []
    for tensor, new in zip(a[:3], a[3:6], strict=True):
        for axis in sorted(new):
            tensor = tensor.unsqueeze(axis)
        sizes.append(tensor.shape)
    return prod(torch.broadcast_shapes(*sizes))


FACTORS: Mapping[str, tuple[int, ...]] = {
    "mm": (0, 1), "bmm": (0, 1), "mv": (0, 1), "dot": (0, 1), "vdot": (0, 1), "_int_mm": (0, 1),
    "addmm": (1, 2), "baddbmm": (1, 2), "addbmm": (1, 2), "addmv": (1, 2), "_addmm_activation": (1, 2),
    "_sparse_addmm": (1, 2), "linear": (0, 1), "mkldnn_linear": (0, 1), "convolution": (0, 1), "_convolution": (0, 1),
    "mkldnn_convolution": (0, 1), "cudnn_convolution": (0, 1), "convolution_overrideable": (0, 1), "conv_tbc": (0, 1),
}  # fmt: skip
"""Operator -> places of the two tensors that it multiplies."""

_COUNTS: Mapping[str, Callable[[Arguments, Tensor], int]] = {
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "vdot", "_int_mm"), lambda a, out: _matrices(a[0], a[1])),
    **dict.fromkeys(
        ("addmm", "baddbmm", "addbmm", "addmv", "_addmm_activation", "_sparse_addmm"),
        lambda a, out: _matrices(a[1], a[2]),
    ),
    **dict.fromkeys(("linear", "mkldnn_linear"), lambda a, out: out.numel() * a[1].shape[-1]),
    **dict.fromkeys(
        ("convolution", "_convolution", "convolution_overrideable"),
        lambda a, out: _convolution(a[0], a[1], out, bool(a[6])),
    ),
    **dict.fromkeys(("mkldnn_convolution", "cudnn_convolution"), lambda a, out: _convolution(a[0], a[1], out, False)),
    "conv_tbc": lambda a, out: prod(out.shape[:2]) * a[1].numel(),
    "_trilinear": _three_factors,
    "_euclidean_dist": lambda a, out: out.numel() * (a[0].shape[-1] + 2),  # one product: coordinates and both norms
    **dict.fromkeys(
        (
            "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
            "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
            "_scaled_dot_product_fused_attention_overrideable",
        ),
        lambda a, out: _attention(a[0], a[1], a[2]),
    ),
    "_grouped_mm": lambda a, out: _grouped(a[0], a[1]),
    "_cudnn_rnn": lambda a, out: prod(a[0].shape[:-1]) * sum(w.numel() for w in a[1] if w.dim() > 1),
    "mkldnn_rnn_layer": lambda a, out: _recurrent(a[0], a[1], a[2]),
}  # fmt: skip

_MULTIPLIES = re.compile(
    r"(?:^|_)(\w*(mm|mv)|matmul|conv(olution)?|conv\dd|linear|lstm|gru|rnn|attention|dot|mha|encoder|decoder|matrix_exp)(?=_|$)"
)
_DOES_NOT = re.compile(r"_thnn_fused_|_flatten_weight|_fused_sdp_choice|reorder_conv|_cell_backward")
_OWN = ("aten", "prim", "prims")


def macs(function: Any, arguments: Arguments, keywords: Mapping[str, Any], out: Any) -> int:
    """Multiply-accumulate operations of one call of an operator.

    Args:
        function: `torch._ops.OpOverload`.
        arguments, keywords: as it was called.
        out: what it returned.

    Raises:
        Uncounted: an operator whose work is not known: neither torch's own nor registered with
            `torch.utils.flop_counter.register_flop_formula`, or one of torch's that multiplies in another way.
    """
    space, name = function.namespace, function._opname
    first = out[0] if isinstance(out, tuple | list) and out else out
    if space == "aten" and name in _COUNTS:
        _check_layouts(name, arguments)
        return _COUNTS[name](arguments, first) * _per_product(arguments)
    if function.overloadpacket in flop_registry:
        return int(flop_registry[function.overloadpacket](*arguments, **keywords, out_val=out)) // 2
    if space == "quantized":
        raise Uncounted(f"quantized layers ({space}::{name}) are not counted: profile the network as it was before")
    if space not in _OWN:
        raise Uncounted(
            f"operator {space}::{name} is not one of torch's, so its work is not known: give it by"
            " torch.utils.flop_counter.register_flop_formula"
        )
    if _MULTIPLIES.search(name) and not _DOES_NOT.search(name):
        raise Uncounted(f"operator {space}::{name} multiplies in a way that is not counted")
    return 0


def _per_product(arguments: Arguments) -> int:
    return 4 if any(isinstance(a, Tensor) and a.is_complex() for a in arguments) else 1


def _check_layouts(name: str, arguments: Arguments) -> None:
    factors = [arguments[i] for i in FACTORS.get(name, ())]
    tensors = [a for a in arguments if isinstance(a, Tensor) and str(a.layout).startswith("torch.sparse")]
    left = factors[0] if factors else None
    if any(t is not left or t.layout not in SPARSE or t.dim() != 2 for t in tensors):
        raise Uncounted(
            f"operator aten::{name} on sparse tensors is counted only where a sparse matrix is the left factor"
        )
