"""Pipelines: stages trained in order, refused when they no longer fit, and sampled as a chain."""

import json
import shutil
import textwrap

import jax
import numpy as np
import pytest

import genjax
from genjax import command
from genjax import config as configs
from genjax.config import ConfigError
from genjax.training import run as runs
from genjax.training import sources
from genjax.training.workdir import WorkdirError


def classifier(model, **train):
    periods = dict(log_every=2, eval_every=0, sample_every=0, checkpoint_every=2)
    return dict(
        data=dict(name="digits", batch_size=16),
        model=model,
        family=dict(name="classifier"),
        optimizer=dict(name="adam"),
        train=dict(num_steps=4, **periods, **train),
        eval=dict(batch_size=360),
    )


def two_stages():
    """A classifier, and one that goes on from it."""
    return dict(
        stages=dict(
            first=classifier(dict(name="linear")),
            second=classifier(dict(start=dict(workdir="stage:first", what="params"))),
        )
    )


def leaves(run):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(run.state)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Both stages, as they were trained in one call."""
    place = tmp_path_factory.mktemp("pipeline") / "whole"
    genjax.Pipeline(two_stages(), place, quiet=True).train()
    return place


@pytest.fixture
def copy(trained, tmp_path):
    """The same, elsewhere: a pipeline may be moved."""
    return shutil.copytree(trained, tmp_path / "moved")


def test_a_stage_begins_with_what_the_one_before_it_ended_with(trained):
    first, second = (genjax.load(trained / name, quiet=True) for name in ("first", "second"))
    own = json.loads((trained / "second" / "config.json").read_text())
    assert own["model"]["start"]["workdir"] == str(trained / "first")
    assert own["model"]["start"]["model"]["name"] == "linear"
    # Each is an ordinary run, whose first step is from the parameters of the first stage.
    again = genjax.Run(second.experiment, trained.parent / "again", quiet=True).init_state()
    for a, b in zip(
        jax.tree.leaves(again.params), jax.tree.leaves(first.state.params), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    (said,) = sources.read_sources(trained / "second")["model.start"]
    assert said == sources.version(trained / "first") and said.step == 4


def test_a_finished_pipeline_is_skipped_without_building_or_reading_anything(
    copy, monkeypatch, capsys
):
    monkeypatch.setattr(configs, "build", None)
    monkeypatch.setattr(runs.Checkpoints, "restore", None)
    genjax.Pipeline(two_stages(), copy).train()
    assert capsys.readouterr().out.count("nothing to do") == 2


def test_a_stage_whose_record_is_lost_is_looked_at_and_not_trained_again(copy, capsys):
    before = [leaves(genjax.load(copy / name, quiet=True)) for name in ("first", "second")]
    (copy / "pipeline.json").unlink()
    genjax.Pipeline(two_stages(), copy).train()
    assert "is at step 4 of 4: nothing to do" in " ".join(capsys.readouterr().out.split())
    after = [leaves(genjax.load(copy / name, quiet=True)) for name in ("first", "second")]
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert json.loads((copy / "pipeline.json").read_text())["finished"] == ["first", "second"]


def refused(place, overrides=(), **kwargs):
    with pytest.raises(WorkdirError) as caught:
        genjax.Pipeline(two_stages(), place, overrides, quiet=True, **kwargs).train()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_was_copied_and_is_trained_on_or_anew_refuses_the_later_stage(copy):
    longer = {"stages.first.train.num_steps": 6}
    said = refused(copy, longer)
    assert said.startswith(
        "stage 'second' has copied stage 'first' at step 4, which is to be train"
    )
    assert sources.version(copy / "first").step == 4, "before anything is trained"
    # Trained on by itself, as an ordinary run.
    genjax.load(copy / "first", {"train.num_steps": 6}, quiet=True).train()
    said = refused(copy, longer)
    assert f"which is at step 6 now: delete {copy / 'second'} to train 'second' anew" in said
    with pytest.raises(WorkdirError, match="which is at step 6 now"):
        genjax.Pipeline(None, copy, quiet=True).evaluate()
    # Gone, and with another seed.
    shutil.rmtree(copy / "first")
    other = {"stages.first.train.seed": 1}
    assert "of which there is no checkpoint now" in refused(copy, other)
    genjax.Run(
        genjax.build({**two_stages()["stages"]["first"]}, {"train.seed": 1}),
        copy / "first",
        quiet=True,
    ).train()
    assert "which has been trained anew since" in refused(copy, other)
    # An ordinary run needs what it has copied no more.
    genjax.load(copy / "second", {"train.num_steps": 6}, quiet=True).train()


def test_what_is_kept_when_told_so_is_not_asked_again(copy):
    longer = {"stages.first.train.num_steps": 6}
    before = leaves(genjax.load(copy / "second", quiet=True))
    genjax.Pipeline(two_stages(), copy, longer, quiet=True, allow_config_change=True).train()
    assert sources.version(copy / "first").step == 6
    genjax.Pipeline(two_stages(), copy, longer, quiet=True).train()
    jax.tree.map(
        np.testing.assert_array_equal, before, leaves(genjax.load(copy / "second", quiet=True))
    )


def test_the_same_steps_again_are_the_same_stage(copy, trained):
    shutil.rmtree(copy / "first")
    genjax.Run(genjax.build(two_stages()["stages"]["first"]), copy / "first", quiet=True).train()
    assert sources.version(copy / "first") == sources.version(trained / "first")
    genjax.Pipeline(two_stages(), copy, quiet=True).train()


def test_a_damaged_stage_is_trained_again_before_it_is_copied(copy, trained):
    shutil.rmtree(copy / "second")
    (newest,) = (copy / "first" / "checkpoints" / "4" / "state").glob("manifest.ocdbt")
    newest.write_bytes(b"")
    genjax.Pipeline(two_stages(), copy, quiet=True).train()
    assert (copy / "first" / "damaged_4").exists()
    for name in ("first", "second"):
        a, b = (leaves(genjax.load(place / name, quiet=True)) for place in (copy, trained))
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_an_error_of_the_last_stage_is_said_before_the_first_is_trained(tmp_path):
    wrong = {"stages.second.optimizer.learning_rate": -1.0}
    with pytest.raises(ConfigError, match="^stages.second: .*learning_rate"):
        genjax.Pipeline(two_stages(), tmp_path / "new", wrong, quiet=True).train()
    assert not (tmp_path / "new").exists()


def test_a_workdir_is_of_one_run_or_of_a_pipeline(trained):
    with pytest.raises(WorkdirError, match="holds a single run"):
        genjax.Pipeline(two_stages(), trained / "first")
    with pytest.raises(WorkdirError, match="there is no pipeline in"):
        genjax.Pipeline(None, trained.parent)
    with pytest.raises(WorkdirError, match="holds a pipeline: open it with genjax.Pipeline"):
        genjax.load(trained)
    with pytest.raises(ConfigError, match="pipeline of 2 stages, not one experiment"):
        genjax.build(two_stages())


def test_each_stage_is_evaluated_and_opened_from_the_workdir_alone(copy):
    pipeline = genjax.Pipeline(None, copy, {"stages.first.eval.batch_size": 90}, quiet=True)
    found = pipeline.evaluate()
    assert list(found) == list(pipeline.stages) == ["first", "second"]
    assert 0.0 <= found["second"]["eval/error"] <= 1.0
    assert pipeline.stages["second"].newest()[0] == 4
    assert "eval/error" in (copy / "first" / "metrics.jsonl").read_text()


# Samples.

STUBS = """
    import jax
    import jax.numpy as jnp
    import numpy as np

    from genjax.config import Recipe
    from genjax.data import ArraySource, DataSet, Feature, Vocabulary
    from genjax.data.captions import caption_tokens, caption_vocabulary
    from genjax.families.base import Family, Samples, TrainState


    def load(split, *, data_dir=None, words: str = "red green"):
        texts = [f"a {word}" for word in words.split()] * 4
        vocabulary = caption_vocabulary(texts)
        x = np.zeros((len(texts), 4, 4, 1), np.uint8)
        image = Feature((4, 4, 1), x.dtype, num_levels=256)
        number = np.dtype(np.int32)
        spec = {
            "x": image,
            "source": image,
            "label": Feature((), number, num_classes=3),
            "tokens": Feature((3,), number, None, vocabulary.size, None, vocabulary),
        }
        rows = dict(x=x, source=x, tokens=caption_tokens(texts, vocabulary, 3),
                    label=np.arange(len(texts), dtype=np.int32) % 3)
        return DataSet("stubs", ArraySource(**rows), spec)


    def stub(*, event_shape, reads: tuple[str, ...] = ("tokens",), add: int = 0):
        def init(key, batch):
            params = {"net": {"w": jnp.zeros(())}}
            return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state={},
                              model_state={}, ema=params)

        def train_step(state, batch, key):
            return state.replace(step=state.step + 1), {"loss": jnp.ones(())}

        def sample(state, key, batch):
            # The last token and the label of a row, on top of what it is made from.
            rows = jnp.full(len(batch["x"]), add)
            rows = rows + (batch["tokens"][:, 1] if "tokens" in reads else 0)
            rows = rows + (10 * batch["label"] if "label" in reads else 0)
            pixels = jnp.broadcast_to(rows[:, None, None, None], batch["x"].shape)
            pixels = pixels + (batch["source"] if "source" in reads else 0)
            return Samples(rows=pixels.astype(jnp.uint8))

        return Family(init=init, train_step=train_step, sample=sample, eval_protocol={},
                      reads=reads)


    RECIPE = Recipe(make=stub, networks={}, optimizers=())
    """


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """Two stages that read texts, of which the second reads the samples of the first, too."""
    folder = tmp_path_factory.mktemp("stubs")
    (folder / "pipeline_stubs.py").write_text(textwrap.dedent(STUBS))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))

        def stage(words, **family):
            return dict(
                data=dict(name="pipeline_stubs:load", batch_size=2, options=dict(words=words)),
                family=dict(name="pipeline_stubs:RECIPE", **family),
                train=dict(num_steps=1, eval_every=0, sample_every=0),
                sample=dict(num_samples=4),
            )

        pipeline = genjax.Pipeline(
            dict(
                stages=dict(
                    base=stage("red green", reads=("tokens", "label")),
                    larger=stage("blue green red", reads=("label", "tokens", "source"), add=100),
                ),
                sample=dict(
                    chain=[dict(stage="base"), dict(stage="larger", reads=dict(source="base"))]
                ),
            ),
            folder / "run",
            quiet=True,
        )
        pipeline.train()
        yield pipeline


def test_samples_go_through_the_chain_and_all_stages_are_told_the_same(stubs):
    # Words of the first stage are green 2, red 3; those of the second blue 2, green 3, red 4.
    found = stubs.sample(3, prompts=["a red", "a green"], label=[2, 0, 1])
    np.testing.assert_array_equal(found[:, 0, 0, 0], [3 + 4 + 140, 2 + 3 + 100, 3 + 4 + 120])
    # Without any, captions and labels of the first stage's test rows go on to the second.
    found = stubs.sample()
    labels = np.array([0, 1, 2, 0])
    expected = 100 + 20 * labels + np.where(np.arange(4) % 2, 2 + 3, 3 + 4)
    np.testing.assert_array_equal(found[:, 0, 0, 0], expected)


def test_each_stage_of_a_chain_leaves_a_picture_with_captions(stubs):
    stubs.draw(prompts=["a red"], seed=3)
    for name in ("base", "larger"):
        folder = stubs.workdir / name / "samples"
        with np.load(folder / "step_00000001_sample.npz") as file:
            assert file["captions"].tolist() == ["a red"] * 4
        assert (folder / "step_00000001_sample.png").exists()


def test_prompts_of_a_single_run_take_turns_and_are_refused_in_one_line(stubs):
    run = stubs.stages["base"]
    command._draw(run, {"prompts": ["a red", "A Green"], "seed": 5})
    with np.load(run.workdir / "samples" / "step_00000001_sample.npz") as file:
        assert file["captions"].tolist() == ["a red", "a green"] * 2
        drawn = run.sample(tokens=["a red", "a green"] * 2)
        np.testing.assert_array_equal(file["samples"], drawn)
    with pytest.raises(command.InputError, match="tokens: the captions .* have no word 'purple'"):
        command._draw(run, {"prompts": ["a purple"]})


@pytest.mark.parametrize("asked, message", [
    (dict(prompts=["a purple"]), "stages.base: tokens: the captions .* have no word 'purple'"),
    (dict(colour=1), "stages.base: this family does not read 'colour'; it reads tokens, label"),
    (dict(sampler="ddim"), "sampler: no stage of the chain goes from noise to data in steps"),
])  # fmt: skip
def test_what_no_stage_understands_is_said_in_one_line(stubs, asked, message):
    with pytest.raises(ConfigError, match=message):
        stubs.sample(2, **asked)


def test_texts_are_refused_where_no_stage_reads_them(trained, stubs, tmp_path):
    said = json.loads((stubs.workdir / "pipeline.json").read_text())
    only = dict(stages={"base": {**said["stages"]["base"]}})
    overrides = {"stages.base.family.reads": ("label",)}
    pipeline = genjax.Pipeline(only, tmp_path / "labels", overrides, quiet=True)
    pipeline.train()
    with pytest.raises(ConfigError, match="no stage of the chain reads tokens; they read label"):
        pipeline.sample(prompts=["a red"])


@pytest.mark.slow
def test_flags_reach_a_denoising_model_of_captions(tmp_path):
    config = dict(
        data=dict(name="captioned_digits", options=dict(images="digits", scene="colour"),
                  batch_size=4),
        model=dict(
            name="unet", channels=4, multipliers=(1,), num_blocks=1, num_groups=2, dropout_rate=0.0,
            attention_sizes=(), text=dict(name="text_encoder", hidden_size=4, num_blocks=1,
                                          num_heads=1),
        ),
        # Layers that act on a text start at zero: a few large steps move them.
        family=dict(name="edm", label_dropout=0.3, ema_decay=0.0),
        optimizer=dict(name="adam", learning_rate=0.05),
        train=dict(num_steps=10, eval_every=0, sample_every=0),
        sample=dict(num_samples=2, num_steps=2),
    )  # fmt: skip
    run = genjax.Run(genjax.build(config), tmp_path, quiet=True)
    run.train()
    asked = {"seed": 3, "guidance": 4.0, "sampler": "ddim"}
    texts = {"prompts": ["a red seven on green"], "negative_prompt": "a blue two on black"}
    command._draw(run, {**texts, **asked})
    with np.load(tmp_path / "samples" / "step_00000010_sample.npz") as file:
        drawn, captions = file["samples"], file["captions"].tolist()
    assert captions == ["a red seven on green"] * 2
    same = dict(tokens=captions, negative_tokens=texts["negative_prompt"])
    np.testing.assert_array_equal(drawn, run.sample(2, **same, **asked))
    assert (drawn != run.sample(2, tokens=captions, **asked)).any()
    with pytest.raises(command.InputError, match="nothing leads away from it without guidance"):
        command._draw(run, texts)


def test_only_what_denoises_is_led_away_from_something(stubs):
    with pytest.raises(ConfigError, match="negative_prompt: no stage of the chain denoises"):
        stubs.sample(2, prompts=["a red"], negative_prompt="a green")


def test_a_stage_that_makes_vectors_of_texts_is_not_led_away_and_does_not_refuse(
    stubs, monkeypatch
):
    # A prior reads tokens and does not denoise rows; what it makes goes to a decoder that does.
    asked = []
    base, *rest = (stubs.stages[link.stage] for link in stubs.chain)

    def ask(self, *args, _ask=genjax.Run.ask, **kwargs):
        asked.append((self is base, "negative_tokens" in kwargs or "negative_tokens" in str(args)))
        return _ask(self, *args, **kwargs)

    monkeypatch.setattr(genjax.Run, "ask", ask)
    monkeypatch.setattr("genjax.pipeline._leads_away", lambda run: run is not base)
    with pytest.raises(ConfigError):  # these stages have nothing that leads away
        stubs.sample(2, prompts=["a red"], negative_prompt="a green")
    assert rest and {(True, False), (False, True)} == set(asked)
