r"""The steps of a chain back to data: coefficients of the posterior, for all steps or some.

Everything is a float64 sum on the host: in float32 one minus a product of a thousand factors close
to 1 would lose digits that the log-variances of the bound need.
"""

from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from genjax.diffusion.processes import Chain

FirstVariance = Literal["published", "beta"]


class ChainSteps(NamedTuple):
    r"""What is known of steps from latents :math:`z_t` to earlier ones :math:`z_s`.

    The posterior :math:`q(z_s \mid z_t, x)` has the mean ``of_latent * z_t + of_data * x``.

    Attributes:
        alpha: Signal scale at t.
        sigma: Noise scale at t.
        of_latent: Coefficient of the latent in the posterior's mean; 0 in the step to data.
        of_data: Coefficient of the data; 1 in the step to data.
        log_small: Log of the posterior's variance :math:`\tilde\beta`; another one in the step to
            data, where it has none: see :func:`chain_steps`.
        log_large: Log of the variance :math:`\beta` of the forward step.
        times: Times t in (0, 1].
    """

    alpha: Float[Array, "*shape"]
    sigma: Float[Array, "*shape"]
    of_latent: Float[Array, "*shape"]
    of_data: Float[Array, "*shape"]
    log_small: Float[Array, "*shape"]
    log_large: Float[Array, "*shape"]
    times: Float[Array, "*shape"]

    def at(self, index: Int[Array, "..."]) -> "ChainSteps":
        """Those of the steps with these numbers, 0 for the step to data."""
        return ChainSteps(*(part[index] for part in self))

    def between(self, times: Float[Array, "..."]) -> "ChainSteps":
        """What is between steps at other times, each part linear from one to the next."""
        return ChainSteps(*(jnp.interp(times, self.times, part) for part in self))


def kept_steps(num_timesteps: int, num_steps: int) -> np.ndarray:
    """Which steps of a chain are asked when there are fewer: evenly spread, first and last of them.

    Args:
        num_timesteps: Steps ``T`` of the chain.
        num_steps: Steps ``S`` to keep.

    Returns:
        Numbers in 1, ..., T, rising, ``[S]``; the last alone for one step.

    Raises:
        ValueError: If ``num_steps`` is not between 1 and ``num_timesteps``.

    Example:
        >>> kept_steps(1000, 5).tolist()
        [1, 251, 501, 750, 1000]

    References:
        Nichol and Dhariwal, arXiv:2102.09672, section 4.
    """
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(
            f"a chain of {num_timesteps} steps can be gone back in 1 to {num_timesteps} of them, "
            f"got sample.num_steps {num_steps}"
        )
    if num_steps == 1:
        return np.array([num_timesteps])
    # Counted from 0 before rounding, as the authors' code: halves then go to the same sides.
    return np.round(np.linspace(0.0, num_timesteps - 1.0, num_steps)).astype(np.int64) + 1


def chain_steps(
    chain: Chain, num_steps: int | None = None, *, first_variance: FirstVariance = "published"
) -> ChainSteps:
    r"""The coefficients of all steps of a chain, or of the chain that some of them are.

    With steps :math:`S_1 < \dots < S_K` kept, the variances of the chain of these are
    :math:`\beta'_i = 1 - \bar\alpha_{S_i}/\bar\alpha_{S_{i-1}}`; all else follows.

    In the step to data the posterior has no variance, but the model must have one for the data to
    have a density. Published code takes :math:`\tilde\beta_2`, that of the second step, for both
    fixed variances; with ``"beta"`` it is :math:`\beta_1`, the forward step's own, which costs less
    (a chain of one step has no other).

    Args:
        chain: The chain.
        num_steps: Number of steps that are kept: see :func:`kept_steps`; all if None.
        first_variance: What ``log_small`` is in the step to data: ``"published"`` or ``"beta"``.

    Returns:
        The steps, the step to data first, each part ``[S]``, float64 or as wide as jax is.

    Raises:
        ValueError: If ``num_steps`` is out of range.

    Example:
        >>> chain_steps(Chain(), 5).times
        Array([0.001, 0.251, 0.501, 0.75 , 1.   ], dtype=float32)

    References:
        Ho et al., arXiv:2006.11239, eq. 4, 6 and 7; Nichol and Dhariwal, arXiv:2102.09672, eq. 19.
    """
    total = chain.num_timesteps
    kept = kept_steps(total, total if num_steps is None else num_steps)
    log_kept = np.concatenate([[0.0], np.cumsum(np.log1p(-chain.variances()))])
    log_bar = log_kept[np.concatenate([[0], kept])]
    # Logs of alpha-bar at both ends of each step, and the variances 1 - alpha-bar.
    log_s, log_t = log_bar[:-1], log_bar[1:]
    variance_s, variance_t = 0.0 - np.expm1(log_s), -np.expm1(log_t)
    beta = -np.expm1(log_t - log_s)
    small = beta * variance_s / variance_t
    small[0] = small[1] if first_variance == "published" and len(small) > 1 else beta[0]
    made = (
        np.exp(0.5 * log_t),
        np.sqrt(variance_t),
        np.exp(0.5 * (log_t - log_s)) * variance_s / variance_t,
        np.exp(0.5 * log_s) * beta / variance_t,
        np.log(small),
        np.log(beta),
        kept / total,
    )
    return ChainSteps(*(jnp.asarray(part, jnp.result_type(float)) for part in made))
