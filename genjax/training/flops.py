"""Floating point operations and bytes of a function, counted from what it traces to."""

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax


def matrix_flops(function: Callable[..., Any], *args: Any) -> float:
    """Operations of all matrix products and convolutions, a multiplication and an addition each.

    Counted before the compiler: over all devices, with every turn of a ``lax.scan`` (of a loop of
    unknown length one turn) and the cheapest branch of a conditional, so that what a step does now
    and then is left out. Elementwise work is not counted, nor are products with the zeros that a
    dilated input is filled up with; what is computed twice (rematerialisation) counts twice.

    Args:
        function: Function of arrays.
        *args: Its arguments, or their shapes.

    Returns:
        The number of operations.

    Example:
        >>> x = jax.ShapeDtypeStruct((8, 16), "float32")
        >>> matrix_flops(lambda x: x @ x.T, x)
        2048.0
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*args).jaxpr, _flops_of)


def matrix_bytes(function: Callable[..., Any], *args: Any) -> float:
    """Bytes that matrix products and convolutions read and write, over all devices.

    With all elementwise work done on the way, this is what a step moves through memory; compilers
    come near it from above. Counted as :func:`matrix_flops` counts.

    Args:
        function: Function of arrays.
        *args: Its arguments, or their shapes.

    Returns:
        The number of bytes of all operands and results.

    Example:
        >>> x = jax.ShapeDtypeStruct((8, 16), "float32")
        >>> matrix_bytes(lambda x: x @ x.T, x)
        1280.0
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*args).jaxpr, _bytes_of)


_Measure: TypeAlias = Callable[[Any], float | None]
"""Of an equation; None for what is neither a product nor a convolution."""


def _of_jaxpr(jaxpr: Any, measure: _Measure) -> float:
    return math.fsum(_of_equation(equation, measure) for equation in jaxpr.eqns)


def _bytes_of(equation: Any) -> float | None:
    if _flops_of(equation) is None:
        return None
    arrays = [v.aval for v in (*equation.invars, *equation.outvars)]
    return float(sum(math.prod(a.shape) * a.dtype.itemsize for a in arrays))


def _flops_of(equation: Any) -> float | None:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        lhs = equation.invars[0].aval.shape
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * _size(lhs, contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        spec = params["dimension_numbers"].rhs_spec  # outputs, inputs of a group, then space
        products = math.prod(equation.outvars[0].aval.shape) * _size(kernel, spec[1:])
        return 2.0 * products / math.prod(params["lhs_dilation"])
    if hasattr(params.get("geometry"), "flops"):  # a convolution of genjax.nets, or its gradients
        return float(params["geometry"].flops)
    return None


def _of_equation(equation: Any, measure: _Measure) -> float:
    own = measure(equation)
    if own is not None:
        return own
    name, params = equation.primitive.name, equation.params
    inner = [_of_jaxpr(jaxpr, measure) for jaxpr in _inside(params)]
    if name == "cond":
        return min(inner)
    times = 1
    if name == "scan":
        times = params["length"]
    elif name == "shard_map":  # its body is what one device does
        times = params["mesh"].size
    return times * math.fsum(inner)


def primitives(function: Callable[..., Any], *args: Any) -> set[str]:
    """Names of all primitives in what a function traces to, inner programs included.

    Args:
        function: Function of arrays.
        *args: Its arguments, or their shapes.
    """

    def names(jaxpr: Any) -> Iterator[str]:
        for equation in jaxpr.eqns:
            yield equation.primitive.name
            for inner in _inside(equation.params):
                yield from names(inner)

    return set(names(jax.make_jaxpr(function)(*args).jaxpr))


def _size(shape: tuple[int, ...], axes: Any) -> int:
    return math.prod(shape[axis] for axis in axes)


def _inside(params: Any) -> Iterator[Any]:
    """The programs among the parameters of an equation."""
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else [value]:
            jaxpr = getattr(one, "jaxpr", one)  # a closed one has it inside
            if hasattr(jaxpr, "eqns"):
                yield jaxpr
