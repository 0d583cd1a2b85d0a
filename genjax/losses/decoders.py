"""Likelihoods that decoders of latent variable and autoregressive models end in."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt

from genjax.losses.arrays import (
    check_same_shape,
    for_entries,
    inverse_scale,
    paired,
    sum_event,
    whole_levels,
    widened,
)


def bernoulli_loss(
    x: Float[Array, "B *event"], logits: Float[Array, "B *event"]
) -> Float[Array, " B"]:
    r"""Negative log-probability of binary data, each entry by a logit of its own.

    Of numbers between 0 and 1 it is a cross entropy and no likelihood: the density of such data is
    :func:`continuous_bernoulli_loss`.

    Args:
        x: Data, 0 or 1, ``[B, *event]``.
        logits: Logits of 1, ``[B, *event]``.

    Returns:
        :math:`\sum \log(1 + e^l) - x l`, nats, ``[B]``.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> bernoulli_loss(jnp.array([[0.0, 1.0]]), jnp.zeros((1, 2))).round(4)
        Array([1.3863], dtype=float32)

    References:
        Kingma and Welling, Auto-Encoding Variational Bayes, arXiv:1312.6114, appendix C.1.
    """
    x, logits = paired(x=x, logits=logits)
    return sum_event(jax.nn.softplus(logits) - x * logits)


def continuous_bernoulli_loss(
    x: Float[Array, "B *event"], logits: Float[Array, "B *event"]
) -> Float[Array, " B"]:
    r"""Negative log-density of data in [0, 1] under continuous Bernoulli distributions.

    The density is :math:`C(\lambda) \lambda^x (1 - \lambda)^{1 - x}` with
    :math:`\lambda = 1/(1 + e^{-l})`, whose normaliser is :math:`C = l / \tanh(l/2)`.

    Args:
        x: Data in [0, 1], ``[B, *event]``.
        logits: Logits ``l``, ``[B, *event]``.

    Returns:
        Nats, ``[B]``; of a density, so they may be negative.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> continuous_bernoulli_loss(jnp.array([[0.3]]), jnp.zeros((1, 1)))  # uniform
        Array([0.], dtype=float32)

    References:
        Loaiza-Ganem and Cunningham, The continuous Bernoulli, arXiv:1907.06845, eq. 7.
    """
    x, logits = paired(x=x, logits=logits)
    # C of lambda is 2 atanh(1 - 2 lambda) / (1 - 2 lambda); near 0 it is a series of the logit.
    small = jnp.abs(logits) < 0.1
    square = jnp.square(jnp.where(small, logits, 0.0))
    series = math.log(2.0) + jnp.log1p(square / 12.0 * (1.0 - square / 60.0))
    far = jnp.where(small, 1.0, jnp.abs(logits))
    closed = jnp.log(far) - jnp.log(jnp.tanh(0.5 * far))
    log_normalizer = jnp.where(small, series, closed)
    return sum_event(jax.nn.softplus(logits) - x * logits - log_normalizer)


def discretized_logistic_loss(
    levels: Int[Array, "B *event"] | UInt[Array, "B *event"],
    mean: Float[Array, "B *event"],
    log_scale: Float[Array, "..."],
    *,
    num_levels: int = 256,
) -> Float[Array, " B"]:
    r"""Negative log-probability of grey levels, each the integral of a logistic over its bin.

    The levels are where :func:`~genjax.losses.discretized_gaussian_loss` has them: level ``k`` of
    ``V`` at :math:`2k/(V - 1) - 1`, bins of half the width :math:`1/(V - 1)`, the outermost without
    an outer end. Differences of the distribution function are taken as products, which are exact
    for means any number of scales away; no density stands in for them.

    Args:
        levels: Grey levels, whole numbers in ``[0, num_levels)``, ``[B, *event]``.
        mean: Mean in the units of [-1, 1], ``[B, *event]``.
        log_scale: Log of the logistic's scale: a scalar, one a row or one for each entry.
        num_levels: Number of grey levels ``V``, at least 2.

    Returns:
        Nats, ``[B]``.

    Raises:
        ValueError: If the levels are floating point, there are fewer than 2, or shapes differ.

    Example:
        >>> levels = jnp.array([[0], [1]], jnp.uint8)
        >>> discretized_logistic_loss(levels, jnp.zeros((2, 1)), jnp.array(5.0), num_levels=2)
        Array([0.6931472, 0.6931472], dtype=float32)

    References:
        Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow,
        arXiv:1606.04934, section 5.1; Salimans et al., PixelCNN++, arXiv:1701.05517, eq. 2.
    """
    levels = _levels(levels, num_levels)
    mean = widened(mean)
    check_same_shape(levels=levels, mean=mean)
    return -sum_event(_log_bin(levels, mean, for_entries(log_scale, mean), num_levels))


def laplace_loss(
    x: Float[Array, "B *event"], location: Float[Array, "B *event"], log_scale: Float[Array, "..."]
) -> Float[Array, " B"]:
    r"""Negative log-density of real-valued data under Laplace distributions.

    Of one scale that is learned it is the absolute error of autoencoders that weigh it themselves,
    :math:`|x - \mu| / e^s + s` a constant aside; the best scale is the mean absolute error.

    Args:
        x: Data, ``[B, *event]``.
        location: Median :math:`\mu` of each entry, ``[B, *event]``.
        log_scale: Log ``s`` of the scale: a scalar, one a row or one for each entry.

    Returns:
        :math:`\sum |x - \mu| e^{-s} + s + \log 2`, nats, ``[B]``.

    Raises:
        ValueError: If shapes differ.

    Example:
        >>> laplace_loss(jnp.array([[3.0]]), jnp.array([[1.0]]), jnp.array(0.0)).round(4)
        Array([2.6931], dtype=float32)

    References:
        Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models,
        arXiv:2112.10752, appendix G.
    """
    x, location = paired(x=x, location=location)
    log_scale = for_entries(log_scale, location)
    error = jnp.abs(x - location) * inverse_scale(log_scale)
    return sum_event(error + log_scale + math.log(2.0))


def discretized_laplace_loss(
    levels: Int[Array, "B *event"] | UInt[Array, "B *event"],
    location: Float[Array, "B *event"],
    log_scale: Float[Array, "..."],
    *,
    num_levels: int = 256,
) -> Float[Array, " B"]:
    r"""Negative log-probability of grey levels, each the integral of a Laplace over its bin.

    Levels and bins are those of :func:`discretized_logistic_loss`. Where the scale is much larger
    than a bin this is :func:`laplace_loss` less the log of the width of a bin.

    Args:
        levels: Grey levels, whole numbers in ``[0, num_levels)``, ``[B, *event]``.
        location: Median in the units of [-1, 1], ``[B, *event]``.
        log_scale: Log of the scale: a scalar, one a row or one for each entry.
        num_levels: Number of grey levels, at least 2.

    Returns:
        Nats, ``[B]``.

    Raises:
        ValueError: If the levels are floating point, there are fewer than 2, or shapes differ.

    Example:
        >>> levels = jnp.array([[0], [1]], jnp.uint8)
        >>> discretized_laplace_loss(levels, jnp.zeros((2, 1)), jnp.array(5.0), num_levels=2)
        Array([0.6931472, 0.6931472], dtype=float32)
    """
    levels = _levels(levels, num_levels)
    location = widened(location)
    check_same_shape(levels=levels, location=location)
    reach = 1.0 / (num_levels - 1)
    inverse = inverse_scale(for_entries(log_scale, location))
    distance = levels.astype(location.dtype) * (2.0 * reach) - 1.0 - location
    near, half = jnp.abs(distance) * inverse, reach * inverse
    # Bins beside the median, from edge to edge of the exponential; then the bin around it, whose
    # two tails are taken from 1 by expm1, exact for scales any number of bins wide.
    beside = near >= half
    far = half - near - math.log(2.0) + jnp.log(-jnp.expm1(-2.0 * half))
    inner = jnp.where(beside, 0.5 * half, near)
    around = jnp.log(-0.5 * (jnp.expm1(inner - half) + jnp.expm1(-inner - half)))
    inside = jnp.where(beside, far, around)
    below = _log_laplace_cdf((distance + reach) * inverse)
    above = _log_laplace_cdf((reach - distance) * inverse)
    inside = jnp.where(levels == 0, below, inside)
    return -sum_event(jnp.where(levels == num_levels - 1, above, inside))


def logistic_mixture_loss(
    levels: Int[Array, "B *space C"] | UInt[Array, "B *space C"],
    logits: Float[Array, "B *space K"],
    means: Float[Array, "B *space C K"],
    log_scales: Float[Array, "B *space C K"],
    coefficients: Float[Array, "B *space P K"] | None = None,
    *,
    num_levels: int = 256,
) -> Float[Array, " B"]:
    r"""Negative log-probability of pixels under mixtures of discretised logistics.

    One component of the mixture is common to the channels of a pixel. With ``coefficients`` the
    mean of a channel moves with the channels before it:
    :math:`\mu_c(x) = \mu_c + \sum_{j<c} a_{cj} x_j`, with the levels in [-1, 1].

    Args:
        levels: Grey levels, whole numbers in ``[0, num_levels)``, ``[B, *space, C]``.
        logits: Unnormalised log-probabilities of the ``K`` components, ``[B, *space, K]``.
        means: Means in the units of [-1, 1], ``[B, *space, C, K]``.
        log_scales: Logs of the scales, ``[B, *space, C, K]``.
        coefficients: ``[B, *space, C (C - 1) / 2, K]``, in the order (1, 0), (2, 0), (2, 1) of
            (channel, earlier channel); None for independent channels.
        num_levels: Number of grey levels, at least 2.

    Returns:
        Nats, ``[B]``.

    Raises:
        ValueError: If the levels are floating point, there are fewer than 2, or shapes do not fit.

    Example:
        >>> one = jnp.zeros((1, 3, 1))
        >>> pixels = jnp.zeros((1, 3), jnp.uint8)
        >>> logistic_mixture_loss(pixels, one[:, 0], one, one + 9.0, num_levels=2).round(3)
        Array([2.079], dtype=float32)

    References:
        Salimans et al., PixelCNN++, arXiv:1701.05517, section 2.1 and 2.2.
    """
    levels = _levels(levels, num_levels)
    logits, means, log_scales = widened(logits), widened(means), widened(log_scales)
    check_same_shape(means=means, log_scales=log_scales)
    channels, components = levels.shape[-1], logits.shape[-1]
    if means.shape != (*levels.shape, components) or logits.shape[:-1] != levels.shape[:-1]:
        raise ValueError(
            f"expected logits [B, *space, K] and means [B, *space, C, K] for levels "
            f"{list(levels.shape)}, got {list(logits.shape)} and {list(means.shape)}"
        )
    if coefficients is not None:
        means = means + _shifts(levels, widened(coefficients), channels, num_levels)
    parts = _log_bin(levels[..., None], means, log_scales, num_levels)
    joint = jax.nn.log_softmax(logits, axis=-1) + jnp.sum(parts, axis=-2)
    return -sum_event(jax.nn.logsumexp(joint, axis=-1))


def _levels(levels: Array, num_levels: int) -> Array:
    levels = whole_levels(levels, num_levels)
    if num_levels < 2:
        raise ValueError(f"num_levels must be at least 2, got {num_levels}")
    return levels


def _log_bin(levels: Array, mean: Array, log_scale: Array, num_levels: int) -> Array:
    """Log-probability of bins under logistics, entry by entry."""
    reach, inverse = 1.0 / (num_levels - 1), inverse_scale(log_scale)
    distance = levels.astype(mean.dtype) * (2.0 * reach) - 1.0 - mean
    low, high = (distance - reach) * inverse, (distance + reach) * inverse
    # s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)) for the logistic's distribution function s.
    below, above = -jax.nn.softplus(-high), -jax.nn.softplus(low)
    width = 2.0 * reach * inverse
    narrow = width < 1e-3
    of_narrow = math.log(2.0 * reach) - log_scale - 0.5 * width
    share = jnp.where(narrow, of_narrow, jnp.log(-jnp.expm1(-jnp.where(narrow, 1.0, width))))
    inside = jnp.where(levels == 0, below, below + above + share)
    return jnp.where(levels == num_levels - 1, above, inside)


def _log_laplace_cdf(x: Array) -> Array:
    """Log of the distribution function of a Laplace of scale 1."""
    positive = x > 0.0
    tail = jnp.log1p(-0.5 * jnp.exp(-jnp.where(positive, x, 1.0)))
    return jnp.where(positive, tail, jnp.where(positive, 0.0, x) - math.log(2.0))


def _shifts(levels: Array, coefficients: Array, channels: int, num_levels: int) -> Array:
    """What the earlier channels add to the means of each, ``[B, *space, C, K]``."""
    pairs = channels * (channels - 1) // 2
    if coefficients.shape[-2] != pairs:
        raise ValueError(
            f"expected {pairs} coefficients for {channels} channels, got {coefficients.shape[-2]}"
        )
    x = levels.astype(coefficients.dtype) * (2.0 / (num_levels - 1)) - 1.0
    rows, number = [jnp.zeros_like(coefficients[..., :1, :])], 0
    for channel in range(1, channels):
        own = coefficients[..., number : number + channel, :]
        rows.append(jnp.sum(own * x[..., :channel, None], axis=-2, keepdims=True))
        number += channel
    return jnp.concatenate(rows, axis=-2) if channels > 1 else rows[0]
