"""Logistic regression as a classifier, beside linear discriminant analysis, on what is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

import genjax
from genjax import families, nets
from genjax.config import ConfigError
from genjax.diffusion import VariancePreserving

KEY = jax.random.key(0)
COVARIANCE = np.array([[1.0, 0.6], [0.6, 2.0]])
OFFSET = np.array([1.5, -0.5])


def two_gaussians(count, seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=count)
    x = rng.multivariate_normal(np.zeros(2), COVARIANCE, size=count) + label[:, None] * OFFSET
    return {
        "x": jnp.asarray(x, jnp.float32),
        "label": jnp.asarray(label, jnp.int32),
        "index": jnp.arange(count),
    }


def trained(family, batch, steps):
    state = jax.jit(family.init)(KEY, batch)
    step = jax.jit(family.train_step)
    for _ in range(steps):
        state, _ = step(state, batch, KEY)
    return state


def logistic(**kwargs):
    given = dict(
        net=nets.LinearClassifier(num_classes=2), optimizer=optax.adam(0.1), event_shape=(2,),
        num_levels=None, ema_decay=0.0,
    )  # fmt: skip
    return families.classifier(**{**given, **kwargs})


def test_of_two_gaussians_both_find_the_best_decision():
    few, many = two_gaussians(2000, 0), two_gaussians(50_000, 1)
    distance = np.sqrt(OFFSET @ np.linalg.solve(COVARIANCE, OFFSET))
    best = stats.norm.cdf(-distance / 2)
    lda = families.mixture(
        component=families.GaussianComponent(shared=True), event_shape=(2,), num_levels=None,
        num_classes=2, labels=True,
    )  # fmt: skip
    regression = logistic()
    found = {}
    for name, family, steps in (("lda", lda, 1), ("logistic", regression, 300)):
        state = trained(family, few, steps)
        error = np.asarray(jax.jit(family.eval_step)(state, many, KEY)["error"])
        # The best error of all, and little more for what is learned of 2,000 rows.
        assert error.mean() == pytest.approx(best, abs=0.003 + 3 * error.std() / np.sqrt(50_000))
        found[name] = state
    x, label = np.asarray(few["x"], float), np.asarray(few["label"])
    theirs = LogisticRegression(C=1e6, tol=1e-8).fit(x, label)
    weights = found["logistic"].params["net"]["logits"]
    slope = np.asarray(weights["kernel"][:, 1] - weights["kernel"][:, 0])
    np.testing.assert_allclose(slope, theirs.coef_[0], atol=2e-3)
    bias = float(weights["bias"][1] - weights["bias"][0])
    assert bias == pytest.approx(float(theirs.intercept_[0]), abs=2e-3)
    # The posterior of the generative model is affine, too: its slope is Sigma^-1 (mu_1 - mu_0).
    gaussians = found["lda"].params["mixture"]
    factor = np.asarray(gaussians["factor"][0], float)
    between = np.asarray(gaussians["mean"][1] - gaussians["mean"][0], float)
    np.testing.assert_allclose(np.linalg.solve(factor @ factor.T, between), slope, atol=0.2)


@pytest.mark.slow
def test_a_table_with_labels_is_classified(tmp_path):
    rows = two_gaussians(400, 2)
    lines = [
        f"{a},{b},{'yes' if k else 'no'}"
        for (a, b), k in zip(np.asarray(rows["x"]), np.asarray(rows["label"]), strict=True)
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,owner", *lines]) + "\n")
    config = dict(
        data=dict(
            name="table", data_dir=str(tmp_path / "rows.csv"), options=dict(label="owner"),
            batch_size=64, standardize=True,
        ),
        model=dict(name="linear"),
        family=dict(name="classifier"),
        optimizer=dict(name="adam", learning_rate=0.05),
        train=dict(num_steps=60, steps_per_call=30, eval_every=60, sample_every=0,
                   best_metric="eval/error"),
    )  # fmt: skip
    run = genjax.Run(genjax.build(config), tmp_path / "run", quiet=True)
    run.train()
    assert run.evaluate()["eval/error"] < 0.35
    with pytest.raises(ConfigError, match="ConvClassifier takes images"):
        genjax.build({**config, "model": dict(name="conv_classifier", channels=8)})


def test_noisy_examples_are_refused():
    family = logistic(process=VariancePreserving())
    with pytest.raises(ValueError, match="a linear classifier is of clean examples"):
        jax.eval_shape(family.init, KEY, two_gaussians(4, 0))
    with pytest.raises(ValueError, match="num_classes is None"):
        nets.LinearClassifier().init(KEY, jnp.zeros((1, 2)))
