"""Elementary functions of numbers, compiled so that loops over arrays that call them are vectorised.

The C library's take one number at a time, as do Numba's calls of them. These are additions, multiplications and
divisions only, so that they also give the same bits on every processor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from edgemarl.envs.arrays import Array
from edgemarl.envs.compiled import compiled


@intrinsic  # type: ignore[untyped-decorator]  # Numba has no types
def _bits(typing: Any, number: Any) -> Any:
    """The 64 bits of a float as an integer."""
    return types.int64(types.float64), _reinterpreted


@intrinsic  # type: ignore[untyped-decorator]
def _float(typing: Any, bits: Any) -> Any:
    """The float of 64 bits."""
    return types.float64(types.int64), _reinterpreted


def _reinterpreted(target: Any, builder: Any, signature: Any, given: Any) -> Any:
    return builder.bitcast(given[0], target.get_value_type(signature.return_type))


_ROOT_HALF = 0x3FE6A09E00000000  # bits of sqrt(1/2), less rounding
_EXPONENT = 0xFFF << 52
_TWO_52_BITS, _TWO_52 = 0x4330000000000000, 2.0**52
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10


@compiled(inline="always", error_model="numpy")
def log_terms(x: float) -> tuple[float, float]:
    """ln(1 + x) and x/(1 + x) of x in [0, 1e307], each within a rounding or two.

    1 + x = 2^k m with m in [sqrt(1/2), sqrt(2)); ln m is odd in s = (m - 1)/(m + 1), of which the minimax polynomial
    of fdlibm is taken (`e_log.c`, Sun Microsystems, 1993); what 1 + x lost by rounding is put back.
    """
    u = 1.0 + x
    above = _bits(u) - _ROOT_HALF
    k = _float((above >> 52) | _TWO_52_BITS) - _TWO_52
    f = _float(_bits(u) - (above & _EXPONENT)) - 1.0
    g = 2.0 + f
    both = 1.0 / (u * g)  # one division for two
    inverse, s = g * both, f * (u * both)
    lost = (x - (u - 1.0)) * inverse
    z = s * s
    w = z * z
    even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01))
    odd = z * (
        6.666666666666735130e-01
        + w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01))
    )
    half = 0.5 * f * f
    return k * _LN2_HIGH - ((half - (s * (half + (odd + even)) + (k * _LN2_LOW + lost))) - f), x * inverse


_INVERSE_CUBE_ROOT_BITS = 0x553E_F000 << 32


@compiled(inline="always", error_model="numpy")
def near_inverse_cube_root(x: float) -> float:
    """x^(-1/3) of a normal x > 0 with a relative error below 3e-3, to start an iteration from; no division.

    A third of the bits of a float is near the cube root (W. Kahan); a step of Newton's iteration follows.
    """
    root = _float(_INVERSE_CUBE_ROOT_BITS - ((_bits(x) >> 32) * 0x55555556 >> 32 << 32))
    better: float = root * (1.0 / 3.0) * (4.0 - x * (root * root * root))
    return better


_ONE_BITS, _FRACTION = 0x3FF << 52, (1 << 52) - 1


@compiled(inline="always", error_model="numpy")
def near_log2(x: float) -> float:
    """log2 of a normal x >= 1 with an error below 0.005, to start an iteration from."""
    bits = _bits(x)
    m = _float((bits & _FRACTION) | _ONE_BITS)
    k = _float((bits >> 52) | _TWO_52_BITS) - (_TWO_52 + 1023.0)
    near: float = k + (m * (2.02466520 - 0.34484822 * m) - 1.67487725)
    return near


_BLOCK = 128
_U1, _U2, _U3, _U4, _U5, _U6, _U7 = (np.uintp(i) for i in range(1, 8))


@compiled(error_model="numpy")
def _block_sum(values: Array, first: int, count: int) -> float:
    """Sum of at most `_BLOCK` numbers: eight running sums, then what is left over."""
    total: float = 0.0
    at = np.uintp(first)  # unsigned: an index from the end would cost a test of each number
    if count < 8:
        for i in range(count):
            total += values[at + np.uintp(i)]
        return total
    a, b, c, d = values[at], values[at + _U1], values[at + _U2], values[at + _U3]
    e, f, g, h = values[at + _U4], values[at + _U5], values[at + _U6], values[at + _U7]
    whole = count - count % 8
    for i in range(8, whole, 8):
        k = at + np.uintp(i)
        a, b, c, d = a + values[k], b + values[k + _U1], c + values[k + _U2], d + values[k + _U3]
        e, f, g, h = e + values[k + _U4], f + values[k + _U5], g + values[k + _U6], h + values[k + _U7]
    total = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for i in range(whole, count):
        total += values[at + np.uintp(i)]
    return total


@compiled(
    types.float64(types.Array(types.float64, 1, "C", readonly=True), types.int64, types.int64),
    error_model="numpy",
    cache=True,
)
def _halved_sum(values: Array, first: int, count: int) -> float:
    if count <= _BLOCK:
        return _block_sum(values, first, count)
    half = count // 2
    half -= half % 8
    return _halved_sum(values, first, half) + _halved_sum(values, first + half, count - half)


@compiled(error_model="numpy")
def pairwise_sum(values: Array, first: int, count: int) -> float:
    """Sum of `count` numbers of an array (n,) from `first` on, in NumPy's order, so that it equals `np.sum`.

    Halves of more than 128 numbers are summed for themselves, which also loses less to rounding than a running sum.
    """
    return _block_sum(values, first, count) if count <= _BLOCK else _halved_sum(values, first, count)
