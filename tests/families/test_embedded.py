"""Models of embeddings, and models that are told them: the two halves of unCLIP."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import losses
from genjax.config import ConfigError
from genjax.families.base import Derived, Family, Samples, TrainState
from genjax.families.embedded import Embeddings, with_embeddings
from genjax.families.embedding_forms import Scaled
from genjax.training.workdir import read_config

SIZE = 4
WEIGHTS = jax.random.normal(jax.random.key(0), (2, SIZE))
BATCH = {
    "x": jnp.array([[1.0, 2.0], [3.0, -1.0]]),
    "tokens": jnp.array([[1, 2], [-1, -1]]),
    "index": jnp.arange(2),
}


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def embed(variables, batch):
    names = {"x": "embedding", "tokens": "text_embedding"}
    return {
        made: losses.unit_length(batch[name].astype(jnp.float32) @ variables["ema"])
        for name, made in names.items()
        if name in batch
    }


def embeddings(replaces=None):
    return Embeddings(embed=embed, variables={"ema": WEIGHTS}, size=SIZE, replaces=replaces)


def hearing(reads, unlabelled=()):
    """A family whose every answer is what it was given."""

    def init(key, batch):
        empty = {}
        return TrainState(
            step=jnp.zeros((), jnp.int32), params=empty, opt_state=empty, model_state=empty,
            ema=empty,
        )  # fmt: skip

    return Family(
        init=init,
        train_step=lambda state, batch, key: (state.replace(step=state.step + 1), dict(batch)),
        eval_protocol={},
        eval_step=lambda state, batch, key: {**batch, "kept": len(state.model_state)},
        sample=lambda state, key, batch: Samples(rows=3.0 + batch["x"]),
        log_prob=lambda state, batch, key: batch["x"].sum(axis=1),
        denoising=lambda state, batch: None,
        reads=reads,
        unlabelled=unlabelled,
    )


def test_a_family_is_told_vectors_of_entries_of_unit_size():
    family = with_embeddings(hearing(("label", "embedding", "text_embedding")), embeddings())
    state = family.init_with(jax.random.key(0), BATCH, {"embeddings": {"ema": WEIGHTS}})
    assert state.model_state.keys() == {"embeddings"}
    after, seen = family.train_step(state, BATCH, jax.random.key(0))
    np.testing.assert_allclose(seen["embedding"], 2.0 * unit(BATCH["x"] @ WEIGHTS), rtol=1e-5)
    told = 2.0 * unit(np.asarray(BATCH["tokens"][:1], np.float32) @ WEIGHTS)
    np.testing.assert_allclose(seen["text_embedding"][:1], told, rtol=1e-5)
    # A text that is not told has no vector.
    np.testing.assert_array_equal(seen["text_embedding"][1], 0.0)
    np.testing.assert_array_equal(seen["x"], BATCH["x"])
    assert after.step == 1 and after.model_state.keys() == {"embeddings"}
    found = family.eval_step(state, BATCH, jax.random.key(0))
    assert found["kept"] == 0  # the family has its own state only
    np.testing.assert_array_equal(found["embedding"], seen["embedding"])


def test_given_vectors_of_any_length_stand_in_place_of_images():
    family = with_embeddings(hearing(("embedding",)), embeddings())
    state = family.init(jax.random.key(0), BATCH)
    given = jnp.array([[0.0, 0.0, 0.0, 5.0], [0.0, 0.0, 0.0, 0.0]])
    _, seen = family.train_step(state, {**BATCH, "embedding": given}, jax.random.key(0))
    np.testing.assert_allclose(seen["embedding"], [[0, 0, 0, 2], [0, 0, 0, 0]])


def test_a_family_reads_what_vectors_are_made_from():
    reads = ("tokens", "text_embedding", "embedding")
    family = with_embeddings(hearing(reads, unlabelled=reads), embeddings())
    assert family.reads == ("tokens", "x") and family.unlabelled == ("tokens",)
    assert family.derived == {
        "embedding": Derived((SIZE,), "x"),
        "text_embedding": Derived((SIZE,), "tokens"),
    }
    assert family.eval_protocol["scored"] == "data given embeddings"


def test_a_family_of_embeddings_makes_vectors_of_unit_length():
    family = with_embeddings(hearing(("text_embedding",)), embeddings(replaces=Scaled()))
    state = family.init_with(jax.random.key(0), BATCH, {"embeddings": {"ema": WEIGHTS}})
    drawn = family.sample(state, jax.random.key(1), BATCH).rows
    assert drawn.shape == (2, SIZE)
    np.testing.assert_allclose(drawn, 0.5)
    of_images = 2.0 * unit(BATCH["x"] @ WEIGHTS)
    np.testing.assert_allclose(
        family.log_prob(state, BATCH, jax.random.key(0)), of_images.sum(axis=1), rtol=1e-4
    )
    assert family.denoising is None  # edits are of images
    assert family.eval_protocol["scored"] == "embeddings"


# Through configs, with small networks.

DATA = dict(name="captioned_digits", batch_size=8, options=dict(images="digits"))
TRAIN = dict(num_steps=2, log_every=1, eval_every=0, sample_every=0, checkpoint_every=2)
REST = dict(
    optimizer=dict(name="adam", learning_rate=1e-3), train=TRAIN, eval=dict(batch_size=8),
    sample=dict(num_steps=2, num_samples=4),
)  # fmt: skip
TEXT = dict(hidden_size=8, num_blocks=1, num_heads=2)


def contrastive():
    return dict(
        data=DATA,
        model=dict(
            image=dict(name="image_tower", embedding_size=6, channels=8, num_features=8),
            text=dict(name="text_tower", embedding_size=6, **TEXT),
        ),
        family=dict(name="clip"),
        **REST,
    )


def prior(workdir, **data):
    return dict(
        data=dict(**DATA, **data, embeddings=dict(workdir=str(workdir), what="x")),
        model=dict(name="prior_transformer", **TEXT),
        family=dict(
            name="diffusion", process=dict(name="cosine"), prediction="data", weighting="data",
            label_dropout=0.1, likelihood="none",
        ),
        **REST,
    )  # fmt: skip


def decoder(workdir, **embedding):
    return dict(
        data=dict(**DATA, embeddings=dict(workdir=str(workdir))),
        model=dict(
            name="unet", channels=4, multipliers=(1,), num_blocks=1, num_groups=2,
            attention_sizes=(), text=dict(name="text_encoder", **TEXT),
            embedding=dict(name="projection", **embedding),
        ),
        family=dict(name="edm", label_dropout=0.1, likelihood="none"),
        **REST,
    )  # fmt: skip


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """A contrastive run that has taken two steps."""
    place = tmp_path_factory.mktemp("contrastive") / "run"
    genjax.Run(genjax.build(contrastive()), place, quiet=True).train()
    return place


@pytest.mark.slow
def test_images_of_texts_through_configs_need_the_first_workdir_once(towers, tmp_path):
    first, second = tmp_path / "prior", tmp_path / "decoder"
    genjax.Run(genjax.build(prior(towers)), first, quiet=True).train()
    genjax.Run(
        genjax.build(decoder(towers, num_tokens=2, text_dropout_rate=0.4)), second, quiet=True
    ).train()
    rows = genjax.load(first).experiment.test_data.source.rows(np.arange(3))
    real = genjax.load(towers, quiet=True).embed(rows["x"], rows["tokens"])
    gone = towers.rename(tmp_path / "gone")
    try:
        run = genjax.load(first, quiet=True)
        # The towers are part of the state.
        for name, vectors in run.embed(rows["x"], rows["tokens"]).items():
            np.testing.assert_allclose(vectors, real[name], atol=1e-5)
        made = run.sample(tokens=rows["tokens"], seed=0)
        assert made.shape == (3, 6)
        np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1.0, rtol=1e-5)
        with pytest.raises(ValueError, match=r"text_embedding: expected rows \[3, 6\]"):
            run.sample(tokens=rows["tokens"], text_embedding=np.zeros((3, 5)))
        run = genjax.load(second, quiet=True)
        images = run.sample(embedding=made, tokens=rows["tokens"])
        assert images.shape == (3, 8, 8, 3) and images.dtype == np.uint8
        # The images that vectors are made of otherwise have no part in them.
        asked = run.ask(3, dict(embedding=made, tokens=rows["tokens"]))
        assert set(asked.told) == {"embedding", "tokens"}
        assert set(run.ask(3, {}).told) == {"x", "tokens"}
    finally:
        gone.rename(towers)
    # Samples in training are variations of the first test images.
    asked = run.experiment.sample_requests(3)
    np.testing.assert_array_equal(asked["x"], rows["x"])
    assert read_config(second)["data"]["embeddings"]["config"]["family"]["name"] == "clip"
    # A run whose config was written down before there were forms of vectors is the same run.
    path = first / "config.json"
    config = json.loads(path.read_text())
    del config["data"]["embeddings"]["form"]
    path.write_text(json.dumps(config))
    again = genjax.load(first, quiet=True)
    np.testing.assert_array_equal(again.sample(tokens=rows["tokens"], seed=0), made)
    again.train()


@pytest.mark.slow
def test_what_does_not_go_with_embeddings_is_refused(towers, tmp_path):
    with pytest.raises(ConfigError, match=r"data.embeddings.workdir: there is no trained run in"):
        genjax.build(prior(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="both stages must see the same data"):
        genjax.build(prior(towers) | {"data": {**prior(towers)["data"], "options": dict(
            images="digits", scene="plain")}})  # fmt: skip
    with pytest.raises(ConfigError, match="both stages must see the same data"):
        genjax.build(prior(towers, binarize="static"))
    measured = {**prior(towers), "eval": dict(batch_size=8, metrics=("sliced_w2",))}
    with pytest.raises(ConfigError, match="samples with data, but with what='x' they are embeddin"):
        genjax.build(measured)
    plain = decoder(towers)
    plain["data"] = DATA
    with pytest.raises(ConfigError, match="told embedding: name the contrastive run that makes it"):
        genjax.build(plain)
    other = decoder(towers)
    other["model"] = dict(name="score_resnet", embedding=dict(name="projection"))
    with pytest.raises(ConfigError, match="model.embedding: ScoreResNet is told no vector"):
        genjax.build(other)
    with pytest.raises(ConfigError, match=r"text_dropout_rate must be in \[0, 1\)"):
        genjax.build(decoder(towers, text_dropout_rate=1.0))
    with pytest.raises(ConfigError, match="context_size: there are no vectors; set num_tokens"):
        genjax.build(decoder(towers, context_size=4))
    with pytest.raises(ConfigError, match="context_size is 4, but vectors of the text have 8"):
        genjax.build(decoder(towers, context_size=4, num_tokens=2))
    other = decoder(towers, text_dropout_rate=0.2)
    del other["model"]["text"]
    with pytest.raises(ConfigError, match="text_dropout_rate: there is no text to drop"):
        genjax.build(other)


@pytest.mark.slow
def test_an_autoregressive_prior_makes_vectors_by_codes_that_it_measures(towers, tmp_path):
    config = prior(towers)
    config["data"]["embeddings"]["form"] = dict(
        name="principal_codes", num_components=5, num_levels=8
    )
    config["model"] = dict(name="prompted_transformer", **TEXT)
    config["family"] = dict(
        name="autoregressive", observation=dict(name="categorical"), label_dropout=0.1
    )
    run = genjax.Run(genjax.build(config), tmp_path / "run", quiet=True)
    run.train()
    form = jax.tree.map(np.asarray, genjax.load(tmp_path / "run").state.model_state["embeddings"])[
        "form"
    ]
    rows = run.experiment.test_data.source.rows(np.arange(3))
    assert form["directions"].shape == (5, 6) and (form["high"] > form["low"]).all()
    assert 0.0 < run.evaluate()["eval/nats"]
    assert run.experiment.family.eval_protocol["scored"] == "codes of embeddings"
    made = run.sample(tokens=rows["tokens"], seed=0)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1.0, rtol=1e-5)
    # Each is in the direction of a point of the space that codes span.
    basis = np.linalg.qr(np.stack([form["mean"], *form["directions"]]).T)[0]
    np.testing.assert_allclose(made @ basis @ basis.T, made, atol=1e-5)
    again = genjax.load(tmp_path / "run", quiet=True)
    np.testing.assert_array_equal(again.sample(tokens=rows["tokens"], seed=0), made)
    assert read_config(tmp_path / "run")["data"]["embeddings"]["form"]["num_levels"] == 8


@pytest.mark.slow
def test_forms_of_embeddings_that_cannot_be_are_refused(towers):
    def built(**embeddings):
        config = prior(towers)
        config["data"]["embeddings"].update(embeddings)
        return genjax.build(config)

    seen = built(form=dict(name="standardized")).family.init_with
    assert seen is not None
    with pytest.raises(ConfigError, match=r"data.embeddings.form.name 'scale'; did you mean"):
        built(form=dict(name="scale"))
    with pytest.raises(ConfigError, match=r"data.embeddings.form: num_components 9 is more than"):
        built(form=dict(name="principal_codes", num_components=9))
    with pytest.raises(ConfigError, match="num_component"):
        built(form=dict(name="principal_codes", num_component=3))
    with pytest.raises(ConfigError, match=r"data.embeddings.form must be Mapping"):
        built(form="scaled")
    with pytest.raises(ConfigError, match=r"what must be Literal\['told', 'x'\], got 'y'"):
        built(what="y")
    with pytest.raises(ConfigError, match="take what='x', or leave it out"):
        built(what="told", form=dict(name="scaled"))
