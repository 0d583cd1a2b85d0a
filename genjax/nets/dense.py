"""Dense layers on columns: the batch is the last axis."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float


class DenseColumns(nn.Module):
    """A dense layer of :class:`flax.linen.Dense` for transposed arrays, with its parameters.

    XLA's CPU backend is slow at products whose left operand is summed over along its first axis
    (half as fast, and ten times slower where the result is narrow). With rows, the gradient of
    every kernel is such a product; with columns, none is. What follows the layer has the batch on
    the innermost axis too, which processors work along.

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
        y = jax.lax.dot_general(kernel, x, (((0,), (0,)), ((), ())))
        return y if bias is None else y + bias[:, None]
