"""Dense layers on columns: the batch is the last axis.

XLA's CPU backend is slow at products whose left operand is summed over along its first axis: half
as fast, and five times slower where the result is narrow. With rows ``[B, I]``, the gradient of
every kernel is such a product; with columns ``[I, B]``, none is to speak of. What follows the layer
has the batch on the innermost axis, too, along which processors compute.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float


def dense_columns(
    x: Float[Array, "I B"], kernel: Float[Array, "I O"], bias: Float[Array, " O"] | None = None
) -> Float[Array, "O B"]:
    """The transpose of ``x.T @ kernel + bias``.

    Args:
        x: Columns, ``[I, B]``.
        kernel: ``[I, O]``.
        bias: ``[O]``, or None.

    Returns:
        Columns, ``[O, B]``.
    """
    y = jax.lax.dot_general(kernel, x, (((0,), (0,)), ((), ())))
    return y if bias is None else y + bias[:, None]


class DenseColumns(nn.Module):
    """A dense layer for transposed arrays, with the parameters of :class:`flax.linen.Dense`.

    Attributes:
        features: Number of outputs.
        use_bias: Whether to add a bias.
        dtype: Of the computation; None for that which inputs and parameters promote to.
        kernel_init: Initialiser of the kernel ``[I, O]``.
    """

    features: int
    use_bias: bool = True
    dtype: Any = None
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Float[Array, "I B"]) -> Float[Array, "O B"]:
        """Maps columns ``[I, B]`` to columns ``[O, B]``."""
        shape = (x.shape[0], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), shape[1:])
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return dense_columns(x, kernel, bias)
