"""Edits of what a sampler is told: on Gaussian data all of them have exact answers."""

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
    PredictorCorrector,
    Straight,
    VarianceExploding,
    VariancePreserving,
)
from genjax.diffusion.editing import (
    Resampling,
    Shortened,
    known_latents,
    shortened,
    slerp,
    with_known,
)

COVARIANCE = np.array([[1.0, 0.9], [0.9, 1.0]])
PROCESSES = [VariancePreserving(), Straight(), VarianceExploding()]


def exact(process):
    """The best denoiser of N(0, COVARIANCE)."""
    covariance = jnp.asarray(COVARIANCE, jnp.float32)

    def estimate(z, t):
        alpha, sigma = process.scales(t)
        noisy = alpha**2 * covariance + sigma**2 * jnp.eye(2)
        data = z @ (alpha * covariance @ jnp.linalg.inv(noisy)).T
        return Estimate(data, (z - alpha * data) / sigma)

    return Denoiser(process, estimate)


def inpainted(process, sampler, num_steps=100, count=4000):
    """Samples of the second entry where the first is 1.5."""
    x = jnp.tile(jnp.array([1.5, 0.0]), (count, 1))
    mask = jnp.broadcast_to(jnp.array([True, False]), x.shape)
    z = process.prior_std * jax.random.normal(jax.random.key(1), x.shape)
    z = known_latents(process, x, mask, z)
    rows, _ = sampler.sample(
        with_known(exact(process), x, mask), jax.random.key(0), z, num_steps=num_steps
    )
    np.testing.assert_allclose(rows[:, 0], 1.5, atol=1e-6)
    return np.asarray(rows[:, 1])


@pytest.mark.slow
@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_replacement_misses_the_posterior_and_resampling_comes_close_to_it(process):
    # Of a normal pair of correlation 0.9: mean 0.9 * 1.5 and variance 1 - 0.9^2.
    mean, variance = 1.35, 0.19
    replaced = inpainted(process, Ancestral())
    assert mean - replaced.mean() > 0.35 and replaced.var() > variance + 0.1
    errors = [mean - replaced.mean()]
    for num_resamplings in (3, 10):
        drawn = inpainted(process, Resampling(jump_length=10, num_resamplings=num_resamplings))
        errors.append(abs(mean - drawn.mean()))
    assert errors[2] < errors[1] < 0.5 * errors[0] and errors[2] < 0.08
    assert abs(drawn.var() - variance) < 0.03


@pytest.mark.parametrize(
    "sampler",
    [DDIM(), DDIM(eta=0.5), DPMSolver(), Heun(), PredictorCorrector(), AdaptiveODE(tolerance=1e-3)],
    ids=lambda s: type(s).__name__,
)
def test_any_sampler_inpaints_and_moves_the_unknown_towards_its_posterior(sampler):
    drawn = inpainted(VariancePreserving(), sampler, num_steps=20, count=2000)
    assert 0.5 < drawn.mean() < 1.35  # without what is known it is 0


def test_latents_of_the_known_part_are_those_of_the_forward_process():
    process, count = VariancePreserving(), 5000
    x = jnp.tile(jnp.array([1.5, 0.0]), (count, 1))
    mask = jnp.broadcast_to(jnp.array([True, False]), x.shape)
    z = known_latents(process, x, mask, jax.random.normal(jax.random.key(1), x.shape))
    for sampler in (Ancestral(), Resampling(jump_length=4, num_resamplings=3)):
        calls = sampler.num_calls(20)
        _, frames = sampler.sample(
            with_known(exact(process), x, mask),
            jax.random.key(0),
            z,
            num_steps=20,
            num_frames=20,
        )
        if calls == 20:
            alpha, sigma = process.scales(1.0 - jnp.arange(1, 20) / 20)
            known = np.asarray(frames[:-1, :, 0])
            np.testing.assert_allclose(known.mean(1), 1.5 * alpha, atol=0.06)
            np.testing.assert_allclose(known.std(1), sigma, rtol=0.05)
        np.testing.assert_allclose(frames[-1, :, 0], 1.5, atol=1e-6)


def test_resampling_without_jumps_is_ddim():
    process = VariancePreserving()
    z = jax.random.normal(jax.random.key(1), (5, 2))
    for eta in (0.3, 1.0):
        once = Resampling(jump_length=3, num_resamplings=1, eta=eta)
        a, b = (
            s.sample(exact(process), jax.random.key(0), z, num_steps=10)[0]
            for s in (once, DDIM(eta=eta))
        )
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_resampling_alone_leaves_the_distribution_as_it_is():
    process, count = VariancePreserving(), 10_000
    z = jax.random.normal(jax.random.key(1), (count, 2))
    sampler = Resampling(jump_length=5, num_resamplings=4)
    rows, _ = sampler.sample(exact(process), jax.random.key(0), z, num_steps=100)
    # Each step of the ancestral sampler loses a little variance, and there are four times as many.
    np.testing.assert_allclose(np.cov(rows.T), COVARIANCE, atol=0.13)


def test_jumps_are_those_of_the_paper_and_counted():
    sampler = Resampling(jump_length=2, num_resamplings=3)
    taken, then = sampler.walk(5)
    # One step, then twice two steps, each three times.
    assert taken.tolist() == [0, 1, 2, 1, 2, 1, 2, 3, 4, 3, 4, 3, 4]
    assert then.tolist() == [1, 2, 1, 2, 1, 2, 3, 4, 3, 4, 3, 4, 5]
    assert sampler.num_calls(5) == 13
    with pytest.raises(ValueError, match="jump_length must be at most the 1 steps, got 2"):
        sampler.walk(1)
    with pytest.raises(ValueError, match="num_resamplings must be at least 1, got 2 and 0"):
        Resampling(jump_length=2, num_resamplings=0)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("sampler", [Ancestral(), DPMSolver()], ids=lambda s: type(s).__name__)
def test_noise_added_to_data_and_taken_off_again_leaves_the_distribution_as_it_is(process, sampler):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.multivariate_normal([0, 0], COVARIANCE, 5000), jnp.float32)
    late = shortened(exact(process), 0.6)
    alpha, sigma = process.scales(jnp.array(0.6))
    z = alpha * x + sigma * jax.random.normal(jax.random.key(0), x.shape)
    rows, _ = sampler.sample(late, jax.random.key(1), z, num_steps=100)
    np.testing.assert_allclose(np.cov(rows.T), COVARIANCE, atol=0.08)


def test_the_earlier_the_time_the_more_is_kept():
    process = VariancePreserving()
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.multivariate_normal([0, 0], COVARIANCE, 2000), jnp.float32)
    kept = []
    for strength in (0.1, 0.4, 0.7, 1.0):
        alpha, sigma = process.scales(jnp.array(strength))
        z = alpha * x + sigma * jax.random.normal(jax.random.key(0), x.shape)
        rows, _ = Ancestral().sample(
            shortened(exact(process), strength), jax.random.key(1), z, num_steps=50
        )
        kept.append(np.corrcoef(x[:, 0], rows[:, 0])[0, 1])
    assert kept == sorted(kept, reverse=True) and kept[0] > 0.9 and abs(kept[-1]) < 0.1


def test_a_shortened_process_has_the_scales_and_the_velocity_of_the_whole():
    process = VariancePreserving()
    late = Shortened(process, 0.5)
    for own, whole in zip(
        late.scales(jnp.array(0.5)), process.scales(jnp.array(0.25)), strict=True
    ):
        np.testing.assert_array_equal(own, whole)
    assert late.earliest == 2 * process.earliest and late.ends_clean == process.ends_clean
    np.testing.assert_allclose(late.times_of(jnp.array(0.3)), 2 * process.times_of(jnp.array(0.3)))
    z = jnp.array([[0.3, -1.0]])
    # Half of the way in the same time.
    np.testing.assert_allclose(
        shortened(exact(process), 0.5).velocity(z, jnp.array(0.5)),
        0.5 * exact(process).velocity(z, jnp.array(0.25)),
        rtol=1e-5,
    )
    for latest in (0.0, 1.1):
        with pytest.raises(ValueError, match=f"at most 1, got {latest}"):
            Shortened(process, latest)


def test_slerp_keeps_lengths_and_goes_at_equal_angles():
    rng = np.random.default_rng(0)
    a, b = (
        x / np.linalg.norm(x, axis=(1, 2), keepdims=True) for x in rng.normal(size=(2, 3, 4, 5))
    )
    way = np.asarray(slerp(jnp.asarray(a, "f4"), jnp.asarray(b, "f4"), jnp.linspace(0, 1, 5)))
    np.testing.assert_allclose(way[0], a, atol=1e-6)
    np.testing.assert_allclose(way[-1], b, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(way, axis=(2, 3)), 1.0, atol=1e-5)
    steps = np.linalg.norm(np.diff(way, axis=0), axis=(2, 3))
    np.testing.assert_allclose(steps, steps[:1].repeat(4, 0), atol=1e-5)


def test_slerp_of_one_direction_is_a_straight_line():
    a = jnp.array([[1.0, 0.0], [0.0, 0.0]])
    b = jnp.array([[3.0, 0.0], [0.0, 2.0]])  # along the first, and from nothing
    way = slerp(a, b, jnp.array([0.5]))[0]
    assert bool(jnp.isfinite(way).all())
    np.testing.assert_allclose(way[0], [2.0, 0.0], atol=1e-6)
