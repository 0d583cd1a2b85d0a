"""Super-resolution: least errors, contents and adversaries, and training on from another run."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import genjax
from genjax import data, families, nets
from genjax.config import ConfigError
from genjax.families.gan.content import Content
from genjax.families.gan.translation import Side

KEY = jax.random.key(0)
X = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
DATA = data.prepared(data.from_arrays("mine", x=X), [data.Shrink(factor=2, method="box")])
BATCH = {name: jnp.asarray(rows) for name, rows in DATA.source.arrays.items()}
NET = nets.RRDBNet(event_shape=(8, 8, 1), factor=2, channels=4, num_blocks=1, growth=2)
CRITIC = nets.DCGANCritic(channels=4, min_channels=4, norm="none")
CLASSIFIER = nets.ConvClassifier(num_classes=3, channels=8, num_halvings=1, num_features=4)
FEATURES = nets.Frozen(init_fn=CLASSIFIER.init, apply_fn=CLASSIFIER.apply)
UNITS = Side.of(DATA.spec["x"]).units


def srgan(**kwargs):
    return families.srgan(
        **{
            "generator": NET,
            "critic": CRITIC,
            "features": FEATURES,
            "generator_optimizer": optax.sgd(0.1),
            "critic_optimizer": optax.sgd(0.1),
            "spec": DATA.spec,
            "batch_size": 6,
            **kwargs,
        }
    )


def started(family):
    """A first state, the features those of a classifier as it is drawn."""
    state = family.init(KEY, BATCH)
    trained = CLASSIFIER.init(jax.random.key(7), jnp.zeros((1, 8, 8, 1)))
    kept = {**state.model_state, "features": {"frozen": {"variables": trained}}}
    return state.replace(model_state=kept), trained


def assert_close(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss, distance, layer",
    [("nonsaturating", "l2", None), ("relativistic_average", "l1", "conv_0_1")],
)
def test_a_step_goes_down_the_published_losses(loss, distance, layer):
    weights = dict(gan_weight=0.3, content_weight=0.7, l1_weight=0.2)
    family = srgan(loss=loss, distance=distance, feature_layer=layer, **weights)
    state, trained = started(family)
    source, truth = (UNITS.encode(BATCH[name]) for name in ("source", "x"))
    stepped, metrics = jax.jit(family.train_step)(state, BATCH, KEY)
    before, after = state.params, stepped.params

    def scores(critic, x):
        return CRITIC.apply({"params": critic}, x, train=True)

    def made(generator):
        return NET.apply({"params": generator}, source)

    def critic_loss(critic):
        real, fake = scores(critic, truth), scores(critic, made(before["generator"]))
        if loss == "nonsaturating":
            return jnp.mean(nn.softplus(-real) + nn.softplus(fake))
        first = -nn.log_sigmoid(real - fake.mean())
        return jnp.mean(first - nn.log_sigmoid(real.mean() - fake))

    def seen(x):
        _, kept = CLASSIFIER.apply(
            trained, x, capture_intermediates=True, mutable=["intermediates"]
        )
        if layer is None:
            return CLASSIFIER.apply(trained, x)[1]
        return kept["intermediates"][layer]["__call__"][0]

    def generator_loss(generator):
        fake = made(generator)
        real_scores, fake_scores = scores(after["critic"], truth), scores(after["critic"], fake)
        if loss == "nonsaturating":
            adversarial = jnp.mean(nn.softplus(-fake_scores))
        else:
            adversarial = -jnp.mean(
                jnp.log(1 - nn.sigmoid(real_scores - fake_scores.mean()))
                + jnp.log(nn.sigmoid(fake_scores - real_scores.mean()))
            )
        gap = seen(fake) - seen(truth)
        content = jnp.mean(jnp.abs(gap) if distance == "l1" else gap**2)
        return 0.3 * adversarial + 0.7 * content + 0.2 * jnp.mean(jnp.abs(fake - truth))

    step = jax.tree.map(lambda old, new: (old - new) / 0.1, before, after)
    assert_close(step["critic"], jax.jit(jax.grad(critic_loss))(before["critic"]))
    value, grads = jax.jit(jax.value_and_grad(generator_loss))(before["generator"])
    assert_close(step["generator"], grads)
    np.testing.assert_allclose(metrics["generator_loss"], value, rtol=1e-5)
    # The features are state, and stay as they are.
    assert set(after) == {"generator", "critic"}
    assert_close(stepped.model_state["features"], state.model_state["features"])


def test_any_function_may_be_the_features():
    class Means(nn.Module):
        def __call__(self, x):
            return x.mean((1, 2, 3))

    state, _ = started(srgan(features=Means()))
    content = Content(net=Means(), layer=None, distance="l2")
    truth = UNITS.encode(BATCH["x"])
    np.testing.assert_allclose(content.loss({}, truth + 0.5, truth), 0.25, rtol=1e-5)


@pytest.mark.parametrize("kwargs, message", [
    (dict(features=CLASSIFIER), "trained before: describe it by frozen"),
    (dict(gan_weight=-1.0), "gan_weight must not be negative"),
    (dict(distance="l3"), "distance must be 'l1' or 'l2'"),
    (dict(feature_layer="conv_7"), "0 layers of the network are called 'conv_7'"),
    (dict(generator=NET.clone(factor=4)), r"must make rows of shape \(8, 8, 1\)"),
    (dict(spec={"x": DATA.spec["x"]}), r"such as data.transforms=\[dict\(name='shrink'\)\]"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(unchecked, kwargs, message):
    with pytest.raises(ValueError, match=message):
        srgan(**kwargs)


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_super_resolution_goes_down_its_error_and_keeps_batch_statistics(distance):
    net = nets.SRResNet(event_shape=(8, 8, 1), factor=2, channels=4, num_blocks=1)
    family = families.super_resolution(
        net=net, optimizer=optax.sgd(0.1), spec=DATA.spec, distance=distance, ema_decay=0.0
    )
    state = family.init(KEY, BATCH)
    stepped, metrics = jax.jit(family.train_step)(state, BATCH, KEY)
    source, truth = (UNITS.encode(BATCH[name]) for name in ("source", "x"))

    def loss(params):
        variables = {"params": params, **state.model_state["net"]}
        made, _ = net.apply(variables, source, train=True, mutable=["batch_stats"])
        gap = made - truth
        return jnp.mean(jnp.abs(gap) if distance == "l1" else gap**2)

    value, grads = jax.jit(jax.value_and_grad(loss))(state.params["net"])
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    step = jax.tree.map(lambda a, b: (a - b) / 0.1, state.params["net"], stepped.params["net"])
    assert_close(step, grads)
    moved = jax.tree.map(jnp.array_equal, stepped.model_state, state.model_state)
    assert not all(jax.tree.leaves(moved))
    # What is sampled is what is scored, from the averages.
    made = family.sample(stepped, KEY, BATCH).rows
    assert made.shape == X.shape and made.dtype == X.dtype
    gap = (np.asarray(made, float) - X) / 255.0
    scores = family.eval_step(stepped, {**BATCH, "index": jnp.arange(6)}, KEY)
    np.testing.assert_allclose(scores["mse"], (gap**2).mean((1, 2, 3)), rtol=1e-4)


def test_bicubic_enlargement_is_pillows_and_keeps_flat_images_flat():
    flat = np.full((1, 7, 7, 3), 90, np.uint8)
    assert (data.resized(flat, 28, 28) == 90).all()
    # A smooth image comes back through a quarter of the resolution; stripes do not.
    i, j = np.meshgrid(np.arange(28), np.arange(28), indexing="ij")
    smooth = (127 + 100 * np.sin(i / 9) * np.cos(j / 7)).astype(np.uint8)[None, ..., None]
    stripes = np.broadcast_to((255 * (j % 2)).astype(np.uint8), (28, 28))[None, ..., None]

    def lost(x):
        small = data.Shrink(factor=4).pair(x, 256)
        return genjax.evaluation.psnr(data.resized(small, 28, 28), x)[0]

    assert lost(smooth) > 30 > 10 > lost(stripes)


def config(folder, name, **family):
    """Digits of 4 to 8 pixels."""
    small = dict(name="rrdb", factor=2, channels=4, num_blocks=1, growth=2)
    sgd = dict(name="adam", learning_rate=1e-3)
    both = dict(
        data=dict(name="digits", batch_size=8, transforms=[dict(name="shrink", factor=2)]),
        train=dict(num_steps=2, eval_every=0, sample_every=0),
        eval=dict(batch_size=8),
        sample=dict(num_samples=2),
    )
    if name == "super_resolution":
        return dict(both, model=small, family=dict(name=name), optimizer=sgd)
    if name == "classifier":
        return dict(
            both,
            model=dict(name="conv_classifier", channels=8, num_features=4, num_halvings=1),
            family=dict(name=name),
            optimizer=sgd,
        )
    nets_ = dict(
        generator=dict(start=dict(workdir=str(folder / "super_resolution"))),
        critic=dict(name="dcgan", channels=4, min_channels=4, norm="none"),
        features=dict(frozen=dict(workdir=str(folder / "classifier"))),
    )
    return dict(
        both,
        model=nets_,
        family=dict(name=name, **family),
        optimizer=dict(generator=sgd, critic=sgd),
    )


@pytest.mark.slow
def test_a_run_starts_from_a_network_of_another_and_needs_it_no_more(tmp_path):
    with pytest.raises(ConfigError, match=r"model.generator.start.workdir: there is no"):
        genjax.build(config(tmp_path, "srgan"))
    for name in ("super_resolution", "classifier"):
        genjax.Run(genjax.build(config(tmp_path, name)), tmp_path / name, quiet=True).train()
    first = genjax.load(tmp_path / "super_resolution", quiet=True)
    _, before = first.newest()
    run = genjax.Run(genjax.build(config(tmp_path, "srgan")), tmp_path / "srgan", quiet=True)
    state = run.init_state()
    assert_close(state.params["generator"], before.ema["net"])
    assert_close(state.ema["generator"], before.ema["net"])
    classifier = genjax.load(tmp_path / "classifier", quiet=True).newest()[1].ema["net"]
    held = state.model_state["features"]["frozen"]["variables"]["params"]
    assert_close(held, classifier)
    run.train()
    whole = genjax.Run(genjax.build(config(tmp_path, "srgan")), tmp_path / "again", quiet=True)
    whole.train()
    # Opened without the runs that it came of.
    for name in ("super_resolution", "classifier"):
        (tmp_path / name).rename(tmp_path / f"{name}_elsewhere")
    opened = genjax.load(tmp_path / "srgan", quiet=True)
    made = opened.sample(2)
    assert made.shape == (2, 8, 8, 1)
    assert_close(opened.newest()[1].params, whole.newest()[1].params)
    with pytest.raises(ValueError, match="no checkpoint|no trained run"):
        genjax.build(config(tmp_path, "srgan"))
