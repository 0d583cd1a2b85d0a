"""Exact likelihoods: the flow of Gaussian data is linear, and its density known."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import diffusion, families
from genjax.families.levels import Bins, Reals
from genjax.families.probability_flow import Flow, denoising_flow

STD, REALS = 0.5, Reals()
GAMMA = diffusion.GammaProcess(lambda t: -13.3 + 18.3 * t)
PROCESSES = {
    "vp": diffusion.VariancePreserving(),
    "sub_vp": diffusion.SubVariancePreserving(),
    "ve": diffusion.VarianceExploding(),
    "straight": diffusion.Straight(),
    "cosine": diffusion.Cosine(),
    "chain": diffusion.Chain(),
    "gamma": GAMMA,
}
QUICK = ("ve", "straight", "gamma")
EACH = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PROCESSES]


def exact(process, std=STD):
    """The exact estimates of data N(0, std^2), of the data by way of those of the noise."""

    def estimate(z, t, label):
        alpha, sigma = process.scales(t)
        noise = sigma * z / (alpha**2 * std**2 + sigma**2)
        return diffusion.Noise().estimate(noise, z, alpha, sigma)

    return estimate


def flow_of(process, units=REALS, estimate_fn=None, size=2, **kwargs):
    return denoising_flow(
        process, estimate_fn or exact(process), units=units, event_shape=(size,),
        flow=Flow(**{"tolerance": 1e-6, **kwargs}), num_steps=100,
    )  # fmt: skip


def closed_form(process, x, std=STD):
    """Nats of points by the flow from the earliest time to the prior.

    The flow stretches all points by the ratio of the deviations of the latents at its ends.
    """
    last = diffusion.latest(process) if process.ends_clean else 1.0
    with jax.enable_x64(True):
        ends = process.scales(jnp.array([process.earliest, float(last)]))
    alpha, sigma = (np.asarray(scale) for scale in ends)
    early, late = np.sqrt((alpha * std) ** 2 + sigma**2)
    stretched = np.asarray(x, np.float64) * alpha[0] * late / early
    prior = process.prior_std
    each = 0.5 * (stretched / prior) ** 2 + math.log(prior * math.sqrt(2 * math.pi))
    return np.sum(each - math.log(alpha[0] * late / early), axis=1)


@pytest.mark.parametrize("name", EACH)
def test_likelihood_of_gaussian_data_is_the_closed_form(name):
    process = PROCESSES[name]
    x = STD * jax.random.normal(jax.random.key(0), (200, 2))
    found = jax.jit(lambda x: flow_of(process).nats(x, None, None))(x)
    np.testing.assert_allclose(found, closed_form(process, x), rtol=1e-3, atol=2e-3)
    # Noise that is left at the earliest time and a prior that is not the last latent's law cost
    # little: on average this is the entropy of the data.
    entropy = math.log(2 * math.pi * math.e * STD**2)
    exactly = 0.5 * jnp.sum((x / STD) ** 2, 1) - 1 + entropy
    assert float(jnp.mean(found - exactly)) == pytest.approx(0.0, abs=5e-3)


@pytest.mark.parametrize("name", EACH)
def test_decoding_undoes_encoding(name):
    flow = flow_of(PROCESSES[name])
    x = STD * jax.random.normal(jax.random.key(0), (50, 2))
    batch = {"x": x, "index": jnp.arange(50, dtype=jnp.int32)}

    @jax.jit
    def both(batch):
        z = flow.latents(batch, None, jax.random.key(1))
        return z, flow.decode(z, None)

    z, again = both(batch)
    np.testing.assert_allclose(again, x, atol=1e-3)
    # Latents of Gaussian data are the data, stretched to the deviation of the prior.
    np.testing.assert_allclose(z, x / STD * PROCESSES[name].prior_std, rtol=0.02, atol=1e-2)


def test_the_probability_of_a_bin_is_its_width_times_the_density():
    process, x = PROCESSES["straight"], jnp.array([[0.3, -0.2]])
    plain, binned = (
        jax.jit(lambda x, units=units: flow_of(process, units).nats(x, None, None))(x)
        for units in (REALS, Bins(16, -1.0, 1.0))
    )
    np.testing.assert_allclose(binned - plain, -2 * math.log(2 / 16), rtol=1e-4)


def test_random_signs_estimate_the_trace_without_bias():
    process = PROCESSES["straight"]
    means = jnp.array([[1.0, -0.5], [-0.8, 0.6]])

    def mixture(z, t, label):
        alpha, sigma = process.scales(t)
        variance = (alpha * 0.3) ** 2 + sigma**2
        away = z[:, None] - alpha * means
        share = jax.nn.softmax(-jnp.sum(away**2, -1) / (2 * variance))
        score = jnp.einsum("bk,bkd->bd", share, away) / variance
        return diffusion.Estimate((z - sigma**2 * score) / alpha, sigma * score)

    x = jnp.tile(jnp.array([[0.1, 0.05]]), (2000, 1))
    signs = jax.random.rademacher(jax.random.key(0), x.shape, jnp.float32)
    flow = flow_of(process, estimate_fn=mixture)
    nats = jax.jit(lambda x, probe=None: flow.nats(x, None, probe))
    exactly, drawn = float(nats(x[:1])[0]), np.asarray(nats(x, signs))
    assert drawn.std() > 0.01, "the field is not one whose trace signs give exactly"
    assert drawn.mean() == pytest.approx(exactly, abs=float(4 * drawn.std() / 44.7 + 1e-3))


class Denoiser(nn.Module):
    """The noise of data N(0, std^2) at gamma."""

    event_rank = 1

    @nn.compact
    def __call__(self, z_t, gamma_t, label=None, *, deterministic=True):
        self.param("unused", nn.initializers.zeros, ())
        alpha, sigma = (s[:, None] for s in diffusion.of_gamma(gamma_t))
        return sigma * z_t / (alpha**2 * STD**2 + sigma**2)


def test_a_vdm_says_its_exact_likelihood_beside_its_bound():
    family = families.vdm(
        score_net=Denoiser(), schedule=diffusion.FixedLinearSchedule(gamma_0=-12.0, gamma_1=10.0),
        optimizer=optax.adam(1e-3), event_shape=(2,), num_levels=None, eval_num_times=64,
        scored=families.Likelihood(likelihood="both", tolerance=1e-4),
    )  # fmt: skip
    x = STD * jax.random.normal(jax.random.key(0), (500, 2))
    batch = {"x": x, "index": jnp.arange(500, dtype=jnp.int32)}
    state = family.init(jax.random.key(1), batch)
    found = jax.jit(family.eval_step)(state, batch, jax.random.key(2))
    process = diffusion.GammaProcess(lambda t: -12.0 + 22.0 * t)
    bits = closed_form(process, x) / (2 * math.log(2))
    np.testing.assert_allclose(found["bits_per_dim_ode"], bits, rtol=2e-3, atol=2e-3)
    # The bound of the exact model is tight, but for the ends.
    gap = np.asarray(found["bits_per_dim"] - found["bits_per_dim_ode"])
    assert gap.mean() == pytest.approx(0.0, abs=float(4 * gap.std() / 22.3 + 1e-3))
    assert family.eval_protocol["divergence"] == "exact"
    assert set(found) == {
        "bits_per_dim", "bits_per_dim_ode", "prior", "reconstruction", "diffusion",
    }  # fmt: skip
