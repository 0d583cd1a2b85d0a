"""Bounds of latent variable models: free bits, importance weights and their gradients."""

import math
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.losses.arrays import widened
from genjax.losses.likelihood import importance_weighted_nats

GradientEstimator: TypeAlias = Literal["plain", "stl", "dreg"]

LogWeight: TypeAlias = Callable[[Array, bool], Array]
r"""``(z [K, B, *latent], frozen) -> log w [K, B]``, the log of :math:`p(x, z)/q(z|x)`. With
``frozen`` the parameters of the density q are constants (``jax.lax.stop_gradient``)."""


def free_bits_loss(kl: Float[Array, "B G"], minimum: float) -> Float[Array, ""]:
    r"""Divergences of groups of latents, of which each costs a minimum that it may use for free.

    Args:
        kl: Kullback-Leibler divergence of each group (a layer, a channel) for each example, nats,
            ``[B, G]``.
        minimum: :math:`\lambda`, nats a group, at least 0.

    Returns:
        :math:`\sum_g \max(\lambda, \frac1B \sum_b \mathrm{KL}_{bg})`, nats, ``[]``. It is not a
        bound: report the divergence itself beside it.

    Raises:
        ValueError: If ``kl`` is no matrix, or the minimum below 0.

    Example:
        >>> free_bits_loss(jnp.array([[0.1, 2.0], [0.3, 4.0]]), 0.5)
        Array(3.5, dtype=float32)

    References:
        Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow,
        arXiv:1606.04934, eq. 15.
    """
    kl = widened(kl)
    if kl.ndim != 2:
        raise ValueError(f"expected a divergence for each group, [B, G], got shape {kl.shape}")
    if minimum < 0.0:
        raise ValueError(f"minimum must be at least 0, got {minimum}")
    return jnp.sum(jnp.maximum(minimum, jnp.mean(kl, axis=0)))


def effective_sample_size(log_weights: Float[Array, "K *shape"]) -> Float[Array, "*shape"]:
    r"""How many equally weighted draws are worth as much: :math:`(\sum w)^2 / \sum w^2`.

    Args:
        log_weights: Logs of importance weights, the draws along the first axis.

    Returns:
        Numbers in [1, K].

    Raises:
        ValueError: If there is no draw.

    Example:
        >>> effective_sample_size(jnp.log(jnp.array([1.0, 1.0, 2.0]))).round(3)
        Array(2.667, dtype=float32)

    References:
        Kong, A Note on Importance Sampling using Standardized Weights, 1992.
    """
    log_weights = widened(log_weights)
    if not log_weights.ndim or not log_weights.shape[0]:
        raise ValueError(
            f"expected draws along the first axis, [K, ...], got shape {log_weights.shape}"
        )
    total = jax.nn.logsumexp(log_weights, axis=0)
    return jnp.exp(2.0 * total - jax.nn.logsumexp(2.0 * log_weights, axis=0))


def importance_weighted_loss(
    log_weight: LogWeight,
    z: Float[Array, "K B *latent"],
    *,
    gradient: GradientEstimator = "plain",
) -> Float[Array, " B"]:
    r"""The importance-weighted bound :math:`-\log \frac1K \sum_k w_k`, with a gradient of choice.

    The value is the same for all; with one draw it is the negative evidence lower bound. ``z`` has
    to depend on the encoder's parameters (as mean plus scale times noise), which the gradient
    follows:

    * ``"plain"``: that of the value. Its part from the density of q is zero on average, but noise.
    * ``"stl"``: without that part. Where q is the exact posterior, no noise is left; for ``K > 1``
      it is biased.
    * ``"dreg"``: unbiased for every ``K``: the path through ``z`` is weighted by the square of each
      draw's share, while the other parameters have the plain gradient.

    Args:
        log_weight: Log of the importance weights, see :data:`LogWeight`.
        z: Latents of ``K`` draws, ``[K, B, *latent]``.
        gradient: Which estimator.

    Returns:
        Nats, ``[B]``.

    Raises:
        ValueError: If the estimator is unknown, or the weights are not ``[K, B]``.

    References:
        Burda et al., Importance Weighted Autoencoders, arXiv:1509.00519, eq. 8; Roeder et al.,
        Sticking the Landing, arXiv:1703.09194; Tucker et al., Doubly Reparameterized Gradient
        Estimators, arXiv:1810.04152, eq. 8.
    """
    if gradient not in get_args(GradientEstimator):
        raise ValueError(f"gradient must be one of {get_args(GradientEstimator)}, got {gradient!r}")
    if gradient == "dreg":
        shares = jax.nn.softmax(_checked(log_weight(jax.lax.stop_gradient(z), True), z), axis=0)
        shares = jax.lax.stop_gradient(shares)
        factor = shares.reshape(shares.shape + (1,) * (z.ndim - 2)).astype(z.dtype)
        # The value of z, and its gradient times the share: the second of the two, as the loss
        # brings the first.
        constant = jax.lax.stop_gradient(z)
        z = constant + factor * (z - constant)
    return importance_weighted_nats(-_checked(log_weight(z, gradient != "plain"), z))


def capacity_loss(
    kl: Float[Array, " B"], capacity: Float[Array, ""] | float, *, weight: float
) -> Float[Array, " B"]:
    r"""A divergence that is held at a capacity.

    Args:
        kl: Kullback-Leibler divergence of each example, nats, ``[B]``.
        capacity: ``C``, nats, usually raised from 0 in training.
        weight: :math:`\gamma`, at least 0.

    Returns:
        :math:`\gamma |\mathrm{KL} - C|`, ``[B]``.

    Raises:
        ValueError: If the weight is below 0.

    Example:
        >>> capacity_loss(jnp.array([3.0]), 5.0, weight=10.0)
        Array([20.], dtype=float32)

    References:
        Burgess et al., Understanding disentangling in beta-VAE, arXiv:1804.03599, eq. 8.
    """
    if weight < 0.0:
        raise ValueError(f"weight must be at least 0, got {weight}")
    return weight * jnp.abs(widened(kl) - capacity)


def shared_variance_loss(squared_error: Float[Array, " B"], num_dims: int) -> Float[Array, ""]:
    r"""Mean Gaussian loss at the one variance that is best for all entries of a batch.

    That variance is the mean squared error itself, so that the loss is
    :math:`\frac D2 \log(2\pi e \cdot \mathrm{MSE})`.

    Args:
        squared_error: Squared error of each example, summed over its entries, ``[B]``.
        num_dims: Entries of an example, ``D``.

    Returns:
        Nats an example, ``[]``; of a density, so it may be negative.

    Raises:
        ValueError: If ``num_dims`` is not positive.

    Example:
        >>> shared_variance_loss(jnp.array([2.0, 2.0]), 2).round(4)
        Array(2.8379, dtype=float32)

    References:
        Rybkin et al., Simple and Effective VAE Training with Calibrated Decoders,
        arXiv:2006.13202, eq. 4 and 5.
    """
    if num_dims < 1:
        raise ValueError(f"num_dims must be positive, got {num_dims}")
    mean = jnp.mean(widened(squared_error)) / num_dims
    return 0.5 * num_dims * (jnp.log(mean) + math.log(2.0 * math.pi) + 1.0)


def _checked(log_weights: Array, z: Array) -> Array:
    if log_weights.shape != z.shape[:2]:
        raise ValueError(
            f"expected log weights [K, B] = {list(z.shape[:2])}, got {list(log_weights.shape)}"
        )
    return widened(log_weights)
