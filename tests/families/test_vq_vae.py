"""Codes: their quantizers, the model that makes them, and models of them."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import genjax
from genjax import families, nets
from genjax.config import ConfigError
from genjax.diffusion import VarianceExploding
from genjax.families.quantizers import FiniteScalarQuantizer, VectorQuantizer

KEY = jax.random.key(0)
SHAPE = (4, 4, 1)
# Made with vector-quantize-pytorch 1.32.
ROWS = jnp.asarray([[0.3, -1.2, 2.0, 0.01], [-2.5, 0.7, -0.4, 5.0], [0.9, 0.1, -3.0, -0.6]])


@pytest.mark.parametrize(
    ("levels", "vectors", "codes"),
    [
        (
            (8, 6, 5, 4),
            [[0.25, -2 / 3, 1.0, 0.0], [-1.0, 1 / 3, -0.5, 0.5], [0.5, 0.0, -1.0, -0.5]],
            [685, 800, 270],
        ),
        (
            (3, 5, 7, 8),
            [[0.0, -1.0, 1.0, 0.0], [-1.0, 0.5, -1 / 3, 0.75], [1.0, 0.0, -1.0, -0.5]],
            [511, 774, 218],
        ),
    ],
)
def test_rounding_gives_the_codes_and_vectors_of_the_reference(levels, vectors, codes):
    quantizer = FiniteScalarQuantizer(levels=levels)
    found = quantizer.quantize({}, ROWS)
    np.testing.assert_allclose(found.vectors, vectors, atol=1e-6)
    np.testing.assert_array_equal(found.codes, codes)
    np.testing.assert_allclose(quantizer.look_up({}, found.codes), vectors, atol=1e-6)
    # Every code has vectors of its own, and gradients pass.
    every = quantizer.look_up({}, jnp.arange(quantizer.num_codes))
    assert len(np.unique(np.round(every, 5), axis=0)) == math.prod(levels)
    slope = jax.grad(lambda z: jnp.sum(quantizer.quantize({}, z).vectors))(jnp.zeros((1, 4)))
    assert (np.asarray(slope) > 0.1).all()


def test_a_codebook_moves_as_the_reference_does():
    quantizer = VectorQuantizer(num_codes=3, code_size=2, decay=0.8, restart_below=0.0)
    book = jnp.asarray([[0.0, 0.0], [1.0, 1.0], [-1.0, 0.5]])
    even = jnp.full(3, 0.25)
    kept = {"usage": even, "mass": even, "sums": book / 4, "vectors": book}
    rows = jnp.asarray([[0.2, 0.1], [0.9, 1.3], [0.8, 0.7], [-0.7, 0.2]])
    found = quantizer.quantize(kept, rows)
    np.testing.assert_array_equal(found.codes, [0, 1, 1, 2])
    np.testing.assert_allclose(jnp.sum(found.commitment) / 8, 0.014375, rtol=1e-6)
    new = quantizer.update(kept, rows, found.codes, KEY)
    np.testing.assert_allclose(new["usage"] * 4, [1.0, 1.2, 1.0], rtol=1e-6)
    expected = [[0.04, 0.02], [0.95, 1.0], [-0.94, 0.44]]
    np.testing.assert_allclose(new["vectors"], expected, rtol=2e-6)
    # The loss holds vectors to codes; the decoder's slope goes to the encoder as it is.
    slope = jax.grad(lambda z: jnp.sum(quantizer.quantize(kept, z).commitment))(rows)
    np.testing.assert_allclose(slope, 0.5 * (rows - book[found.codes]), rtol=1e-5)
    slope = jax.grad(lambda z: jnp.sum(3.0 * quantizer.quantize(kept, z).vectors))(rows)
    np.testing.assert_array_equal(slope, jnp.full((4, 2), 3.0))


def test_a_code_that_is_not_used_begins_anew_and_one_that_is_stays():
    quantizer = VectorQuantizer(num_codes=4, code_size=2, decay=0.5, restart_below=0.1)
    book = jnp.asarray([[0.0, 0.0], [1.0, 0.0], [50.0, 50.0], [-50.0, 9.0]])
    even = jnp.full(4, 0.25)
    kept = {"usage": even, "mass": even, "sums": book / 4, "vectors": book}
    rows = jnp.asarray([[0.1, 0.1], [0.9, 0.0], [0.2, -0.1], [1.1, 0.2]])
    for i in range(4):
        found = quantizer.quantize(kept, rows)
        kept = quantizer.update(kept, rows, found.codes, jax.random.fold_in(KEY, i))
        if i < 3:  # 1/4, 1/8, 1/16, 1/32 of the rows: a tenth of a quarter is 1/40
            np.testing.assert_allclose(kept["vectors"][2], [50.0, 50.0], rtol=1e-6)
        used = np.asarray(kept["vectors"][:2])
        assert np.abs(used - [[0.15, 0.0], [1.0, 0.1]]).max() < 0.2
    assert all((np.asarray(kept["vectors"][i]) == np.asarray(rows)).all(1).any() for i in (2, 3))
    np.testing.assert_allclose(kept["mass"][2:], 0.25)
    # What is said of usage does not know of new beginnings.
    np.testing.assert_allclose(kept["usage"], [0.4844, 0.4844, 0.0156, 0.0156], atol=1e-4)
    # A code without a single vector is not divided by nothing.
    never = VectorQuantizer(num_codes=4, code_size=2, decay=0.0, restart_below=0.0)
    moved = never.update(kept, rows, jnp.zeros(4, jnp.int32), KEY)
    np.testing.assert_array_equal(moved["vectors"][1:], kept["vectors"][1:])


def first(quantizer):
    net = dict(channels=8, num_blocks=1, residual_channels=4)
    return families.vq_vae(
        encoder=nets.GridEncoder(num_halvings=1, **net),
        decoder=nets.GridDecoder(num_doublings=1, **net),
        quantizer=quantizer,
        observation=families.Categorical(),
        optimizer=optax.adam(1e-2),
        event_shape=SHAPE,
        num_levels=2,
    )


def crosses(count=64):
    """Images of four pixels alike, each black or white: codes can hold all of them."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(2, size=(count, 2, 2, 1))
    return jnp.asarray(coarse.repeat(2, 1).repeat(2, 2), jnp.uint8)


@pytest.mark.parametrize(
    "quantizer",
    [
        VectorQuantizer(num_codes=4, code_size=3),
        pytest.param(FiniteScalarQuantizer(levels=(3, 3)), marks=pytest.mark.slow),
    ],
    ids=["vq", "fsq"],
)
def test_codes_hold_what_the_data_is_and_a_bound_is_one(quantizer):
    family = first(quantizer)
    batch = {"x": crosses(), "index": jnp.arange(64)}
    state = jax.jit(family.init)(KEY, batch)
    step = jax.jit(family.train_step)
    for i in range(150):
        state, metrics = step(state, batch, jax.random.fold_in(KEY, i))
    found = jax.jit(family.eval_step)(state, batch, KEY)
    assert np.mean(found["reconstruction"]) < 0.2
    assert 2.0 - 1e-3 < metrics["codes_perplexity"] < quantizer.num_codes
    codes = family.encode(state, batch, KEY)
    assert codes.shape == (64, 2, 2, 1)
    np.testing.assert_array_equal(family.decode(state, codes, batch), batch["x"])
    np.testing.assert_allclose(
        found["nats"] - found["reconstruction"], 4 * math.log(quantizer.num_codes), rtol=1e-5
    )
    np.testing.assert_allclose(-family.log_prob(state, batch, KEY), found["nats"], rtol=1e-6)


@pytest.mark.slow
def test_a_second_stage_pays_for_codes_and_for_data_given_them():
    family = first(FiniteScalarQuantizer(levels=(3,)))
    batch = {"x": crosses(16), "index": jnp.arange(16)}
    trained = jax.jit(family.init)(KEY, batch)
    variables = {"ema": trained.ema, "model_state": trained.model_state}
    assert family.first_stage.event_shape == (2, 2, 1) and family.first_stage.num_levels == 3
    prior = families.autoregressive(
        net=nets.MaskedMLP(hidden_size=8),
        observation=families.Categorical(),
        optimizer=optax.adam(1e-2),
        event_shape=(2, 2, 1),
        num_levels=3,
    )
    both = families.of_latents(prior, family.first_stage, variables, SHAPE)
    state = both.init(KEY, batch)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.model_state))  # a run fills in
    state = state.replace(model_state={"first_stage": variables})
    found = jax.jit(both.eval_step)(state, batch, KEY)
    codes = family.encode(trained, batch, KEY)
    of_codes = prior.log_prob(state.replace(model_state={}), {**batch, "x": codes}, KEY)
    given = family.eval_step(trained, batch, KEY)["reconstruction"]
    np.testing.assert_allclose(found["nats"], given - of_codes, rtol=1e-5)
    np.testing.assert_allclose(found["bits_per_dim"], found["nats"] / (16 * math.log(2)), rtol=1e-5)
    np.testing.assert_allclose(both.log_prob(state, batch, KEY), -found["nats"], rtol=1e-5)
    # With the codes of every image there is, the bound's probabilities add up to less than one.
    every = jnp.asarray(list(itertools.product((0, 1), repeat=16)), jnp.uint8)[::16]
    nats = both.log_prob(state, {"x": every.reshape(-1, *SHAPE)}, KEY)
    assert jnp.sum(jnp.exp(nats)) <= 1.0
    new, metrics = jax.jit(both.train_step)(state, batch, KEY)
    np.testing.assert_array_equal(
        new.model_state["first_stage"]["model_state"]["codebook"]["usage"],
        trained.model_state["codebook"]["usage"],
    )
    np.testing.assert_allclose(metrics["loss"], -np.mean(of_codes), rtol=1e-5)
    drawn = both.sample(new, KEY, {"x": batch["x"]}).rows
    assert drawn.shape == (16, *SHAPE) and drawn.dtype == jnp.uint8


@pytest.mark.slow
def test_any_family_of_codes_is_scored_as_one_of_the_data_and_starts_from_codes():
    family = first(VectorQuantizer(num_codes=4, code_size=3))  # whose codes are of the first batch
    batch = {"x": crosses(32), "index": jnp.arange(32)}
    trained = jax.jit(family.init)(KEY, batch)
    variables = {"ema": trained.ema, "model_state": trained.model_state}
    mixture = families.mixture(
        component=families.CategoricalComponent(),
        event_shape=(2, 2, 1),
        num_levels=4,
        num_components=2,
    )
    both = families.of_latents(mixture, family.first_stage, variables, SHAPE)
    # Clusters are those of codes, and not of what an untrained first stage gives.
    state = both.init_with(KEY, batch, {"first_stage": variables})
    weights = np.exp(state.params["mixture"]["log_weights"])
    assert weights.min() > 0.05
    found = jax.jit(both.eval_step)(state, batch, KEY)
    np.testing.assert_allclose(found["nats"], -both.log_prob(state, batch, KEY), rtol=1e-5)


@pytest.mark.slow
def test_what_denoises_latents_is_sampled_as_data_and_masks_of_data_are_refused():
    images = families.vae(
        encoder=nets.MLPEncoder(hidden_size=8, num_layers=1),
        decoder=nets.MLPDecoder(hidden_size=8, num_layers=1),
        observation=families.Bernoulli(),
        optimizer=optax.adam(1e-2),
        event_shape=SHAPE,
        num_levels=2,
        latent_size=3,
    )
    batch = {"x": crosses(8), "index": jnp.arange(8)}
    trained = jax.jit(images.init)(KEY, batch)
    variables = {"ema": trained.ema, "model_state": {}}
    latents = families.edm(
        net=nets.ScoreMLP(hidden_size=8, num_layers=1, gamma_min=0.0, gamma_max=1.0),
        process=VarianceExploding(),
        optimizer=optax.adam(1e-2),
        event_shape=(3,),
        num_levels=None,
        sampling=families.Sampling(num_steps=3),
    )
    both = families.of_latents(latents, images.first_stage, variables, SHAPE)
    state = both.init(KEY, batch).replace(model_state={"first_stage": variables})
    drawn = jax.jit(both.sample)(state, KEY, batch)
    assert drawn.rows.shape == (8, *SHAPE) and drawn.trajectory.shape[2:] == SHAPE
    assert both.impute is None and not both.denoising(state, batch).entrywise
    # A change of units of the data is no matter of what is trained on latents.
    moved = families.standardized(both, np.zeros((1,)), np.full((1,), 100.0))
    assert not moved.scores_in_training


def config(quantizer=dict(name="vq", num_codes=8, code_size=4), **data):  # noqa: B006
    net = dict(channels=8, num_blocks=1, residual_channels=4)
    return dict(
        data=dict(name="digits", batch_size=32, **data),
        model=dict(
            encoder=dict(name="grid", num_halvings=1, **net),
            decoder=dict(name="grid", num_doublings=1, **net),
        ),
        family=dict(
            name="vq_vae",
            quantizer=quantizer,
            observation=dict(name="discretized_logistic"),
        ),
        optimizer=dict(name="adam", learning_rate=1e-3),
        train=dict(num_steps=2, log_every=1, eval_every=0, sample_every=0),
    )


def of_codes(workdir, **data):
    return dict(
        data=dict(name="digits", batch_size=32, first_stage=dict(workdir=str(workdir)), **data),
        model=dict(name="made", hidden_size=16, num_classes=10),
        family=dict(name="autoregressive", observation=dict(name="categorical")),
        optimizer=dict(name="adam", learning_rate=1e-3),
        train=dict(num_steps=2, log_every=1, eval_every=2, sample_every=0),
        eval=dict(batch_size=120),
    )


@pytest.mark.slow
def test_two_stages_through_configs_need_the_first_workdir_once(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    # Levels are a sequence, which JSON has as a list.
    genjax.Run(genjax.build(config(dict(name="fsq", levels=(3, 4)))), one).train()
    genjax.Run(genjax.build(of_codes(one)), two).train()
    run = genjax.load(two)
    x = run.experiment.test_data.source.rows(np.arange(7))["x"]
    scores = run.log_prob(x, label=np.arange(7))
    drawn = run.sample(3, label=[1, 2, 3], seed=0)
    codes = run.networks["net"](jnp.zeros((2, 4, 4, 1), jnp.uint8), jnp.arange(2))
    assert codes.shape == (2, 4, 4, 1, 12)
    assert genjax.load(one).networks["encoder"](jnp.zeros((2, 8, 8, 1))).shape == (2, 4, 4, 2)
    assert drawn.shape == (3, 8, 8, 1) and np.isfinite(scores).all()
    one.rename(tmp_path / "gone")
    again = genjax.load(two)
    np.testing.assert_array_equal(again.log_prob(x, label=np.arange(7)), scores)
    np.testing.assert_array_equal(again.sample(3, label=[1, 2, 3], seed=0), drawn)


@pytest.mark.slow
def test_first_stages_that_are_none_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no trained run in"):
        genjax.build(of_codes(tmp_path / "nothing"))
    flow = config()
    flow["model"] = dict(name="coupling_flow", hidden_size=8, num_layers=1)
    flow["family"] = dict(name="flow")
    genjax.Run(genjax.build(flow), tmp_path / "flow").train()
    with pytest.raises(ConfigError, match="has no latents to model: take a vq_vae"):
        genjax.build(of_codes(tmp_path / "flow"))
    with pytest.raises(ConfigError, match="both stages must see the same data"):
        genjax.build(of_codes(tmp_path / "flow", binarize="static"))
