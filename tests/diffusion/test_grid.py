import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from genjax import diffusion
from genjax.diffusion.grid import SPACINGS

REFERENCE = json.loads((pathlib.Path(__file__).parent / "reference_samplers.json").read_text())
GAMMA = diffusion.GammaProcess(lambda t: -8.0 + 16.0 * t)
PROCESSES = {
    "vp": diffusion.VariancePreserving(),
    "sub_vp": diffusion.SubVariancePreserving(),
    "ve": diffusion.VarianceExploding(),
    "straight": diffusion.Straight(),
    "cosine": diffusion.Cosine(),
    "chain": diffusion.Chain(),
    "cosine chain": diffusion.Chain(betas="cosine", num_timesteps=4000),
    "gamma": GAMMA,
}


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", PROCESSES)
def test_grids_fall_from_noise_to_their_end_at_times_that_can_be_asked(name, spacing):
    process = PROCESSES[name]
    for num_steps in (1, 2, 7):
        grid = diffusion.time_grid(process, num_steps, spacing)
        assert grid.times.shape == (num_steps,) and grid.alpha.shape == (num_steps + 1,)
        assert bool((jnp.diff(grid.times) < 0).all()) and bool((jnp.diff(grid.lam) > 0).all())
        assert float(grid.times.min()) >= np.float32(process.earliest)
        # Solvers divide by alpha: where there is no signal, the first time is one with a little.
        assert float(grid.times[0]) == pytest.approx(1.0, abs=1e-4)
        assert bool(jnp.isfinite(grid.lam[:-1]).all()) and float(grid.lam[0]) > -10.01
        alpha, sigma = process.scales(grid.times)
        np.testing.assert_allclose(grid.alpha[:-1], alpha, rtol=1e-6)
        np.testing.assert_allclose(grid.sigma[:-1], sigma, rtol=1e-6)
        assert grid.clean == process.ends_clean
        end = (1.0, 0.0) if grid.clean else process.scales(jnp.zeros(()))
        np.testing.assert_allclose((grid.alpha[-1], grid.sigma[-1]), end, rtol=1e-6)


def test_uniform_and_quadratic_times_are_those_of_their_names():
    grid = diffusion.time_grid(diffusion.Straight(), 4)
    np.testing.assert_allclose(grid.times, [1.0, 0.75, 0.5, 0.25], atol=1e-4)
    grid = diffusion.time_grid(diffusion.Straight(), 4, "quadratic")
    np.testing.assert_allclose(grid.times, [1.0, 0.5625, 0.25, 0.0625], atol=1e-4)
    # Noise at time 0 still: the last is asked at time 0 itself.
    grid = diffusion.time_grid(diffusion.VarianceExploding(), 5)
    np.testing.assert_allclose(grid.times, [1.0, 0.75, 0.5, 0.25, 0.0], atol=1e-6)
    # The end is time 0, where the decoder takes over: N steps lead there.
    grid = diffusion.time_grid(GAMMA, 4)
    np.testing.assert_allclose(grid.times, [1.0, 0.75, 0.5, 0.25], atol=1e-6)


@pytest.mark.parametrize("spacing", ["log_snr", "karras"])
@pytest.mark.parametrize("name", PROCESSES)
def test_steps_are_equal_in_the_ratio_s_logarithm_or_in_its_root(name, spacing, x64):
    process = PROCESSES[name]
    grid = diffusion.time_grid(process, 12, spacing)
    lam = grid.lam[:-1] if grid.clean else grid.lam
    way = lam if spacing == "log_snr" else jnp.exp(-lam / 7.0)
    np.testing.assert_allclose(np.diff(way), (way[-1] - way[0]) / (len(way) - 1), rtol=1e-6)
    last = process.scales(jnp.array(process.earliest)).lam
    np.testing.assert_allclose(lam[-1], last, rtol=1e-9)


@pytest.mark.parametrize("row", range(3))
def test_noise_levels_are_those_of_k_diffusion(row, x64):
    # Karras et al., arXiv:2206.00364, eq. 5, and levels equally spaced in their logarithm.
    table = REFERENCE["tables"]["sigmas"][row]
    spacing = {"get_sigmas_karras": "karras", "get_sigmas_exponential": "log_snr"}
    process = diffusion.VarianceExploding(
        sigma_min=table["sigma_min"], sigma_max=table["sigma_max"]
    )
    grid = diffusion.time_grid(process, table["n"], spacing[table["function"]])
    np.testing.assert_allclose(grid.sigma, table["sigmas"], rtol=1e-9)
    np.testing.assert_array_equal(grid.alpha, 1.0)


@pytest.mark.parametrize("name", [
    "linear_trailing_5", "linear_trailing_10", "linear_trailing_20", "scaled_linear_trailing_10",
    "cosine_trailing_10", "linear_karras_vp_10",
])  # fmt: skip
def test_grids_of_chains_are_those_of_diffusers(name, x64):
    row = REFERENCE["grids"][name]
    settings = REFERENCE["schedules"][row["schedule"]]["settings"]
    ends = {}
    if "beta_start" in settings:
        ends = dict(beta_min=settings["beta_start"], beta_max=settings["beta_end"])
    chain = diffusion.Chain(betas=row["schedule"], **ends)
    spacing = "karras" if "karras" in name else "uniform"
    grid = diffusion.time_grid(chain, len(row["t"]), spacing)
    np.testing.assert_allclose(grid.alpha, row["alpha"], rtol=1e-9)
    np.testing.assert_allclose(grid.sigma, row["sigma"], rtol=1e-9)
    if spacing == "uniform":  # its step t is the time (t + 1) / T
        np.testing.assert_allclose(grid.times, (np.array(row["t"]) + 1) / 1000, rtol=1e-9)


@pytest.mark.parametrize("kwargs, message", [
    (dict(num_steps=0), "num_steps must be at least 1, got 0"),
    (dict(num_steps=3, spacing="cubic"), "times must be one of uniform, quadratic"),
    (dict(num_steps=3, rho=0.0), "rho must be positive"),
])  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_grids_that_cannot_be_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        diffusion.time_grid(diffusion.Straight(), **kwargs)
