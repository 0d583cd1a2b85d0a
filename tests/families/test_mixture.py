"""Classic models with a discrete latent: scikit-learn's numbers, and what maximum likelihood is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import discriminant_analysis, naive_bayes
from sklearn.mixture import GaussianMixture

from genjax import families
from genjax.families.linear_algebra import triangular_inverse
from genjax.families.seeding import clusters

KEY = jax.random.key(0)
SLOW = dict(marks=pytest.mark.slow)
GENERATOR = np.random.default_rng(0)
CENTRES = np.array([[0.0, 0.0, 3.0], [4.0, -1.0, 0.0], [-1.0, 5.0, 1.0]])
LABEL = np.arange(150) % 3

POINTS = (20.0 + CENTRES[LABEL] + GENERATOR.normal(size=(150, 3)) * [1.0, 0.5, 2.0]).astype("f4")
LEVELS = np.clip(GENERATOR.poisson(2.0 + LABEL[:, None] * [0, 1, 2, 3]), 0, 7).astype(np.uint8)
BITS = (LEVELS > 2).astype(np.uint8)


def rows(x, label=LABEL):
    return {
        "x": jnp.asarray(x),
        "label": jnp.asarray(label, jnp.int32),
        "index": jnp.arange(len(x)),
    }


def made(component, x, *, num_levels=None, **kwargs):
    given = dict(event_shape=x.shape[1:], num_levels=num_levels, num_classes=3)
    return families.mixture(component=component, **{**given, **kwargs})


def fitted(family, x, steps=1, label=LABEL):
    batch = rows(x, label)
    state = jax.jit(family.init)(KEY, batch)
    step = jax.jit(family.train_step)
    losses = []
    for _ in range(steps):
        state, metrics = step(state, batch, KEY)
        losses.append(float(metrics["loss"]))
    return state, np.array(losses)


def scores(family, state, x, label=LABEL):
    """What evaluation says, and the posterior of the classes."""

    def both(state, batch):
        posterior = family.encode(state, batch, KEY)["posterior"]
        return family.eval_step(state, batch, KEY), posterior.sum(-1)

    found, posterior = jax.jit(both)(state, rows(x, label))
    return {k: np.asarray(v, float) for k, v in found.items()}, np.asarray(posterior, float)


def log_prob(family, state, x, label=LABEL):
    return jax.jit(family.log_prob)(state, rows(x, label), KEY)


def gaussian(**kwargs):
    return families.GaussianComponent(**{"floor": 0.0, **kwargs})


def oracle(name, x):
    if name == "gaussian":
        return naive_bayes.GaussianNB(var_smoothing=0.0).fit(x, LABEL)
    if name == "bernoulli":
        return naive_bayes.BernoulliNB(alpha=1.0).fit(x, LABEL)
    if name == "multinomial":
        return naive_bayes.MultinomialNB(alpha=1.0).fit(x, LABEL)
    if name == "categorical":
        return naive_bayes.CategoricalNB(alpha=1.0, min_categories=8).fit(x, LABEL)
    return discriminant_analysis.LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=0.2 if name == "shrunk_lda" else None
    ).fit(x, LABEL)


@pytest.mark.parametrize("name, component, x, num_levels", [
    ("gaussian", gaussian(covariance="diagonal"), POINTS, None),
    ("lda", gaussian(shared=True), POINTS, None),
    pytest.param("shrunk_lda", gaussian(shared=True, shrinkage=0.2), POINTS, None, **SLOW),
    ("bernoulli", families.BernoulliComponent(), BITS, 2),
    ("categorical", families.CategoricalComponent(), LEVELS, 8),
    ("multinomial", families.MultinomialComponent(), LEVELS, 8),
])  # fmt: skip
def test_with_labels_the_posterior_is_scikit_learns(name, component, x, num_levels):
    family = made(component, x, num_levels=num_levels, labels=True)
    state, _ = fitted(family, x)
    theirs = oracle(name, x.astype(float))
    found, posterior = scores(family, state, x)
    expected = theirs.predict_proba(x.astype(float))
    np.testing.assert_allclose(posterior, expected, atol=1e-5)
    np.testing.assert_array_equal(found["error"], theirs.predict(x.astype(float)) != LABEL)
    true = np.log(expected[np.arange(150), LABEL])
    np.testing.assert_allclose(found["cross_entropy"], -true, atol=2e-5)
    prior = np.log(1 / 3)
    joint = -found["nats"] + prior  # classes are of one size
    np.testing.assert_allclose(joint + found["nats_marginal"], true, atol=2e-5)


@pytest.mark.slow
def test_joint_densities_are_those_of_naive_bayes_and_of_quadratic_discriminant_analysis():
    x = POINTS.astype(float)
    family = made(gaussian(covariance="diagonal"), POINTS, labels=True)
    found, _ = scores(family, fitted(family, POINTS)[0], POINTS)
    joint = oracle("gaussian", x).predict_joint_log_proba(x)
    np.testing.assert_allclose(-found["nats"] - np.log(3), joint[np.arange(150), LABEL], rtol=1e-5)
    family = made(gaussian(), POINTS, labels=True)
    state, _ = fitted(family, POINTS)
    for k in range(3):
        own = x[LABEL == k]
        truth = stats.multivariate_normal(own.mean(0), np.cov(own.T, bias=True))
        found = log_prob(family, state, own, np.full(50, k))
        np.testing.assert_allclose(found, truth.logpdf(own), rtol=1e-5)
    theirs = discriminant_analysis.QuadraticDiscriminantAnalysis(store_covariance=True)
    theirs.fit(x, LABEL)
    # Versions differ in whether covariances are unbiased.
    ours = state.params["mixture"]
    ratio = theirs.covariance_[0][0, 0] / float(ours["factor"][0, 0, 0]) ** 2
    assert min(abs(ratio - 1), abs(ratio - 50 / 49)) < 1e-5
    other = {**ours, "factor": ours["factor"] * np.sqrt(ratio)}
    _, posterior = scores(family, state.replace(params={"mixture": other}), POINTS)
    np.testing.assert_allclose(posterior, theirs.predict_proba(x), atol=1e-5)


@pytest.mark.parametrize("covariance, theirs, shared", [
    ("full", "full", False),
    pytest.param("full", "tied", True, **SLOW),
    pytest.param("diagonal", "diag", False, **SLOW),
    pytest.param("spherical", "spherical", False, **SLOW),
])  # fmt: skip
def test_steps_of_a_gaussian_mixture_are_scikit_learns(covariance, theirs, shared):
    component = families.GaussianComponent(covariance=covariance, shared=shared)
    family = made(component, POINTS, num_components=3)
    state, losses = fitted(family, POINTS, steps=25)
    x = POINTS.astype(float)
    start = jax.jit(family.init)(KEY, rows(POINTS)).params["mixture"]
    precisions = covariances(start, covariance, shared, np.linalg.inv)
    for steps in (1, 25):
        reference = GaussianMixture(
            3, covariance_type=theirs, max_iter=steps, tol=0.0, reg_covar=1e-6,
            weights_init=np.exp(start["log_weights"]), means_init=np.asarray(start["mean"], float),
            precisions_init=precisions,
        )  # fmt: skip
        with pytest.warns(match="converge"):
            reference.fit(x)
        if steps == 1:
            once, _ = fitted(family, POINTS)
            np.testing.assert_allclose(once.params["mixture"]["mean"], reference.means_, rtol=1e-6)
            found = covariances(once.params["mixture"], covariance, shared, np.asarray)
            np.testing.assert_allclose(found, reference.covariances_, rtol=2e-5, atol=2e-6)
    found = log_prob(family, state, POINTS)
    np.testing.assert_allclose(found, reference.score_samples(x), rtol=2e-5)
    assert (np.diff(losses) < 1e-5).all(), "the likelihood never falls"
    posterior = jax.jit(family.encode)(state, rows(POINTS), KEY)["posterior"]
    np.testing.assert_allclose(posterior, reference.predict_proba(x), atol=1e-4)


def covariances(parameters, covariance, shared, then):
    """Covariances as scikit-learn has them, or what is made of each."""
    factor = np.asarray(parameters["factor"], float)
    if covariance == "full":
        found = np.stack([then(f @ f.T) for f in factor])
        return found[0] if shared else found
    found = factor**2 if then is np.asarray else factor**-2
    return found[:, 0] if covariance == "spherical" else found


@pytest.mark.slow
def test_one_component_is_the_mean_and_covariance_of_the_data_at_once():
    family = made(gaussian(), POINTS)
    state, losses = fitted(family, POINTS, steps=3)
    x = POINTS.astype(float)
    truth = stats.multivariate_normal(x.mean(0), np.cov(x.T, bias=True)).logpdf(x)
    np.testing.assert_allclose(log_prob(family, state, POINTS), truth, rtol=1e-5)
    np.testing.assert_allclose(losses, -truth.mean(), rtol=1e-5)


@pytest.mark.parametrize("component, x, num_levels", [
    (families.BernoulliComponent(smoothing=1e-3), BITS, 2),
    pytest.param(families.CategoricalComponent(smoothing=1e-3), LEVELS, 8, **SLOW),
    pytest.param(families.MultinomialComponent(smoothing=1e-3), LEVELS, 8, **SLOW),
    pytest.param(families.GaussianComponent(), LEVELS, 8, **SLOW),
])  # fmt: skip
def test_the_likelihood_of_levels_never_falls_and_says_whether_it_is_exact(
    component, x, num_levels
):
    family = made(component, x, num_levels=num_levels, num_components=3)
    state, losses = fitted(family, x, steps=15)
    assert (np.diff(losses) < 1e-4).all() and losses[-1] < losses[0] - 1e-3
    exact = family.eval_protocol["density"] == "exact"
    if isinstance(component, families.MultinomialComponent):
        return
    every = np.stack(np.meshgrid(*[np.arange(num_levels)] * 4), -1).reshape(-1, 4)
    probability = jnp.exp(log_prob(family, state, every, 0 * every[:, 0])).sum()
    assert float(probability) == pytest.approx(1.0, abs=1e-4) if exact else probability < 1.0


def test_a_grey_level_is_scored_by_a_bound_on_the_probability_of_its_bin():
    family = made(gaussian(covariance="diagonal"), LEVELS, num_levels=8, num_components=2)
    state, _ = fitted(family, LEVELS, steps=5)
    ours = {k: np.asarray(v, float) for k, v in state.params["mixture"].items()}
    x = LEVELS.astype(float)[:, None, :]
    normal = stats.norm(ours["mean"], ours["factor"])
    bins = np.log(normal.cdf(x + 0.5) - normal.cdf(x - 0.5)).sum(-1) + ours["log_weights"]
    exact = np.log(np.exp(bins).sum(1))
    bound = np.asarray(log_prob(family, state, LEVELS), float)
    assert (bound <= exact + 1e-5).all() and (exact - bound).mean() < 0.1
    # The mean over noise within bins, for a single component.
    family = made(gaussian(), LEVELS, num_levels=8)
    state, _ = fitted(family, LEVELS)
    mean, factor = (np.asarray(state.params["mixture"][k][0], float) for k in ("mean", "factor"))
    points = LEVELS[:1] + np.random.default_rng(1).uniform(-0.5, 0.5, (200_000, 4))
    truth = stats.multivariate_normal(mean, factor @ factor.T).logpdf(points)
    found = float(log_prob(family, state, LEVELS[:1], LABEL[:1])[0])
    assert found == pytest.approx(truth.mean(), abs=5 * truth.std() / np.sqrt(200_000))
    np.testing.assert_allclose(
        factor @ factor.T, np.cov(LEVELS.T, bias=True) + np.eye(4) / 12, rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_sums_of_several_batches_make_the_step_of_one_that_holds_them_all():
    whole = made(gaussian(), POINTS, num_components=3)
    split = made(gaussian(), POINTS, num_components=3, accumulate_steps=3)
    start = jax.jit(whole.init)(KEY, rows(POINTS))
    one, _ = jax.jit(whole.train_step)(start, rows(POINTS), KEY)
    two, step = start, jax.jit(split.train_step)
    for i in range(3):
        before = two
        two, _ = step(two, jax.tree.map(lambda a, i=i: a[50 * i : 50 * i + 50], rows(POINTS)), KEY)
        if i < 2:
            for name, value in two.params["mixture"].items():
                np.testing.assert_array_equal(value, before.params["mixture"][name])
    for name, value in one.params["mixture"].items():
        np.testing.assert_allclose(two.params["mixture"][name], value, rtol=2e-5, atol=2e-5)
    assert all(not leaf.any() for leaf in jax.tree.leaves(two.model_state))


def test_a_label_that_is_missing_is_a_hidden_one_and_classes_may_have_several_components():
    family = made(gaussian(covariance="diagonal"), POINTS, labels=True, num_components=2)
    half = np.where(np.arange(150) < 75, LABEL, -1)
    state, losses = fitted(family, POINTS, steps=10, label=half)
    assert (np.diff(losses) < 1e-5).all()
    found, posterior = scores(family, state, POINTS)
    assert found["error"].mean() < 0.05
    np.testing.assert_allclose(posterior.sum(1), 1.0, rtol=1e-5)
    known = log_prob(family, state, POINTS)
    np.testing.assert_allclose(known, -found["nats"], rtol=1e-6)
    unknown = log_prob(family, state, POINTS, np.full(150, -1))
    np.testing.assert_allclose(unknown, -found["nats_marginal"], rtol=1e-6)
    asked = LABEL - 1  # the first third of any class
    drawn = jax.jit(family.sample)(state, KEY, rows(POINTS, asked)).rows
    _, guess = scores(family, state, drawn)
    assert (guess.argmax(1) == asked)[asked >= 0].mean() > 0.9
    assert len(set(guess.argmax(1)[asked < 0])) == 3


@pytest.mark.parametrize("component, x, num_levels", [
    (gaussian(), POINTS, None),
    pytest.param(gaussian(shared=True), POINTS, None, **SLOW),
    pytest.param(families.BernoulliComponent(), BITS, 2, **SLOW),
    pytest.param(families.CategoricalComponent(), LEVELS, 8, **SLOW),
    pytest.param(families.MultinomialComponent(), LEVELS, 8, **SLOW),
])  # fmt: skip
def test_samples_have_the_moments_of_what_was_fitted(component, x, num_levels):
    family = made(component, x, num_levels=num_levels, num_components=2)
    state, _ = fitted(family, x, steps=3)
    request = {"x": jnp.zeros((20_000, *x.shape[1:]), x.dtype)}
    drawn = np.asarray(jax.jit(family.sample)(state, KEY, request).rows)
    assert drawn.dtype == x.dtype
    drawn, x = drawn.astype(float), x.astype(float)
    if isinstance(component, families.MultinomialComponent):
        # Totals are smoothed: their mean is between that of the data and that of all alike.
        share = drawn.sum(0) / drawn.sum()
        np.testing.assert_allclose(share, x.sum(0) / x.sum(), atol=0.02)
        return
    # A mixture keeps the mean of what it was fitted to; smoothing moves it a little.
    error = 5 * x.std(0) / np.sqrt(20_000)
    smoothed = 0.0 if num_levels is None else 3.5 * 2 * (num_levels - 1) / len(x)
    assert (np.abs(drawn.mean(0) - x.mean(0)) < error + smoothed).all()
    if component == gaussian():
        np.testing.assert_allclose(np.cov(drawn.T), np.cov(x.T), rtol=0.1, atol=0.2)


@pytest.mark.slow
def test_points_of_the_plane_come_with_their_density_and_seeds_find_what_is_apart():
    x = POINTS[:, :2] - 20.0
    family = made(gaussian(), x, num_components=3, num_classes=None)
    state, _ = fitted(family, x, steps=5)
    drawn = jax.jit(family.sample)(state, KEY, {"x": jnp.zeros((50, 2))})
    step = (drawn.density.extent[1] - drawn.density.extent[0]) / 99
    assert float(jnp.sum(drawn.density.values)) * float(step) ** 2 == pytest.approx(1.0, abs=0.02)
    cluster = jax.jit(clusters, static_argnums=3)
    apart = jnp.asarray(x + 10.0 * CENTRES[LABEL, :2])
    found = np.asarray(cluster(KEY, apart, jnp.ones(150), 3)).argmax(1)
    assert len(set(zip(found, LABEL, strict=True))) == 3, "each cluster is a class"
    alike = cluster(KEY, jnp.ones((150, 2)), jnp.zeros(150), 3)
    assert bool(jnp.isfinite(alike).all()) and float(alike.sum()) == 150.0


@pytest.mark.slow
def test_data_far_from_0_keeps_its_digits():
    # Second moments about 0 are 1e6: in float32 they say nothing of a variance of 0.25.
    far = POINTS + 1000.0
    family = made(gaussian(), far, num_components=3)
    (near, _), (state, _) = fitted(family, POINTS, 5), fitted(family, far, 5)
    for name, atol in (("factor", 3e-3), ("log_weights", 1e-3)):
        found, expected = (s.params["mixture"][name] for s in (state, near))
        np.testing.assert_allclose(found, expected, atol=atol)


@pytest.mark.parametrize("size", [1, 5])
def test_triangular_inverses_are_inverses(size):
    factor = np.tril(np.random.default_rng(0).normal(size=(3, size, size))) + 3.0 * np.eye(size)
    found = triangular_inverse(jnp.asarray(factor, jnp.float32))
    np.testing.assert_allclose(found, np.linalg.inv(factor), atol=1e-6)


@pytest.mark.slow
def test_order_of_components_does_not_matter():
    family = made(gaussian(), POINTS, num_components=3)
    start = jax.jit(family.init)(KEY, rows(POINTS))
    turned = start.replace(
        params={"mixture": {k: v[jnp.array([2, 0, 1])] for k, v in start.params["mixture"].items()}}
    )
    a, b = (jax.jit(family.train_step)(s, rows(POINTS), KEY)[0] for s in (start, turned))
    np.testing.assert_allclose(log_prob(family, a, POINTS), log_prob(family, b, POINTS), rtol=1e-5)


@pytest.mark.parametrize("make, message", [
    (lambda: gaussian(covariance="tied"), "covariance must be 'full', 'diagonal' or 'spherical'"),
    (lambda: gaussian(shrinkage=1.5), r"shrinkage must be in \[0, 1\], got 1.5"),
    (lambda: gaussian(floor=-1.0), "floor must not be negative"),
    (lambda: families.BernoulliComponent(smoothing=0.0), "smoothing must be positive, got 0.0"),
    (lambda: made(gaussian(), BITS, num_levels=2), "2 levels: take 'bernoulli'"),
    (lambda: made(families.BernoulliComponent(), LEVELS, num_levels=8), "set data.binarize for"),
    (lambda: made(families.BernoulliComponent(), POINTS), "the data has real numbers"),
    (lambda: made(families.CategoricalComponent(), POINTS), "real-valued: take 'gaussian'"),
    (lambda: made(families.MultinomialComponent(), POINTS), "'multinomial' is of grey levels"),
    (lambda: made(gaussian(), POINTS, num_components=0), "num_components must be at least 1"),
    (lambda: made(gaussian(), POINTS, accumulate_steps=0), "accumulate_steps must be at least 1"),
    (lambda: made(gaussian(), POINTS, labels=True, num_classes=None), "the data has no labels"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(unchecked, make, message):
    with pytest.raises(ValueError, match=message):
        make()
