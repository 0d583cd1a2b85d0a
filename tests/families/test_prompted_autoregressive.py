"""Autoregressive models that are told a text, its embedding, or both."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import families, nets
from genjax.families.autoregressive_model import AutoregressiveModel
from genjax.families.choosing import Choosing

KEY = jax.random.key(0)
LENGTH, VOCABULARY, CODES = 3, 7, 4
READS = [("tokens",), ("text_embedding",), ("tokens", "text_embedding")]


@functools.cache
def model_of(reads, **fields):
    net = nets.PromptedTransformer(
        event_shape=(CODES,), hidden_size=8, num_blocks=2, num_heads=2, reads=reads,
        num_tokens=VOCABULARY, text_length=LENGTH,
    )  # fmt: skip
    model = AutoregressiveModel(
        net=net,
        observation=families.Categorical(),
        event_shape=(CODES,),
        num_levels=5,
        label_dropout=0.1,
        **fields,
    )
    batch = {
        "x": jax.random.randint(KEY, (6, CODES), 0, 5),
        "tokens": jax.random.randint(KEY, (6, LENGTH), 0, VOCABULARY),
        "text_embedding": jax.random.normal(KEY, (6, 2)),
    }
    params, _ = jax.jit(model.init)(KEY, batch)
    moved = jax.tree.map(lambda a: a + 0.3 * jax.random.normal(KEY, a.shape), params)
    return model, moved, batch


def told_of(batch, reads):
    return {name: batch[name] for name in reads}


@pytest.mark.parametrize("reads", READS)
def test_every_entry_hears_all_that_is_told_and_entries_before_it(reads):
    model, params, batch = model_of(reads)
    told = told_of(batch, reads)
    first = model.outputs(params, batch["x"], told)
    for name in reads:
        for place in range(told[name].shape[1]):
            other = told[name].at[:, place].set(-1 if name == "tokens" else 0.0)
            moved = model.outputs(params, batch["x"], {**told, name: other}) != first
            assert moved.any(axis=-1).all()
    for place in range(CODES):
        x = batch["x"].at[:, place].set((batch["x"][:, place] + 1) % 5)
        moved = (model.outputs(params, x, told) != first).any(axis=(0, 2))
        np.testing.assert_array_equal(moved, np.arange(CODES) > place)


@pytest.mark.parametrize("reads", READS)
def test_a_cache_takes_in_what_is_told(reads):
    model, params, batch = model_of(reads)
    told = told_of(batch, reads)
    expected = model.outputs(params, batch["x"], told)
    net, variables = model.observed_net(), {"params": params["net"]}
    cache = net.apply(variables, 6, told, method="empty_cache")
    step = jax.jit(functools.partial(net.apply, method="step"))
    for i in range(CODES):
        found, cache = step(variables, batch["x"][:, i - 1], jnp.asarray(i), cache, told)
        np.testing.assert_allclose(found, expected[:, i], atol=1e-5)


def test_guidance_is_towards_what_is_told_whichever_way_entries_are_drawn():
    choosing = Choosing(guidance_scale=2.0, temperature=0.01)  # the likeliest, nearly always
    model, params, batch = model_of(READS[2], choosing=choosing)
    told = told_of(batch, READS[2])
    x, _ = jax.jit(lambda k: model.sample_by_iteration(params, k, told, 6))(KEY)
    cached = jax.jit(lambda k: model.sample_cached(params, k, told, 6))(KEY)
    np.testing.assert_array_equal(x, cached)
    nothing = {"tokens": jnp.full((6, LENGTH), -1), "text_embedding": jnp.zeros((6, 2))}
    logits = model.outputs(params, x, nothing)
    logits = logits + 2.0 * (model.outputs(params, x, told) - logits)
    np.testing.assert_array_equal(x, logits.argmax(axis=-1))


def test_rows_are_left_untold_in_training():
    model, params, batch = model_of(READS[2])
    sometimes = model_of(READS[2])[0]
    told = {name: value for name, value in batch.items() if name != "x"}
    nothing = {"tokens": jnp.full((6, LENGTH), -1), "text_embedding": jnp.zeros((6, 2))}
    by_row = model.nats(params, batch, None, told), model.nats(params, batch, None, nothing)
    sums = []
    for seed in range(200):
        loss, _ = jax.jit(sometimes.loss)(params, {}, batch, jax.random.key(seed), 0)
        sums.append(float(loss))
    mean = 0.9 * by_row[0].mean() + 0.1 * by_row[1].mean()
    assert abs(np.mean(sums) - mean) < 4 * np.std(sums) / np.sqrt(200)
    assert np.std(sums) > 0.0


def test_what_does_not_fit_is_refused(unchecked):
    _, _, batch = model_of(READS[2])
    net = nets.PromptedTransformer(event_shape=(CODES,), num_levels=5)
    with pytest.raises(ValueError, match="needs num_tokens and text_length"):
        net.init(KEY, batch["x"], batch)
    net = net.clone(num_tokens=VOCABULARY, text_length=LENGTH)
    with pytest.raises(ValueError, match=r"\['text_embedding'\] are missing"):
        net.init(KEY, batch["x"], {"tokens": batch["tokens"]})
    with pytest.raises(ValueError, match="expected texts of 3 tokens, got shape"):
        net.init(KEY, batch["x"], {**batch, "tokens": batch["tokens"][:, :2]})
    with pytest.raises(ValueError, match="reads must name some of tokens, text_embedding, got"):
        net.clone(reads=("label",)).init(KEY, batch["x"], batch)
