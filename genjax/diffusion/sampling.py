"""Ancestral sampling: the generative process of a diffusion model, run from t = 1 to t = 0."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.diffusion.process import alpha, sigma
from genjax.losses.arrays import per_row


def ancestral_step(
    z_t: Float[Array, "B *event"],
    noise_hat: Float[Array, "B *event"],
    noise: Float[Array, "B *event"],
    gamma_s: Float[Array, "*batch"],
    gamma_t: Float[Array, "*batch"],
) -> Float[Array, "B *event"]:
    r"""Draws :math:`z_s \sim p(z_s \mid z_t)` for s < t.

    With :math:`c = -\mathrm{expm1}(\gamma_s - \gamma_t)`,

    .. math:: z_s = (\alpha_s/\alpha_t) (z_t - \sigma_t c\, \hat\epsilon) + \sigma_s \sqrt c\,
        \epsilon.

    Args:
        z_t: Latent at time t, ``[B, *event]``.
        noise_hat: The score network's estimate of the noise in ``z_t``, ``[B, *event]``.
        noise: Standard normal draws, ``[B, *event]``.
        gamma_s: Negative log signal-to-noise ratio at the earlier time s; a scalar or one a row.
        gamma_t: Negative log signal-to-noise ratio at time t, not below ``gamma_s``; a scalar or
            one a row.

    Returns:
        The latent ``z_s``, ``[B, *event]``.

    Example:
        >>> z_t, zeros = jnp.ones((1, 1)), jnp.zeros((1, 1))
        >>> ancestral_step(z_t, zeros, zeros, jnp.array(0.0), jnp.array(0.0))
        Array([[1.]], dtype=float32)

    References:
        Kingma et al., arXiv:2107.00630, appendix A.4, eq. 33 (with its sigma_t factor).
    """
    gamma_s, gamma_t = per_row(gamma_s, z_t), per_row(gamma_t, z_t)
    # 1 - exp(gamma_s - gamma_t), the share of the noise in z_t, by its variance, that came after
    # time s. Steps are small, so the difference from 1 is taken at once.
    c = -jnp.expm1(gamma_s - gamma_t)
    # Eq. 33 with its variance sigma_s^2 c.
    mean = alpha(gamma_s) / alpha(gamma_t) * (z_t - sigma(gamma_t) * c * noise_hat)
    return mean + sigma(gamma_s) * jnp.sqrt(c) * noise


def ancestral_sample(
    denoise_fn: Callable[[Array, Array], Array],
    schedule_fn: Callable[[Array], Array],
    key: PRNGKeyArray,
    shape: tuple[int, ...],
    *,
    num_steps: int,
    num_frames: int = 1,
) -> tuple[Float[Array, "B *event"], Float[Array, "F B *event"]]:
    r"""Runs the generative process from :math:`z_1 \sim N(0, I)` to :math:`z_0`.

    Args:
        denoise_fn: The network's estimate of the noise,
            ``(z_t [B, *event], gamma_t [B]) -> noise_hat [B, *event]``.
        schedule_fn: Increasing map from times in [0, 1] to gamma.
        key: Random key of all draws.
        shape: Shape of the samples, ``[B, *event]``.
        num_steps: Number of network calls ``T``; the times are T/T, (T-1)/T, ..., 0.
        num_frames: Latents to keep, evenly spread; the last one is ``z_0``.

    Returns:
        ``z_0 / alpha_0`` in the units of the data, ``[B, *event]``, and the latents on the way,
        ``[num_frames, B, *event]``.

    Raises:
        ValueError: If ``num_steps`` is not positive, or ``num_frames`` not between 1 and it.

    References:
        Kingma et al., arXiv:2107.00630, appendix A.4.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if not 1 <= num_frames <= num_steps:
        raise ValueError(f"num_frames must be between 1 and {num_steps} steps, got {num_frames}")
    # One key for z_1; the noise of step i comes from the other and i, so that steps need no carry
    # of keys.
    key, key_prior = jax.random.split(key)
    z_1 = jax.random.normal(key_prior, shape)

    def body(step: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        z_t, frames = carry
        # t = (T - i) / T and s = (T - i - 1) / T: the last step ends at exactly 0.
        gamma_t = schedule_fn((num_steps - step) / num_steps)
        gamma_s = schedule_fn((num_steps - step - 1) / num_steps)
        noise_hat = denoise_fn(z_t, jnp.full(shape[:1], gamma_t))
        noise = jax.random.normal(jax.random.fold_in(key, step), shape)
        z_s = ancestral_step(z_t, noise_hat, noise, gamma_s, gamma_t)
        # Each frame is overwritten until its stretch of steps ends.
        frame = step * num_frames // num_steps
        return z_s, jax.lax.dynamic_update_index_in_dim(frames, z_s, frame, 0)

    frames = jnp.zeros((num_frames, *shape))
    z_0, frames = jax.lax.fori_loop(0, num_steps, body, (z_1, frames))
    # z_0 is alpha_0 x and a little noise.
    return z_0 / alpha(schedule_fn(jnp.zeros(()))), frames
