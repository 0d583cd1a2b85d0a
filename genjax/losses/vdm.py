r"""The terms of the variational bound of a diffusion model.

With the forward process :math:`z_t = \alpha_t x + \sigma_t \epsilon`, where
:math:`\gamma = -\log \mathrm{SNR}`, :math:`\alpha^2 = \mathrm{sigmoid}(-\gamma)` and
:math:`\sigma^2 = \mathrm{sigmoid}(\gamma)`, the bound on :math:`-\log p(x)` is

.. code-block:: text

    prior_loss + reconstruction_loss + diffusion_loss

Each is a number of nats for each example, summed over the event, so the bound is their plain sum.

References:
    Kingma et al., Variational Diffusion Models, arXiv:2107.00630, sections 3 and 4, appendix B.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt

from genjax.losses.arrays import check_same_shape, paired, per_row, sum_event, widened


def grey_levels(
    levels: Int[Array, "*shape"] | UInt[Array, "*shape"], num_levels: int
) -> Float[Array, "*shape"]:
    r"""Places grey levels :math:`k` at the centres of their bins, :math:`2(k + 1/2)/V - 1`.

    Args:
        levels: Whole numbers in ``[0, num_levels)``.
        num_levels: Number of levels ``V``: 256 for 8-bit images.

    Returns:
        Values in (-1, 1), float32, ``2 / num_levels`` apart.

    Example:
        >>> grey_levels(jnp.array([0, 255], jnp.uint8), 256)
        Array([-0.99609375,  0.99609375], dtype=float32)

    References:
        google-research/vdm, model_vdm.py (the encoder); the paper leaves the scaling open.
    """
    return (jnp.asarray(levels).astype(jnp.float32) + 0.5) * (2.0 / num_levels) - 1.0


def prior_loss(x: Float[Array, "B *event"], gamma_1: Float[Array, "*batch"]) -> Float[Array, " B"]:
    r"""Kullback-Leibler divergence of :math:`q(z_1 \mid x)` from the standard normal prior.

    Args:
        x: Data in the units of the process, ``[B, *event]``.
        gamma_1: Negative log signal-to-noise ratio at t = 1; a scalar or one a row.

    Returns:
        :math:`\frac12 \sum (\alpha_1^2 x^2 + \sigma_1^2 - \log \sigma_1^2 - 1)`, nats, ``[B]``.

    Raises:
        ValueError: If ``gamma_1`` is neither a scalar nor one value a row.

    Example:
        >>> prior_loss(jnp.ones((1, 2)), jnp.array(0.0))
        Array([0.6931472], dtype=float32)

    References:
        Kingma et al., arXiv:2107.00630, eq. 11 (first term) and appendix B.1.
    """
    x = widened(x)
    gamma_1 = per_row(widened(gamma_1), x)
    # alpha^2 x^2 + sigma^2 - 1 = alpha^2 (x^2 - 1), which does not cancel for small alpha.
    return 0.5 * sum_event(
        jax.nn.sigmoid(-gamma_1) * (jnp.square(x) - 1.0) + jax.nn.softplus(-gamma_1)
    )


def decoder_logits(
    z_0_rescaled: Float[Array, "*shape"], gamma_0: Float[Array, "*batch"], num_levels: int
) -> Float[Array, "*shape V"]:
    r"""Unnormalised :math:`\log p(x = v \mid z_0)` of every grey level ``v`` of every pixel.

    Args:
        z_0_rescaled: :math:`z_0 / \alpha_0 = x + e^{\gamma_0/2} \epsilon_0`, ``[B, *event]``.
        gamma_0: Negative log signal-to-noise ratio at t = 0; a scalar or one a row.
        num_levels: Number of grey levels ``V``.

    Returns:
        Logits, ``[B, *event, V]``.

    Example:
        >>> decoder_logits(jnp.zeros((1, 1)), jnp.array(0.0), 2)
        Array([[[-0.125, -0.125]]], dtype=float32)

    References:
        Kingma et al., arXiv:2107.00630, eq. 8.
    """
    z_0_rescaled, gamma_0 = widened(z_0_rescaled), widened(gamma_0)
    centres = grey_levels(jnp.arange(num_levels), num_levels).astype(z_0_rescaled.dtype)
    # Eq. 8: x given z_0 is Gaussian about z_0 / alpha_0 with variance sigma_0^2 / alpha_0^2, which
    # is exp(gamma_0).
    inverse_scale = per_row(jnp.exp(-0.5 * gamma_0), z_0_rescaled)
    return -0.5 * jnp.square((z_0_rescaled[..., None] - centres) * inverse_scale[..., None])


def reconstruction_loss(
    levels: Int[Array, "B *event"] | UInt[Array, "B *event"],
    z_0_rescaled: Float[Array, "B *event"],
    gamma_0: Float[Array, "*batch"],
    *,
    num_levels: int = 256,
) -> Float[Array, " B"]:
    r"""Negative log-likelihood :math:`-\log p(x \mid z_0)` of discrete data.

    The decoder is the posterior of the grey level under the forward process and a uniform prior
    over all ``num_levels`` levels: a softmax of :func:`decoder_logits`. At low noise (with 256
    levels up to ``gamma_0`` of about -9) only the 17 levels about ``z_0_rescaled`` are looked at;
    all others together are lost in rounding there.

    Args:
        levels: Grey levels, whole numbers in ``[0, num_levels)``, ``[B, *event]``.
        z_0_rescaled: :math:`z_0 / \alpha_0 = x + e^{\gamma_0/2} \epsilon_0`, where ``x`` is
            ``grey_levels(levels, num_levels)``.
        gamma_0: Negative log signal-to-noise ratio at t = 0; a scalar or one a row. Gradients
            reach it through the decoder and through ``z_0_rescaled``.
        num_levels: Number of grey levels.

    Returns:
        Nats, ``[B]``.

    Raises:
        ValueError: If the shapes of ``levels`` and ``z_0_rescaled`` differ, or levels are no whole
            numbers.

    Example:
        >>> levels = jnp.array([[0, 1]])
        >>> reconstruction_loss(levels, grey_levels(levels, 2), jnp.array(0.0), num_levels=2)
        Array([0.948154], dtype=float32)

    References:
        Kingma et al., arXiv:2107.00630, eq. 8 and appendix B.2.
    """
    levels, z_0_rescaled, gamma_0 = jnp.asarray(levels), widened(z_0_rescaled), widened(gamma_0)
    check_same_shape(levels=levels, z_0_rescaled=z_0_rescaled)
    if not jnp.issubdtype(levels.dtype, jnp.integer):
        raise ValueError(
            f"expected levels as whole numbers from 0 to {num_levels - 1}, got {levels.dtype}: "
            "give the grey levels themselves, not their place in [-1, 1]"
        )
    return sum_event(_decoder_nll(levels, z_0_rescaled, gamma_0, num_levels))


_REACH = 8
"""Levels to either side of the nearest one that the decoder sums over where they are enough."""


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _decoder_nll(levels: Array, z: Array, gamma_0: Array, num_levels: int) -> Array:
    """Nats of each pixel.

    Its derivatives are moments under the decoder, made with it: no array of all levels is kept.
    """
    return _decoder_nll_and_slopes(levels, z, gamma_0, num_levels)[0]


@_decoder_nll.defjvp
def _decoder_nll_jvp(
    num_levels: int, primals: tuple[Array, Array, Array], tangents: tuple[Any, Array, Array]
) -> tuple[Array, Array]:
    _, z_dot, gamma_0_dot = tangents
    nats, by_z, by_gamma_0 = _decoder_nll_and_slopes(*primals, num_levels)
    return nats, (by_z * z_dot + by_gamma_0 * per_row(gamma_0_dot, z_dot)).astype(nats.dtype)


def _decoder_nll_and_slopes(
    levels: Array, z: Array, gamma_0: Array, num_levels: int
) -> tuple[Array, Array, Array]:
    """Nats of each pixel, and their derivatives by ``z`` and by ``gamma_0``.

    With little noise almost all of the mass is on the levels next to ``z``. Those further than
    ``_REACH`` from the nearest are left out where all of them together are lost in rounding.
    """
    dtype = jnp.promote_types(z.dtype, gamma_0.dtype)
    z, gamma_0 = z.astype(dtype), gamma_0.astype(dtype)  # levels are close to each other
    precision = per_row(jnp.minimum(jnp.exp(-gamma_0), jnp.finfo(dtype).max), z)  # 0 times it is 0
    gap = 2.0 / num_levels
    levels = levels.astype(jnp.int32)
    # Level k is the centre of the bin from -1 + k gap to -1 + (k + 1) gap.
    nearest = jnp.clip(jnp.floor((z + 1.0) / gap), 0, num_levels - 1).astype(jnp.int32)

    def excess(distance: Array, steps: Array) -> tuple[Array, Array]:
        """Moves by steps of levels, and how much the square of a distance grows by them."""
        by = gap * steps.astype(z.dtype)
        return by, by * (2.0 * distance + by)  # does not cancel as a difference of squares does

    to_own = z - grey_levels(levels, num_levels).astype(z.dtype)
    to_nearest, growth = excess(to_own, levels - nearest)

    # Masses are those beside the nearest level: exp(-P (d_k^2 - d_nearest^2) / 2) for the precision
    # P and the distance d_k of z from level k. The largest is 1 or close to it, as in a softmax
    # whose maximum is taken out.
    def over(candidates: Array) -> tuple[Array, Array, Array]:
        distance = z - grey_levels(nearest, num_levels).astype(z.dtype)
        moves, growths = excess(distance[..., None], nearest[..., None] - candidates)
        mass = jnp.exp(-0.5 * precision[..., None] * growths)  # 1 for the nearest
        total = jnp.sum(mass, axis=-1)
        return (
            jnp.log(total),
            jnp.sum(mass * moves, axis=-1) / total,
            jnp.sum(mass * growths, axis=-1) / total,
        )

    def all_levels() -> tuple[Array, Array, Array]:
        return over(jnp.arange(num_levels))

    def near_levels() -> tuple[Array, Array, Array]:
        start = jnp.clip(nearest - _REACH, 0, num_levels - 1 - 2 * _REACH)
        return over(start[..., None] + jnp.arange(2 * _REACH + 1))

    if num_levels <= 2 * _REACH + 1:
        log_total, move, mean_growth = all_levels()
    else:
        # One decision for the whole batch, by its least precision: a branch a row would compute
        # both. Each level left out has at most exp(-_REACH (_REACH + 1) gap^2 precision / 2) times
        # the largest mass.
        enough = math.log(num_levels) - math.log(jnp.finfo(z.dtype).eps)
        least = jnp.min(precision, initial=jnp.inf) * (_REACH * (_REACH + 1) / 2 * gap**2)
        log_total, move, mean_growth = jax.lax.cond(least >= enough, near_levels, all_levels)
    # The terms put together, with d_own for the example's own level and E for the decoder's mean:
    # nats = P (d_own^2 - d_nearest^2) / 2 + log sum of masses, and growth is d_nearest^2 - d_own^2;
    # by z it is P (d_own - E d_k); by gamma_0, as dP/dgamma_0 = -P, it is P E(d_k^2 - d_own^2) / 2.
    return (
        log_total - 0.5 * precision * growth,
        -precision * (to_nearest + move),
        0.5 * precision * (growth + mean_growth),
    )


def gaussian_reconstruction_loss(
    x: Float[Array, "B *event"],
    z_0_rescaled: Float[Array, "B *event"],
    gamma_0: Float[Array, "*batch"],
) -> Float[Array, " B"]:
    r"""Negative log-density of continuous data under the decoder
    :math:`p(x \mid z_0) = N(x; z_0/\alpha_0, e^{\gamma_0} I)`.

    The noise is taken as the difference of ``z_0_rescaled`` and ``x``, of which rounding leaves
    nothing where it is small beside the data: in float32 where :math:`e^{\gamma_0/2}` is below some
    :math:`10^{-7} |x|`. Whoever drew the noise gives it to :func:`gaussian_decoder_loss`.

    Args:
        x: Data in the units of the process, ``[B, *event]``.
        z_0_rescaled: :math:`z_0 / \alpha_0 = x + e^{\gamma_0/2} \epsilon_0`.
        gamma_0: Negative log signal-to-noise ratio at t = 0; a scalar or one a row.

    Returns:
        Nats, ``[B]``; a density, so it may be negative.

    Raises:
        ValueError: If the shapes of ``x`` and ``z_0_rescaled`` differ.

    Example:
        >>> gaussian_reconstruction_loss(jnp.zeros((1, 2)), jnp.zeros((1, 2)), jnp.array(0.0))
        Array([1.837877], dtype=float32)

    References:
        Kingma et al., arXiv:2107.00630, eq. 8 for a continuous x.
    """  # noqa: D205
    x, z_0_rescaled = paired(x=x, z_0_rescaled=z_0_rescaled)
    gamma_0 = widened(gamma_0)
    # Divided before it is squared, by a scale that stays finite: 0 over any scale is 0.
    largest = math.log(jnp.finfo(gamma_0.dtype).max) - 1.0
    inverse_scale = per_row(jnp.exp(jnp.minimum(-0.5 * gamma_0, largest)), x)
    return gaussian_decoder_loss((z_0_rescaled - x) * inverse_scale, gamma_0)


def gaussian_decoder_loss(
    noise_0: Float[Array, "B *event"], gamma_0: Float[Array, "*batch"]
) -> Float[Array, " B"]:
    r"""The loss of :func:`gaussian_reconstruction_loss` from the noise in :math:`z_0` itself.

    Of :math:`z_0 / \alpha_0 = x + e^{\gamma_0/2} \epsilon_0` the decoder of ``x`` sees nothing but
    the noise, so that neither the data nor a difference enters.

    Args:
        noise_0: The noise :math:`\epsilon_0`, ``[B, *event]``.
        gamma_0: Negative log signal-to-noise ratio at t = 0; a scalar or one a row.

    Returns:
        :math:`\frac12 \sum (\epsilon_0^2 + \gamma_0 + \log 2\pi)`, nats, ``[B]``; a density, so it
        may be negative.

    Raises:
        ValueError: If ``gamma_0`` is neither a scalar nor one value a row.

    Example:
        >>> gaussian_decoder_loss(jnp.ones((1, 2)), jnp.array(-100.0)).round(3)
        Array([-97.162], dtype=float32)

    References:
        Kingma et al., arXiv:2107.00630, eq. 8 for a continuous x.
    """
    noise_0 = widened(noise_0)
    gamma_0 = per_row(widened(gamma_0), noise_0)
    # The variance is exp(gamma_0), so that its log is gamma_0 itself.
    return 0.5 * sum_event(jnp.square(noise_0) + gamma_0 + math.log(2.0 * math.pi))


def diffusion_loss(
    noise: Float[Array, "B *event"],
    noise_hat: Float[Array, "B *event"],
    gamma_slope_t: Float[Array, "*batch"],
) -> Float[Array, " B"]:
    r"""Single-draw estimate of the continuous-time diffusion loss.

    Unbiased when t is uniform on [0, 1].

    Args:
        noise: The noise :math:`\epsilon` in :math:`z_t`, ``[B, *event]``.
        noise_hat: The score network's estimate of it, ``[B, *event]``.
        gamma_slope_t: :math:`d\gamma/dt` at the sampled times; a scalar or one a row.

    Returns:
        :math:`\frac12 \gamma'(t) \lVert \epsilon - \hat\epsilon \rVert^2`, nats, ``[B]``.

    Raises:
        ValueError: If the shapes of ``noise`` and ``noise_hat`` differ.

    Example:
        >>> diffusion_loss(jnp.ones((1, 3)), jnp.zeros((1, 3)), jnp.array([2.0]))
        Array([3.], dtype=float32)

    References:
        Kingma et al., arXiv:2107.00630, eq. 17.
    """
    noise, noise_hat = paired(noise=noise, noise_hat=noise_hat)
    # The slope of gamma is that of -log SNR: the weight of the squared error of x, -SNR'(t) / 2,
    # becomes gamma'(t) / 2 for that of the noise.
    return 0.5 * sum_event(per_row(widened(gamma_slope_t), noise) * jnp.square(noise - noise_hat))


def discrete_diffusion_loss(
    noise: Float[Array, "B *event"],
    noise_hat: Float[Array, "B *event"],
    gamma_s: Float[Array, "*batch"],
    gamma_t: Float[Array, "*batch"],
    *,
    num_timesteps: int,
) -> Float[Array, " B"]:
    r"""Single-draw estimate of the diffusion loss with ``T`` steps.

    Unbiased when t is uniform on {1/T, 2/T, ..., 1} and s = t - 1/T.

    Args:
        noise: The noise :math:`\epsilon` in :math:`z_t`, ``[B, *event]``.
        noise_hat: The score network's estimate of it, ``[B, *event]``.
        gamma_s: Negative log signal-to-noise ratio one step earlier; a scalar or one a row.
        gamma_t: Negative log signal-to-noise ratio at time t; a scalar or one a row.
        num_timesteps: Number of steps ``T``.

    Returns:
        :math:`\frac T2 (e^{\gamma_t - \gamma_s} - 1) \lVert \epsilon - \hat\epsilon \rVert^2`,
        nats, ``[B]``.

    Raises:
        ValueError: If ``num_timesteps`` is not positive or shapes differ.

    Example:
        >>> gamma_s, gamma_t = jnp.array(0.0), jnp.log(jnp.array(3.0))
        >>> discrete_diffusion_loss(
        ...     jnp.ones((1, 3)), jnp.zeros((1, 3)), gamma_s, gamma_t, num_timesteps=1
        ... )
        Array([3.], dtype=float32)

    References:
        Kingma et al., arXiv:2107.00630, eqs. 13 and 14.
    """
    noise, noise_hat = paired(noise=noise, noise_hat=noise_hat)
    if num_timesteps < 1:
        raise ValueError(f"num_timesteps must be at least 1, got {num_timesteps}")
    # Eq. 14. The exponential minus 1 is taken at once: for many steps it is close to 1. The factor
    # T makes a mean over the steps their sum.
    gamma_s, gamma_t = widened(gamma_s), widened(gamma_t)
    weight = num_timesteps * jnp.expm1(per_row(gamma_t, noise) - per_row(gamma_s, noise))
    return 0.5 * sum_event(weight * jnp.square(noise - noise_hat))
