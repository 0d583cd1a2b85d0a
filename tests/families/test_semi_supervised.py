"""Semi-supervised GANs: the step against losses written out, and what the data must bring."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import families, losses, nets
from genjax.data import Feature

KEY = jax.random.key(0)
ROWS = Feature((2,), np.dtype(np.float32))


def build(**kwargs):
    fields = dict(
        generator=nets.MLPGenerator((2,), 4, 1),
        critic=nets.NoisyMLPClassifier(3, (8, 5), input_noise=0.0, hidden_noise=0.0),
        generator_optimizer=optax.sgd(0.1),
        critic_optimizer=optax.sgd(0.1),
        event_shape=(2,),
        num_levels=None,
        num_classes=3,
        batch_size=4,
        spec={"x": ROWS, "unlabelled/x": ROWS},
        latents=families.Latent(latent_size=3),
    )
    return families.semi_supervised_gan(**{**fields, **kwargs})


class Normalized(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x, times=None, *, train=False):
        h = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(self.num_classes)(h), h


def data():
    rng = np.random.default_rng(0)
    return {
        "x": jnp.asarray(rng.normal(size=(2, 4, 2)), jnp.float32),
        "label": jnp.asarray(rng.integers(3, size=(2, 4)), jnp.int32),
        "unlabelled/x": jnp.asarray(rng.normal(size=(2, 6, 2)), jnp.float32),
    }


def moved(before, after):
    return jax.tree.map(lambda a, b: (a - b) / 0.1, before, after)


@pytest.mark.slow
@pytest.mark.parametrize(
    "form, target", [("implicit", "feature_matching"), ("explicit", "passing")]
)
def test_a_step_descends_the_losses_of_both_players(form, target):
    family = build(form=form, target=target, unlabelled_weight=0.5)
    batch = data()
    state = family.init(KEY, batch)
    critic = family.networks["critic"]
    assert critic.num_classes == 3 + (form == "explicit")
    new, metrics = jax.jit(family.train_step)(state, batch, KEY)
    generator, (key, key_other) = nets.MLPGenerator((2,), 4, 1), jax.random.split(KEY)

    def made(own, key):  # as many as there are unlabelled rows
        z = jax.random.normal(jax.random.split(key)[0], (6, 3))
        return generator.apply({"params": own}, z)

    def of_critic(own):
        rows = batch["x"][0], batch["unlabelled/x"][0], made(state.params["generator"], key)
        known, unknown, fake = (critic.apply({"params": own}, x)[0] for x in rows)
        if form == "implicit":
            lse = [jax.nn.logsumexp(logits, axis=1) for logits in (known, unknown, fake)]
            named = known[jnp.arange(4), batch["label"][0]]
            terms = lse[0] - named, jax.nn.softplus(-lse[1]), jax.nn.softplus(lse[2])
        else:
            p = [jax.nn.softmax(logits) for logits in (known, unknown, fake)]
            named = p[0][jnp.arange(4), batch["label"][0]]
            terms = -jnp.log(named), -jnp.log(1 - p[1][:, -1]), -jnp.log(p[2][:, -1])
        return jnp.mean(terms[0]) + 0.5 * (jnp.mean(terms[1]) + jnp.mean(terms[2]))

    value, grads = jax.value_and_grad(of_critic)(state.params["critic"])
    assert float(metrics["critic_loss"]) == pytest.approx(float(value), rel=1e-5)

    def of_generator(own):  # against the critic after its step, on the second batch
        fake = made(own, key_other)
        logits, features = critic.apply({"params": new.params["critic"]}, fake)
        if target == "passing":
            return -jnp.mean(jnp.log(jax.nn.softmax(logits)[:, :-1].sum(1)))
        _, real = critic.apply({"params": new.params["critic"]}, batch["unlabelled/x"][1])
        return jnp.mean((real.mean(0) - features.mean(0)) ** 2)

    value, slopes = jax.value_and_grad(of_generator)(state.params["generator"])
    assert float(metrics["generator_loss"]) == pytest.approx(float(value), rel=1e-4)
    for name, expected in (("critic", grads), ("generator", slopes)):
        found = moved(state.params[name], new.params[name])
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found, expected
        )


def test_the_averaged_critic_classifies_rows_and_the_generator_makes_them():
    family = build(average=families.HalfLife(ema_half_life_kimg=0.1, ema_rampup=0.0))
    state = family.init(KEY, data())
    state, _ = jax.jit(family.train_step)(state, data(), KEY)
    assert sorted(state.ema) == ["critic", "generator"] and family.batches_per_step == 2
    rows = {name: values[0] for name, values in data().items() if "/" not in name}
    scores = family.eval_step(state, rows, KEY)
    critic = family.networks["critic"]
    logits, _ = critic.apply({"params": state.ema["critic"]}, rows["x"])
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, rows["label"])
    np.testing.assert_allclose(scores["cross_entropy"], expected, rtol=1e-5)
    np.testing.assert_array_equal(scores["error"], logits.argmax(1) != rows["label"])
    np.testing.assert_allclose(family.class_logits(state, rows["x"]), logits, rtol=1e-5)
    odds = losses.real_log_odds(losses.with_generated_logit(logits))
    np.testing.assert_allclose(scores["real_log_odds"], odds, rtol=1e-5)
    assert family.sample(state, KEY, {"x": jnp.zeros((5, 2))}).rows.shape == (5, 2)


@pytest.mark.slow
def test_few_labels_separate_clusters_with_unlabelled_rows():
    """Two far clusters with one label each: the critic learns both, the generator the data."""
    rng = np.random.default_rng(1)
    family = build(
        critic=nets.NoisyMLPClassifier(2, (16, 16), input_noise=0.1, hidden_noise=0.1),
        num_classes=2,
        generator_optimizer=optax.adam(1e-2, b1=0.5),
        critic_optimizer=optax.adam(1e-2, b1=0.5),
    )
    labels = np.arange(256) % 2
    x = np.where(labels[:, None] == 1, 2.0, -2.0) + 0.3 * rng.normal(size=(256, 2))

    def batch(step):
        chosen = np.random.default_rng(step).integers(256, size=(2, 16))
        return {
            "x": jnp.asarray(x[np.tile([[0, 1]], (2, 2))], jnp.float32),
            "label": jnp.asarray(np.tile([[0, 1]], (2, 2)), jnp.int32),
            "unlabelled/x": jnp.asarray(x[chosen], jnp.float32),
        }

    state = family.init(KEY, batch(0))
    step = jax.jit(family.train_step, donate_argnums=0)
    for i in range(150):
        state, _ = step(state, batch(i), jax.random.fold_in(KEY, i))
    rows = {"x": jnp.asarray(x, jnp.float32), "label": jnp.asarray(labels, jnp.int32)}
    # Not 0: a row in the tail of a cluster may fall to the other with other rounding.
    assert float(family.eval_step(state, rows, KEY)["error"].mean()) < 0.02


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(num_classes=None), "has no labels"),
        (dict(spec={"x": ROWS}), "there are no unlabelled rows: set data.streams"),
        (dict(spec={"unlabelled/x": Feature((3,), np.dtype("f4"))}), r"the shape .*\(2,\), got"),
        (dict(unlabelled_weight=0.0), "unlabelled_weight must be positive"),
        (dict(form="both"), "form must be 'implicit' or 'explicit'"),
        (dict(target="lecture"), "target must be 'feature_matching'"),
        (dict(generator=nets.MLPGenerator((2,), 4, 1, num_classes=3)), "num_classes to None"),
        (dict(generator=nets.MLPGenerator((3,), 4, 1)), "rows of the data's shape"),
        (dict(critic=Normalized(3)), "batch normalisation, which would mix"),
    ],
)
def test_what_does_not_fit_is_refused(unchecked, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)
