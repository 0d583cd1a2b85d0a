"""Minibatch discrimination: a critic that compares the rows of a batch with each other."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.devices import mapped_axes


class MinibatchDiscrimination(nn.Module):
    r"""Appends to the features of each row how close other rows of the batch are to it.

    With :math:`M_{ik} = T_k h_i` for kernel k the appended numbers are
    :math:`\sum_{j \ne i} \exp(-s_k \lVert M_{ik} - M_{jk} \rVert_1) + b_k`: of B equal rows B - 1,
    before the bias. Columns of :math:`T_k` have norm 1; scale and bias start so that on the rows
    that it is initialised with the nearest row is at a mean distance of 2, and the numbers have
    mean 0. Where rows are spread over devices, each is compared with those of all.

    Attributes:
        num_kernels: Numbers that are appended.
        kernel_size: Length of the vectors that are compared for each of them.

    References:
        Salimans et al., arXiv:1606.03498, section 3.2; norm, scale and bias are those of the
        authors' code.
    """

    num_kernels: int = 100
    kernel_size: int = 5

    @nn.compact
    def __call__(self, h: Float[Array, "B F"]) -> Float[Array, "B G"]:
        """Maps ``[B, F]`` to ``[B, F + num_kernels]``; all rows should be of one origin."""
        shape = (h.shape[-1], self.num_kernels, self.kernel_size)
        theta = self.param("kernel", nn.initializers.normal(0.05), shape)
        norm = jnp.sqrt(jnp.sum(jnp.square(theta), axis=0) + 1e-12)
        own = jnp.einsum("bf,fkc->bkc", h.astype(jnp.float32), theta / norm)
        every, first = own, jnp.zeros((), jnp.int32)
        if axes := mapped_axes():
            every = jax.lax.all_gather(own, axes, tiled=True)
            first = jax.lax.axis_index(axes) * own.shape[0]
        same = first + jnp.arange(own.shape[0])[:, None] == jnp.arange(every.shape[0])
        distances = jnp.sum(jnp.abs(own[:, None] - every[None]), axis=-1)  # [B, all, kernels]
        others = jnp.where(same[..., None], jnp.inf, distances)

        # Flax calls these once, when the parameters are made.
        def log_scale_of(_: Array) -> Array:
            nearest = jnp.mean(jnp.min(others, axis=1), axis=0)
            told = (nearest > 1e-6) & jnp.isfinite(nearest)  # equal rows, or one, tell nothing
            return jnp.where(told, jnp.log(2.0 / jnp.where(told, nearest, 1.0)), 0.0)

        log_scale = self.param("log_scale", log_scale_of)
        # The mask after the exponential: an infinite distance has no slope.
        close = jnp.exp(-jnp.exp(log_scale) * distances)
        found = jnp.sum(jnp.where(same[..., None], 0.0, close), axis=1)
        bias = self.param("bias", lambda _: -jnp.mean(found, axis=0))
        return jnp.concatenate([h, (found + bias).astype(h.dtype)], axis=-1)
