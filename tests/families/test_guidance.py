"""Classifiers of latents: what they learn, and how they guide models of the same data."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import genjax
from genjax import config as configs
from genjax import data, diffusion, families, nets
from genjax.config import features
from genjax.families.classified import EVALUATED, log_prob_of_latents, logits_of_latents

PROCESS = diffusion.VariancePreserving()
NETS = {
    "conv": nets.ConvClassifier(num_classes=2, channels=8, num_halvings=1, num_features=16),
    "unet": nets.UNetClassifier(
        num_classes=2, channels=8, multipliers=(1,), num_blocks=1, num_groups=4, num_features=16,
        attention_sizes=(),
    ),
}  # fmt: skip


def two_images(index):
    """Classes of one image each, all of whose entries are -0.3125 or 0.1875 of 16 levels."""
    label = jnp.asarray(index % 2, jnp.int32)
    levels = jnp.where(label == 1, 9, 5).astype(jnp.uint8)
    x = jnp.broadcast_to(levels[:, None, None, None], (len(index), 4, 4, 1))
    return {"x": x, "label": label, "index": jnp.asarray(index, jnp.int32)}


def made(net, process=PROCESS, **kwargs):
    return families.classifier(
        net=net, optimizer=optax.adam(3e-3), event_shape=(4, 4, 1), num_levels=16,
        process=process, ema_decay=0.9, **kwargs,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv", "unet"])
def test_a_classifier_of_latents_comes_to_the_error_that_noise_leaves(name):
    family = made(NETS[name], eval_num_times=4)
    rows = two_images(np.arange(256))
    np.testing.assert_allclose(np.unique(families.levels.Centres(16).encode(rows["x"])),
                               [-0.3125, 0.1875])  # fmt: skip
    state = family.init(jax.random.key(0), rows)

    @jax.jit
    def train(state):
        def step(i, state):
            return family.train_step(state, rows, jax.random.fold_in(jax.random.key(1), i))[0]

        return jax.lax.fori_loop(0, 300, step, state)

    found = jax.jit(family.eval_step)(train(state), two_images(np.arange(4000)), jax.random.key(2))
    assert set(found) == {"cross_entropy", "error", "error_t25", "error_t50", "error_t75"}
    for time in EVALUATED:
        # Two points of 16 entries, 0.5 apart in each: the best rule errs with the probability that
        # a normal number is below minus half their distance, of alpha 0.5 sqrt(16) over sigma.
        alpha, sigma = (float(scale) for scale in PROCESS.scales(jnp.array(time)))
        best = 0.5 * math.erfc(alpha / sigma / math.sqrt(2.0))
        error = float(np.mean(found[f"error_t{100 * time:.0f}"]))
        assert best - 0.025 < error < best + 0.05, (time, best, error)


@pytest.mark.slow
def test_clean_images_are_classified_as_before():
    family = made(NETS["conv"], process=None)
    state = family.init(jax.random.key(0), two_images(np.arange(4)))
    assert not [name for name in state.params["net"] if name.startswith(("film", "condition"))]
    rows = two_images(np.arange(6))
    found = family.eval_step(state, rows, jax.random.key(1))
    logits, _ = NETS["conv"].apply(
        {"params": state.ema["net"]}, families.levels.Ends(16).encode(rows["x"])
    )
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, rows["label"])
    np.testing.assert_allclose(found["cross_entropy"], expected, rtol=1e-6)
    assert set(found) == {"cross_entropy", "error"}
    assert family.eval_protocol == {"parameters": "moving average"}


@pytest.mark.slow
def test_scores_do_not_depend_on_how_rows_are_batched():
    family = made(NETS["conv"], eval_num_times=2)
    state = family.init(jax.random.key(0), two_images(np.arange(4)))
    whole = family.eval_step(state, two_images(np.arange(6)), jax.random.key(1))
    half = family.eval_step(state, two_images(np.arange(3, 6)), jax.random.key(1))
    for name, rows in whole.items():
        np.testing.assert_allclose(rows[3:], half[name], rtol=1e-5)
    with pytest.raises(ValueError, match="eval_num_times must be at least 1, got 0"):
        made(NETS["conv"], eval_num_times=0)


def test_latents_are_seen_at_unit_size_whatever_their_process():
    seen = []

    def apply(variables, z, times):
        seen.append(float(jnp.std(z)))
        return z[:, :2], None

    for process in (diffusion.VarianceExploding(sigma_max=80.0), PROCESS):
        z = process.prior_std * jax.random.normal(jax.random.key(0), (100, 20))
        logits_of_latents(apply, process)({}, z, jnp.ones(100))
        log_prob = log_prob_of_latents(apply, {}, process)
        found = log_prob(z, jnp.ones(()), jnp.zeros(100, jnp.int32))
        assert found.shape == (100,) and bool((found < 0).all())
    np.testing.assert_allclose(seen, 1.0, rtol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("net", [
    nets.ConvClassifier(num_classes=3, channels=8),
    nets.UNetClassifier(num_classes=3, channels=8, multipliers=(1, 2), num_blocks=1, num_groups=4),
])  # fmt: skip
def test_networks_tell_times_apart_once_their_layers_do(net, strict):
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    times = jnp.array([0.1, 0.9])
    variables = net.init(jax.random.key(1), x, times)
    # What acts on the activations starts at zero.
    variables = jax.tree.map(lambda leaf: leaf + 0.05, variables)
    logits, found = net.apply(variables, x, times)
    assert logits.shape == (2, 3) and found.dtype == logits.dtype == jnp.float32
    assert bool((logits != net.apply(variables, x, times[::-1])[0]).any())
    with pytest.raises(ValueError, match="num_classes is None"):
        dataclasses.replace(net, num_classes=None).init(jax.random.key(1), x, times)


@pytest.mark.parametrize("change, message", [
    (dict(num_groups=3), r"num_groups \(3\) must divide channels \(8\)"),
    (dict(multipliers=(1, 1, 1, 1, 1)), "cannot be halved: give fewer multipliers"),
    (dict(num_heads=3), r"num_heads \(3\) must divide the channels of attention"),
])  # fmt: skip
def test_a_unet_classifier_refuses_sizes_that_do_not_fit(change, message):
    net = dataclasses.replace(NETS["unet"], **change)
    with pytest.raises(ValueError, match=message):
        net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))


# Of another run.

CLASSIFIER = dict(
    data=dict(name="digits", batch_size=16),
    model=dict(name="conv_classifier", channels=8, num_halvings=1, num_features=8),
    family=dict(name="classifier", process=dict(name="vp")),
    optimizer=dict(name="adam"),
    train=dict(num_steps=1, eval_every=0, sample_every=0),
    eval=dict(batch_size=32),
)
MODEL = CLASSIFIER | dict(
    model=dict(name="score_resnet", channels=8, num_layers=1, num_groups=4),
    family=dict(name="rectified_flow"),
    sample=dict(num_samples=4, num_steps=3),
)


def trained(config, workdir):
    run = genjax.Run(genjax.build(config), workdir, quiet=True)
    run.train()
    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Workdir of a classifier of noisy digits."""
    workdir = tmp_path_factory.mktemp("noisy")
    trained(CLASSIFIER, workdir)
    return str(workdir)


def guided_by(place, **kwargs):
    return {"sample.guidance": dict(name="classifier", workdir=str(place), **kwargs)}


@pytest.mark.slow
def test_a_model_is_guided_by_a_classifier_that_was_trained_after_it(tmp_path):
    later = tmp_path / "classifier"
    config = configs.load_config(MODEL, guided_by(later, scale=2.0))
    run = trained(config, tmp_path / "model")  # which draws no samples in training
    with pytest.raises(configs.ConfigError, match=f"there is no trained classifier in {later}"):
        run.sample(2, label=3)
    trained(CLASSIFIER, later)
    guided = run.sample(2, label=3)
    free = run.sample(2, label=-1)
    # The classifier has hardly been trained: rounding to levels hides what it does at scale 2.
    assert guided.shape == free.shape == (2, 8, 8, 1)
    strong = genjax.load(tmp_path / "model", guided_by(later, scale=5000.0), quiet=True)
    assert (strong.sample(2, label=3) != free).any()
    np.testing.assert_array_equal(strong.sample(2, label=-1), free)
    said = strong.family.sample_protocol["sampler"]
    assert said == "Ancestral, 3 network calls, classifier guidance 5000"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vdm", "flow_matching", "edm", "score_sde"])
def test_models_of_every_process_are_guided(place, family):
    section = dict(name=family)
    if family == "vdm":  # a schedule that is learned
        section["schedule"] = dict(name="learned_monotone")
    config = configs.load_config({**MODEL, "family": section}, guided_by(place, scale=1.0))
    experiment = genjax.build(config, mode="eval")
    assert experiment.family.reads == experiment.family.steers == ("label",)
    batch = {**experiment.sample_requests(2), "label": np.array([3, 4], np.int32)}
    drawn = jax.eval_shape(
        experiment.family.sample, experiment.state_shapes, jax.random.key(0), batch
    )
    assert drawn.rows.shape == (2, 8, 8, 1)


@pytest.mark.slow
def test_a_conditional_model_is_told_the_label_or_was_trained_without(place):
    config = configs.load_config(MODEL, {"model.num_classes": 10, **guided_by(place)})
    with pytest.raises(
        configs.ConfigError, match="set sample.guidance.tells_label, or train it wi"
    ):
        genjax.build(config)
    told = genjax.build(config, {"sample.guidance.tells_label": True}).family
    assert told.reads == ("label",) and not told.steers and not told.unlabelled
    both = genjax.build(config, {"family.label_dropout": 0.1}).family
    assert both.unlabelled == ("label",)


@pytest.mark.parametrize("changes, sampled, message", [
    ({}, True, r"no trained classifier in /nowhere; train one first \(python scripts/run.py "
     r"--config=experiments/classifier/noisy_digits.py --workdir=/nowhere\)"),
    ({}, False, None),
    ({"eval.metrics": ("fd",), "train.eval_every": 1, "train.best_metric": "eval/loss"}, False,
     "no trained classifier in /nowhere"),
    ({"sample.guidance.scale": "high"}, False, "sample.guidance.scale must be float"),
    ({"sample.guidance.workdri": "/x"}, False, "unknown config key 'sample.guidance.workdri'"),
])  # fmt: skip
def test_the_classifier_is_asked_for_where_samples_are_drawn(changes, sampled, message):
    every = {"train.sample_every": 1 if sampled else 0}
    config = configs.load_config(MODEL, {**guided_by("/nowhere"), **every})
    for path, value in changes.items():
        *sections, last = path.split(".")
        node = config
        for key in sections:
            node = node[key]
        with node.unlocked(), node.ignore_type():
            node[last] = value
    if message is None:
        assert genjax.build(config).family.sample is not None
        return
    with pytest.raises(configs.ConfigError, match=message) as caught:
        genjax.build(config)
    assert "\n" not in str(caught.value)


def test_what_is_no_classifier_of_latents_of_the_data_is_refused(place, tmp_path):
    digits = data.load("digits", "train")
    moons = data.load("two_moons", "train")
    with pytest.raises(configs.ConfigError, match="holds a classifier of noisy images"):
        features.classifier_features(dataset=digits, workdir=place)
    with pytest.raises(configs.ConfigError, match=r"not a classifier of this data \(two_moons\)"):
        configs.guidance.classifier_guidance(dataset=moons, workdir=place)
    trained({**CLASSIFIER, "family": dict(name="classifier")}, tmp_path / "clean")
    with pytest.raises(configs.ConfigError, match="a classifier of clean images, which guides"):
        genjax.build(configs.load_config(MODEL, guided_by(tmp_path / "clean")))
    little = dict(name="classifier", process=dict(name="ve", sigma_max=1.0))
    trained({**CLASSIFIER, "family": little}, tmp_path / "little")
    with pytest.raises(configs.ConfigError, match="sample.guidance: the classifier was trained on"):
        genjax.build(configs.load_config(MODEL, guided_by(tmp_path / "little")))
