r"""Convolution layers with Flax's parameters and results whose gradients are fast on CPU too.

XLA's CPU backend runs a plain convolution and its two gradients well, with two exceptions: the
weight gradient of a *transposed* convolution (30 to 60 times slower than the equal one of a plain
convolution) and any weight gradient inside a loop or a branch (10 to 100 times slower; input
gradients up to 7 times). So a transposed convolution here *is* the input gradient of a plain one,
whose weight gradient is the plain one's, and both gradients have a form for use in a ``lax.scan``
or a ``lax.cond`` (:func:`genjax.devices.nested`): matrix products, and a plain convolution.
``scripts/bench_conv.py`` prints the timings.

A convolution is bilinear, and so are its two gradients; the derivatives of the three are the three
again:

.. code-block:: text

    y  = conv(x, w)          x, w -> y
    dx = input_grad(dy, w)   the adjoint in x; a transposed convolution
    dw = weight_grad(x, dy)  the adjoint in w

Three primitives with bilinear differentiation rules therefore cover forward mode, reverse mode and
gradients of gradients (a gradient penalty, say). On GPU and TPU they lower to XLA's own operations.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.extend.core as jex_core
import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from genjax.devices import is_nested


# Frozen, and so hashable: it is a parameter of primitives, by which JAX looks up what it compiled.
@dataclasses.dataclass(frozen=True)
class _Geometry:
    """A convolution without its operands; channels last, kernels ``[*taps, I, O]``."""

    input_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    kernel_dilation: tuple[int, ...]
    groups: int
    precision: Any
    in_loop: bool

    @property
    def spatial(self) -> int:
        return len(self.strides)

    @property
    def output_shape(self) -> tuple[int, ...]:
        # Places that a window of (taps - 1) * dilation + 1 can be put at in the padded input.
        sizes = [
            (n + low + high - ((k - 1) * dilation + 1)) // stride + 1
            for n, (low, high), k, dilation, stride in zip(
                self.input_shape[1:-1],
                self.padding,
                self.kernel_shape,
                self.kernel_dilation,
                self.strides,
                strict=False,  # kernel_shape goes on with its channels
            )
        ]
        return (self.input_shape[0], *sizes, self.kernel_shape[-1])

    @property
    def pointwise(self) -> bool:
        """Whether each output pixel is a linear map of the input pixel at its place."""
        plain = self.strides == (1,) * self.spatial and not any(map(any, self.padding))
        return plain and self.groups == 1 and set(self.kernel_shape[:-2]) == {1}

    @property
    def flops(self) -> float:
        """Operations of the convolution and of either gradient, products with padding included."""
        return 2.0 * math.prod(self.output_shape) * math.prod(self.kernel_shape[:-1])


def _conv(x: Array, w: Array, *, geometry: _Geometry) -> Array:
    dims = "".join("DHW"[3 - geometry.spatial :])
    return lax.conv_general_dilated(
        x,
        w,
        geometry.strides,
        geometry.padding,
        rhs_dilation=geometry.kernel_dilation,
        dimension_numbers=(f"N{dims}C", f"{dims}IO", f"N{dims}C"),
        feature_group_count=geometry.groups,
        precision=geometry.precision,
    )


def _input_grad(g: Array, w: Array, *, geometry: _Geometry) -> Array:
    # The convolution is linear in x: its transpose is the gradient, for which XLA knows the
    # operation.
    x = jax.ShapeDtypeStruct(geometry.input_shape, g.dtype)
    return jax.linear_transpose(lambda x: _conv(x, w, geometry=geometry), x)(g)[0]


def _weight_grad(x: Array, g: Array, *, geometry: _Geometry) -> Array:
    # Linear in w likewise.
    w = jax.ShapeDtypeStruct(geometry.kernel_shape, x.dtype)
    return jax.linear_transpose(lambda w: _conv(x, w, geometry=geometry), w)(g)[0]


def _weight_grad_by_taps(x: Array, g: Array, *, geometry: _Geometry) -> Array:
    """One matrix product for each tap of the kernel, which does not slow down inside a loop."""
    zero = jnp.zeros((), x.dtype)
    x = lax.pad(
        x, zero, [(0, 0, 0), *((low, high, 0) for low, high in geometry.padding), (0, 0, 0)]
    )
    x = lax.optimization_barrier(x)  # or the activation in front is computed again for each tap
    out_sizes, out_channels = g.shape[1:-1], g.shape[-1]
    rows = g.reshape(-1, geometry.groups, out_channels // geometry.groups)
    *taps, in_channels, _ = geometry.kernel_shape
    products = []
    for tap in _positions(taps):
        # A tap's weight meets, for each output, one input pixel: those of all outputs are a strided
        # slice, and the gradient is the product of that slice with g over rows and places.
        start = [t * d for t, d in zip(tap, geometry.kernel_dilation, strict=True)]
        stop = [
            s + (n - 1) * stride + 1
            for s, n, stride in zip(start, out_sizes, geometry.strides, strict=True)
        ]
        window = lax.slice(
            x, (0, *start, 0), (x.shape[0], *stop, x.shape[-1]), (1, *geometry.strides, 1)
        ).reshape(-1, geometry.groups, in_channels)
        products.append(jnp.einsum("ngi,ngo->igo", window, rows, precision=geometry.precision))
    return jnp.stack(products).reshape(geometry.kernel_shape)


def _keeps_places(geometry: _Geometry) -> bool:
    """Whether the input gradient is a plain convolution of the same kind."""
    ones = (1,) * geometry.spatial
    return geometry.strides == ones and geometry.kernel_dilation == ones and geometry.groups == 1


def _input_grad_by_conv(g: Array, w: Array, *, geometry: _Geometry) -> Array:
    """The convolution with the mirrored kernel, which does not slow down inside a loop.

    The same to XLA as long as it sees that the kernel is mirrored, which is why it must not.
    """
    spatial = geometry.spatial
    mirrored = lax.optimization_barrier(jnp.flip(w, tuple(range(spatial))).swapaxes(-1, -2))
    dims = "".join("DHW"[3 - spatial :])
    # A gradient reaches as far as the kernel, less what the input was padded with.
    padding = [
        (k - 1 - low, k - 1 - high)
        for k, (low, high) in zip(geometry.kernel_shape, geometry.padding, strict=False)
    ]
    return lax.conv_general_dilated(
        g,
        mirrored,
        geometry.strides,
        padding,
        dimension_numbers=(f"N{dims}C", f"{dims}IO", f"N{dims}C"),
        precision=geometry.precision,
    )


def _pointwise(x: Array, w: Array, *, geometry: _Geometry) -> Array:
    y = jnp.dot(_rows(x), w.reshape(w.shape[-2:]), precision=geometry.precision)
    return y.reshape(geometry.output_shape)


def _pointwise_input_grad(g: Array, w: Array, *, geometry: _Geometry) -> Array:
    x = jnp.dot(_rows(g), w.reshape(w.shape[-2:]).T, precision=geometry.precision)
    return x.reshape(geometry.input_shape)


def _pointwise_weight_grad(x: Array, g: Array, *, geometry: _Geometry) -> Array:
    # The left operand is laid out anew once: a product that sums over the first axis of both is
    # slower by more than that takes.
    columns = lax.optimization_barrier(_rows(x).T)
    w = jnp.dot(columns, _rows(g), precision=geometry.precision)
    return w.reshape(geometry.kernel_shape)


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _positions(sizes: Sequence[int]) -> list[tuple[int, ...]]:
    if not sizes:
        return [()]
    return [(i, *rest) for i in range(sizes[0]) for rest in _positions(sizes[1:])]


def _primitive(name: str, function: Any) -> jex_core.Primitive:
    primitive = jex_core.Primitive(name)
    primitive.def_impl(jax.jit(function, static_argnames="geometry"))

    def abstract_eval(*operands: Any, geometry: _Geometry) -> Any:
        # From the type of an operand, so that what it says besides shape and dtype is kept.
        structs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in operands]
        out = jax.eval_shape(functools.partial(function, geometry=geometry), *structs)
        return operands[0].update(shape=out.shape, dtype=out.dtype)

    primitive.def_abstract_eval(abstract_eval)
    mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=False))

    def batch(operands: Any, axes: Any, *, geometry: _Geometry) -> Any:
        # Under vmap the primitive gives way to the operations that it is made of, which JAX can
        # batch.
        call = functools.partial(function, geometry=geometry)
        return jax.vmap(call, in_axes=axes)(*operands), 0

    batching.primitive_batchers[primitive] = batch
    return primitive


_conv_p = _primitive("genjax_conv", _conv)
_input_grad_p = _primitive("genjax_conv_input_grad", _input_grad)
_weight_grad_p = _primitive("genjax_conv_weight_grad", _weight_grad)


def _conv_on_cpu(x: Array, w: Array, *, geometry: _Geometry) -> Array:
    if _one_by_one(geometry):
        return _of_groups(_conv_on_cpu, x, w, geometry)
    return (_pointwise if geometry.pointwise else _conv)(x, w, geometry=geometry)


def _input_grad_on_cpu(g: Array, w: Array, *, geometry: _Geometry) -> Array:
    if _one_by_one(geometry):
        return _of_groups(_input_grad_on_cpu, g, w, geometry)
    function = _pointwise_input_grad if geometry.pointwise else _input_grad
    if geometry.in_loop and not geometry.pointwise and _keeps_places(geometry):
        function = _input_grad_by_conv
    return function(g, w, geometry=geometry)


def _weight_grad_on_cpu(x: Array, g: Array, *, geometry: _Geometry) -> Array:
    if _one_by_one(geometry):
        return _of_groups(_weight_grad_on_cpu, x, g, geometry)
    # Both are at hand, and are laid out anew: without a barrier what they come from is computed
    # again for that, pixel by pixel.
    x, g = lax.optimization_barrier((x, g))
    function = _weight_grad_by_taps if geometry.in_loop else _weight_grad
    if geometry.pointwise:
        function = _pointwise_weight_grad
    return function(x, g, geometry=geometry)


def _one_by_one(geometry: _Geometry) -> bool:
    """Whether groups are convolved one after the other.

    XLA's CPU backend has no fast convolution in groups, and its gradients are slower than those of
    single ones by one or two orders of magnitude. Of many groups the program would be too long.
    """
    return 1 < geometry.groups <= 32


def _of_groups(function: Any, a: Array, b: Array, geometry: _Geometry) -> Array:
    # Channels, and so groups, are last in the operands and results of all three.
    groups = geometry.groups
    *taps, inputs, outputs = geometry.kernel_shape
    one = dataclasses.replace(
        geometry,
        groups=1,
        input_shape=(*geometry.input_shape[:-1], inputs),
        kernel_shape=(*taps, inputs, outputs // groups),
    )
    pairs = zip(jnp.split(a, groups, -1), jnp.split(b, groups, -1), strict=True)
    return jnp.concatenate([function(c, d, geometry=one) for c, d in pairs], -1)


for _p, _function in (
    (_conv_p, _conv_on_cpu),
    (_input_grad_p, _input_grad_on_cpu),
    (_weight_grad_p, _weight_grad_on_cpu),
):
    mlir.register_lowering(_p, mlir.lower_fun(_function, multiple_results=False), "cpu")

# The derivatives of the three primitives, which are the three again. Each rule takes the cotangent
# of the output and the other operand. In the second, the output is an input gradient: its cotangent
# is shaped like x. In the third it is shaped like w.
ad.defbilinear(
    _conv_p,
    lambda ct, x, w, **kw: _input_grad_p.bind(ct, w, **kw),
    lambda ct, x, w, **kw: _weight_grad_p.bind(x, ct, **kw),
)
ad.defbilinear(
    _input_grad_p,
    lambda ct, g, w, **kw: _conv_p.bind(ct, w, **kw),
    lambda ct, g, w, **kw: _weight_grad_p.bind(ct, g, **kw),
)
ad.defbilinear(
    _weight_grad_p,
    lambda ct, x, g, **kw: _input_grad_p.bind(g, ct, **kw),
    lambda ct, x, g, **kw: _conv_p.bind(x, ct, **kw),
)


def _spatial_rank(x: Array, kernel: Array) -> int:
    """Checks that the operands are those of one convolution; returns its spatial rank."""
    spatial = x.ndim - 2
    if kernel.ndim != x.ndim or not 1 <= spatial <= 3:
        raise ValueError(
            f"expected x [B, *spatial, I] and a kernel [*taps, I, O] with 1 to 3 spatial axes, "
            f"got shapes {x.shape} and {kernel.shape}"
        )
    if x.dtype != kernel.dtype:
        raise ValueError(f"expected one dtype, got x {x.dtype} and kernel {kernel.dtype}")
    return spatial


def conv(
    x: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *,
    kernel_dilation: Sequence[int] | None = None,
    groups: int = 1,
    precision: Any = None,
    in_loop: bool = False,
) -> Array:
    """Convolution, channels last, with the result of :func:`jax.lax.conv_general_dilated`.

    Args:
        x: The input, ``[B, *spatial, I]``.
        kernel: The kernel, ``[*taps, I / groups, O]``, of the dtype of ``x``.
        strides: Stride of each spatial axis.
        padding: ``"SAME"``, ``"VALID"`` or (low, high) of each spatial axis, which may be negative.
        kernel_dilation: Spacing of the taps along each spatial axis.
        groups: Number of groups of channels that do not mix.
        precision: Precision of the products, as in :func:`jax.lax.conv_general_dilated`.
        in_loop: Whether to formulate gradients so that they stay fast inside ``lax.scan`` on CPU.

    Returns:
        The output, ``[B, *spatial_out, O]``.

    Raises:
        ValueError: If the ranks, dtypes or channel counts do not match.
    """
    spatial = _spatial_rank(x, kernel)
    if x.shape[-1] != kernel.shape[-2] * groups or kernel.shape[-1] % groups:
        raise ValueError(
            f"expected {kernel.shape[-2]} x {groups} groups input channels and a multiple of "
            f"{groups} output channels, got x {x.shape} and kernel {kernel.shape}"
        )
    dilation = tuple(kernel_dilation or (1,) * spatial)
    extent = [(k - 1) * d + 1 for k, d in zip(kernel.shape, dilation, strict=False)]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:-1], extent, tuple(strides), padding)
    geometry = _Geometry(
        input_shape=tuple(x.shape),
        kernel_shape=tuple(kernel.shape),
        strides=tuple(strides),
        padding=tuple((int(low), int(high)) for low, high in padding),
        kernel_dilation=dilation,
        groups=groups,
        precision=precision,
        in_loop=in_loop or is_nested(),
    )
    return _conv_p.bind(x, kernel, geometry=geometry)


def conv_transpose(
    x: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *,
    kernel_dilation: Sequence[int] | None = None,
    transpose_kernel: bool = False,
    precision: Any = None,
    in_loop: bool = False,
) -> Array:
    """Transposed convolution, channels last, with the result of :func:`jax.lax.conv_transpose`.

    Args:
        x: The input, ``[B, *spatial, I]``.
        kernel: The kernel, ``[*taps, I, O]`` (``[*taps, O, I]`` if ``transpose_kernel``).
        strides: Factor by which each spatial axis grows.
        padding: ``"SAME"``, ``"VALID"`` or (low, high) of each spatial axis, applied to the
            stretched input as in :func:`jax.lax.conv_transpose`.
        kernel_dilation: Spacing of the taps along each spatial axis.
        transpose_kernel: Whether the kernel is that of the convolution whose gradient this is.
        precision: Precision of the products, as in :func:`jax.lax.conv_transpose`.
        in_loop: Whether to formulate gradients so that they stay fast inside ``lax.scan`` on CPU.

    Returns:
        The output, ``[B, *spatial_out, O]``.

    Raises:
        ValueError: If the ranks, dtypes or channel counts do not match.
    """
    spatial = _spatial_rank(x, kernel)
    # The plain convolution maps the output back to the input with the mirrored kernel.
    if not transpose_kernel:
        kernel = jnp.flip(kernel, tuple(range(spatial))).swapaxes(-1, -2)
    if x.shape[-1] != kernel.shape[-1]:
        raise ValueError(f"expected {kernel.shape[-1]} input channels, got x {x.shape}")
    dilation = tuple(kernel_dilation or (1,) * spatial)
    # For each axis the padding (low, total) of the stretched input, as jax.lax.conv_transpose
    # defines it, then the size of the output, then the padding of the plain convolution whose input
    # gradient this is: it has extent - 1 less what is padded here.
    pads, sizes = [], []
    for axis in range(spatial):
        extent = (kernel.shape[axis] - 1) * dilation[axis] + 1
        stride = strides[axis]
        if padding == "VALID":
            low, total = extent - 1, extent + stride - 2 + max(extent - stride, 0)
        elif padding == "SAME":
            total = extent + stride - 2
            low = extent - 1 if stride > extent - 1 else -(-total // 2)
        elif isinstance(padding, str):
            raise ValueError(f"expected padding SAME, VALID or pairs, got {padding!r}")
        else:
            low, total = padding[axis][0], sum(padding[axis])
        sizes.append((x.shape[axis + 1] - 1) * stride + 1 + total - extent + 1)
        pads.append((extent - 1 - low, extent - 1 - (total - low)))
    geometry = _Geometry(
        input_shape=(x.shape[0], *sizes, kernel.shape[-2]),
        kernel_shape=tuple(kernel.shape),
        strides=tuple(strides),
        padding=tuple(pads),
        kernel_dilation=dilation,
        groups=1,
        precision=precision,
        in_loop=in_loop or is_nested(),
    )
    return _input_grad_p.bind(x, kernel, geometry=geometry)


class Conv(nn.Conv):
    """:class:`flax.linen.Conv` (same fields, parameters and results) with :func:`conv` inside.

    Attributes:
        in_loop: Whether the layer runs inside ``lax.scan`` (scanned blocks).
    """

    in_loop: bool = False

    def __post_init__(self) -> None:
        # The hook by which Flax lets a layer bring its own convolution.
        if self.conv_general_dilated is None:
            self.conv_general_dilated = functools.partial(_flax_conv, in_loop=self.in_loop)
        super().__post_init__()


def _flax_conv(
    x: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *,
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: Any,
    feature_group_count: int,
    precision: Any,
    in_loop: bool,
) -> Array:
    if any(d != 1 for d in lhs_dilation):
        raise ValueError("input_dilation is not supported: use ConvTranspose")
    return conv(
        x,
        kernel,
        strides,
        padding,
        kernel_dilation=rhs_dilation,
        groups=feature_group_count,
        precision=precision,
        in_loop=in_loop,
    )


class ConvTranspose(nn.Module):
    """:class:`flax.linen.ConvTranspose` (same parameters and results) on :func:`conv_transpose`.

    Attributes:
        features: Output channels.
        kernel_size: Taps along each spatial axis.
        strides: Factor by which each spatial axis grows.
        padding: ``"SAME"``, ``"VALID"`` or (low, high) of each spatial axis.
        kernel_dilation: Spacing of the taps along each spatial axis.
        use_bias: Whether to add a bias.
        transpose_kernel: Whether the kernel is kept as ``[*taps, O, I]``.
        dtype: The precision of the computation; inferred from input and parameters if None.
        param_dtype: The precision of the parameters.
        precision: Precision of the products, as in :func:`jax.lax.conv_transpose`.
        kernel_init: Initialiser of the kernel.
        bias_init: Initialiser of the bias.
        in_loop: Whether the layer runs inside ``lax.scan``.
    """

    features: int
    kernel_size: Sequence[int]
    strides: Sequence[int] | None = None
    padding: str | Sequence[tuple[int, int]] = "SAME"
    kernel_dilation: Sequence[int] | None = None
    use_bias: bool = True
    transpose_kernel: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None
    kernel_init: Any = nn.initializers.lecun_normal()
    bias_init: Any = nn.initializers.zeros_init()
    in_loop: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps ``[B, *spatial, I]`` to ``[B, *spatial_out, features]``."""
        channels = (x.shape[-1], self.features)
        if self.transpose_kernel:
            channels = channels[::-1]
        kernel = self.param(
            "kernel", self.kernel_init, (*self.kernel_size, *channels), self.param_dtype
        )
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = conv_transpose(
            x,
            kernel,
            self.strides or (1,) * len(self.kernel_size),
            self.padding,
            kernel_dilation=self.kernel_dilation,
            transpose_kernel=self.transpose_kernel,
            precision=self.precision,
            in_loop=self.in_loop,
        )
        return y if bias is None else y + bias
