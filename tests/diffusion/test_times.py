import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import diffusion


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
