"""Edits in the middle of a network, of one whose middle is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import (
    DDIM,
    AdaptiveODE,
    Ancestral,
    Denoiser,
    DPMSolver,
    Estimate,
    Heun,
    VariancePreserving,
)
from genjax.diffusion.bottleneck import recorded, steered
from genjax.diffusion.samplers import Bottleneck

PROCESS = VariancePreserving()
OUT = np.random.default_rng(0).normal(size=(3, 2)).astype("f4")


def activation(z, t):
    return jnp.tanh(jnp.concatenate([z, z[:, :1] * t], axis=1))


def from_middle(z, t, h):
    alpha, sigma = PROCESS.scales(t)
    data = h @ jnp.asarray(OUT)
    return Estimate(data, (z - alpha * data) / sigma)


DENOISER = Denoiser(
    PROCESS,
    lambda z, t: from_middle(z, t, activation(z, t)),
    bottleneck=Bottleneck(
        (3,),
        lambda z, t: (from_middle(z, t, activation(z, t)), activation(z, t)),
        lambda z, t, delta: from_middle(z, t, activation(z, t) + delta),
    ),
)
Z = jax.random.normal(jax.random.key(1), (4, 2))
SAMPLERS = [DDIM(), DDIM(eta=1.0), Ancestral(), DPMSolver(threshold="static"), Heun()]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
def test_recording_and_steering_by_nothing_change_no_sample(sampler):
    key = jax.random.key(0)
    plain, _ = sampler.sample(DENOISER, key, Z, num_steps=6)
    rows, h = recorded(DENOISER, sampler, key, Z, num_steps=6)
    assert h.shape == (sampler.num_calls(6), 4, 3)
    np.testing.assert_allclose(rows, plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(h[0], activation(Z, jnp.float32(1.0)))
    still = steered(DENOISER, sampler, key, Z, jnp.zeros((len(h), 3)), num_steps=6)
    np.testing.assert_allclose(still, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
def test_steering_is_sampling_with_another_network(sampler):
    key, added = jax.random.key(0), jnp.array([0.2, -0.1, 0.3])
    other = Denoiser(PROCESS, lambda z, t: from_middle(z, t, activation(z, t) + added))
    expected, _ = sampler.sample(other, key, Z, num_steps=6)
    delta = jnp.broadcast_to(added, (sampler.num_calls(6), 3))
    rows = steered(DENOISER, sampler, key, Z, delta, num_steps=6)
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampler", [DDIM(), DDIM(eta=0.5), DDIM(eta=1.0), Ancestral()])
def test_asymmetric_edits_take_the_noise_of_the_unedited_network(sampler):
    # Asyrp, eq. 7, step by step.
    num_steps, key = 5, jax.random.key(0)
    eta = sampler.eta if isinstance(sampler, DDIM) else 1.0
    times = 1.0 - jnp.arange(num_steps + 1) / num_steps
    alpha, sigma = PROCESS.scales(times)
    alpha, sigma = alpha.at[-1].set(1.0), sigma.at[-1].set(0.0)
    delta = jax.random.normal(jax.random.key(2), (num_steps, 3))
    z = Z
    for i in range(num_steps):
        plain = DENOISER.estimate(z, times[i])
        edited = from_middle(z, times[i], activation(z, times[i]) + delta[i])
        ratio = (alpha[i] * sigma[i + 1] / (alpha[i + 1] * sigma[i])) ** 2
        variance = eta**2 * sigma[i + 1] ** 2 * (1.0 - ratio)
        noise = jax.random.normal(jax.random.fold_in(key, i), z.shape)
        z = alpha[i + 1] * edited.data + jnp.sqrt(variance) * noise
        z += jnp.sqrt(jnp.maximum(sigma[i + 1] ** 2 - variance, 0.0)) * plain.noise
    rows = steered(DENOISER, sampler, key, Z, delta, num_steps=num_steps, asymmetric=True)
    np.testing.assert_allclose(rows, z, rtol=2e-3, atol=2e-3)
    nothing = jnp.zeros_like(delta)
    still = steered(DENOISER, sampler, key, Z, nothing, num_steps=num_steps, asymmetric=True)
    unedited, _ = sampler.sample(DENOISER, key, Z, num_steps=num_steps)
    np.testing.assert_allclose(still, unedited, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_steered_is_refused():
    key, none = jax.random.key(0), jnp.zeros((5, 3))
    bare = Denoiser(PROCESS, DENOISER.estimate)
    with pytest.raises(ValueError, match="this network has no bottleneck.*model.name unet"):
        recorded(bare, DDIM(), key, Z, num_steps=5)
    with pytest.raises(ValueError, match="AdaptiveODE.*set sample.sampler.name to ddim"):
        recorded(DENOISER, AdaptiveODE(), key, Z, num_steps=5)
    with pytest.raises(
        ValueError, match=r"expected delta_h of shape \(9, 3\), for 9 network calls"
    ):
        steered(DENOISER, Heun(), key, Z, none, num_steps=5)
    with pytest.raises(ValueError, match="asymmetric edits are of the steps of ddim and ancestral"):
        steered(DENOISER, DPMSolver(), key, Z, none, num_steps=5, asymmetric=True)
