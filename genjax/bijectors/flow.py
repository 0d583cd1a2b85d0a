"""A bijector and a base distribution: a density that can be evaluated and sampled."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.bijectors.base import Bijector, Mapped
from genjax.bijectors.elementwise import sum_event


class Flow(nn.Module):
    r"""A normalizing flow: :math:`\log p(x) = \log N(f(x)) + \log |\det df/dx|`.

    The bijector's forward direction leads from data to latents; ``Invert`` it for the other
    convention. The base distribution is the standard normal.

    Attributes:
        bijector: From data to latents.
        event_shape: Shape of one latent, which is that of the data unless the bijector changes it.

    References:
        Rezende and Mohamed, arXiv:1505.05770; Dinh et al., arXiv:1605.08803, eq. 2.
    """

    bijector: Bijector
    event_shape: tuple[int, ...]

    def encode(self, x: Array, context: Array | None = None) -> Mapped:
        """Maps data to latents.

        Args:
            x: Data, ``[B, *event]``.
            context: What the flow is conditional on, ``[B, C]``.

        Returns:
            Latents and the log-determinant, ``[B]``.
        """
        return self.bijector.forward_and_log_det(x, context)

    def decode(self, z: Array, context: Array | None = None) -> Array:
        """Maps latents to data; undoes :meth:`encode`."""
        return self.bijector.inverse_and_log_det(z, context)[0]

    def log_prob(self, x: Array, context: Array | None = None) -> Array:
        """Log-density of data in nats, ``[B]``, float32 or wider."""
        z, log_det = self.encode(x, context)
        size = math.prod(z.shape[1:])
        return -0.5 * (sum_event(jnp.square(z)) + size * math.log(2.0 * math.pi)) + log_det

    def sample(
        self,
        key: PRNGKeyArray,
        count: int,
        context: Array | None = None,
        *,
        temperature: float = 1.0,
    ) -> Array:
        """Draws data.

        Args:
            key: Key of the draw.
            count: Number of rows.
            context: One row for each, if the flow is conditional.
            temperature: Standard deviation of the latents.

        Returns:
            Data, ``[count, *event]``.
        """
        z = temperature * jax.random.normal(key, (count, *self.event_shape))
        return self.decode(z, context)

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """The same as :meth:`log_prob`, so that ``init`` needs no method."""
        return self.log_prob(x, context)
