"""A bijector and a base distribution: a density that can be evaluated and sampled."""

import math
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.bijectors.base import Bijector, Kept, Latents
from genjax.bijectors.elementwise import sum_event


def standard_normal_log_prob(z: Latents) -> Float[Array, " B"]:
    """Log-density of latents under the standard normal in nats.

    Args:
        z: Latents, an array ``[B, ...]`` or a tuple of them, all of whose entries count.

    Returns:
        The log-density of each row, ``[B]``, float32 or wider.
    """
    parts = jax.tree.leaves(z)
    size = sum(math.prod(part.shape[1:]) for part in parts)
    squares = sum(sum_event(jnp.square(part)) for part in parts)
    return -0.5 * (squares + size * math.log(2.0 * math.pi))


class Flow(nn.Module):
    r"""A normalizing flow: :math:`\log p(x) = \log N(f(x)) + \log |\det df/dx|`.

    The bijector's forward direction leads from data to latents; ``Invert`` it for the other
    convention. The base distribution is the standard normal. Latents are an array, or a tuple of
    arrays if the bijector puts some aside on its way
    (:class:`~genjax.bijectors.containers.MultiScale`).

    Attributes:
        bijector: The map from data to latents.
        event_shape: Shape of one example.
        context_size: Length of the context that the flow was built for; None for no context.
        domain: Least and largest value of data that it takes; None for any.
        divergence: How the log-determinant of a continuous flow is computed, ``"exact"`` or
            ``"hutchinson"`` (a random estimate); None for flows that are not continuous.
        max_log_det_per_dim: Bound on the log-determinant over the number of entries that the
            bijector's construction implies; infinite where there is none.

    References:
        Rezende and Mohamed, arXiv:1505.05770; Dinh et al., arXiv:1605.08803, eq. 2.
    """

    bijector: Bijector
    event_shape: tuple[int, ...]
    context_size: int | None = None
    domain: tuple[float, float] | None = None
    divergence: str | None = None
    max_log_det_per_dim: float = math.inf

    def _check_context(self, context: Array | None, count: int) -> None:
        if self.context_size is None:
            if context is not None:
                raise ValueError("this flow was built without context_size, but got a context")
        elif context is None:
            raise ValueError(f"this flow needs a context [B, {self.context_size}]")
        elif context.shape != (count, self.context_size):
            raise ValueError(
                f"this flow was built for a context of length {self.context_size}: expected shape "
                f"{(count, self.context_size)}, got {context.shape}"
            )

    def encode(
        self, x: Float[Array, "B *event"], context: Float[Array, "..."] | None = None
    ) -> tuple[Latents, Float[Array, " B"]]:
        """Maps data to latents.

        Args:
            x: Data, ``[B, *event]``.
            context: What the flow is conditional on, ``[B, context_size]``; None if it is not.

        Returns:
            Latents (as many numbers as ``x``) and the log-determinant, ``[B]``.

        Raises:
            ValueError: If shapes or context are not those the flow was built for.
        """
        self._check_context(context, x.shape[0])
        if x.shape[1:] != self.event_shape:
            raise ValueError(f"expected data [B, *{self.event_shape}], got shape {x.shape}")
        return self.bijector.forward_and_log_det(x, context)

    def decode(
        self, z: Latents, context: Float[Array, "..."] | None = None
    ) -> Float[Array, "B *event"]:
        """Maps latents to data; undoes :meth:`encode`.

        Args:
            z: Latents in the form that :meth:`encode` gives them.
            context: What the flow is conditional on, ``[B, context_size]``; None if it is not.

        Returns:
            Data, ``[B, *event]``.

        Raises:
            ValueError: If the number of entries or the context are not those of the flow.
        """
        return self._decode(z, context)[0]

    def _decode(self, z: Latents, context: Float[Array, "..."] | None) -> Kept:
        parts = jax.tree.leaves(z)
        self._check_context(context, parts[0].shape[0])
        size = sum(math.prod(part.shape[1:]) for part in parts)
        if size != math.prod(self.event_shape):
            raise ValueError(
                f"expected latents of {math.prod(self.event_shape)} entries in all, got shapes "
                f"{', '.join(str(part.shape) for part in parts)}"
            )
        return self.bijector.inverse_and_log_det(cast(Any, z), context)

    def log_prob(
        self, x: Float[Array, "B *event"], context: Float[Array, "..."] | None = None
    ) -> Float[Array, " B"]:
        """Log-density of data in nats.

        Args:
            x: Data, ``[B, *event]``.
            context: What the flow is conditional on, ``[B, context_size]``; None if it is not.

        Returns:
            The log-density of each row, ``[B]``, float32 or wider.
        """
        z, log_det = self.encode(x, context)
        return standard_normal_log_prob(z) + log_det

    def draw_latents(self, key: PRNGKeyArray, count: int) -> Latents:
        """Standard normal latents in the form that :meth:`encode` gives them.

        Args:
            key: Random key of the draw.
            count: Number of rows.

        Returns:
            An array ``[count, ...]``, or one for each scale.
        """
        # The form is found by tracing the encoder on shapes, which computes nothing.
        unbound, variables = self.clone(parent=None), self.variables
        dtype = jnp.zeros(()).dtype  # float64 where it is enabled
        x = jax.ShapeDtypeStruct((count, *self.event_shape), dtype)
        context = None
        if self.context_size is not None:
            context = jax.ShapeDtypeStruct((count, self.context_size), dtype)

        def encode(x: Array, context: Array | None) -> Any:
            return unbound.apply(variables, x, context, method="encode")

        latents, _ = jax.eval_shape(encode, x, context)
        leaves, tree = jax.tree.flatten(latents)
        # A single array takes the key itself, as if there were no tuple.
        keys = jax.random.split(key, len(leaves)) if len(leaves) > 1 else [key]
        drawn = [
            jax.random.normal(k, leaf.shape, leaf.dtype)
            for k, leaf in zip(keys, leaves, strict=True)
        ]
        return jax.tree.unflatten(tree, drawn)

    def sample(
        self,
        key: PRNGKeyArray,
        count: int,
        context: Float[Array, "B C"] | None = None,
        *,
        temperature: float = 1.0,
    ) -> Float[Array, "B *event"]:
        """Draws data.

        Args:
            key: Random key of the draw.
            count: Number of rows.
            context: What the flow is conditional on, ``[count, context_size]``; None if it is not.
            temperature: Standard deviation of the latents, 1 for draws from the density.

        Returns:
            Data, ``[count, *event]``.
        """
        z = jax.tree.map(lambda part: temperature * part, self.draw_latents(key, count))
        return self.decode(z, context)

    def sample_and_log_prob(
        self, key: PRNGKeyArray, count: int, context: Float[Array, "B C"] | None = None
    ) -> Kept:
        """Draws data with their log-densities in one pass, for reverse Kullback-Leibler losses.

        Args:
            key: Random key of the draw.
            count: Number of rows.
            context: What the flow is conditional on, ``[count, context_size]``; None if it is not.

        Returns:
            Data, ``[count, *event]``, and their log-densities in nats, ``[count]``.
        """
        z = self.draw_latents(key, count)
        # The log-determinant is that of the way from latents to data, so that it is subtracted.
        x, log_det = self._decode(z, context)
        return x, standard_normal_log_prob(z) - log_det

    def __call__(
        self, x: Float[Array, "B *event"], context: Float[Array, "..."] | None = None
    ) -> Float[Array, " B"]:
        """Log-density of data as :meth:`log_prob`, so that ``init`` needs no method."""
        return self.log_prob(x, context)
