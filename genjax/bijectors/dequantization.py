"""Noise that makes densities of grey levels: uniform, or from a flow of its own."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.bijectors.base import Bijector
from genjax.bijectors.containers import Chain
from genjax.bijectors.coupling import Coupling, checkerboard_mask
from genjax.bijectors.elementwise import affine
from genjax.bijectors.flow import standard_normal_log_prob
from genjax.bijectors.shapes import Sigmoid
from genjax.nets.flow_conv import GatedConvNet


class UniformDequantizer(nn.Module):
    """Noise that is uniform on [0, 1), whatever the levels.

    References:
        Theis et al., A note on the evaluation of generative models, arXiv:1511.01844, section 3.1.
    """

    @nn.nowrap
    def draw(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        """Draws what :meth:`__call__` turns into noise.

        Args:
            key: Random key of the draw.
            shape: Shape of the levels, or of one example of them.

        Returns:
            Random numbers of that shape.
        """
        return jax.random.uniform(key, shape)

    def __call__(
        self, source: Float[Array, "B *event"], levels: Float[Array, "B *event"]
    ) -> tuple[Float[Array, "B *event"], Float[Array, " B"]]:
        """Noise for the levels.

        Args:
            source: Draws from :meth:`draw`, of the shape of the levels.
            levels: Whole grey levels over the highest of them, in [0, 1], ``[B, *event]``.

        Returns:
            The noise ``u`` in [0, 1], of the same shape, and the log of its density
            ``q(u | levels)``, ``[B]``.
        """
        # The density of the uniform distribution is 1.
        return source, jnp.zeros(levels.shape[0])


class VariationalDequantizer(nn.Module):
    r"""Noise from a conditional flow, which may put it where the model has its density.

    Affine couplings by checkerboards, with networks that see the levels, and a sigmoid. The bound
    :math:`\log P(k) \ge E_q[\log p(k + u) - \log q(u | k)]` is tighter than with uniform noise,
    of which this starts not far away.

    Attributes:
        num_couplings: Number of couplings, whose checkerboards alternate.
        hidden_size: Channels of the couplings' networks.
        num_blocks: Number of gated blocks of each network.
        dtype: The precision of the networks' trunks; None for that of the levels.

    References:
        Ho et al., Flow++, arXiv:1902.00275, section 3.1.
    """

    num_couplings: int = 4
    hidden_size: int = 32
    num_blocks: int = 2
    dtype: Any = None

    @nn.nowrap
    def draw(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        """Draws what :meth:`__call__` turns into noise.

        Args:
            key: Random key of the draw.
            shape: Shape of the levels, or of one example of them.

        Returns:
            Random numbers of that shape.
        """
        return jax.random.normal(key, shape)

    @nn.compact
    def __call__(
        self, source: Float[Array, "B *event"], levels: Float[Array, "B *event"]
    ) -> tuple[Float[Array, "B *event"], Float[Array, " B"]]:
        """Noise for the levels.

        Args:
            source: Standard normal draws from :meth:`draw`, of the shape of the levels.
            levels: Whole grey levels over the highest of them, in [0, 1], ``[B, H, W, C]``.

        Returns:
            The noise ``u`` in (0, 1), of the same shape, and the log of its density
            ``q(u | levels)``, ``[B]``.

        Raises:
            ValueError: If the levels are no images.
        """
        if levels.ndim != 4:
            raise ValueError(
                f"variational dequantisation is for images [B, H, W, C], got shape {levels.shape}; "
                "take the uniform one"
            )
        make = functools.partial(
            GatedConvNet,
            hidden_size=self.hidden_size,
            num_blocks=self.num_blocks,
            dtype=self.dtype,
        )
        masks = [
            checkerboard_mask(*levels.shape[1:3], even=i % 2 == 0)
            for i in range(self.num_couplings)
        ]
        couplings: list[Bijector] = [Coupling(mask, affine(), make) for mask in masks]
        to_noise = Chain((*couplings, Sigmoid()))
        noise, log_det = to_noise.forward_and_log_det(source, 2.0 * levels - 1.0)
        # Change of variables from the source s: log q(u) = log N(s) - log|du/ds|.
        return noise, standard_normal_log_prob(source) - log_det
