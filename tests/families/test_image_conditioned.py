"""Models that denoise large images and are told small ones, with noise of a level on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import config as configs
from genjax import nets
from genjax.diffusion import ClassifierFree, Cosine, Estimate
from genjax.diffusion.guidance import Always, untold
from genjax.families.sampling import Sampling
from genjax.families.told import drop_told, first_told, heard, optional_of, reads_of, tell

FAMILIES = {
    "edm": dict(name="edm", label_dropout=0.3),
    "ddpm": dict(
        name="ddpm",
        process=dict(name="chain", num_timesteps=50, beta_max=0.01),
        label_dropout=0.3,
    ),
    "vdm": dict(name="vdm", schedule=dict(name="learned_linear"), label_dropout=0.3),
    "flow_matching": dict(
        name="flow_matching", label_dropout=0.3, method="euler", trace="hutchinson"
    ),
}
TEXT = dict(name="text_encoder", hidden_size=4, num_blocks=1, num_heads=1)
UNET = dict(
    name="unet", channels=4, multipliers=(1,), num_blocks=1, num_groups=2, dropout_rate=0.0,
    attention_sizes=(),
)  # fmt: skip


def config(family="edm", source=None, text=True, **model):
    model = dict(UNET, source=dict(name="noise_augmented", **(source or {})), **model)
    family = dict(FAMILIES[family])
    if text:
        model["text"] = TEXT
    else:
        del family["label_dropout"]
    return dict(
        data=dict(
            name="captioned_digits",
            options=dict(images="digits", scene="plain"),
            batch_size=4,
            transforms=(dict(name="shrink", factor=2),),
        ),
        model=model,
        family=family,
        optimizer=dict(name="adam", learning_rate=1e-2),
        train=dict(num_steps=2, log_every=1, checkpoint_every=2, eval_every=0, sample_every=0),
        eval=dict(batch_size=4),
        sample=dict(num_steps=2, num_samples=4),
    )


def rows_of(experiment, count=4):
    rows = experiment.train_data.source.rows(np.arange(count))
    return {name: jnp.asarray(values) for name, values in rows.items()}


def small_net(**source):
    return nets.ImageConditioned(
        net=nets.UNet(**{k: v for k, v in UNET.items() if k != "name"}, gamma_min=0.0,
                      gamma_max=1.0, out_channels=1),
        source=nets.NoiseAugmentation(**source),
        event_shape=(8, 8, 1),
    )  # fmt: skip


def test_noise_of_the_image_keeps_its_variance_and_level_0_is_the_image():
    image, noise = jax.random.normal(jax.random.key(0), (2, 6, 2000))
    level = jnp.linspace(0.0, 1.0, 6)
    noised = nets.noised_image(image, noise, level)
    alpha, sigma = Cosine().scales(level)
    np.testing.assert_allclose(
        noised[1:-1], (alpha[:, None] * image + sigma[:, None] * noise)[1:-1], atol=1e-5
    )
    assert (noised[0] == image[0]).all()
    np.testing.assert_allclose(noised[-1], noise[-1], atol=1e-6)
    # Five standard errors of a variance from 2,000 numbers.
    np.testing.assert_allclose(noised.var(axis=1), 1.0, atol=5 * np.sqrt(2 / 2000))


def test_grey_levels_go_to_minus_one_to_one_and_constants_stay_constant():
    augmentation = nets.NoiseAugmentation(num_levels=17)
    image = jnp.concatenate([jnp.full((1, 4, 4, 1), v, jnp.uint8) for v in (0, 8, 16)])
    large = augmentation.enlarged(image, (8, 8))
    np.testing.assert_allclose(large, jnp.array([-1.0, 0.0, 1.0])[:, None, None, None] + 0 * large)
    # Bilinear: a new pixel is a quarter of the way from its nearest old one to the next.
    ramp = nets.NoiseAugmentation().enlarged(jnp.array([[[[0.0], [1.0]]]]), (1, 4))
    np.testing.assert_allclose(ramp[0, 0, :, 0], [0.0, 0.25, 0.75, 1.0], atol=1e-6)


def test_levels_are_drawn_in_training_and_fixed_elsewhere():
    image, keys = jnp.zeros((500, 1, 1, 1)), jax.random.split(jax.random.key(0), 500)
    augmentation = nets.NoiseAugmentation(level=0.2)
    _, drawn = augmentation.augmented(image, keys, training=True)
    # A mean of uniform numbers, by five standard errors.
    assert abs(float(drawn.mean()) - 0.5) < 5 * np.sqrt(1 / 12 / 500)
    assert 0.0 <= drawn.min() < 0.05 and 0.95 < drawn.max() <= 1.0
    noise, fixed = augmentation.augmented(image, keys, training=False)
    assert (fixed == jnp.float32(0.2)).all()
    assert float(noise.std()) == pytest.approx(np.sin(0.1 * np.pi), rel=0.2)
    one = nets.NoiseAugmentation(levels="per_batch", max_level=0.5)
    _, same = one.augmented(image, keys, training=True)
    assert (same == same[0]).all() and 0.0 < same[0] < 0.5


def test_a_row_is_told_the_same_in_batches_of_any_size():
    net, key = small_net(num_levels=17), jax.random.key(3)
    batch = {
        "source": jax.random.randint(jax.random.key(1), (6, 4, 4, 1), 0, 17).astype(jnp.uint8),
        "index": jnp.arange(6),
    }
    whole = heard(tell(net, batch, key))
    part = heard(tell(net, {name: rows[4:] for name, rows in batch.items()}, key))
    assert (part["source"] == whole["source"][4:]).all()
    assert (part["source"][0] != part["source"][1]).any()
    # Without a key wherever rows stand: what is encoded is decoded by itself, too.
    back = {name: rows[4:] for name, rows in batch.items()} | {"index": jnp.arange(2)}
    whole, part = (heard(tell(net, rows, None)) for rows in (batch, back))
    assert (part["source"] == whole["source"][4:]).all() and (part["level"] > 0).all()
    # Training draws anew, whatever the rows.
    training = heard(tell(net, batch, key, training=True))
    assert (training["level"] != whole["level"]).all()


def test_the_small_image_is_never_left_out():
    told = {"tokens": jnp.array([[3, 4], [5, 6]]), "source": Always(jnp.ones((2, 4)))}
    nothing = untold(told)
    assert (nothing["tokens"] == -1).all() and (nothing["source"].value == 1.0).all()
    dropped = drop_told(jax.random.key(0), told, 0.999)
    assert (dropped["tokens"] == -1).all() and (dropped["source"].value == 1.0).all()

    def estimate_fn(z, t, told):
        told = heard(told)
        data = 10.0 * told["tokens"].sum(axis=1, keepdims=True) + told["source"].sum(1)[:, None]
        return Estimate(data, data)

    guided = ClassifierFree(scale=3.0).guided(Cosine(), estimate_fn, told)
    # -20 + 3 (70 + 20) and -20 + 3 (110 + 20), with 4 of the image in all of them.
    assert guided(jnp.zeros((2, 1)), jnp.array(0.5)).data.tolist() == [[254.0], [374.0]]
    negative = {"negative_tokens": jnp.array([[7, 7], [7, 7]])}
    away = Sampling(guidance=ClassifierFree(scale=3.0)).against(negative, told, ("tokens",))
    assert (away["tokens"] == 7).all() and (away["source"].value == 1.0).all()
    # What else is told stays: a decoder never learned a text without an embedding.
    both = {**told, "embedding": jnp.ones((2, 3))}
    named = ("tokens", "embedding")
    away = Sampling(guidance=ClassifierFree(scale=3.0)).against(negative, both, named)
    assert (away["tokens"] == 7).all() and (away["embedding"] == 1.0).all()


def test_the_level_changes_the_output_and_the_image_does():
    net = small_net()
    batch = {"source": jnp.ones((2, 4, 4, 1))}
    z, t, told = jnp.zeros((2, 8, 8, 1)), jnp.full(2, 0.5), first_told(net, batch)
    told = jax.tree.map(lambda a: jnp.repeat(a, 2, axis=0), told)
    variables = net.init(jax.random.key(0), z, t, told)
    assert net.apply(variables, z, t, told).shape == z.shape  # the image is no part of the output
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(1), len(leaves))  # last layers start at zero
    drawn = [0.3 * jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True)]
    variables = jax.tree.unflatten(tree, drawn)
    out = net.apply(variables, z, t, told)
    for name in ("level", "source"):
        other = net.apply(variables, z, t, {**told, name: 0.5 * told[name]})
        assert jnp.abs(other - out).max() > 1e-3


def test_what_a_network_is_told_and_can_do_without():
    unet = nets.UNet(num_classes=10)
    text = nets.Prompted(net=unet, text=nets.TextEncoder())
    for net, reads in ((nets.UNet(), ()), (unet, ("label",)), (text, ("label", "tokens"))):
        both = nets.ImageConditioned(
            net=net, source=nets.NoiseAugmentation(), event_shape=(8, 8, 1)
        )
        assert (reads_of(both), optional_of(both)) == ((*reads, "source"), reads)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_scores_and_samples_with_texts_and_small_images(family):
    whole = config(family)
    whole["sample"] |= dict(
        sampler=dict(name="ddim", threshold="dynamic"),
        guidance=dict(name="classifier_free", scale=3.0),
    )
    experiment = configs.build(whole)
    made, batch, key = experiment.family, rows_of(experiment), jax.random.key(0)
    assert made.reads == ("tokens", "source") and made.unlabelled == ("tokens",)
    batch["index"] = jnp.arange(4)
    state = jax.eval_shape(made.init, key, batch)
    after, _ = jax.eval_shape(made.train_step, state, batch, key)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.eval_shape(made.eval_step, state, batch, key)["bits_per_dim"].shape == (4,)
    request = {name: rows for name, rows in batch.items() if name != "index"}
    request["negative_tokens"] = request["tokens"]
    assert jax.eval_shape(made.sample, state, key, request).rows.shape == (4, 8, 8, 1)
    latents = jax.eval_shape(made.encode, state, batch, key)
    assert jax.eval_shape(made.decode, state, latents, batch).shape == (4, 8, 8, 1)


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[pytest.mark.slow] * (name != "edm")) for name in FAMILIES]
)
def test_small_images_reach_loss_gradient_and_scores_of_every_family(family):
    experiment = configs.build(config(family))
    made = experiment.family
    batch = rows_of(experiment)
    state = made.init(jax.random.key(0), batch)
    step = jax.jit(made.train_step)
    # Last layers start at zero, those of branches, too: the level is looked at from step 4 on.
    for key in jax.random.split(jax.random.key(1), 5):
        before, (state, metrics) = state, step(state, batch, key)
    assert np.isfinite(float(metrics["loss"]))
    old, new = (
        next(net for name, net in s.params.items() if "net" in name) for s in (before, state)
    )
    dense = [s["net"]["net"]["condition"]["features"]["kernel"] for s in (old, new)]
    kernel = [s["net"]["net"]["conv_in"]["kernel"][:, :, 1:] for s in (old, new)]  # of the image
    assert all(jnp.abs(after - first).max() > 0.0 for first, after in (dense, kernel))
    score = jax.jit(made.eval_step)
    batch["index"] = jnp.arange(4)
    whole = score(state, batch, jax.random.key(2))["bits_per_dim"]
    alone = score(state, {name: rows[2:3] for name, rows in batch.items()}, jax.random.key(2))[
        "bits_per_dim"
    ]
    np.testing.assert_allclose(alone, whole[2:3], rtol=2e-4)


@pytest.mark.slow
def test_runs_enlarge_given_images_and_say_what_fails(tmp_path):
    whole = config()
    whole["sample"] |= dict(
        sampler=dict(name="ddim", threshold="dynamic"),
        guidance=dict(name="classifier_free", scale=3.0),
    )
    run = genjax.Run(configs.build(whole), tmp_path / "run")
    run.train()
    rows = run.experiment.test_data.source.rows(np.arange(3))
    asked = {name: rows[name] for name in ("source", "tokens")}
    first, again, other = (run.sample(3, seed=seed, **asked) for seed in (1, 1, 2))
    assert first.shape == (3, 8, 8, 1) and (first == again).all() and (first != other).any()
    assert (run.sample(3, seed=1, **asked | {"source": 255 - rows["source"]}) != first).any()
    with pytest.raises(ValueError, match="source: expected rows"):
        run.sample(3, source=rows["x"])


def test_what_does_not_fit_is_refused():
    plain = config(text=False)
    with pytest.raises(configs.ConfigError, match="the data has no images 'source' to start from"):
        configs.build({**plain, "data": {**plain["data"], "transforms": ()}})
    with pytest.raises(configs.ConfigError, match="score_resnet takes no features beside the time"):
        net = dict(name="score_resnet", source=dict(name="noise_augmented"))
        configs.build({**plain, "model": net})
    with pytest.raises(configs.ConfigError, match="model.source.frozen: what makes an image ready"):
        configs.build({**plain, "model": dict(UNET, source=dict(frozen=dict(workdir="there")))})
    with pytest.raises(configs.ConfigError, match="expected 0 <= level <= max_level <= 1, got"):
        configs.build(config(source=dict(level=0.2, max_level=0.1)))
    with pytest.raises(configs.ConfigError, match="levels must be"):
        configs.build(config(source=dict(levels="per_pixel")))
    # The small image alone is nothing to leave out.
    guided = {**plain, "sample": dict(guidance=dict(name="classifier_free", scale=2.0))}
    with pytest.raises(configs.ConfigError, match="guidance needs a model that takes labels"):
        configs.build(guided)
    with pytest.raises(configs.ConfigError, match="label_dropout is 0.1, but the network takes no"):
        configs.build({**plain, "family": dict(name="edm", label_dropout=0.1)})
