"""What networks are told of a batch: labels, texts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import config as configs
from genjax.diffusion import ClassifierFree, Cosine, Estimate
from genjax.diffusion.guidance import untold
from genjax.families.sampling import Sampling
from genjax.families.told import drop_told, told_of

FAMILIES = {
    "edm": dict(name="edm", label_dropout=0.3),
    "ddpm": dict(
        name="ddpm",
        process=dict(name="chain", num_timesteps=50, beta_max=0.01),
        label_dropout=0.3,
    ),
    "vdm": dict(name="vdm", schedule=dict(name="learned_linear"), label_dropout=0.3),
    "flow_matching": dict(name="flow_matching", label_dropout=0.3, method="euler"),
}


def config(family, text):
    return dict(
        data=dict(
            name="captioned_digits", options=dict(images="digits", scene="plain"), batch_size=4
        ),
        model=dict(
            name="unet", channels=4, multipliers=(1,), num_blocks=1, num_groups=2,
            dropout_rate=0.0, attention_sizes=(), text=text,
        ),
        family=FAMILIES[family],
        optimizer=dict(name="adam", learning_rate=1e-2),
        train=dict(num_steps=2, log_every=1, checkpoint_every=2, eval_every=0, sample_every=0),
        eval=dict(batch_size=4),
        sample=dict(num_steps=2, num_samples=4),
    )  # fmt: skip


TEXT = dict(name="text_encoder", hidden_size=4, num_blocks=1, num_heads=1)


def test_what_is_told_is_an_array_or_a_mapping():
    batch = {name: jnp.zeros(1) for name in ("x", "label", "tokens")}
    assert told_of(batch, ()) is None
    assert told_of(batch, ("label",)) is batch["label"]
    assert set(told_of(batch, ("label", "tokens"))) == {"label", "tokens"}


def test_rows_are_left_out_as_a_whole():
    told = {"tokens": jnp.arange(600).reshape(200, 3), "vector": jnp.ones((200, 2))}
    dropped = drop_told(jax.random.key(0), told, 0.25)
    gone = (dropped["tokens"] == -1).all(axis=1)
    assert (gone == (dropped["vector"] == 0).all(axis=1)).all()
    assert (dropped["tokens"][~gone] == told["tokens"][~gone]).all()
    assert 30 < int(gone.sum()) < 70  # 50 of 200, by five standard deviations at most
    assert drop_told(jax.random.key(0), told, 0.0) is told


def test_guidance_joins_what_is_told_of_mappings():
    told = {"tokens": jnp.array([[2, 3], [4, 5]])}
    assert (untold(told)["tokens"] == -1).all()

    def estimate_fn(z, t, told):
        data = told["tokens"].sum(axis=1, keepdims=True) + 0.0 * z
        return Estimate(data, data)

    guided = ClassifierFree(scale=3.0).guided(Cosine(), estimate_fn, told)
    # -2 + 3 (5 + 2), and -2 + 3 (9 + 2).
    assert guided(jnp.zeros((2, 1)), jnp.array(0.5)).data.tolist() == [[19.0], [31.0]]


def test_samples_are_guided_away_from_what_they_are_not_to_be():
    def estimate_fn(z, t, told):
        data = told["tokens"].sum(axis=1, keepdims=True) + 0.0 * z
        return Estimate(data, data)

    batch = {"x": jnp.zeros((2, 1)), "tokens": jnp.array([[2, 3], [4, 5]])}
    batch["negative_tokens"] = jnp.array([[1, 0], [0, 1]])
    sampling = Sampling(guidance=ClassifierFree(scale=3.0))
    told = sampling.told(batch, told_of(batch, ("tokens",)))
    away = sampling.against(batch, told, ("tokens",))
    guided = sampling.denoiser(Cosine(), estimate_fn, told, away).estimate
    # 1 + 3 (5 - 1), and 1 + 3 (9 - 1).
    assert guided(jnp.zeros((2, 1)), jnp.array(0.5)).data.tolist() == [[13.0], [25.0]]
    assert sampling.against({**batch, "label": batch["x"]}, told, ("label",)) is None
    with pytest.raises(ValueError, match="negative_tokens: there is nothing that guides away"):
        Sampling().against(batch, told, ("tokens",))


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_reach_loss_and_gradient_of_every_family(family):
    experiment = configs.build(config(family, TEXT))
    assert experiment.family.reads == experiment.family.unlabelled == ("tokens",)
    made = experiment.family
    batch = {
        name: jnp.asarray(rows)
        for name, rows in experiment.train_data.source.rows(np.arange(4)).items()
    }
    state = made.init(jax.random.key(0), batch)
    step = jax.jit(made.train_step)
    for key in jax.random.split(jax.random.key(1), 2):  # the last layers start at zero
        state, _ = step(state, batch, key)
    net = next(net for name, net in state.params.items() if "net" in name)
    assert set(net) == {"net", "text"}
    before, (after, _) = net, step(state, batch, jax.random.key(2))
    net = next(net for name, net in after.params.items() if "net" in name)
    moved = jnp.abs(net["text"]["position"] - before["text"]["position"]).max()
    assert moved > 0.0


def test_what_takes_no_text_or_has_none_is_refused():
    whole = config("edm", TEXT)
    with pytest.raises(configs.ConfigError, match="score_resnet has no attention to a text"):
        configs.build({**whole, "model": dict(name="score_resnet", text=TEXT)})
    with pytest.raises(configs.ConfigError, match="model.text: the data has no captions: expected"):
        configs.build({**whole, "data": dict(name="digits", batch_size=4)})
    wide = {**whole["model"], "context_size": 3}
    with pytest.raises(configs.ConfigError, match="context_size is 3, but vectors .* have 4 entr"):
        configs.build({**whole, "model": wide})
    begun = {**whole["model"], "text": dict(start=dict(workdir="elsewhere"))}
    with pytest.raises(configs.ConfigError, match="model.text.start: a text encoder is trained"):
        configs.build({**whole, "model": begun})


def test_samples_are_of_the_texts_of_the_test_split_unless_said():
    experiment = configs.build(config("edm", TEXT))
    asked = experiment.sample_requests(5)
    rows = experiment.test_data.source.rows(np.arange(5))
    assert (asked["tokens"] == rows["tokens"]).all()
    assert (experiment.sample_labels(asked) == rows["label"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("image", [False, True])
def test_a_frozen_language_model_tells_what_it_makes_of_texts(image, tmp_path):
    words = dict(
        data=dict(name="captions", batch_size=4, options=dict(
            of=dict(name="captioned_digits", images="digits", scene="plain"))),
        model=dict(name="transformer", hidden_size=8, num_blocks=1, num_heads=1),
        family=dict(name="autoregressive", observation=dict(name="categorical")),
        optimizer=dict(name="adam"),
        train=dict(num_steps=2, log_every=1, checkpoint_every=2, eval_every=0, sample_every=0),
    )  # fmt: skip
    genjax.Run(genjax.build(words), tmp_path / "words", quiet=True).train()
    whole = config("edm", dict(frozen=dict(workdir=str(tmp_path / "words"))))
    if image:
        whole["data"]["transforms"] = [dict(name="shrink", factor=2)]
        whole["model"]["source"] = dict(name="noise_augmented")
    run = genjax.Run(genjax.build(whole), tmp_path / "digits", quiet=True)
    begun = jax.tree.leaves(run.init_state().model_state["net"])
    run.train()
    _, state = run.newest()
    assert "text" not in str(jax.tree.structure(state.params["net"]))
    jax.tree.map(np.testing.assert_array_equal, begun, jax.tree.leaves(state.model_state["net"]))
    assert sum(np.abs(leaf).sum() for leaf in begun) > 0
    assert run.sample(tokens=["the digit seven"] * 2).shape == (2, 8, 8, 1)
