import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import diffusion

REFERENCE = json.loads((pathlib.Path(__file__).parent / "reference_samplers.json").read_text())
GAMMA = diffusion.GammaProcess(lambda t: -13.3 + 18.3 * t)
PROCESSES = {
    "vp": diffusion.VariancePreserving(),
    "sub_vp": diffusion.SubVariancePreserving(),
    "ve": diffusion.VarianceExploding(),
    "straight": diffusion.Straight(),
    "straight to noise": diffusion.Straight(sigma_min=0.01),
    "cosine": diffusion.Cosine(),
    "shifted cosine": diffusion.Cosine(shift=-2.0),
    "chain": diffusion.Chain(),
    "cosine chain": diffusion.Chain(betas="cosine"),
    "sigmoid chain": diffusion.Chain(betas="sigmoid"),
    "gamma": GAMMA,
}


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
    np.testing.assert_allclose(diffusion.of_gamma(gamma).gamma, gamma, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(diffusion.of_gamma(gamma).lam, -gamma / 2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PROCESSES)
def test_noise_grows_from_the_earliest_time_and_everything_is_finite_there_and_at_1(name, strict):
    process = PROCESSES[name]
    assert isinstance(process, diffusion.Process)
    times = jnp.linspace(process.earliest, 1.0, 201)
    scales = process.scales(times)
    gamma, slope = diffusion.gamma_and_slope_of(process, times)
    assert scales.alpha.dtype == scales.sigma.dtype == gamma.dtype == jnp.float32
    for values in (*scales, gamma, slope):
        assert bool(jnp.isfinite(values).all())
    assert bool((jnp.diff(gamma) > 0).all()) and bool((slope[:-1] > 0).all())
    assert float(scales.alpha[-1]) >= 0.0 and float(slope[-1]) >= -1e-6  # a sine's at its top
    assert float(scales.alpha[0]) > 0.99 and 0.0 < float(scales.sigma[0]) < 0.05
    np.testing.assert_allclose(scales.sigma[-1], process.prior_std, rtol=0.01)


@pytest.mark.parametrize("name", PROCESSES)
def test_gamma_is_the_integral_of_its_slope(name, x64):
    process = PROCESSES[name]
    # Within a step of the chain the rate of noise changes; away from the ends all are smooth.
    times = jnp.linspace(0.3, 0.7, 4001)
    gamma, slope = diffusion.gamma_and_slope_of(process, times)
    area = jnp.sum(0.5 * (slope[1:] + slope[:-1]) * jnp.diff(times))
    assert float(area) == pytest.approx(float(gamma[-1] - gamma[0]), rel=1e-3)


@pytest.mark.parametrize("name", PROCESSES)
def test_time_of_a_ratio_is_where_the_process_has_it(name, x64):
    process = PROCESSES[name]
    times = jnp.linspace(process.earliest, 0.999, 50)
    found = diffusion.time_of(process, process.scales(times).lam)
    np.testing.assert_allclose(found, times, rtol=1e-9, atol=1e-12)
    outside = diffusion.time_of(process, jnp.array([-100.0, 100.0]))
    np.testing.assert_allclose(outside, [1.0, 0.0], atol=1e-9)


def test_rates_of_noise_are_those_of_the_papers(x64):
    # g^2 = sigma^2 gamma' and f = alpha'/alpha; Song et al., arXiv:2011.13456, table 1 and eq. 29.
    t = jnp.linspace(0.1, 0.9, 5)
    beta, integral = 0.1 + 19.9 * t, 0.1 * t + 19.9 * t**2 / 2
    found = {}
    for name in ("vp", "sub_vp", "ve"):
        process = PROCESSES[name]
        scales = process.scales(t)
        _, slope = diffusion.gamma_and_slope_of(process, t)
        _, tangent = jax.jvp(process.scales, (t,), (jnp.ones_like(t),))
        found[name] = (tangent.alpha / scales.alpha, scales.sigma**2 * slope)
    np.testing.assert_allclose(found["vp"], (-beta / 2, beta), rtol=1e-10)
    damped = beta * (1 - jnp.exp(-2 * integral))
    np.testing.assert_allclose(found["sub_vp"], (-beta / 2, damped), rtol=1e-10)
    sigma = 0.002 * (80 / 0.002) ** t
    np.testing.assert_allclose(found["ve"][0], 0.0, atol=1e-12)
    np.testing.assert_allclose(found["ve"][1], 2 * sigma**2 * math.log(80 / 0.002), rtol=1e-10)


def test_small_noise_keeps_its_digits_in_float32():
    # One minus alpha squared would be a multiple of 6e-8: exactly it is the integral of beta.
    scales = diffusion.VariancePreserving().scales(jnp.array(1e-5))
    exact = -math.expm1(-(0.1e-5 + 19.9e-10 / 2))
    assert float(scales.sigma**2) == pytest.approx(exact, rel=1e-6)
    scales = diffusion.SubVariancePreserving().scales(jnp.array(1e-5))
    assert float(scales.sigma) == pytest.approx(exact, rel=1e-6)


def test_straight_paths_and_circles_are_what_they_are_called():
    t = jnp.linspace(0.0, 1.0, 11)
    scales = diffusion.Straight(sigma_min=0.1).scales(t)
    np.testing.assert_allclose(scales, (1 - t, 0.1 + 0.9 * t), atol=1e-7)
    scales = diffusion.Cosine(shift=-3.0).scales(t[1:-1])
    plain = diffusion.Cosine().scales(t[1:-1])
    np.testing.assert_allclose(scales.alpha**2 + scales.sigma**2, 1.0, rtol=1e-6)
    np.testing.assert_allclose(scales.gamma, plain.gamma + 3.0, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", REFERENCE["schedules"])
def test_signal_of_chains_is_that_of_diffusers(name, x64):
    row = REFERENCE["schedules"][name]
    settings = row["settings"]
    ends = {
        "beta_" + ours: settings["beta_" + theirs]
        for ours, theirs in (("min", "start"), ("max", "end"))
        if "beta_start" in settings
    }
    chain = diffusion.Chain(betas=name, **ends)
    # Its step t, counted from 0, is the time (t + 1) / T.
    alpha, sigma = chain.scales((jnp.array(row["t"]) + 1.0) / 1000)
    np.testing.assert_allclose(alpha**2, row["alphas_cumprod"], rtol=1e-11)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, rtol=1e-13)


@pytest.mark.parametrize(
    "betas, steps, signal",
    [("linear", 1000, 4.036e-5), ("cosine", 1000, 2.43e-9), ("cosine", 4000, 1.52e-10)],
)
def test_signal_that_is_left_at_the_end_of_chains(betas, steps, signal, x64):
    # Products of 1 - beta in float64 by another program.
    alpha, _ = diffusion.Chain(num_timesteps=steps, betas=betas).scales(jnp.array(1.0))
    assert float(alpha**2) == pytest.approx(signal, rel=2e-3)


def test_chains_are_asked_at_their_steps_each_as_often():
    chain = diffusion.Chain(num_timesteps=20, beta_max=0.01)
    shares = jnp.linspace(0.0, 1.0, 4001)[:-1]
    steps, counts = jnp.unique(chain.times_of(shares) * 20, return_counts=True)
    np.testing.assert_allclose(steps, np.arange(1, 21), rtol=1e-6)
    np.testing.assert_allclose(counts, 200, atol=1)
    assert float(chain.times_of(jnp.array(1.0))) == 1.0
    # Half a step after data there is half of the log of the first step's signal.
    halfway = chain.scales(jnp.array(0.5 / 20)).alpha ** 2
    assert float(halfway) == pytest.approx(math.sqrt(1 - chain.variances()[0]), rel=1e-6)
    np.testing.assert_allclose(diffusion.Chain(betas="constant").variances(), 0.02)


@pytest.mark.parametrize("name", PROCESSES)
def test_training_times_are_between_the_earliest_and_1(name):
    process = PROCESSES[name]
    times = process.times_of(jnp.array([0.0, 0.5, 1.0 - 2.0**-24]))
    assert float(times.min()) >= np.float32(process.earliest) and float(times.max()) <= 1.0


def test_latents_are_sums_of_data_and_noise_by_rows():
    x, noise = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    alpha, sigma = jnp.array([0.1, 0.5, 1.0]), jnp.array([2.0, 1.0, 0.0])
    z = diffusion.diffuse(x, noise, alpha, sigma)
    for i in range(3):
        np.testing.assert_allclose(z[i], alpha[i] * x[i] + sigma[i] * noise[i], rtol=1e-6)
    same = diffusion.diffuse(x, noise, alpha[0], sigma[0])
    np.testing.assert_allclose(same[0], z[0], rtol=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_latents_of_other_shapes_are_refused():
    x = jnp.ones((3, 4))
    with pytest.raises(ValueError, match=r"x \[3, 4\], noise \[3, 1\]"):
        diffusion.diffuse(x, x[:, :1], jnp.ones(3), jnp.ones(3))
    with pytest.raises(ValueError, match="one value a row"):
        diffusion.diffuse(x, x, jnp.ones((3, 1)), jnp.ones(3))


@pytest.mark.parametrize("make, message", [
    (lambda: diffusion.VariancePreserving(beta_min=0.0), "0 < beta_min <= beta_max"),
    (lambda: diffusion.VariancePreserving(earliest=0.0), r"earliest must be a time in \(0, 1\)"),
    (lambda: diffusion.VarianceExploding(sigma_min=90.0), "0 < sigma_min <= sigma_max"),
    (lambda: diffusion.VarianceExploding(sigma_max=3e4), "sigma_max must be at most e.10"),
    (lambda: diffusion.Straight(sigma_min=1.0), r"sigma_min must be in \[0, 1\)"),
    (lambda: diffusion.Cosine(earliest=1.0), "earliest must be a time"),
    (lambda: diffusion.Chain(num_timesteps=0), "num_timesteps must be at least 1"),
    (lambda: diffusion.Chain(num_timesteps=10), "take more steps or a smaller beta_max"),
    (lambda: diffusion.Chain(betas="cubic"), "betas must be linear"),
])  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_processes_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
