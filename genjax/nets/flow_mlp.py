"""Networks of vectors inside flows."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.nets.dense import Dense, columns_are_faster
from genjax.nets.dropout import Dropout

_ZEROS = nn.initializers.zeros_init()


class ResidualMLP(nn.Module):
    """Residual multilayer perceptron whose outputs start at zero.

    Attributes:
        num_outputs: Width of the output.
        hidden_size: Width of every layer.
        num_blocks: Number of residual blocks of two layers.
        dropout_rate: Share of activations dropped in the blocks, in [0, 1); acts where an rng
            ``dropout`` is given.
        dtype: The precision of the trunk, ``"bfloat16"`` say; the last layer is float32 or wider.

    References:
        Durkan et al., Neural Spline Flows, arXiv:1906.04032, appendix B.
    """

    num_outputs: int
    hidden_size: int = 64
    num_blocks: int = 2
    dropout_rate: float = 0.0
    dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "B D"], context: Float[Array, "B C"] | None = None
    ) -> Float[Array, "B K"]:
        """Maps ``[B, D]`` and a context ``[B, C]`` to ``[B, num_outputs]``."""
        columns = columns_are_faster(self.hidden_size, x, context)
        if context is not None:
            x = jnp.concatenate([x, context], axis=-1)

        def dense(h: Array, name: str) -> Array:
            return Dense(self.hidden_size, columns, dtype=self.dtype, name=name)(h)

        h = dense(x.T if columns else x, "dense_in")
        for i in range(self.num_blocks):
            r = dense(nn.relu(h), f"dense_{i}_0")
            r = Dropout(self.dropout_rate)(nn.relu(r), deterministic=not self.has_rng("dropout"))
            h += dense(r, f"dense_{i}_1")
        # What the last layer makes has to be inverted, so that bfloat16 ends before it.
        h = nn.relu(h).astype(jnp.promote_types(x.dtype, jnp.float32))
        y = Dense(self.num_outputs, columns, kernel_init=_ZEROS, name="dense_out")(h)
        return y.T if columns else y


class ConcatSquashMLP(nn.Module):
    r"""A velocity field on vectors: each layer is :math:`\sigma(a t + b)\,(W x + c) + d t`.

    Attributes:
        hidden_size: Width of the hidden layers.
        num_layers: Number of hidden layers, with softplus after each.

    References:
        Grathwohl et al., FFJORD, arXiv:1810.01367, appendix B.1.
    """

    hidden_size: int = 64
    num_layers: int = 3

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B D"],
        t: Float[Array, ""],
        context: Float[Array, "B C"] | None = None,
    ) -> Float[Array, "B D"]:
        """Velocity of points ``x`` at time ``t``, which a context may enter like the time."""
        # Without a context all rows share the condition: one row of gates for the whole batch.
        condition = t[None] if context is None else jnp.concatenate(
            [jnp.broadcast_to(t, (x.shape[0], 1)), context], axis=-1
        )  # fmt: skip
        h = x
        sizes = (self.hidden_size,) * self.num_layers + (x.shape[-1],)
        for i, size in enumerate(sizes):
            gate = jax.nn.sigmoid(nn.Dense(size, name=f"gate_{i}")(condition))
            shift = nn.Dense(size, use_bias=False, name=f"shift_{i}")(condition)
            h = gate * nn.Dense(size, name=f"dense_{i}")(h) + shift
            if i < self.num_layers:
                h = jax.nn.softplus(h)
        return h
