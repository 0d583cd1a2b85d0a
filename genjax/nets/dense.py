"""Dense layers on rows ``[B, I]`` or on columns ``[I, B]``.

XLA's CPU backend is slow at products whose left operand is summed over along its first axis: it
packs that operand anew, which for 64 rows of 256 numbers takes as long as the product. On rows the
gradient of a kernel is such a product, which packs the inputs ``[B, I]``; on columns it is not, but
the layer itself is, which packs the kernel ``[I, O]``. So columns are faster where the batch is
larger than the network is wide (:func:`columns_are_faster`). What follows them has the batch on
the innermost axis, too, along which processors compute.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float


def columns_are_faster(width: int, x: Array, context: Array | None = None) -> bool:
    """Whether a network should hold a batch as columns.

    Args:
        width: Width of the hidden layers.
        x: Input of the network; anything but rows ``[B, D]`` stays as it is.
        context: A further input, or None; anything but rows stays as it is, too.

    Returns:
        Whether to transpose rows to columns.
    """
    rows = x.ndim == 2 and (context is None or context.ndim == 2)
    return rows and x.shape[0] > width


def dense(
    x: Float[Array, "..."],
    kernel: Float[Array, "I O"],
    bias: Float[Array, " O"] | None = None,
    *,
    columns: bool,
    dtype: Any = None,
) -> Float[Array, "..."]:
    """The product ``x @ kernel + bias``, or its transpose of the transpose of ``x``.

    Args:
        x: Rows, ``[..., I]``, or columns ``[I, B]``.
        kernel: The matrix, ``[I, O]``.
        bias: What is added to each row, ``[O]``, or None.
        columns: Whether ``x`` and the result are columns.
        dtype: The precision of the computation; None for that which the operands promote to.

    Returns:
        Rows, ``[..., O]``, or columns ``[O, B]``.
    """
    x, kernel, bias = promote_dtype(x, kernel, bias, dtype=dtype)
    if not columns:
        y = x @ kernel
        return y if bias is None else y + bias
    # Sums over the first axis of both: [I, O] and [I, B] to [O, B], with no transpose of either.
    y = jax.lax.dot_general(kernel, x, (((0,), (0,)), ((), ())))
    return y if bias is None else y + bias[:, None]


def by_entry(outputs: Float[Array, "*batch outputs"], number: int) -> Float[Array, "*batch D P"]:
    """Splits the last axis, ``[..., D number]``, into ``[..., D, number]``.

    Of rows ``[B, D number]`` the batch is innermost in memory: as networks on columns leave it, and
    as splines take it.

    Args:
        outputs: Outputs of a network, ``[..., D number]``.
        number: Number of outputs for each entry.

    Returns:
        ``[..., D, number]``.
    """
    entries = outputs.shape[-1] // number  # not -1, which batches without rows do not allow
    if outputs.ndim == 2:
        return jnp.moveaxis(outputs.T.reshape(entries, number, outputs.shape[0]), -1, 0)
    return outputs.reshape(*outputs.shape[:-1], entries, number)


class Dense(nn.Module):
    """The layer of :class:`flax.linen.Dense` with its parameters, on rows or on columns.

    Attributes:
        features: Number of outputs.
        columns: Whether input and output are columns.
        use_bias: Whether to add a bias.
        dtype: The precision of the computation; None for that which inputs and parameters promote
            to.
        kernel_init: Initialiser of the kernel ``[I, O]``.
    """

    features: int
    columns: bool
    use_bias: bool = True
    dtype: Any = None
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps ``[..., I]`` to ``[..., O]``, or columns ``[I, B]`` to columns ``[O, B]``."""
        shape = (x.shape[0 if self.columns else -1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), shape[1:], jnp.float32)
        return dense(x, kernel, bias, columns=self.columns, dtype=self.dtype)


def kernel_init_of(std: float | None) -> nn.initializers.Initializer:
    """How weights of a dense layer start.

    Args:
        std: Their standard deviation, or None for one by the number of inputs.

    Returns:
        The initialiser.
    """
    return nn.initializers.lecun_normal() if std is None else nn.initializers.normal(std)
