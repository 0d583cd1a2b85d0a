"""Domain adaptation: gradients by hand, no reversal as no adaptation, the run as a whole."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import genjax
from genjax import config as configs
from genjax import families, nets
from genjax.data import Feature

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
SPEC = {
    "x": Feature((3,), np.dtype("f4")),
    "label": Feature((), np.dtype("i4"), num_classes=2),
    "target/x": Feature((3,), np.dtype("f4")),
}


class Small(nn.Module):
    """A classifier with a hidden layer, whose outputs are the features."""

    @nn.compact
    def __call__(self, x, times=None):
        features = jnp.tanh(nn.Dense(4, name="hidden")(x))
        return nn.Dense(2, name="logits")(features), features


def batch_of(count=8):
    label = RNG.integers(2, size=count)
    x = RNG.normal(size=(count, 3)) + 2.0 * label[:, None]
    return {
        "x": jnp.asarray(x, jnp.float32),
        "label": jnp.asarray(label, jnp.int32),
        "target/x": jnp.asarray(RNG.normal(size=(count // 2, 3)) - 1.0, jnp.float32),
    }


def family_of(make, **kwargs):
    given = dict(
        net=Small(), domain_net=nets.DomainMLP(hidden_size=4), optimizer=optax.adam(0.01),
        event_shape=(3,), num_levels=None, spec=SPEC, ramp_steps=10,
    )  # fmt: skip
    return make(**{**given, **kwargs})


@pytest.mark.parametrize("make", [families.dann, families.cdan])
def test_without_reversal_it_is_the_classifier_of_the_source_bit_for_bit(make):
    family = family_of(make, reversal=0.0)
    alone = families.classifier(
        net=Small(), optimizer=optax.adam(0.01), event_shape=(3,), num_levels=None
    )
    batch = batch_of()
    one, two = family.init(KEY, batch), alone.init(KEY, batch)
    for _ in range(3):
        one, _ = jax.jit(family.train_step)(one, batch, KEY)
        two, _ = jax.jit(alone.train_step)(two, batch, KEY)
    jax.tree.map(np.testing.assert_array_equal, one.params["net"], two.params["net"])
    jax.tree.map(np.testing.assert_array_equal, one.ema["net"], two.ema["net"])


@pytest.mark.parametrize("make", [families.dann, families.cdan])
def test_a_step_descends_on_one_loss_and_ascends_on_the_other(make):
    family = family_of(make, optimizer=optax.sgd(1.0), reversal=0.7)
    batch = batch_of()
    state = family.init(KEY, batch).replace(step=jnp.asarray(4, jnp.int32))
    new, metrics = jax.jit(family.train_step)(state, batch, KEY)
    net, domain_net, given = Small(), nets.DomainMLP(hidden_size=4), state.params
    strength = 0.7 * (2.0 / (1.0 + np.exp(-4.0)) - 1.0)
    assert float(metrics["reversal"]) == pytest.approx(strength, rel=1e-5)

    def class_loss(params):
        logits, _ = net.apply({"params": params}, batch["x"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    def domain_loss(of_net, of_domain):
        total = 0.0
        for name, sign in (("x", -1.0), ("target/x", 1.0)):
            # What is held still: class probabilities and weights.
            logits, features = net.apply({"params": of_net}, batch[name])
            still, _ = net.apply({"params": given["net"]}, batch[name])
            weights = jnp.ones(len(still))
            if make is families.cdan:
                shares = jax.nn.softmax(still)
                features = jnp.einsum("bk,bf->bkf", shares, features).reshape(len(still), -1)
                weights = 1.0 + jnp.exp(jnp.sum(shares * jnp.log(shares), axis=1))
                weights = weights / weights.mean()
            odds = domain_net.apply({"params": of_domain}, features)
            total += jnp.mean(weights * jnp.log1p(jnp.exp(sign * odds)))
        return total if make is families.dann else 0.5 * total

    down = jax.grad(class_loss)(given["net"])
    up, own = jax.grad(domain_loss, (0, 1))(given["net"], given["domain_net"])
    expected = {
        "net": jax.tree.map(lambda p, d, u: p - d + strength * u, given["net"], down, up),
        "domain_net": jax.tree.map(lambda p, g: p - g, given["domain_net"], own),
    }
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), new.params, expected
    )


def test_a_network_starts_from_rows_of_the_source_and_its_noise_acts():
    def family(noise):
        net = nets.NoisyMLPClassifier(2, (8,), input_noise=noise, hidden_noise=0.0)
        return family_of(families.dann, net=net)

    batch = batch_of(64)
    quiet = family(0.0)
    state = quiet.init(KEY, batch)
    first = state.params["net"]["dense_0"]
    kernel = first["kernel"] / jnp.linalg.norm(first["kernel"], axis=0)
    hidden = batch["x"] @ kernel * first["scale"] + first["bias"]
    np.testing.assert_allclose(hidden.std(0), 1.0, rtol=1e-3)
    losses = [
        [
            float(f.train_step(state, batch, key)[1]["cross_entropy"])
            for key in jax.random.split(KEY)
        ]
        for f in (quiet, family(1.0))
    ]
    assert losses[0][0] == losses[0][1] and losses[1][0] != losses[1][1]


def test_features_of_shifted_domains_become_alike():
    # The label is in the first entry, the domain in the last, which decides nothing.
    count, rng = 256, np.random.default_rng(1)
    label = rng.integers(2, size=2 * count)
    x = rng.normal(size=(2 * count, 3)) * 0.5
    x[:, 0] += 2.0 * label - 1.0
    x[:, 2] += np.where(np.arange(2 * count) < count, 3.0, -3.0)
    x = jnp.asarray(x, jnp.float32)
    batch = {"x": x[:count], "label": jnp.asarray(label[:count]), "target/x": x[count:]}
    errors = {}
    for reversal in (0.0, 1.0):
        family = family_of(families.dann, reversal=reversal, ramp_steps=100, ema_decay=0.0)
        state, step = family.init(KEY, batch), jax.jit(family.train_step)
        for _ in range(300):
            state, metrics = step(state, batch, KEY)
        errors[reversal] = float(metrics["domain_error"])
        assert float(metrics["error"]) < 0.1
    assert errors[0.0] < 0.3 and errors[1.0] > 0.4, errors


def test_batch_statistics_are_those_of_both_domains():
    spec = {
        "x": Feature((8, 8, 1), np.dtype("u1"), num_levels=256),
        "label": SPEC["label"],
        "target/x": Feature((8, 8, 1), np.dtype("u1"), num_levels=256),
    }
    net = nets.PlainConvClassifier(
        num_classes=2, channels=(2,), kernel_size=3, hidden_sizes=(), batch_norm=True
    )
    family = family_of(families.dann, net=net, event_shape=(8, 8, 1), num_levels=256, spec=spec)
    dark, light = (jnp.full((4, 8, 8, 1), level, jnp.uint8) for level in (0, 255))
    batch = {"x": dark, "label": jnp.zeros(4, jnp.int32), "target/x": light}
    state = family.init(KEY, batch)
    new, _ = jax.jit(family.train_step)(state, batch, KEY)
    kernel = state.params["net"]["conv_0"]["kernel"].sum((0, 1, 2))
    # 0.9 of 0.1 of the source's mean, and 0.1 of the target's, which is its negative.
    found = new.model_state["net"]["batch_stats"]["norm_0"]["norm"]["mean"]
    np.testing.assert_allclose(found, 0.9 * 0.1 * -kernel + 0.1 * kernel, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(reversal=-1.0), "reversal must not be negative"),
        (dict(ramp_steps=0), "ramp_steps at least 1, got 1.0 and 0"),
        (dict(spec={"x": SPEC["x"], "label": SPEC["label"]}), r"data\.streams=dict\(target="),
        (dict(spec={"x": SPEC["x"], "target/x": SPEC["x"]}), "needs labels of the first stream"),
        (dict(spec={**SPEC, "target/x": Feature((4,), np.dtype("f4"))}), "expected like rows"),
    ],
)
def test_what_cannot_be_adapted_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        family_of(families.dann, **kwargs)


CONFIG = dict(
    data=dict(name="digits", batch_size=16, streams=dict(target=dict(classes=(0, 1, 2)))),
    model=dict(
        net=dict(name="plain_conv", channels=(4,), kernel_size=3, hidden_sizes=()),
        domain_net=dict(name="domain_mlp", hidden_size=4),
    ),
    family=dict(name="dann", ramp_steps=4),
    optimizer=dict(name="adam", learning_rate=1e-3),
    train=dict(num_steps=4, eval_every=4, sample_every=0, best_metric="eval/error"),
    eval=dict(batch_size=64, streams=("target",)),
)


def test_a_run_is_evaluated_on_the_test_rows_of_both_domains(tmp_path):
    run = genjax.Run(genjax.build(CONFIG), tmp_path, quiet=True)
    run.train()
    found = run.evaluate()
    target = run.experiment.streams["target"].test
    rows = target.source.rows(np.arange(len(target.source)))
    assert found["eval/target_num_examples"] == len(rows["x"]) < found["eval/num_examples"]
    wrong = run.classify(rows["x"]) != rows["label"]
    assert found["eval/target_error"] == pytest.approx(wrong.mean())
    assert found["eval/target_split"] == "test"
    with pytest.raises(ValueError, match="has that of its training rows"):
        run.classify(rows["x"][:2], prior="uniform")


@pytest.mark.parametrize(
    "streams, message",
    [(("other",), "there is no stream 'other'; there are target"), ("target", "got 'target'")],
)
def test_streams_that_cannot_be_scored_are_refused(streams, message):
    config = {**CONFIG, "eval": dict(streams=streams)}
    with pytest.raises(configs.ConfigError, match=message):
        genjax.build(config, mode="eval")
