"""Distributions that decoders end in: their probabilities add up, and draws have them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import families
from genjax.families.observations import Entries

KEY = jax.random.key(0)
DISCRETE = {
    "bernoulli": (families.Bernoulli(), 2),
    "categorical": (families.Categorical(), 3),
    "logistic": (families.DiscretizedLogistic(), 3),
    "shared logistic": (families.DiscretizedLogistic(scale="shared"), 3),
    "mixture": (families.LogisticMixture(num_components=2), 3),
    "apart": (families.LogisticMixture(num_components=2, coupled=False), 3),
}
REAL = {
    "continuous bernoulli": families.ContinuousBernoulli(),
    "fixed gaussian": families.Gaussian(variance="fixed", std=0.7),
    "shared gaussian": families.Gaussian(variance="shared"),
    "learned gaussian": families.Gaussian(variance="learned"),
}


def outputs_of(observation, of, scale=1.0):
    size = observation.num_outputs(of) + observation.num_shared
    return scale * jax.random.normal(KEY, (1, size))


@pytest.mark.parametrize("name", DISCRETE)
def test_draws_have_their_probabilities_which_add_up_to_one(name):
    observation, levels = DISCRETE[name]
    of = Entries(2, levels)
    observation.check(levels)
    every = jnp.asarray(list(itertools.product(range(levels), repeat=2)), jnp.uint8)
    outputs = outputs_of(observation, of)
    nats = observation.nats(every, jnp.repeat(outputs, len(every), 0), of)
    expected = np.exp(-np.asarray(nats))
    assert expected.sum() == pytest.approx(1.0, rel=1e-5)
    count = 20_000
    drawn = jax.jit(lambda o: observation.draw(KEY, o, of))(jnp.repeat(outputs, count, 0))
    assert drawn.shape == (count, 2) and drawn.dtype == jnp.uint8
    found = np.bincount(np.asarray(drawn) @ [levels, 1], minlength=levels**2) / count
    allowed = 4.5 * np.sqrt(expected * (1 - expected) / count) + 1e-4
    assert (np.abs(found - expected) < allowed).all(), (found, expected)
    centre = observation.centre(outputs, of)
    assert centre.shape == (1, 2) and centre.dtype == jnp.uint8


@pytest.mark.parametrize("name", REAL)
def test_draws_have_their_density_and_its_mean(name):
    observation, of = REAL[name], Entries(1, None)
    observation.check(None)
    outputs = outputs_of(observation, of, scale=2.0 if "bernoulli" in name else 0.5)
    count = 50_000
    drawn = observation.draw(KEY, jnp.repeat(outputs, count, 0), of)
    assert abs(float(drawn.mean() - observation.centre(outputs, of)[0, 0])) < 4.5 * float(
        drawn.std() / count**0.5
    )
    # The density is that of the draws: their quantiles halve the integral.
    low, high = (0.0, 1.0) if "bernoulli" in name else (-15.0, 15.0)
    grid = jnp.linspace(low, high, 20_001)[:, None]
    density = np.exp(-np.asarray(observation.nats(grid, jnp.repeat(outputs, len(grid), 0), of)))
    share = np.cumsum(0.5 * (density[1:] + density[:-1])) * float(grid[1, 0] - grid[0, 0])
    assert share[-1] == pytest.approx(1.0, abs=1e-3)
    for quantile in (0.1, 0.5, 0.9):
        reached = np.interp(np.quantile(drawn, quantile), np.asarray(grid)[1:, 0], share)
        assert reached == pytest.approx(quantile, abs=0.01)


@pytest.mark.parametrize("logit", [-200.0, -3.0, 0.0, 1e-4, 3.0, 200.0])
def test_continuous_bernoulli_draws_of_any_logit_stay_inside(logit):
    observation, of = families.ContinuousBernoulli(), Entries(1, None)
    drawn = observation.draw(KEY, jnp.full((1000, 1), logit), of)
    assert np.isfinite(drawn).all() and drawn.min() >= 0.0 and drawn.max() <= 1.0
    centre = float(observation.centre(jnp.full((1, 1), logit), of)[0, 0])
    assert 0.0 < centre < 1.0 and centre == pytest.approx(float(drawn.mean()), abs=0.04)


@pytest.mark.parametrize(
    "observation, levels, message",
    [
        (families.Bernoulli(), 17, "binary data .2 levels., but the data has 17 levels"),
        (families.Bernoulli(), None, "but the data has real numbers"),
        (families.Gaussian(), 256, "but the data has 256 grey levels"),
        (families.ContinuousBernoulli(), 2, "a density of real numbers"),
        (families.Categorical(), None, "of grey levels, but the data is real-valued"),
        (families.DiscretizedLogistic(), None, "of grey levels, but the data is real-valued"),
        (families.LogisticMixture(), None, "of grey levels, but the data is real-valued"),
    ],
)
def test_data_of_another_kind_is_refused(observation, levels, message):
    with pytest.raises(ValueError, match=message):
        observation.check(levels)


@pytest.mark.parametrize(
    "make",
    [
        lambda: families.Gaussian(variance="free"),
        lambda: families.Gaussian(std=0.0),
        lambda: families.DiscretizedLogistic(scale="fixed"),
        lambda: families.LogisticMixture(num_components=0),
    ],
)
def test_arguments_out_of_range_are_refused(make, unchecked):
    with pytest.raises(ValueError):
        make()
