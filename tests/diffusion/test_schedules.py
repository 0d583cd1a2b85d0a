import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import diffusion

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
