"""Causal networks, the likelihood they give, and samples that are exactly theirs."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import families, nets
from genjax.families.autoregressive_imputing import filled_in
from genjax.families.autoregressive_model import AutoregressiveModel
from genjax.families.choosing import Choosing

KEY = jax.random.key(0)
SIZE = (4, 4, 1)
CATEGORICAL = families.Categorical()
NETS = {
    "made": lambda: nets.MaskedMLP(hidden_size=60, num_layers=2),
    "pixelcnn": lambda: nets.PixelCNN(channels=8, num_blocks=2),
    "gated_pixelcnn": lambda: nets.GatedPixelCNN(channels=8, num_layers=2),
    "pixelcnn_plus": lambda: nets.PixelCNNPlus(channels=4, num_blocks=1, num_halvings=1),
    "transformer": lambda: nets.AutoregressiveTransformer(
        event_shape=SIZE, hidden_size=8, num_blocks=2, num_heads=2
    ),
}


# The largest network takes longest to compile: its causality is looked at in each run.
LONG = [pytest.param(name, marks=[pytest.mark.slow] * (name == "pixelcnn_plus")) for name in NETS]


def shaken(params):
    """No weight is 0, as some are at first."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(KEY, len(leaves))
    moved = [a + 0.3 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


@functools.cache
def model_of(name, *, levels=2, shape=SIZE, observation=CATEGORICAL, **fields):
    net = NETS[name]()
    own = {k: v for k, v in fields.items() if hasattr(net, k)}
    rest = {k: v for k, v in fields.items() if k not in own}
    net = net.clone(**own, **({"event_shape": shape} if hasattr(net, "event_shape") else {}))
    model = AutoregressiveModel(
        net=net, observation=observation, event_shape=shape, num_levels=levels, **rest
    )
    x = jax.random.randint(KEY, (8, *shape), 0, levels or 2)
    batch = {"x": x if levels else x.astype(jnp.float32), "label": jnp.arange(8) % 3}
    params = shaken(jax.jit(model.init)(KEY, batch)[0])
    return model, params, batch


@pytest.mark.parametrize("name", NETS)
def test_the_whole_network_sees_what_comes_before_and_nothing_else(name):
    observation = families.Gaussian(variance="fixed")
    model, params, _ = model_of(name, levels=None, observation=observation)
    rows = jax.random.normal(KEY, (4, 16))  # rectifiers are flat at some

    def of_flat(flat):
        return model.outputs(params, flat.reshape(1, *SIZE), None).reshape(-1)

    slopes = np.abs(jax.jit(jax.vmap(jax.jacobian(of_flat)))(rows)).sum(0)
    assert not np.triu(slopes).any()
    assert slopes[np.tril_indices(16, -1)].all()


def test_channels_of_a_pixel_come_one_after_the_other_where_masks_have_groups():
    shape = (3, 2, 3)
    fields = dict(shape=shape, by_channel=True, channels=24)
    observation = families.Gaussian(variance="fixed")
    model, params, _ = model_of("pixelcnn", levels=None, observation=observation, **fields)
    rows = jax.random.normal(KEY, (4, 18))
    slopes = jax.jit(jax.vmap(jax.jacobian(lambda x: model.outputs(params, x, None).ravel())))(
        rows.reshape(4, 1, *shape)
    )
    slopes = np.abs(slopes).sum(0).reshape(18, 18)
    assert not np.triu(slopes).any() and slopes[np.tril_indices(18, -1)].all()
    model, params, _ = model_of("pixelcnn", levels=2, **{**fields, "shape": (1, 3, 3)})
    every = jnp.asarray(list(itertools.product((0, 1), repeat=9))).reshape(-1, 1, 3, 3)
    nats = jax.jit(lambda x: model.nats(params, {"x": x}))(every)
    np.testing.assert_allclose(jnp.sum(jnp.exp(-nats)), 1.0, rtol=2e-5)
    expected = one_by_one(model, params, KEY, None, 4)
    found, _ = jax.jit(lambda k: model.sample_by_iteration(params, k, None, 4))(KEY)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="multiple of the 3 channels"):
        nets.PixelCNN(channels=8, by_channel=True).init(KEY, rows.reshape(4, *shape))


def test_one_stack_of_masks_has_a_blind_spot_and_two_stacks_have_none():
    # What the first pixel of the last row makes of one to the right in the row above.
    for name, sees in (("pixelcnn", False), ("gated_pixelcnn", True)):
        shape = (6, 16, 1)
        observation = families.Gaussian(variance="fixed")
        model, params, _ = model_of(name, levels=None, shape=shape, observation=observation)

        def of_pixel(x, model=model, params=params):
            return model.outputs(params, x, None)[0, 5, 0, 0]

        slopes = jax.jit(jax.grad(of_pixel))(jax.random.normal(KEY, (1, *shape)))
        assert bool(slopes[0, 4, 5, 0] != 0.0) is sees


@pytest.mark.parametrize("name", LONG)
def test_probabilities_of_all_images_add_up_to_one(name):
    shape = (3, 3, 1) if name != "pixelcnn_plus" else (2, 4, 1)
    model, params, _ = model_of(name, shape=shape)
    count = int(np.prod(shape))
    every = jnp.asarray(list(itertools.product((0, 1), repeat=count))).reshape(-1, *shape)
    nats = jax.jit(lambda x: model.nats(params, {"x": x}))(every)
    np.testing.assert_allclose(jnp.sum(jnp.exp(-nats)), 1.0, rtol=2e-5)


def one_by_one(model, params, key, label, rows):
    """The definition: each entry is drawn when those before it are known."""

    @jax.jit
    def again(x):
        return model.draw(key, model.outputs(params, x, label))

    x = jnp.zeros((rows, *model.event_shape), model.draw_type())
    for place in itertools.product(*(range(n) for n in model.places)):
        x = x.at[:, *place].set(again(x)[:, *place])
    return x


@pytest.mark.parametrize("name", LONG)
def test_samples_of_iteration_are_those_of_one_entry_after_the_other_bit_for_bit(name):
    model, params, _ = model_of(name, levels=5)
    expected = one_by_one(model, params, KEY, None, 6)
    found, passes = jax.jit(lambda k: model.sample_by_iteration(params, k, None, 6))(KEY)
    np.testing.assert_array_equal(found, expected)
    assert 1 < passes <= 17
    if model.cached:
        cached = jax.jit(lambda k: model.sample_cached(params, k, None, 6))(KEY)
        np.testing.assert_array_equal(cached, expected)


def test_a_cache_gives_the_outputs_of_the_whole_pass():
    model, params, batch = model_of("transformer", levels=5, num_classes=3)
    expected = model.outputs(params, batch["x"], batch["label"]).reshape(8, 16, -1)
    net, variables = model.observed_net(), {"params": params["net"]}
    flat = batch["x"].reshape(8, 16)
    cache = net.apply(variables, 8, method="empty_cache")
    step = jax.jit(functools.partial(net.apply, method="step"))
    for i in range(16):
        found, cache = step(variables, flat[:, i - 1], jnp.asarray(i), cache, batch["label"])
        np.testing.assert_allclose(found, expected[:, i], atol=1e-5)


@pytest.mark.slow
def test_samples_have_the_entropy_of_the_model():
    model, params, _ = model_of("gated_pixelcnn", shape=(3, 3, 1))
    every = jnp.asarray(list(itertools.product((0, 1), repeat=9))).reshape(-1, 3, 3, 1)
    nats = model.nats(params, {"x": every})
    entropy = jnp.sum(jnp.exp(-nats) * nats)
    drawn = jax.jit(lambda k: model.sample(params, k, None, 4000))(KEY)
    scores = np.asarray(model.nats(params, {"x": drawn}))
    assert abs(scores.mean() - entropy) < 4 * scores.std() / np.sqrt(4000)


def test_missing_entries_have_their_distribution_given_the_known_ones():
    model, params, _ = model_of("made", shape=(2, 3, 1))
    every = jnp.asarray(list(itertools.product((0, 1), repeat=6))).reshape(-1, 2, 3, 1)
    chance = np.exp(-np.asarray(model.nats(params, {"x": every})))
    known = np.zeros((2, 3, 1), bool)
    known[0, 1] = known[1, 2] = True  # entries 1 and 5 of 0 to 5
    x = np.asarray(every[0]) + 0
    x[0, 1] = 1

    def means(known):
        fits = (np.asarray(every) == x)[:, known].all(1)
        share = chance[fits] / chance[fits].sum()
        return share @ np.asarray(every)[fits].reshape(-1, 6)

    batch = {
        "x": jnp.broadcast_to(jnp.asarray(x), (4000, 2, 3, 1)),
        "known": jnp.broadcast_to(jnp.asarray(known), (4000, 2, 3, 1)),
    }
    filled = np.asarray(jax.jit(lambda k: filled_in(model, params, batch, k, 20))(KEY))
    assert (filled == x)[:, known].all()
    np.testing.assert_allclose(filled.reshape(-1, 6).mean(0), means(known), atol=0.032)
    prefix = np.arange(6).reshape(2, 3, 1) < 2  # what comes first needs no second proposal
    batch["known"] = jnp.broadcast_to(jnp.asarray(prefix), (4000, 2, 3, 1))
    filled = np.asarray(jax.jit(lambda k: filled_in(model, params, batch, k, 1))(KEY))
    np.testing.assert_allclose(filled.reshape(-1, 6).mean(0), means(prefix), atol=0.032)


def test_guided_logits_are_the_two_joined_whichever_way_they_are_drawn():
    choosing = Choosing(guidance_scale=2.0, temperature=0.8, top_k=3)
    fields = dict(levels=5, num_classes=3, label_dropout=0.1)
    model, params, batch = model_of("transformer", choosing=choosing, **fields)
    label = batch["label"]
    x, _ = jax.jit(lambda k: model.sample_by_iteration(params, k, label, 8))(KEY)
    cached = jax.jit(lambda k: model.sample_cached(params, k, label, 8))(KEY)
    np.testing.assert_array_equal(x, cached)
    # The last entry, by hand.
    told = model.outputs(params, x, label)[:, -1, -1, 0]
    untold = model.outputs(params, x, jnp.full_like(label, -1))[:, -1, -1, 0]
    logits = (untold + 2.0 * (told - untold)) / 0.8
    kept = np.argsort(np.asarray(logits), axis=-1)[:, -3:]
    assert all(value in row for value, row in zip(x[:, -1, -1, 0], kept, strict=True))
    limited = model.choosing.logits(untold + 2.0 * (told - untold), model.entries)
    np.testing.assert_array_equal(np.isfinite(limited).sum(-1), 3)
    finite = np.where(np.isfinite(limited), logits, limited)
    np.testing.assert_allclose(limited, finite, rtol=1e-6)


def test_the_likeliest_value_of_two_is_drawn_whatever_the_observation():
    for observation in (families.Bernoulli(), families.Categorical()):
        model, params, _ = model_of("made", observation=observation, choosing=Choosing(top_k=1))
        draws = [np.asarray(model.sample(params, jax.random.key(i), None, 3)) for i in range(2)]
        np.testing.assert_array_equal(*draws)


@pytest.mark.slow
def test_the_channels_of_a_pixel_are_one_place():
    observation = families.LogisticMixture(num_components=2)
    model, params, batch = model_of(
        "pixelcnn_plus", levels=8, shape=(4, 4, 3), observation=observation
    )
    assert model.outputs(params, batch["x"], None).shape == (8, 4, 4, 2 * (1 + 6 + 3))
    drawn = model.sample(params, KEY, None, 5)
    assert drawn.shape == (5, 4, 4, 3) and drawn.dtype == jnp.uint8
    entries, of_entries, _ = model_of("made", levels=8, shape=(4, 4, 3), observation=observation)
    assert entries.outputs(of_entries, batch["x"], None).shape == (8, 4, 4, 3, 6)


def test_weights_are_normalised_by_the_first_rows():
    net = nets.PixelCNNPlus(channels=4, num_blocks=1, num_halvings=0, num_levels=16)
    x = jax.random.randint(KEY, (32, 4, 4, 1), 0, 16)
    _, seen = net.init_with_output(KEY, x)[0], net.init(KEY, x)
    _, kept = net.apply(seen, x, capture_intermediates=lambda m, _: m.name == "conv_0")
    for outputs in jax.tree.leaves(kept["intermediates"]):
        np.testing.assert_allclose(np.mean(outputs, (0, 1, 2)), 0.0, atol=1e-5)
        np.testing.assert_allclose(np.std(outputs, (0, 1, 2)), 1.0, rtol=1e-4)


@pytest.mark.slow
def test_a_table_of_a_gaussian_is_fitted_to_its_entropy():
    rng = np.random.default_rng(0)
    mixing = np.array([[1.0, 0.0], [1.5, 0.5]])
    rows = jnp.asarray(rng.normal(size=(4096, 2)) @ mixing.T, jnp.float32)
    family = families.autoregressive(
        net=nets.MaskedMLP(hidden_size=32, num_layers=2),
        observation=families.Gaussian(variance="learned"),
        optimizer=optax.adam(5e-3),
        event_shape=(2,),
        num_levels=None,
        ema_decay=0.9,
    )
    state = family.init(KEY, {"x": rows})
    step = jax.jit(family.train_step)
    for i in range(150):
        state, _ = step(state, {"x": rows}, jax.random.fold_in(KEY, i))
    found = np.mean(family.eval_step(state, {"x": rows}, KEY)["nats"])
    covariance = np.cov(np.asarray(rows).T)
    best = np.log(2 * np.pi * np.e) + 0.5 * np.log(np.linalg.det(covariance))
    assert found == pytest.approx(best, abs=0.01)
    drawn = family.sample(state, KEY, {"x": rows}).rows
    np.testing.assert_allclose(np.cov(np.asarray(drawn).T), covariance, atol=0.15)


def test_what_does_not_fit_is_refused(unchecked):
    made = functools.partial(
        AutoregressiveModel, net=NETS["made"](), event_shape=SIZE, num_levels=2
    )
    with pytest.raises(ValueError, match="act on logits"):
        made(observation=families.DiscretizedLogistic(), choosing=Choosing(temperature=0.5))
    with pytest.raises(ValueError, match="trained with and without labels"):
        made(observation=families.Categorical(), choosing=Choosing(guidance_scale=2.0))
    with pytest.raises(ValueError, match="has no num_levels and no num_outputs and no by_pixel"):
        AutoregressiveModel(
            net=nn.Dense(3), observation=families.Categorical(), event_shape=SIZE, num_levels=2
        )
    with pytest.raises(ValueError, match="temperature must be positive"):
        Choosing(temperature=0.0)
    net = nets.PixelCNNPlus(num_halvings=2)
    with pytest.raises(ValueError, match="cannot be halved 2 times"):
        net.init(KEY, jnp.zeros((1, 6, 6, 1)))
