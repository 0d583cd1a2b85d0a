import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import diffusion
from genjax.diffusion import weightings

TABLES = json.loads((pathlib.Path(__file__).parent / "reference_samplers.json").read_text())[
    "tables"
]
WEIGHTINGS = {
    "simple": weightings.Simple(),
    "bound": weightings.Bound(),
    "data": weightings.DataError(),
    "v": weightings.VError(),
    "velocity": weightings.VelocityError(),
    "min_snr": weightings.MinSNR(),
    "sigmoid": weightings.Sigmoid(),
    "edm": weightings.EDM(0.5),
}
GAMMA, SLOPE = jnp.linspace(-13.0, 9.0, 12), jnp.linspace(0.1, 40.0, 12)


def weight(name, gamma=GAMMA, slope=SLOPE):
    return jnp.exp(WEIGHTINGS[name].log_weight(gamma, slope))


def test_weights_are_the_formulas_of_the_papers(strict):
    snr = jnp.exp(-GAMMA)
    expected = {
        "simple": jnp.ones(12),
        "bound": SLOPE / 2,
        "data": 1 / snr,
        "v": 1 + 1 / snr,
        "velocity": (1 + 1 / jnp.sqrt(snr)) ** 2,
        "min_snr": jnp.minimum(snr, 5.0) / snr,
        "sigmoid": SLOPE / 2 * jax.nn.sigmoid(2.0 + GAMMA),
        "edm": 1 + 1 / (0.25 * snr),
    }
    assert set(expected) == set(WEIGHTINGS)
    for name, value in expected.items():
        found = weight(name)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, value, rtol=1e-5)


@pytest.mark.parametrize("name, kind, process", [
    ("simple", diffusion.Noise(), diffusion.VariancePreserving()),
    ("data", diffusion.Data(), diffusion.SubVariancePreserving()),
    ("v", diffusion.V(), diffusion.Cosine()),
    ("velocity", diffusion.Velocity(), diffusion.Straight()),
    ("edm", diffusion.Preconditioned(0.5), diffusion.VarianceExploding()),
    ("edm", diffusion.Preconditioned(0.5), diffusion.VariancePreserving()),
])  # fmt: skip
def test_each_error_of_its_own_has_weight_one(name, kind, process, x64):
    times = jnp.linspace(0.01, 0.99, 9)
    gamma, slope = diffusion.gamma_and_slope_of(process, times)
    log_weight = WEIGHTINGS[name].log_weight(gamma, slope)
    of_output = log_weight + kind.log_noise_error(*process.scales(times))
    np.testing.assert_allclose(of_output, 0.0, atol=1e-9)


def test_the_bound_weighs_a_straight_path_by_its_distance_from_both_ends(x64):
    times = jnp.linspace(0.1, 0.9, 9)
    found = weight("bound", *diffusion.gamma_and_slope_of(diffusion.Straight(), times))
    np.testing.assert_allclose(found, 1 / (times * (1 - times)), rtol=1e-12)


def test_min_snr_weighs_noise_data_and_v_as_published(x64):
    # Hang et al., arXiv:2303.09556, section 3.4: min(SNR, 5) over SNR, 1 and SNR + 1.
    table = {key: np.array(value) for key, value in TABLES["min_snr"].items()}
    gamma = -jnp.log(jnp.array(table["snr"]))
    scales = diffusion.of_gamma(gamma)
    log_weight = weightings.MinSNR(float(table["gamma"])).log_weight(gamma, gamma)
    for name, kind in [
        ("noise", diffusion.Noise()),
        ("data", diffusion.Data()),
        ("v", diffusion.V()),
    ]:
        found = jnp.exp(log_weight + kind.log_noise_error(*scales))
        np.testing.assert_allclose(found, table[name], rtol=1e-9)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_logarithms_are_finite_where_weights_are_not(name):
    gamma = jnp.array([-60.0, 60.0])
    # Rounding may leave nothing of a slope, or a little less.
    found = WEIGHTINGS[name].log_weight(gamma, jnp.array([-1e-7, 1e6]))
    assert bool(jnp.isfinite(found).all())


def test_a_ratio_below_zero_is_refused():
    with pytest.raises(ValueError, match="snr_max must be positive"):
        weightings.MinSNR(0.0)
