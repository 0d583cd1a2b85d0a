"""Missing entries of mixtures: exact conditionals, by sums over all that may be missing."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import families
from genjax.families.observations import Entries

KEY = jax.random.key(0)
GENERATOR = np.random.default_rng(1)
POINTS = (GENERATOR.normal(size=(60, 3)) @ GENERATOR.normal(size=(3, 3)) + 5.0).astype("f4")
LEVELS = GENERATOR.integers(0, 3, (60, 3)).astype(np.uint8)


def fitted(component, x, num_levels, **kwargs):
    family = families.mixture(
        component=component, event_shape=(3,), num_levels=num_levels, num_components=2, **kwargs
    )
    batch = {"x": jnp.asarray(x), "label": jnp.arange(60) % 2}
    state = jax.jit(family.init)(KEY, batch)
    step = jax.jit(family.train_step)
    for _ in range(3):
        state, _ = step(state, batch, KEY)
    return family, state


def filled(family, state, row, known, count=20_000, **features):
    batch = {"x": jnp.tile(row, (count, 1)), "known": jnp.tile(jnp.array(known), (count, 1))}
    return np.asarray(jax.jit(family.impute, static_argnums=3)(state, batch | features, KEY, 1))


GAUSSIANS = [dict(covariance=c, shared=s) for c in ("full", "diagonal") for s in (False, True)]


@pytest.mark.parametrize("kwargs", GAUSSIANS, ids=str)
@pytest.mark.parametrize("num_levels", [None, pytest.param(3, marks=pytest.mark.slow)])
def test_where_all_is_known_it_is_the_whole_density(kwargs, num_levels):
    component = families.GaussianComponent(**kwargs)
    x = POINTS if num_levels is None else LEVELS
    _, state = fitted(component, x, num_levels)
    own, of = state.params["mixture"], Entries(3, num_levels)
    rows, known = jnp.asarray(x, jnp.float32), jnp.ones((60, 3), bool)
    expected = component.log_prob(own, rows, of)
    found = component.log_prob_known(own, rows, known, of)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
    np.testing.assert_array_equal(component.log_prob_known(own, rows, ~known, of), 0.0)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_gaussians_have_their_conditional_moments(covariance):
    family, state = fitted(families.GaussianComponent(covariance=covariance), POINTS, None)
    own = {name: np.asarray(value, float) for name, value in state.params["mixture"].items()}
    row, known = POINTS[3], [True, False, True]
    drawn = filled(family, state, row, known)
    np.testing.assert_array_equal(drawn[:, known], np.tile(row[known], (len(drawn), 1)))
    weights, means, variances = [], [], []
    for k in range(2):
        factor, mean = own["factor"][k], own["mean"][k]
        full = factor @ factor.T if covariance == "full" else np.diag(factor**2)
        a, b, c = full[np.ix_(known, known)], full[1, known], full[1, 1]
        gap = row[known] - mean[known]
        log_density = -0.5 * (gap @ np.linalg.solve(a, gap) + np.linalg.slogdet(a)[1])
        weights.append(np.exp(own["log_weights"][k] + log_density))
        means.append(mean[1] + b @ np.linalg.solve(a, gap))
        variances.append(c - b @ np.linalg.solve(a, b))
    weights = np.array(weights) / np.sum(weights)
    mean = weights @ means
    variance = weights @ (np.array(variances) + np.square(means)) - mean**2
    # Five standard errors of 20,000 draws.
    assert drawn[:, 1].mean() == pytest.approx(mean, abs=5 * np.sqrt(variance / 20_000))
    assert drawn[:, 1].var() == pytest.approx(variance, rel=0.08)


@pytest.mark.parametrize("component, num_levels", [
    (families.BernoulliComponent(), 2),
    (families.CategoricalComponent(), 3),
    (families.MultinomialComponent(), 3),
])  # fmt: skip
@pytest.mark.parametrize("known", [(True, False, False), (False, False, False), (True,) * 3])
def test_discrete_ones_add_up_what_may_be_missing(component, num_levels, known):
    x = np.minimum(LEVELS, num_levels - 1)
    family, state = fitted(component, x, num_levels)
    own, of, row = state.params["mixture"], Entries(3, num_levels), x[7]
    missing = [i for i in range(3) if not known[i]]
    # Counts have no highest level: all that the largest total allows are added up.
    most = 7 if isinstance(component, families.MultinomialComponent) else num_levels
    ways = list(itertools.product(range(most), repeat=len(missing)))
    rows = np.tile(row, (len(ways), 1)).astype("f4")
    rows[:, missing] = ways
    if most == 7:
        rows = rows[rows.sum(1) <= 6]
    every = np.exp(np.asarray(component.log_prob(own, jnp.asarray(rows), of), float))
    mask = jnp.asarray([known])
    found = component.log_prob_known(own, jnp.asarray(rows[:1]), mask, of)
    np.testing.assert_allclose(np.exp(found[0]), every.sum(0), rtol=1e-5)
    if all(known):
        return
    joint = every @ np.exp(np.asarray(own["log_weights"], float))
    drawn = filled(family, state, row, known)
    assert (drawn[:, list(known)] == row[list(known)]).all()
    cut = np.minimum(rows, num_levels - 1)
    for value in range(num_levels):
        share = joint[cut[:, missing[0]] == value].sum() / joint.sum()
        assert (drawn[:, missing[0]] == value).mean() == pytest.approx(share, abs=0.018)


def test_a_label_decides_and_what_is_missing_need_not_be_a_number():
    family, state = fitted(
        families.GaussianComponent(floor=0.1), POINTS, None, labels=True, num_classes=2
    )
    row = np.array([POINTS[0, 0], np.nan, np.nan], np.float32)
    label = jnp.asarray(np.arange(400) % 2)
    drawn = filled(family, state, row, [True, False, False], 400, label=label)
    assert np.isfinite(drawn).all() and (drawn[:, 0] == row[0]).all()
    alone = filled(family, state, row, [True, False, False], 400, label=label * 0)
    np.testing.assert_array_equal(alone[::2], drawn[::2])
    assert (alone[1::2] != drawn[1::2]).any()
