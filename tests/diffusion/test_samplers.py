"""Samplers against published ones, against the solution of the equation, and as what they promise.

A sampler's coefficients are run by one compiled loop, which is told the scales of each call: it is
the same for all processes and for all samplers with as many calls.
"""

import functools
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from genjax import diffusion
from genjax.diffusion import DDIM, UniPC
from genjax.diffusion.samplers.linear import Table, run_table
from genjax.families.sampling import Sampling

# Numbers of diffusers and k-diffusion; what the file holds is said in reference_samplers.md.
REFERENCE = json.loads((pathlib.Path(__file__).parent / "reference_samplers.json").read_text())
ENTRIES, NOISE = REFERENCE["samplers"], np.array(REFERENCE["noise"])
WEIGHTS, MEANS = (np.array(REFERENCE["data"][name]) for name in ("weights", "means"))
STD = REFERENCE["data"]["std"]
PROCESSES = {
    "vp": diffusion.VariancePreserving(),
    "sub_vp": diffusion.SubVariancePreserving(),
    "ve": diffusion.VarianceExploding(),
    "straight": diffusion.Straight(),
    "cosine": diffusion.Cosine(),
    "gamma": diffusion.GammaProcess(lambda t: -13.3 + 18.3 * t),
}
Multistep = functools.partial(diffusion.DPMSolver, form="multistep")
Singlestep = functools.partial(diffusion.DPMSolver, form="singlestep")
Stochastic = functools.partial(diffusion.DPMSolver, form="stochastic")


def mixture(z, alpha, sigma, xp=jnp):
    """The exact estimate of mixed data and noise, of jax or NumPy."""
    weights, means = (xp.asarray(a.tolist(), z.dtype) for a in (WEIGHTS, MEANS))
    variance = (alpha * STD) ** 2 + sigma**2
    from_means = z[..., None, :] - alpha * means
    logits = xp.log(weights) - xp.sum(from_means**2, -1) / (2 * variance)
    share = xp.exp(logits - xp.max(logits, -1, keepdims=True))
    share = share / xp.sum(share, -1, keepdims=True)
    slope = xp.sum(share[..., None] * from_means, -2) / variance
    mean = xp.sum(share[..., None] * means, -2)
    return diffusion.Estimate(mean + alpha * STD**2 * slope, sigma * slope)


def mixed(process):
    return diffusion.Denoiser(process, lambda z, t: mixture(z, *process.scales(t)))


def gaussian(process, std=0.5):
    """The exact denoiser of data N(0, std^2)."""

    def estimate(z, t):
        alpha, sigma = process.scales(t)
        variance = alpha**2 * std**2 + sigma**2
        return diffusion.Estimate(alpha * std**2 / variance * z, sigma / variance * z)

    return diffusion.Denoiser(process, estimate)


@functools.partial(jax.jit, static_argnames=("stochastic", "threshold"))
def run(steps, bases, scales, z, noise, size, stochastic, threshold):
    """All latents of a table whose call i is asked at the i-th of some scales."""

    def estimate(z, t):
        alpha, sigma = (scale[t.astype(int)] for scale in scales)
        data = size * mixture(z, alpha, sigma).data
        return diffusion.Estimate(threshold.data(data), z)

    count = steps.shape[0]
    denoiser = diffusion.Denoiser(diffusion.Straight(), estimate)
    table = Table(jnp.arange(float(count)), steps, bases, stochastic)
    _, frames = run_table(
        denoiser, table, jax.random.key(0), z, num_frames=count, noise_fn=lambda i: noise[i]
    )
    return frames


def latents(sampler, process, grid, z, noise=None, size=1.0):
    """The latents after each call of a sampler."""
    table = sampler.table(process, grid)
    scales = process.scales(table.times)
    if noise is None:
        noise = jnp.zeros((len(table.times), *z.shape))
    threshold = DDIM(threshold=sampler.threshold, quantile=sampler.quantile)
    return np.asarray(
        run(table.steps, table.bases, scales, z, noise, size, table.stochastic, threshold)
    )


# Against public packages.


class Listed:
    """A process whose times are the numbers of the points of a grid."""

    earliest, ends_clean, prior_std = 0.0, True, 1.0

    def __init__(self, alpha, sigma):
        self.points = jnp.array(alpha), jnp.array(sigma)

    def scales(self, times):
        return diffusion.Scales(*(scale[times.astype(int)] for scale in self.points))

    def times_of(self, shares):
        return shares


def replayed(name, sampler):
    """The latents of a published run, by a sampler of ours; its states are ``z`` of the entry."""
    entry = ENTRIES[name]
    points = REFERENCE["grids"][entry["grid"]]
    alpha, sigma = np.array(points["alpha"]), np.array(points["sigma"])
    process, times = Listed(alpha, sigma), jnp.arange(len(alpha) - 1.0)
    if "churn" in name:  # which asks at times between those of the grid
        process = diffusion.VarianceExploding(sigma_min=0.02, sigma_max=60.0)
        times = diffusion.time_grid(process, len(alpha) - 1, "karras").times
    grid = diffusion.Grid(times, jnp.array(alpha), jnp.array(sigma))
    z = np.array(REFERENCE["start"]) * (sigma[0] if (alpha == 1).all() else 1.0)
    calls = sampler.num_calls(len(times))
    noise = np.zeros((calls, *z.shape))
    if entry["noise"] is not None:
        rows = [NOISE[i] if i is not None else np.zeros_like(z) for i in entry["noise"]]
        if "churn" in name:  # added after the step before
            noise[(1 if calls > len(rows) else 0) :: 2 if calls > len(rows) else 1][
                : len(rows) - 1
            ] = rows[1:]
        else:
            noise[:] = rows
    size = entry.get("denoiser_scale", 1.0)
    return latents(sampler, process, grid, jnp.array(z), jnp.array(noise), size)


def close(found, expected):
    # States of variance-exploding grids are up to 160 in size; all are rounded to ten decimals.
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=2e-9)


CHURN = dict(churn=4.0, churn_min=0.05, churn_max=50.0, churn_noise=1.003)
PUBLISHED = {
    **{f"ddim_eta0_{n}": DDIM() for n in (5, 10, 20)},
    **{f"ddim_eta1_{n}": DDIM(eta=1.0) for n in (5, 10, 20)},
    "ddim_eta0.5_10": DDIM(eta=0.5),
    "ddim_eta0_scaled_linear_10": DDIM(),
    "ddim_eta0_cosine_10": DDIM(),
    **{f"dpmpp_multistep1_{n}": Multistep(order=1) for n in (5, 10)},
    **{f"dpmpp_multistep2_{n}": Multistep(order=2) for n in (5, 10, 20)},
    **{f"dpmpp_multistep3_{n}": Multistep(order=3) for n in (5, 10, 20)},
    "dpmpp_multistep2_cosine_10": Multistep(),
    "dpmpp_multistep2_karras_10": Multistep(),
    **{f"sde_dpmpp_multistep1_{n}": Stochastic(order=1) for n in (5, 10)},
    **{f"sde_dpmpp_multistep2_{n}": Stochastic(order=2) for n in (5, 10, 20)},
    **{f"dpmpp_singlestep2_{n}": Singlestep(order=2) for n in (5, 10, 20)},
    **{f"unipc2_bh2_{n}": UniPC(order=2) for n in (5, 10, 20)},
    **{f"unipc3_bh2_{n}": UniPC(order=3) for n in (5, 10)},
    **{f"unipc{k}_bh1_{n}": UniPC(order=k, variant="bh1") for k in (2, 3) for n in (5, 10)},
    "unipc2_bh2_scaled_linear_10": UniPC(),
    **{f"euler_karras_{n}": diffusion.Euler() for n in (5, 10)},
    "k_euler_10": diffusion.Euler(),
    "k_dpmpp_2m_10": Multistep(),
    "k_euler_ancestral_10": diffusion.Ancestral(),
    "k_dpmpp_2m_sde_midpoint_10": Stochastic(),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_all_latents_are_those_of_public_packages(name, x64):
    close(replayed(name, PUBLISHED[name]), ENTRIES[name]["z"])


@pytest.mark.parametrize("name", [name for name in ENTRIES if name.startswith("ddpm")])
def test_ancestral_latents_are_those_of_diffusers_and_end_without_noise(name, x64):
    # With trailing times diffusers adds noise to the last of them, whose deviation is 1e-10 with
    # the small variance and as large as that of the step with the large one. Samples are the mean.
    variance = "large" if "large" in name else "small"
    threshold = "static" if "clipped" in name else "none"
    found = replayed(name, diffusion.Ancestral(variance=variance, threshold=threshold))
    close(found[:-1], ENTRIES[name]["z"][:-1])
    close(found[-1], ENTRIES[name]["mean"][-1])


@pytest.mark.parametrize("name", ["heun_karras_5", "heun_karras_10", "k_heun_10"])
def test_heun_s_latents_and_trial_points_are_those_of_public_packages(name, x64):
    found, entry = replayed(name, diffusion.Heun()), ENTRIES[name]
    close(np.concatenate([found[1::2], found[-1:]]), entry["z"])
    if "trial" in entry:
        close(found[:-1:2], entry["trial"])


@pytest.mark.parametrize("kind", ["euler", "heun"])
def test_churn_is_that_of_k_diffusion(kind, x64):
    name = f"k_{kind}_churn_10"
    made = diffusion.Euler if kind == "euler" else diffusion.Heun
    found, entry = replayed(name, made(**CHURN)), ENTRIES[name]
    steps = found if kind == "euler" else np.concatenate([found[1::2], found[-1:]])
    # Ours are the latents after the next step's noise, from the levels at which steps begin.
    level = np.array(REFERENCE["grids"]["karras_10"]["sigma"])[:-1]
    raised = np.array(entry["evaluations"])[:, 1][:: 1 if kind == "euler" else 2]
    added = 1.003 * np.sqrt(raised**2 - level**2)[1:]
    expected = np.array(entry["z"])
    expected[:-1] += added[:, None, None] * NOISE[1:10]
    assert (added[:-1] > 0).all() and added[-1] < 1e-6
    close(steps, expected)


def test_two_stages_a_step_are_those_of_k_diffusion(x64):
    # Its second stage is in the middle of a step, in lambda: a grid with these points has the same.
    entry = ENTRIES["k_dpmpp_2s_ancestral_eta0_10"]
    alpha, sigma = np.array([*entry["evaluations"], [1.0, 0.0]]).T
    process = Listed(alpha, sigma)
    grid = diffusion.Grid(jnp.arange(19.0), jnp.array(alpha), jnp.array(sigma))
    z = jnp.array(REFERENCE["start"]) * sigma[0]
    found = latents(Singlestep(order=2), process, grid, z)
    close(np.concatenate([found[1::2], found[-1:]]), entry["z"])


def test_latents_agree_up_to_where_the_orders_of_steps_do(x64):
    # UniPC of diffusers lowers the last but one step for any number of steps; the paper asks for no
    # more than the last, to data, and so do the multistep solvers of diffusers from 15 steps on.
    found = replayed("unipc3_bh2_20", UniPC(order=3))
    close(found[:18], ENTRIES["unipc3_bh2_20"]["z"][:18])
    # A step of order 3 of diffusers takes the newest of three estimates and the oldest, which is of
    # order 3 where the newest is at two thirds of the step and of order 2 elsewhere (DPM-Solver-3
    # has such a step alone). Ours takes all three. Before the first such step they are the same.
    for count in (5, 10, 20):
        name = f"dpmpp_singlestep3_{count}"
        close(replayed(name, Singlestep(order=3))[:2], ENTRIES[name]["z"][:2])


def test_thresholds_and_the_noise_that_they_leave_are_those_of_diffusers(x64):
    for row in REFERENCE["tables"]["thresholding"]["rows"]:
        x = jnp.array(REFERENCE["tables"]["thresholding"]["x"])
        if row["max_value"] == 1.0:
            keep = DDIM(threshold="static")
        elif row["max_value"] == 100.0:  # Imagen's has no largest value
            keep = DDIM(threshold="dynamic", quantile=row["ratio"])
        else:
            continue
        np.testing.assert_allclose(keep.data(x), row["value"], rtol=1e-12)
    # Up to the step in which its largest value, 1.3, would be reached, which ours has not.
    keep = dict(threshold="dynamic", quantile=0.9)
    for name, sampler in [
        ("ddim_eta0_thresholding_noise_again_10", DDIM(**keep)),
        ("dpmpp_multistep2_thresholding_10", Multistep(**keep)),
    ]:
        close(replayed(name, sampler)[:8], ENTRIES[name]["z"][:8])


@pytest.mark.parametrize("row", range(3))
def test_variances_of_ancestral_steps_are_those_of_diffusers(row, x64):
    table = REFERENCE["tables"]["posterior_variance"][row]
    chain = diffusion.Chain(betas=table["schedule"])
    for i, step in enumerate(zip(table["t"], table["previous"], strict=True)):
        ends = (jnp.array(step) + 1.0) / 1000
        grid = diffusion.Grid(ends[:1], *chain.scales(ends))
        for variance in ("small", "large"):
            found = diffusion.Ancestral(variance=variance).table(chain, grid).steps[0, -1]
            # The step to data is without noise.
            expected = table[f"fixed_{variance}"][i] if step[1] >= 0 else 0.0
            assert float(found**2) == pytest.approx(expected, rel=1e-9)


# Against the solution of the equation.

START = np.array(REFERENCE["start"])
ORDERS = {
    "ddim": (DDIM(times="log_snr"), 1.0),
    "euler": (diffusion.Euler(times="log_snr"), 1.0),
    "heun": (diffusion.Heun(times="log_snr"), 2.0),
    "2m": (Multistep(order=2, times="log_snr"), 2.0),
    # As published, with half of the second derivative.
    "3m": (Multistep(order=3, times="log_snr"), 2.0),
    "2s": (Singlestep(order=2, times="log_snr"), 2.0),
    "3s": (Singlestep(order=3, times="log_snr"), 3.0),
    "unipc2": (UniPC(order=2, times="log_snr"), 3.0),
    "unipc2 bh1": (UniPC(order=2, variant="bh1", times="log_snr"), 3.0),
    # A corrector raises the order by one.
    "unipc3": (UniPC(order=3, times="log_snr"), 2.9),
}


@functools.cache
def exact(first, last):
    """Where the flow leads from noise of a ratio to that of another, in units of the data.

    In y = z / alpha and the log of the ratio of the scales, dy = ratio * noise of any process.
    """

    def slope(log_ratio, y):
        ratio = math.exp(log_ratio)
        return (ratio * mixture(y.reshape(-1, 2), 1.0, ratio, np).noise).reshape(-1)

    ends = math.log(first), math.log(last)
    solved = solve_ivp(
        slope, ends, START.reshape(-1) * first, method="DOP853", rtol=1e-12, atol=1e-12
    )
    return solved.y[:, -1].reshape(-1, 2)


def error(sampler, process, num_steps):
    """The largest distance of a sampler's end from where the equation leads."""
    grid = diffusion.time_grid(process, num_steps, sampler.times)
    found = latents(sampler, process, grid, jnp.array(START) * grid.sigma[0])[-1]
    ratio = np.asarray(grid.sigma / grid.alpha)
    if not grid.clean:
        return np.abs(found / np.asarray(grid.alpha)[-1] - exact(ratio[0], ratio[-1])).max()
    # The last step takes all of the noise off at once, in one estimate.
    last = mixture(exact(ratio[0], ratio[-2]), 1.0, ratio[-2], np).data
    return np.abs(found - last).max()


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[] if name in ("euler", "2m", "3m", "2s") else [pytest.mark.slow])
    for name in ORDERS
])  # fmt: skip
def test_samplers_converge_with_their_order(name, x64):
    sampler, order = ORDERS[name]
    for process in PROCESSES.values():
        coarse, fine = (error(sampler, process, n) for n in (128, 256))
        slope = math.log2(coarse / fine)
        assert order - 0.3 < slope < order + 1.0, (process, slope, fine)


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDERS)
def test_all_deterministic_samplers_agree_at_a_thousand_steps(name, x64):
    sampler, order = ORDERS[name]
    for process in PROCESSES.values():
        assert error(sampler, process, 1000) < (
            5e-3 if order == 1 else 1e-4 if order == 2 else 3e-6
        )


@pytest.mark.parametrize("name", [
    "straight",
    *(pytest.param(n, marks=pytest.mark.slow) for n in PROCESSES if n != "straight"),
])  # fmt: skip
def test_adaptive_steps_solve_the_flow_to_their_tolerance(name, x64):
    process = PROCESSES[name]
    sampler = diffusion.AdaptiveODE(tolerance=1e-8)
    first = diffusion.latest(process) if process.ends_clean else jnp.ones(())
    ends = process.scales(jnp.stack([first, jnp.array(process.earliest)]))
    start = jnp.array(START) * ends.sigma[0]
    found, frames = jax.jit(
        lambda z: sampler.sample(mixed(process), jax.random.key(0), z, num_steps=1)
    )(start)
    ratio = np.asarray(ends.sigma / ends.alpha)
    expected = exact(ratio[0], ratio[1])
    np.testing.assert_allclose(frames[-1] / ends.alpha[1], expected, atol=1e-6)
    if process.ends_clean:
        expected = mixture(expected, 1.0, ratio[1], np).data
    np.testing.assert_allclose(found, expected, atol=1e-6)


def law(sampler, process, num_steps, std):
    """The standard deviation of samples of Gaussian data, whose estimates are linear: exactly.

    Every latent is a sum of the starting noise and of that of each call, of which the coefficients
    are kept.
    """
    grid = diffusion.time_grid(process, num_steps, sampler.times)
    table = sampler.table(process, grid)
    steps = np.asarray(table.steps)
    alpha, sigma = (np.asarray(scale) for scale in process.scales(table.times))
    gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
    z, past = np.zeros(1 + len(steps)), [np.zeros(1 + len(steps))] * 3
    z[0] = process.prior_std
    for i, row in enumerate(steps):
        parts = [z, z, gain[i] * z, *past]
        past = [parts[2], *past[:2]]
        z = sum(c * part for c, part in zip(row[:-1], parts, strict=True))
        z[1 + i] += row[-1]
    return np.sqrt(np.sum(z**2)) / float(grid.alpha[-1])


STOCHASTIC = {
    "ancestral": (diffusion.Ancestral(), 1.0),
    "large variance": (diffusion.Ancestral(variance="large"), 1.0),
    "ddim 0.5": (DDIM(eta=0.5), 1.0),
    "ddim 1": (DDIM(eta=1.0), 1.0),
    "sde 1": (Stochastic(order=1, times="uniform"), 1.0),
    "sde 2": (Stochastic(order=2, times="uniform"), 2.0),
}


@pytest.mark.parametrize("name", [
    pytest.param("ancestral", marks=pytest.mark.slow),
    *(name for name in STOCHASTIC if name != "ancestral"),
])  # fmt: skip
def test_stochastic_samplers_converge_in_law_to_gaussian_data(name, x64):
    sampler, order = STOCHASTIC[name]
    process = diffusion.GammaProcess(lambda t: -8.0 + 16.0 * t)
    # Of the law at the end: data N(0, 1/4) and the noise of time 0, from the prior as it is.
    errors = [abs(law(sampler, process, n, 0.5) - law(sampler, process, 8192, 0.5))
              for n in (64, 128)]  # fmt: skip
    assert order - 0.3 < math.log2(errors[0] / errors[1]) < order + 0.8
    noise = math.exp(-8.0)
    assert law(sampler, process, 1000, 0.5) == pytest.approx(math.sqrt(0.25 + noise), abs=2e-3)


def test_eta_one_is_ancestral_and_euler_is_ddim(x64):
    for process in PROCESSES.values():
        grid = diffusion.time_grid(process, 9, "karras")
        pairs = [(DDIM(eta=1.0), diffusion.Ancestral()), (DDIM(), diffusion.Euler())]
        for one, other in [*pairs, (DDIM(), Multistep(order=1))]:
            a, b = (sampler.table(process, grid).steps for sampler in (one, other))
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


# What samplers promise.

SAMPLERS = {
    "ancestral": diffusion.Ancestral(),
    "ddim": DDIM(),
    "heun": diffusion.Heun(),
    "unipc": UniPC(),
    "corrector": diffusion.PredictorCorrector(),
    "adaptive": diffusion.AdaptiveODE(tolerance=1e-3),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_frames_are_spread_over_the_trajectory_and_end_in_the_sample(name, strict):
    # Without noise after time 0 the last latent is the sample.
    process = diffusion.GammaProcess(lambda t: -8.0 + 16.0 * t)
    sampler, z = SAMPLERS[name], jax.random.normal(jax.random.key(1), (6, 1))
    draw = functools.partial(sampler.sample, gaussian(process), jax.random.key(0), z, num_steps=10)
    samples, frames = jax.jit(lambda: draw(num_frames=4))()
    assert samples.dtype == frames.dtype == jnp.float32
    np.testing.assert_allclose(samples, frames[-1] / diffusion.alpha(jnp.array(-8.0)), rtol=1e-6)
    if sampler.num_calls(10) == 10:
        # Each frame is the last latent of its share of the calls.
        _, every = jax.jit(lambda: draw(num_frames=10))()
        np.testing.assert_allclose(frames, every[np.array([2, 4, 7, 9])], rtol=1e-6)


@pytest.mark.parametrize("name", ["ancestral", "corrector"])
def test_samples_follow_from_the_key(name):
    sampler, process = SAMPLERS[name], diffusion.VariancePreserving()
    z = jax.random.normal(jax.random.key(1), (6, 2))
    draw = jax.jit(lambda key: sampler.sample(mixed(process), key, z, num_steps=4)[0])
    first, again, other = (draw(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert bool((first != other).all())


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_row_does_not_depend_on_what_it_is_drawn_with(name):
    # Of the adaptive solver to its tolerance, as its steps are common to the rows.
    sampler, process = SAMPLERS[name], diffusion.VarianceExploding(sigma_max=20.0)
    z = 20.0 * jax.random.normal(jax.random.key(1), (4, 2))
    draw = jax.jit(lambda z: sampler.sample(mixed(process), jax.random.key(0), z, num_steps=6)[0])
    alone = draw(z)[0]
    np.testing.assert_allclose(
        draw(z.at[1:].multiply(10.0))[0], alone, atol=1e-2 if name == "adaptive" else 1e-6
    )


@pytest.mark.slow
def test_ancestral_sampler_converges_at_first_order_to_gaussian_data():
    process = diffusion.GammaProcess(lambda t: -8.0 + 16.0 * t)

    def sample_std(num_steps, count=200_000):
        key, key_z = jax.random.split(jax.random.key(0))
        z = jax.random.normal(key_z, (count, 1))
        samples, _ = diffusion.Ancestral().sample(gaussian(process), key, z, num_steps=num_steps)
        return float(jnp.std(samples))

    errors = [abs(sample_std(steps) - 0.5) for steps in (16, 32, 64)]
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.3)
    assert errors[1] / errors[2] == pytest.approx(2.0, rel=0.3)
    assert sample_std(1000, 50_000) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("name", PROCESSES)
def test_a_langevin_step_keeps_the_law_of_gaussian_data_up_to_the_square_of_its_size(name, x64):
    process, std = PROCESSES[name], 0.7
    sampler = diffusion.PredictorCorrector(snr=0.1)
    grid = diffusion.time_grid(process, 30, "log_snr")
    alpha, sigma = grid.alpha[:-1], grid.sigma[:-1]
    of_latent, _, of_data, *_, of_noise = sampler.table(process, grid).steps[::2].T
    variance = (alpha * std) ** 2 + sigma**2
    gain = of_latent + of_data * alpha * std**2 / variance
    found = gain**2 * variance + of_noise**2
    size = 2 * 0.1**2 * (alpha / grid.alpha[1:]) ** 2
    # z + d s + sqrt(2 d) noise with s = -z / variance and d = size * sigma^2.
    np.testing.assert_allclose(found / variance - 1, (size * sigma**2 / variance) ** 2, atol=1e-12)


@pytest.mark.parametrize("name", [
    pytest.param("vp", marks=pytest.mark.slow), "ve",
    pytest.param("straight", marks=pytest.mark.slow),
])  # fmt: skip
def test_correction_brings_samples_closer_to_gaussian_data(name, x64):
    # The predictor alone adds the forward step's noise, which is too much.
    process, std = PROCESSES[name], 0.7
    alone = law(diffusion.Ancestral(variance="large", times="log_snr"), process, 200, std)
    found = [
        law(diffusion.PredictorCorrector(times="log_snr", num_corrections=n), process, 200, std)
        for n in (1, 3)
    ]
    assert abs(found[1] - std) < abs(found[0] - std) < abs(alone - std)
    many = law(diffusion.PredictorCorrector(times="log_snr"), process, 2000, std)
    assert many == pytest.approx(std, rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vp", "ve"])
def test_corrected_samples_are_the_mixture(name):
    process = PROCESSES[name]
    z = process.prior_std * jax.random.normal(jax.random.key(1), (4000, 2))
    sampler = diffusion.PredictorCorrector(times="log_snr")
    found, _ = jax.jit(
        lambda z: sampler.sample(mixed(process), jax.random.key(0), z, num_steps=1000)
    )(z)
    nearest = np.argmin(np.sum((np.asarray(found)[:, None] - MEANS) ** 2, -1), 1)
    shares = np.bincount(nearest) / len(z)
    np.testing.assert_allclose(shares, WEIGHTS, atol=0.04)
    for k, mean in enumerate(MEANS):
        own = np.asarray(found)[nearest == k]
        np.testing.assert_allclose(own.mean(0), mean, atol=0.05)
        np.testing.assert_allclose(own.std(0), STD, atol=0.03)


def test_numbers_of_network_calls_are_those_that_are_made():
    process = diffusion.VariancePreserving()
    grid = diffusion.time_grid(process, 3)
    for sampler in (DDIM(), diffusion.Heun(), diffusion.PredictorCorrector(num_corrections=2)):
        assert len(sampler.table(process, grid).times) == sampler.num_calls(3)
    assert [s.num_calls(3) for s in (DDIM(), diffusion.Heun(), UniPC())] == [3, 5, 3]
    assert diffusion.AdaptiveODE().num_calls(3) is None
    # Where noise is left at the end, the last step has a slope there, too.
    gamma = diffusion.GammaProcess(lambda t: -5.0 + 10.0 * t)
    heun = diffusion.Heun()
    table = heun.table(gamma, diffusion.time_grid(gamma, 3))
    assert len(table.times) == heun.num_calls(3, ends_clean=False) == 6


def test_protocols_count_the_calls_of_guidance():
    def said(**guidance):
        asked = Sampling(num_steps=4, guidance=diffusion.ClassifierFree(**guidance))
        return asked.in_words(DDIM(), ends_clean=True)

    assert said() == "DDIM, 4 network calls, guidance 1"
    assert said(scale=1.5) == "DDIM, 8 network calls, half of them without the label, guidance 1.5"
    assert said(scale=2.0, stop=0.5) == "DDIM, 4 to 8 network calls, guidance 2 from time 1 to 0.5"


@pytest.mark.parametrize("steps, frames", [(0, 1), (4, 5), (4, 0)])
@pytest.mark.parametrize("name", ["ddim", "corrector"])
def test_impossible_step_counts_raise(name, steps, frames):
    with pytest.raises(ValueError, match="num_"):
        SAMPLERS[name].sample(
            gaussian(diffusion.Straight()),
            jax.random.key(0),
            jnp.ones((1, 1)),
            num_steps=steps,
            num_frames=frames,
        )


@pytest.mark.parametrize("make, message", [
    (lambda: DDIM(eta=1.5), r"eta must be in \[0, 1\]"),
    (lambda: DDIM(threshold="hard"), "threshold must be none, static or dynamic"),
    (lambda: DDIM(threshold="dynamic", quantile=0.0), r"quantile must be in \(0, 1\]"),
    (lambda: DDIM(times="cubic"), "times must be one of uniform"),
    (lambda: DDIM(rho=0.0), "rho must be positive"),
    (lambda: diffusion.Ancestral(variance="medium"), "variance must be small or large"),
    (lambda: diffusion.Heun(churn=-1.0), "churn and churn_noise must not be negative"),
    (lambda: diffusion.Heun(churn_min=2.0, churn_max=1.0), "churn_min not above churn_max"),
    (lambda: Stochastic(order=3), "order must be from 1 to 2 with stochastic"),
    (lambda: diffusion.DPMSolver(form="two"), "form must be multistep, singlestep or stochastic"),
    (lambda: UniPC(order=4), "order must be from 1 to 3"),
    (lambda: UniPC(variant="bh3"), "variant must be bh1 or bh2"),
    (lambda: diffusion.PredictorCorrector(snr=0.0), "snr must be positive"),
    (lambda: diffusion.PredictorCorrector(times="cubic"), "times must be one of uniform"),
    (lambda: diffusion.AdaptiveODE(method="heun"), "method must be dopri5 or tsit5"),
    (lambda: diffusion.AdaptiveODE(tolerance=0.0), "tolerances and numbers of steps must be"),
])  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_samplers_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
