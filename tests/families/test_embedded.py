"""Models of embeddings, and models that are told them: the two halves of unCLIP."""

import numpy as np
import pytest

import genjax

SIZE = 6
DATA = dict(name="captioned_digits", options=dict(images="digits"))
TRAIN = dict(num_steps=2, log_every=1, eval_every=0, sample_every=0, checkpoint_every=2)
OPTIMIZER = dict(name="adam", learning_rate=1e-3)
TEXT = dict(name="text_encoder", hidden_size=8, num_blocks=1, num_heads=2)


def contrastive():
    return dict(
        data=dict(**DATA, batch_size=8),
        model=dict(
            image=dict(name="image_tower", embedding_size=SIZE, channels=8, num_features=8),
            text=dict(
                name="text_tower", embedding_size=SIZE, hidden_size=8, num_blocks=1, num_heads=2
            ),
        ),
        family=dict(name="clip"),
        optimizer=OPTIMIZER,
        train=TRAIN,
        eval=dict(batch_size=8),
    )


def prior(workdir, **train):
    return dict(
        data=dict(**DATA, batch_size=8, embeddings=dict(workdir=str(workdir), what="x")),
        model=dict(name="prior_transformer", hidden_size=8, num_blocks=1, num_heads=2),
        family=dict(
            name="score_sde", prediction="data", weighting="data", label_dropout=0.1,
            likelihood="none",
        ),
        optimizer=OPTIMIZER,
        train={**TRAIN, **train},
        eval=dict(batch_size=8),
        sample=dict(num_steps=3, num_samples=4),
    )  # fmt: skip


def decoder(workdir, text=TEXT, **embedding):
    told = dict(text=text) if text else {}
    return dict(
        data=dict(**DATA, batch_size=8, embeddings=dict(workdir=str(workdir))),
        model=dict(
            name="unet", channels=4, multipliers=(1,), num_blocks=1, num_groups=2,
            dropout_rate=0.0, attention_sizes=(),
            embedding=dict(name="projection", **embedding), **told,
        ),
        family=dict(name="edm", label_dropout=0.1, likelihood="none"),
        optimizer=OPTIMIZER,
        train=TRAIN,
        eval=dict(batch_size=8),
        sample=dict(num_steps=2, num_samples=4, guidance=dict(name="classifier_free", scale=2.0)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """A contrastive run that has taken two steps."""
    place = tmp_path_factory.mktemp("contrastive") / "run"
    genjax.Run(genjax.build(contrastive()), place, quiet=True).train()
    return place


def rows_of(experiment, count=5):
    return experiment.test_data.source.rows(np.arange(count))


def test_smoke(towers, tmp_path):
    run = genjax.Run(genjax.build(prior(towers, sample_every=2)), tmp_path / "prior", quiet=True)
    run.train()
    rows = rows_of(run.experiment)
    made = run.sample(tokens=rows["tokens"])
    assert made.shape == (5, SIZE)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, rtol=1e-5)
    dec = genjax.Run(genjax.build(decoder(towers, num_tokens=2)), tmp_path / "decoder", quiet=True)
    dec.train()
    print(dec.sample(embedding=made, tokens=rows["tokens"]).shape)
    print(dec.family.reads, run.family.reads)
