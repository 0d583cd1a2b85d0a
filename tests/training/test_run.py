"""Runs as a notebook makes them, and what a run may be made of."""

import json
import threading

import jax
import numpy as np
import pytest

import genjax
from genjax import config as configs
from genjax import data
from genjax.training import loop
from genjax.training.workdir import WorkdirError


def flow_config(**data_section):
    return dict(
        data={**dict(name="digits", batch_size=16), **data_section},
        model=dict(name="coupling_flow", hidden_size=8, num_layers=1),
        family=dict(name="flow"),
        optimizer=dict(name="adam"),
        train=dict(num_steps=6, log_every=2, eval_every=0, sample_every=0, checkpoint_every=3),
        eval=dict(batch_size=100),
        sample=dict(num_samples=4),
    )


def leaves(run):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(run.state)]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(leaves(a), leaves(b), strict=True))


def test_five_lines_train_evaluate_sample_and_score_and_a_finished_run_is_loaded(tmp_path, capsys):
    experiment = genjax.build(flow_config(), {"train.num_steps": 4})
    run = genjax.Run(experiment, tmp_path / "run")
    run.train()
    assert "done:" in capsys.readouterr().out
    rows = experiment.test_data.source.rows(np.arange(5))["x"]
    nats = run.log_prob(rows)
    found = run.evaluate()
    assert nats.shape == (5,) and np.isfinite(nats).all()
    assert found["eval/num_examples"] == 360
    images = run.sample(3)
    assert images.shape == (3, 8, 8, 1) and images.dtype == np.uint8
    assert not np.array_equal(images, run.sample(3, seed=7))
    # From the folder alone.
    again = genjax.load(tmp_path / "run", quiet=True)
    assert again.config["train"]["num_steps"] == 4 and same(again, run)
    np.testing.assert_array_equal(again.log_prob(rows), nats)
    np.testing.assert_array_equal(again.sample(3), images)
    assert capsys.readouterr().out.count("\n") == 1, "the evaluation's line"
    # An evaluation over the split scores its rows as log_prob does, up to its draws of noise.
    every = run.log_prob(experiment.test_data.source.rows(np.arange(360))["x"])
    assert -every.mean() == pytest.approx(found["eval/nats"], rel=0.01)


@pytest.mark.slow
def test_a_run_goes_on_where_it_was_and_says_when_there_is_nothing_to_do(tmp_path, capsys):
    whole = genjax.Run(genjax.build(flow_config()), tmp_path / "whole", quiet=True)
    whole.train()
    parts = {"train.num_steps": 3}
    genjax.Run(genjax.build(flow_config(), parts), tmp_path / "parts", quiet=True).train()
    rest = genjax.Run(genjax.build(flow_config()), tmp_path / "parts", quiet=True)
    rest.train()
    assert same(rest, whole)
    genjax.Run(genjax.build(flow_config()), tmp_path / "parts").train()
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.slow
def test_another_config_is_refused_and_an_interrupt_restores_what_signals_did(tmp_path):
    import signal

    before = signal.getsignal(signal.SIGINT)
    run = genjax.Run(genjax.build(flow_config()), tmp_path, quiet=True)
    with pytest.raises(loop.Preempted, match="state saved"):
        run.train(on_step=lambda step, latest: step == 2 and signal.raise_signal(signal.SIGTERM))
    assert signal.getsignal(signal.SIGINT) is before
    other = genjax.build(flow_config(), {"model.hidden_size": 4})
    with pytest.raises(WorkdirError, match="model.hidden_size"):
        genjax.Run(other, tmp_path, quiet=True).train()
    run.train()
    whole = genjax.Run(genjax.build(flow_config()), tmp_path / "whole", quiet=True)
    whole.train()
    assert same(run, whole)


def test_training_in_a_thread_takes_no_signals(tmp_path):
    run = genjax.Run(genjax.build(flow_config()), tmp_path, quiet=True)
    thread = threading.Thread(target=run.train)
    thread.start()
    thread.join(120)
    assert int(run.state.step) == 6


@pytest.mark.parametrize("call, message", [
    (lambda run: run.log_prob(np.zeros((3, 8, 8), np.uint8)), r"expected rows \[3, 8, 8, 1\]"),
    (lambda run: run.log_prob(np.zeros((3, 8, 8, 1))), "expected whole grey levels from 0 to 16"),
    (lambda run: run.log_prob(np.zeros((3, 8, 8, 1), int), colour=[0]), "has no feature .colour."),
    (lambda run: run.sample(2, label=[0, 1]), "does not read 'label'; it reads nothing"),
    (lambda run: run.evaluate(), "there is no checkpoint"),
    (lambda run: run.log_prob(np.full((3, 8, 8, 1), 200)), "from 0 to 16, got 200 to 200"),
    (lambda run: run.log_prob(np.full((3, 8, 8, 1), -1)), "from 0 to 16, got -1 to -1"),
    (lambda run: run.sample(0), "num_samples must be a positive whole number, got 0"),
    (lambda run: run.sample(2.0), "num_samples must be a positive whole number, got 2.0"),
])  # fmt: skip
def test_what_a_run_cannot_do_is_said_in_one_line(tmp_path, call, message):
    run = genjax.Run(genjax.build(flow_config()), tmp_path, quiet=True)
    with pytest.raises(ValueError, match=message):
        call(run)
    assert not list(tmp_path.iterdir())


def gan_config(**eval_section):
    return dict(
        data=dict(name="ring", batch_size=16),
        model=dict(generator=dict(name="mlp", hidden_size=8), critic=dict(name="mlp")),
        family=dict(name="gan", latent_size=4),
        optimizer=dict(generator=dict(name="adam"), critic=dict(name="adam")),
        train=dict(num_steps=2, log_every=2, eval_every=2, sample_every=0, best_metric="eval/w1"),
        eval=dict(num_samples=50, num_reference=50, **eval_section),
    )


@pytest.mark.slow
def test_a_loaded_run_is_evaluated_by_the_measures_of_its_config(tmp_path):
    run = genjax.Run(genjax.build(gan_config(metrics=("w1",))), tmp_path, quiet=True)
    run.train()
    found = genjax.load(tmp_path, quiet=True).evaluate()
    assert found["eval/w1"] == run.evaluate()["eval/w1"]
    genjax.load(tmp_path, {"train.num_steps": 4}, quiet=True).train()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 4 and "eval/w1" in rows[-1]
    with pytest.raises(WorkdirError, match="model.generator.hidden_size"):
        genjax.load(tmp_path, {"model.generator.hidden_size": 9})
    bare = genjax.load(tmp_path, {"eval.metrics": ()}, quiet=True)
    with pytest.raises(ValueError, match=r"name measures in eval\.metrics"):
        bare.evaluate()


@pytest.mark.slow
def test_labels_may_be_asked_for(tmp_path):
    config = flow_config()
    config["model"]["context_size"] = 10
    config["train"]["num_steps"] = 1
    run = genjax.Run(genjax.build(config), tmp_path, quiet=True)
    run.train()
    assert run.sample(label=[3, 3, 7]).shape == (3, 8, 8, 1)
    rows = run.experiment.test_data.source.rows(np.arange(4))
    assert run.log_prob(rows["x"], label=rows["label"]).shape == (4,)
    with pytest.raises(ValueError, match=r"label: expected rows \[2\], got shape \[3\]"):
        run.sample(2, label=[1, 2, 3])


@pytest.mark.slow
def test_an_experiment_needs_no_config(tmp_path):
    import optax

    from genjax import families
    from genjax.bijectors import coupling_flow
    from genjax.training.experiment import DataSettings, Stream, TrainSettings

    x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    split = data.from_arrays("mine", x=x)
    flow = coupling_flow(event_shape=(2,), num_layers=1, hidden_size=8)
    family = families.flow(model=flow, optimizer=optax.adam(1e-3), event_shape=(2,),
                           num_levels=None)  # fmt: skip
    experiment = genjax.Experiment(
        family=family,
        streams={"": Stream(train=split, test=split, batch_size=8)},
        data=DataSettings(batch_size=8),
        train=TrainSettings(num_steps=2, eval_every=0, sample_every=0),
    )
    run = genjax.Run(experiment, tmp_path, quiet=True)
    run.train()
    assert run.log_prob(x).shape == (64,)
    with pytest.raises(ValueError, match="train.num_steps must be at least 1"):
        TrainSettings(num_steps=0)


def streams(**changes):
    section = dict(
        train_split="train",
        streams=dict(other=dict(name="swirl", batch_size=8, **changes)),
        transforms=(),
    )
    return flow_config(**section)


def test_draws_of_a_stream_do_not_depend_on_where_the_config_names_it():
    parts = dict(b=dict(batch_size=8), a=dict(batch_size=8))
    flips = dict(transforms=(dict(name="horizontal_flip"),))
    batch = {"x": np.random.default_rng(0).integers(0, 17, (8, 8, 8, 1), dtype=np.uint8)}
    made = []
    # config.json is sorted by name, and a run that is loaded goes on from it.
    for order in (parts, dict(sorted(parts.items()))):
        experiment = configs.build(flow_config(streams=order, **flips))
        made.append({n: np.asarray(f(batch, 3)["x"]) for n, f in experiment.augment().items()})
    assert set(made[0]) == {"", "a", "b"} and list(made[0]) != list(made[1])
    for name in made[0]:
        np.testing.assert_array_equal(made[0][name], made[1][name])
    assert not np.array_equal(made[0]["a"], made[0]["b"])


def test_streams_come_to_the_family_under_their_names(tmp_path):
    experiment = genjax.build(streams())
    assert set(experiment.spec) == {"x", "label", "other/x"}
    run = genjax.Run(experiment, tmp_path, quiet=True)
    first = run.first_batch()
    assert first["x"].shape == (16, 8, 8, 1) and first["other/x"].shape == (8, 2)
    alone = genjax.Run(genjax.build(flow_config()), tmp_path, quiet=True)
    np.testing.assert_array_equal(first["x"], alone.first_batch()["x"])
    # Resident, streamed, several steps a call: the same rows of each stream, of every step.
    batches = experiment.train_batches()
    for limit in (0, 1024):
        feed = genjax.Run(
            genjax.build(streams(), {"data.device_limit_mib": limit}), tmp_path, quiet=True
        ).feed()
        feed.start(70, 80)
        look = jax.jit(feed.batch)
        for step in (70, 71):
            found = look(feed.take(1), step, 0)
            np.testing.assert_array_equal(found["x"], batches[""][step]["x"])
            np.testing.assert_array_equal(found["other/x"], batches["other"][step]["x"])
        feed.stop()


@pytest.mark.slow
def test_augmented_runs_are_resumed_bit_for_bit_however_they_are_fed(tmp_path):
    flips = dict(transforms=(dict(name="horizontal_flip"), dict(name="random_crop", padding=1)))
    made = {}
    for name, changes in {
        "whole": {},
        "streamed": {"data.device_limit_mib": 0},
        "plain": {"data.transforms": ()},
    }.items():
        made[name] = genjax.Run(
            genjax.build(flow_config(**flips), changes), tmp_path / name, quiet=True
        )
        made[name].train()
    assert same(made["whole"], made["streamed"]) and not same(made["whole"], made["plain"])
    for steps in (2, 6):
        parts = genjax.Run(
            genjax.build(flow_config(**flips), {"train.num_steps": steps}), tmp_path / "parts",
            quiet=True,
        )  # fmt: skip
        parts.train()
    assert same(parts, made["whole"])


@pytest.mark.parametrize("section, message", [
    (dict(transforms=(dict(name="horizontal_flop"),)), "did you mean 'horizontal_flip'"),
    (dict(transforms=("horizontal_flip",)), "each must have a name"),
    (dict(transforms=(dict(name="resize"),)), "no data.transforms.size"),
    (dict(transforms=(dict(name="center_crop", size=9),)), "size must be from 1 to 8"),
    (dict(streams=dict(other=3)), "data.streams.other must be a mapping"),
    (dict(streams=dict(other=dict(nam="swirl"))), r"other\.nam'; did you mean 'name'"),
    (dict(streams=dict(other=dict(batch_size=0))), "other.batch_size must be a positive multiple"),
    (dict(options=dict(a=1)), "and functions named by an import path"),
])  # fmt: skip
def test_bad_streams_and_transforms_are_named(section, message):
    with pytest.raises(configs.ConfigError, match=message):
        genjax.build(flow_config(**section))


def test_resizing_changes_what_the_model_is_built_for(tmp_path):
    experiment = genjax.build(flow_config(transforms=(dict(name="resize", size=4, method="box"),)))
    assert experiment.train_data.event_shape == experiment.test_data.event_shape == (4, 4, 1)
    assert experiment.train_data.num_levels == 17


def test_config_json_is_a_complete_config(tmp_path):
    genjax.Run(genjax.build(flow_config()), tmp_path, quiet=True).train()
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["train"]["keep_checkpoints"] == 3 and config["family"]["round_trip_every"] == 100
    assert configs.as_json(configs.complete(config)) == config
    experiment = genjax.build(str(tmp_path / "config.json"), ["--config.train.num_steps=7"])
    assert experiment.train.num_steps == 7


def test_a_default_that_has_changed_is_noticed_on_resume(tmp_path, monkeypatch):
    genjax.Run(genjax.build(flow_config()), tmp_path, quiet=True).train()
    config = json.loads((tmp_path / "config.json").read_text())
    config["family"]["temperature"] = 0.5  # as if that had been the default
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WorkdirError, match="family.temperature"):
        genjax.Run(genjax.build(flow_config()), tmp_path, quiet=True).train()
