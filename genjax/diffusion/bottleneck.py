r"""Editing in the middle of a network, its h-space: what is there at each step, and other values.

The activation of a U-Net's lowest resolution changes samples in ways that have names, by much the
same vectors for all of them; directions in it are found by :mod:`genjax.diffusion.directions`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.diffusion.grid import time_grid
from genjax.diffusion.samplers.base import Bottleneck, Denoiser, Sampler
from genjax.diffusion.samplers.first_order import DDIM, Ancestral
from genjax.diffusion.samplers.linear import LinearSampler, Table, Walk, table_step


def recorded(
    denoiser: Denoiser,
    sampler: Sampler,
    key: PRNGKeyArray,
    z: Float[Array, "B *event"],
    *,
    num_steps: int,
) -> tuple[Float[Array, "B *event"], Float[Array, "M B *shape"]]:
    """Samples, and the activation in the middle at each network call on the way.

    Args:
        denoiser: A denoiser with a bottleneck.
        sampler: A sampler of fixed steps.
        key: Key of all noise.
        z: Latents at time 1, ``[B, *event]``.
        num_steps: Steps of the sampler.

    Returns:
        Samples in the units of the data, those of ``sampler.sample``, and the activations,
        ``[M, B, *shape]``.

    Raises:
        ValueError: If the denoiser has no bottleneck, or the sampler chooses its steps.
    """
    inner, fixed = checked(denoiser, sampler)
    table, ends = _table(denoiser, fixed, num_steps)

    def step(walk: Walk, call: Array) -> tuple[Walk, Array]:
        estimate, h = inner.watched(denoiser.spread(walk.z), table.times[call])
        return advance(call, walk, fixed.data(estimate.data)), h

    advance = table_step(table, key, z.dtype)
    walk, h = jax.lax.scan(step, Walk.begin(z), jnp.arange(table.times.shape[0]))
    return walk.z / ends.astype(z.dtype), h


def steered(
    denoiser: Denoiser,
    sampler: Sampler,
    key: PRNGKeyArray,
    z: Float[Array, "B *event"],
    delta_h: Float[Array, "M *shape"],
    *,
    num_steps: int,
    asymmetric: bool = False,
) -> Float[Array, "B *event"]:
    r"""Samples with something added to the activation in the middle at each network call.

    With ``asymmetric`` the edited estimate is that of the data alone, and the noise which a step
    goes on with is the unedited one's: :math:`z_s = \alpha_s \hat x(h + \Delta h) +
    \sqrt{\sigma_s^2 - \eta^2\tilde\sigma^2}\,\hat\epsilon(h) + \dots`. Otherwise the two follow
    each other, and much of an edit is undone by the next steps.

    Args:
        denoiser: A denoiser with a bottleneck.
        sampler: A sampler of fixed steps.
        key: Key of all noise.
        z: Latents at time 1, ``[B, *event]``.
        delta_h: What is added at each call, the same for all rows, ``[M, *shape]``; 0 changes
            nothing.
        num_steps: Steps of the sampler.
        asymmetric: Whether the noise is the unedited one's; for DDIM and the ancestral sampler. It
            takes two network calls a step.

    Returns:
        Samples in the units of the data, ``[B, *event]``.

    Raises:
        ValueError: If the denoiser has no bottleneck, or sampler or ``delta_h`` do not fit.

    References:
        Kwon et al., Diffusion Models Already Have a Semantic Latent Space, arXiv:2210.10960, eq. 7;
        Haas et al., Discovering Interpretable Directions in the Semantic Latent Space of Diffusion
        Models, arXiv:2303.11073, section 3, for edits of both.
    """
    inner, fixed = checked(denoiser, sampler)
    if asymmetric and type(fixed) not in (DDIM, Ancestral):
        raise ValueError(
            "asymmetric edits are of the steps of ddim and ancestral, got the sampler "
            f"{type(fixed).__name__}"
        )
    table, ends = _table(denoiser, fixed, num_steps)
    expected = (table.times.shape[0], *inner.shape)
    if delta_h.shape != expected:
        raise ValueError(
            f"expected delta_h of shape {expected}, for {expected[0]} network calls, got "
            f"{delta_h.shape}"
        )
    grid = time_grid(denoiser.process, num_steps, fixed.times, rho=fixed.rho)
    # In a step a z + b x the estimate of the data stands for that of the noise, too: of
    # alpha_s x_edited - (alpha_s - b) x, b is taken out.
    gain = (grid.alpha[1:] / table.steps[:, 2]).astype(z.dtype) if asymmetric else None

    def step(walk: Walk, call: Array) -> tuple[Walk, None]:
        at, t = denoiser.spread(walk.z), table.times[call]
        added = jnp.broadcast_to(delta_h[call], (at.shape[0], *inner.shape))
        newest = fixed.data(inner.estimate(at, t, added).data)
        if gain is not None:
            plain = fixed.data(denoiser.estimate(at, t).data)
            newest = plain + gain[call] * (newest - plain)
        return advance(call, walk, newest), None

    advance = table_step(table, key, z.dtype)
    walk, _ = jax.lax.scan(step, Walk.begin(z), jnp.arange(expected[0]))
    return walk.z / ends.astype(z.dtype)


def checked(denoiser: Denoiser, sampler: Sampler) -> tuple[Bottleneck, LinearSampler]:
    """The bottleneck, and the sampler as one of fixed steps.

    Raises:
        ValueError: If there is none, or it is not.
    """
    if denoiser.bottleneck is None:
        raise ValueError(
            "this network has no bottleneck, an activation in the middle that can be read and "
            "changed: take model.name unet"
        )
    if not isinstance(sampler, LinearSampler):
        raise ValueError(
            f"the sampler {type(sampler).__name__} does not ask the network once at each of some "
            "fixed times: set sample.sampler.name to ddim"
        )
    return denoiser.bottleneck, sampler


def _table(denoiser: Denoiser, sampler: LinearSampler, num_steps: int) -> tuple[Table, Array]:
    """The coefficients, and the signal scale that samples end with."""
    grid = time_grid(denoiser.process, num_steps, sampler.times, rho=sampler.rho)
    return sampler.table(denoiser.process, grid), grid.alpha[-1]
