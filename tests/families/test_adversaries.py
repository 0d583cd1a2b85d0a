"""Training against adversaries, and attacks on trained classifiers, on what is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import genjax
from genjax import families, losses, nets
from genjax.diffusion import VariancePreserving

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
W, B = jnp.asarray(RNG.normal(size=(4, 2)), jnp.float32), jnp.asarray([0.1, -0.2])
BATCH = {
    "x": jnp.asarray(RNG.normal(size=(6, 4)), jnp.float32),
    "label": jnp.asarray([0, 1, 1, 0, 1, 0], jnp.int32),
    "index": jnp.arange(6),
}


def linear(**kwargs):
    given = dict(
        net=nets.LinearClassifier(num_classes=2), optimizer=optax.sgd(0.1), event_shape=(4,),
        num_levels=None,
    )  # fmt: skip
    return families.classifier(**{**given, **kwargs})


def with_weights(state):
    weights = {"net": {"logits": {"kernel": W, "bias": B}}}
    return state.replace(params=weights, ema=weights)


def worst(x, label, epsilon, w=W, b=B):
    """The largest loss within the ball: softplus(-y (w x + b) + epsilon |w|_1)."""
    sign = 2.0 * label - 1.0
    slope, offset = w[:, 1] - w[:, 0], b[1] - b[0]
    return jax.nn.softplus(-sign * (x @ slope + offset) + epsilon * jnp.abs(slope).sum())


@pytest.mark.parametrize(
    "adversary",
    [
        families.FGSM(epsilon=0.25, random_start=False),
        # From the far side of the ball a step of twice its radius reaches this one.
        families.FGSM(epsilon=0.25, step_size=0.5),
        families.PGD(epsilon=0.25, num_steps=3),
        None,
    ],
)
def test_training_is_on_the_worst_rows_and_evaluation_on_clean_ones(adversary):
    family = linear(adversary=adversary)
    state = with_weights(family.init(KEY, BATCH))
    new, metrics = jax.jit(family.train_step)(state, BATCH, KEY)
    losses_of = worst(BATCH["x"], BATCH["label"], 0.25 if adversary else 0.0)
    assert float(metrics["cross_entropy"]) == pytest.approx(float(losses_of.mean()), rel=1e-5)
    clean = jax.jit(family.eval_step)(state, BATCH, KEY)["cross_entropy"]
    np.testing.assert_allclose(clean, worst(BATCH["x"], BATCH["label"], 0.0), rtol=1e-5)

    def loss(weights):
        # The gradient is that at the worst rows, which are held still: Danskin's theorem.
        w, b = weights["kernel"], weights["bias"]
        return worst(BATCH["x"], BATCH["label"], 0.25 if adversary else 0.0, w, b).mean()

    slope = jax.grad(loss)(state.params["net"]["logits"])
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, state.params["net"]["logits"], slope)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        new.params["net"]["logits"],
        moved,
    )


def test_attacks_are_in_the_units_of_the_data_where_networks_see_others():
    mean, std = jnp.asarray([1.0, 2.0, 0.0, -1.0]), jnp.asarray([2.0, 0.5, 1.0, 4.0])
    family = families.standardized(linear(), mean, std)
    state = with_weights(family.init(KEY, BATCH))
    sign = 2.0 * BATCH["label"] - 1.0

    def loss(x):
        logits = family.class_logits(state, x)
        return jax.nn.softplus(-sign * (logits[:, 1] - logits[:, 0]))

    found = loss(losses.fgsm(loss, BATCH["x"], epsilon=0.3))
    b = B - (mean / std) @ W
    expected = worst(BATCH["x"], BATCH["label"], 0.3, W / std[:, None], b)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_what_sees_bits_or_noise_gives_no_slopes_of_rows():
    grey = linear(num_levels=256)
    assert families.binarized(grey, 256, (4,), "threshold").class_logits is None
    noisy = dataclasses.replace(linear(process=VariancePreserving()))
    assert noisy.class_logits is None


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: families.FGSM(epsilon=-0.1), "must not be negative, got -0.1"),
        (lambda: families.PGD(epsilon=0.1, num_steps=0), "num_steps must be at least 1"),
        (
            lambda: linear(process=VariancePreserving(), adversary=families.FGSM(epsilon=0.1)),
            "an adversary moves clean rows",
        ),
    ],
)
def test_adversaries_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


CONFIG = dict(
    data=dict(name="digits", batch_size=64),
    model=dict(name="plain_conv", channels=(4,), kernel_size=3, hidden_sizes=(16,)),
    family=dict(name="classifier", adversary=dict(name="fgsm", epsilon=0.1)),
    optimizer=dict(name="adam", learning_rate=1e-2, b1=0.9),
    train=dict(num_steps=100, eval_every=0, sample_every=0),
)


def test_a_trained_classifier_is_attacked_through_its_run(tmp_path):
    run = genjax.Run(genjax.build(CONFIG), tmp_path, quiet=True)
    run.train()
    rows = run.experiment.test_data.source.rows(np.arange(100))
    x, label, shares = rows["x"], rows["label"], rows["x"].astype(np.float32) / 16
    nothing = run.attack(x, label, epsilon=0.0, num_steps=2)
    np.testing.assert_array_equal(nothing.rows, shares)
    np.testing.assert_array_equal(nothing.natural, run.classify(x))
    np.testing.assert_array_equal(nothing.attacked, nothing.natural)
    right = {}
    for norm, epsilon in (("linf", 0.15), ("l2", 0.8)):
        given = dict(epsilon=epsilon, norm=norm)
        for steps, restarts in ((1, 1), (4, 1), (4, 3)):
            found = run.attack(x, label, num_steps=steps, num_restarts=restarts, **given)
            change = (found.rows - shares).reshape(100, -1)
            length = abs(change).max(1) if norm == "linf" else np.linalg.norm(change, axis=1)
            assert (length <= epsilon + 1e-6).all()
            assert found.rows.min() >= 0.0 and found.rows.max() <= 1.0
            right[norm, steps, restarts] = (found.attacked == label).mean()
        assert right[norm, 4, 3] <= right[norm, 4, 1] <= right[norm, 1, 1]
        assert right[norm, 1, 1] < (found.natural == label).mean()
    assert found.protocol["attack"] == "pgd" and found.protocol["num_restarts"] == 3
    with pytest.raises(ValueError, match="num_restarts must be at least 1"):
        run.attack(x, label, epsilon=0.1, num_restarts=0)


def test_models_that_tell_no_classes_apart_are_not_attacked():
    from genjax.training import attacking

    class Model:
        family = families.mixture(
            component=families.GaussianComponent(), event_shape=(2,), num_levels=None
        )

    with pytest.raises(ValueError, match="this family is no classifier of rows"):
        attacking.logits_of(Model(), np.zeros((1, 2), np.float32))
