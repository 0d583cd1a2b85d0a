"""Contrastive models: what they learn besides vectors, what they find, and what others ask."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import genjax
from genjax import families, losses
from genjax.config.errors import ConfigError
from genjax.data import Feature
from genjax.families.contrastive import MAX_LOG_SCALE
from genjax.families.pairs import scores_of_pairs

RNG = np.random.default_rng(0)
SPEC = {"x": Feature((2,), np.dtype("f4")), "tokens": Feature((3,), np.dtype("i4"))}
BATCH = {
    "x": jnp.asarray(RNG.normal(size=(8, 2)), jnp.float32),
    "tokens": jnp.asarray(RNG.integers(3, size=(8, 3)) // 2),
}


class Words(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        return nn.Embed(4, 4)(tokens).mean(axis=1)


def model(make=families.contrastive, optimizer=None, **kwargs):
    return make(
        image=nn.Dense(4), text=Words(), optimizer=optimizer or optax.adam(0.01),
        event_shape=(2,), num_levels=None, spec=SPEC, **kwargs,
    )  # fmt: skip


def variables_of(state):
    return {"ema": state.ema, "model_state": state.model_state}


@pytest.mark.parametrize("make, scale, bias", [("clip", 1 / 0.07, None), ("siglip", 10.0, -10.0)])
def test_scale_and_bias_begin_as_published_and_are_learned(make, scale, bias):
    family = model(getattr(families, make))
    state = family.init(jax.random.key(0), BATCH)
    begun = state.params["similarity"]
    assert float(jnp.exp(begun["log_scale"])) == pytest.approx(scale, rel=1e-6)
    assert begun.get("bias") == bias
    new, metrics = jax.jit(family.train_step)(state, BATCH, jax.random.key(0))
    assert float(metrics["scale"]) == pytest.approx(scale, rel=1e-6)
    for name in begun:
        assert new.params["similarity"][name] != begun[name]


@pytest.mark.parametrize("rate, limit", [(1e3, 0.0), (-1e3, MAX_LOG_SCALE)])
def test_the_log_scale_stays_in_its_interval_and_so_does_its_average(rate, limit):
    # Unrelated rows: descent lowers the scale, ascent raises it.
    family = model(optimizer=optax.sgd(rate), ema_decay=0.0)
    state = family.init(jax.random.key(0), BATCH)
    state, _ = jax.jit(family.train_step)(state, BATCH, jax.random.key(0))
    for held in (state.params, state.ema):
        assert float(held["similarity"]["log_scale"]) == pytest.approx(limit, rel=1e-6)


def test_what_rows_find_is_what_a_loop_over_captions_says():
    image, text, tokens = (np.asarray(a) for a in (RNG.normal(size=(9, 4)), 0, RNG.integers(
        4, size=(9, 1))))  # fmt: skip
    text = RNG.normal(size=(4, 4))[tokens[:, 0]] + 0.7 * image
    text = text[[list(tokens[:, 0]).index(t) for t in tokens[:, 0]]]  # equal where captions are
    image, text = (losses.unit_length(jnp.asarray(a, jnp.float32)) for a in (image, text))
    found = scores_of_pairs(image, text, jnp.asarray(tokens), {"log_scale": jnp.array(1.0)})
    logits, said = np.asarray(image @ text.T), tokens[:, 0]
    for i in range(9):
        near = {t: logits[i, said == t][0] for t in set(said)}
        rank = sum(value >= near[said[i]] for t, value in near.items() if t != said[i])
        assert found["text_rank"][i] == rank and found["text_at_1"][i] == (rank == 0)
        assert found["image_at_1"][i] == (said[np.argmax(logits[:, i])] == said[i])
    assert 0 < found["text_at_1"].mean() < 1 and 0 < found["image_at_1"].mean() < 1
    floor = losses.contrastive_floor(jnp.asarray(said[:, None] == said))
    np.testing.assert_allclose(
        found["contrastive_loss"] - found["excess_loss"], floor, rtol=1e-5, atol=1e-6
    )


def test_vectors_that_are_all_the_same_find_nothing():
    same = jnp.ones((5, 4)) / 2.0
    tokens = jnp.array([[0], [0], [1], [2], [2]])
    found = scores_of_pairs(same, same, tokens, {"log_scale": jnp.array(1.0)})
    assert not found["text_at_1"].any() and not found["image_at_1"].any()
    np.testing.assert_array_equal(found["text_rank"], 2)


def test_own_targets_tell_rows_of_one_caption_apart():
    state = model().init(jax.random.key(0), BATCH)
    soft, own = (
        model(soft_targets=soft).eval_step(state, BATCH, jax.random.key(0))
        for soft in (True, False)
    )
    assert not np.allclose(soft["contrastive_loss"], own["contrastive_loss"])
    one_each = {**BATCH, "tokens": jnp.arange(24).reshape(8, 3) % 4 + jnp.arange(8)[:, None]}
    soft, own = (
        model(soft_targets=soft).eval_step(state, one_each, jax.random.key(0))
        for soft in (True, False)
    )
    np.testing.assert_array_equal(soft["contrastive_loss"], own["contrastive_loss"])


def test_vectors_have_unit_length_and_are_those_of_the_networks():
    family = model()
    state = family.init(jax.random.key(0), BATCH)
    found = family.embed(variables_of(state), BATCH)
    assert sorted(found) == ["embedding", "text_embedding"]
    for vectors in found.values():
        np.testing.assert_allclose(jnp.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)
    params = {"params": state.ema["image"]}
    alone = families.image_embedding(nn.Dense(4), params, BATCH["x"])
    np.testing.assert_array_equal(found["embedding"], alone)
    texts = families.text_embedding(Words(), {"params": state.ema["text"]}, BATCH["tokens"])
    np.testing.assert_array_equal(found["text_embedding"], texts)
    assert list(family.embed(variables_of(state), {"x": BATCH["x"]})) == ["embedding"]


def test_a_model_of_standardised_rows_has_vectors_of_the_data():
    inner, family = model(), families.standardized(model(), 3.0, 2.0)
    state = family.init(jax.random.key(0), BATCH)
    found = family.embed(variables_of(state), BATCH)
    own = {"ema": state.ema, "model_state": {}}
    expected = inner.embed(own, {**BATCH, "x": (BATCH["x"] - 3.0) / 2.0})
    np.testing.assert_allclose(found["embedding"], expected["embedding"], rtol=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match="needs captions: a feature 'tokens'"):
        families.clip(
            image=nn.Dense(4), text=Words(), optimizer=optax.adam(0.01), event_shape=(2,),
            num_levels=None, spec={"x": SPEC["x"]},
        )  # fmt: skip
    with pytest.raises(ValueError, match="loss must be 'softmax' or 'sigmoid', got 'hinge'"):
        model(loss="hinge")
    with pytest.raises(ValueError, match=r"\[2, 3\] and texts \[2, 4\]: set their embedding_size"):
        scores_of_pairs(jnp.ones((2, 3)), jnp.ones((2, 4)), jnp.ones((2, 1), int), {})


def config(**changes):
    return dict(
        data=dict(
            name="captioned_digits", batch_size=64,
            options=dict(images="digits", scene="plain", paraphrases=False),
        ),
        model=dict(
            image=dict(name="image_tower", embedding_size=8, channels=8, num_halvings=1,
                       num_features=16),
            text=dict(name="text_tower", embedding_size=8, hidden_size=16, num_blocks=1,
                      num_heads=2),
        ),
        family=dict(name="clip"),
        optimizer=dict(name="adam", learning_rate=3e-3, b1=0.9),
        train=dict(num_steps=1, eval_every=0, sample_every=0),
        **changes,
    )  # fmt: skip


def test_sizes_of_texts_are_those_of_the_data_which_must_have_some():
    experiment = genjax.build(config())
    assert experiment.config["model"]["text"]["text_length"] == 8
    assert experiment.networks["text"].num_tokens == experiment.spec["tokens"].vocabulary.size
    other = config()
    other["data"] = dict(name="digits", batch_size=64)
    with pytest.raises(ConfigError, match="model.text: the data has no captions"):
        genjax.build(other)


@pytest.mark.slow
def test_a_run_embeds_captions_and_tokens_alike_and_its_towers_serve_another(tmp_path):
    run = genjax.Run(genjax.build(config()), tmp_path / "first", quiet=True)
    run.train()
    rows = run.experiment.test_data.source.rows(np.arange(5))
    said = run.experiment.spec["tokens"].vocabulary.decode(rows["tokens"])
    found, again = run.embed(rows["x"], rows["tokens"]), run.embed(tokens=said)
    assert found["embedding"].shape == found["text_embedding"].shape == (5, 8)
    np.testing.assert_array_equal(found["text_embedding"], again["text_embedding"])
    np.testing.assert_array_equal(run.embed(tokens=said[0])["text_embedding"][0],
                                  again["text_embedding"][0])  # fmt: skip
    with pytest.raises(ValueError, match="have no word 'pic'"):
        run.embed(tokens=["a pic"])
    with pytest.raises(ValueError, match="at most 7 words, got 8"):
        run.embed(tokens=["a" + " photo" * 7])
    with pytest.raises(ValueError, match="x, tokens or both"):
        run.embed()
    # The text tower in another run, where no optimiser moves it.
    second = config()
    second["model"]["text"] = dict(frozen=dict(workdir=str(tmp_path / "first"), network="text"))
    other = genjax.Run(genjax.build(second), tmp_path / "second", quiet=True)
    other.train()
    np.testing.assert_allclose(
        other.embed(tokens=said)["text_embedding"], again["text_embedding"], atol=1e-6
    )
