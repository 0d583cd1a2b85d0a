import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import diffusion


def test_scales_are_variance_preserving_with_finite_slopes():
    gamma = jnp.array([-100.0, -13.3, 0.0, 5.0, 100.0])
    np.testing.assert_allclose(
        diffusion.alpha(gamma) ** 2 + diffusion.sigma(gamma) ** 2, 1.0, rtol=1e-6
    )
    for scale in (diffusion.alpha, diffusion.sigma):
        assert bool(jnp.isfinite(jax.vmap(jax.grad(scale))(gamma)).all())


def test_snr_is_exp_of_minus_gamma():
    gamma = jnp.linspace(-13.3, 5.0, 9)
    snr = (diffusion.alpha(gamma) / diffusion.sigma(gamma)) ** 2
    np.testing.assert_allclose(snr, jnp.exp(-gamma), rtol=1e-5)


@pytest.mark.parametrize("count", [1, 7, 49, 98, 103, 107, 128])
def test_stratified_times_hold_one_time_in_each_stratum(count):
    for seed in range(20):
        times = diffusion.stratified_times(jax.random.key(seed), count)
        assert times.shape == (count,)
        assert bool(((times >= 0) & (times < 1)).all())
        gaps = jnp.diff(jnp.sort(times))
        np.testing.assert_allclose(gaps, 1 / count, atol=1e-6)


def test_each_stratified_time_is_uniform():
    keys = jax.random.split(jax.random.key(0), 20_000)
    times = jax.vmap(lambda k: diffusion.stratified_times(k, 4))(keys)
    for column in np.asarray(times).T:
        histogram = np.histogram(column, 10, (0, 1))[0]
        assert (np.abs(histogram - 2000) < 6 * np.sqrt(2000)).all()


SCHEDULES = {
    "fixed": diffusion.FixedLinearSchedule,
    "linear": diffusion.LearnedLinearSchedule,
    "monotone": diffusion.LearnedMonotoneSchedule,
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_increase_between_their_endpoints(name):
    schedule = SCHEDULES[name](gamma_0=-9.0, gamma_1=4.0)
    params = schedule.init(jax.random.key(1), jnp.zeros(1))
    # Whatever the parameters of the shape are.
    params = jax.tree.map(lambda p: p + 0.5 if p.ndim else p, params)
    times = jnp.linspace(0.0, 1.0, 101)
    gamma, slope = diffusion.gamma_and_slope(lambda t: schedule.apply(params, t), times)
    assert float(gamma[0]) == pytest.approx(-9.0, abs=1e-5)
    assert float(gamma[-1]) == pytest.approx(4.0, abs=1e-5)
    assert bool((slope > 0).all())
    np.testing.assert_allclose(slope.mean(), 13.0, rtol=0.02)
    np.testing.assert_allclose(jnp.diff(gamma) * 100, (slope[1:] + slope[:-1]) / 2, rtol=2e-2)


def test_monotone_schedule_is_curved_once_its_shape_is():
    schedule = diffusion.LearnedMonotoneSchedule(num_features=64)
    params = schedule.init(jax.random.key(1), jnp.zeros(1))
    height = params["params"]["shape"]["height"]
    params["params"]["shape"]["height"] = jnp.full_like(height, 10.0)
    params["params"]["shape"]["steepness"] = jnp.full_like(height, 8.0)
    middle = schedule.apply(params, jnp.array([0.1, 0.5, 0.9]))
    straight = diffusion.FixedLinearSchedule().apply({}, jnp.array([0.1, 0.5, 0.9]))
    assert float(jnp.abs(middle - straight).max()) > 0.5


def exact_gaussian_denoiser(std):
    """E[noise | z] for data N(0, std^2)."""

    def denoise(z, gamma):
        alpha, sigma = (f(gamma)[:, None] for f in (diffusion.alpha, diffusion.sigma))
        return sigma * z / (alpha**2 * std**2 + sigma**2)

    return denoise


def sample_std(num_steps, count=200_000):
    samples, _ = diffusion.ancestral_sample(
        exact_gaussian_denoiser(0.5),
        lambda t: -8.0 + 16.0 * t,
        jax.random.key(0),
        (count, 1),
        num_steps=num_steps,
    )
    return float(jnp.std(samples))


@pytest.mark.slow
def test_ancestral_sampler_converges_at_first_order_to_gaussian_data():
    errors = [abs(sample_std(steps) - 0.5) for steps in (16, 32, 64)]
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.3)
    assert errors[1] / errors[2] == pytest.approx(2.0, rel=0.3)
    assert sample_std(1000, 50_000) == pytest.approx(0.5, abs=0.01)


def test_frames_are_spread_over_the_trajectory_and_end_in_the_sample():
    gamma = lambda t: -8.0 + 16.0 * t  # noqa: E731
    args = (exact_gaussian_denoiser(0.5), gamma, jax.random.key(0), (6, 1))
    samples, frames = diffusion.ancestral_sample(*args, num_steps=10, num_frames=4)
    _, every = diffusion.ancestral_sample(*args, num_steps=10, num_frames=10)
    np.testing.assert_allclose(samples, frames[-1] / diffusion.alpha(jnp.array(-8.0)), rtol=1e-6)
    np.testing.assert_allclose(frames, every[jnp.array([2, 4, 7, 9])], rtol=1e-6)


@pytest.mark.parametrize("steps, frames", [(0, 1), (4, 5), (4, 0)])
def test_impossible_step_counts_raise(steps, frames):
    with pytest.raises(ValueError, match="num_"):
        diffusion.ancestral_sample(
            lambda z, g: z,
            lambda t: t,
            jax.random.key(0),
            (1, 1),
            num_steps=steps,
            num_frames=frames,
        )
