"""Runs of families whose samples are made from rows: of the example itself, or of a stream."""

import dataclasses

import numpy as np
import pytest

import genjax
from genjax import config as configs
from genjax import data
from genjax.config.errors import ConfigError
from genjax.training import pictures

NETS = dict(
    generator=dict(name="resnet_translator", channels=1, num_halvings=0, num_blocks=0),
    critic=dict(name="patch", channels=1, num_layers=0),
)
ADAM = dict(name="adam")


def config_of(family, **section):
    return dict(
        data=dict(name="digits", batch_size=8, **section),
        model=NETS,
        family=family,
        optimizer=dict(generator=ADAM, critic=ADAM),
        train=dict(num_steps=2, eval_every=0, sample_every=2, log_every=1),
        sample=dict(num_samples=5),
        eval=dict(batch_size=64),
    )


def cycles():
    source = dict(name="digits", test_split="test[100:300]")
    return config_of(dict(name="cycle_gan", pool_size=4), streams=dict(source=source))


def pairs():
    return config_of(dict(name="pix2pix"), transforms=[dict(name="edges")])


@pytest.fixture(scope="module")
def cycle_run(tmp_path_factory):
    run = genjax.Run(genjax.build(cycles()), tmp_path_factory.mktemp("cycles"), quiet=True)
    run.train()
    return run


@pytest.fixture(scope="module")
def pair_run(tmp_path_factory):
    run = genjax.Run(genjax.build(pairs()), tmp_path_factory.mktemp("pairs"), quiet=True)
    run.train()
    return run


def test_samples_of_a_translation_come_from_the_test_rows_of_the_source(cycle_run, pair_run):
    for run, name in ((cycle_run, "source/x"), (pair_run, "source")):
        stream, _, feature = name.rpartition("/")
        rows = run.experiment.streams[stream].test.source.rows(np.arange(5))
        asked = run.experiment.sample_requests(5)
        np.testing.assert_array_equal(asked[name], rows[feature])
        np.testing.assert_array_equal(run.experiment.sample_labels(asked), rows["label"])
        with np.load(run.workdir / "samples" / "step_00000002.npz") as file:
            np.testing.assert_array_equal(file[name.replace("/", "_")], rows[feature])
            assert file["samples"].shape == (5, 8, 8, 1)


def test_evaluation_has_rows_of_the_stream_that_samples_are_made_from(cycle_run):
    source = cycle_run.experiment.eval_source()
    rows = source.rows(np.array([3, 250]))
    own = cycle_run.experiment.streams["source"].test.source.rows(np.array([3, 50]))
    assert len(source) == 360 and set(rows) == {"x", "label", "source/x", "source/label"}
    np.testing.assert_array_equal(rows["source/x"], own["x"])
    found = cycle_run.evaluate()
    assert found["eval/num_examples"] == 360
    assert {"eval/cycle", "eval/inverse_cycle"} < set(found)


def test_pairs_are_evaluated_by_their_truth(pair_run):
    found = pair_run.evaluate()
    assert found["eval/psnr"] > 0 and found["eval/translations"] == "one by one, as in training"
    rows = pair_run.experiment.test_data.source.rows(np.arange(5))
    made = pair_run.sample(source=rows["source"], seed=1)
    assert made.shape == (5, 8, 8, 1) and made.dtype == np.uint8
    with pytest.raises(ValueError, match="does not read 'label'; it reads source"):
        pair_run.sample(label=3)


def test_a_run_translates_both_ways_and_there_and_back(cycle_run):
    x = cycle_run.experiment.test_data.source.rows(np.arange(3))["x"]
    back = cycle_run.encode(x)
    assert back.shape == x.shape and back.dtype == np.uint8
    there = cycle_run.decode(back)
    np.testing.assert_array_equal(there, cycle_run.sample(**{"source/x": back}))
    np.testing.assert_array_equal(there, cycle_run.reconstruct(x))


def test_labels_are_those_of_rows_where_rows_are_read(pair_run):
    experiment = pair_run.experiment
    reads = dataclasses.replace(experiment.family, reads=("source", "label"))
    asked = dataclasses.replace(experiment, family=reads).sample_requests(7)
    rows = experiment.test_data.source.rows(np.arange(7))
    np.testing.assert_array_equal(asked["label"], rows["label"])
    only = dataclasses.replace(experiment.family, reads=("label",))
    asked = dataclasses.replace(experiment, family=only).sample_requests(12)
    np.testing.assert_array_equal(asked["label"], np.arange(12) % 10)


def test_samples_have_the_labels_of_labelled_rows_only(cycle_run):
    experiment = cycle_run.experiment
    assert experiment.samples_have_labels
    bare = data.from_arrays("bare", x=np.zeros((4, 8, 8, 1), np.uint8), num_levels=17)
    source = dataclasses.replace(experiment.streams["source"], train=bare, test=bare)
    other = dataclasses.replace(experiment, streams={**experiment.streams, "source": source})
    assert not other.samples_have_labels
    assert other.sample_labels(other.sample_requests(2)) is None


def test_pictures_show_what_samples_were_made_from_to_their_left():
    samples = np.zeros((3, 4, 4, 3), np.uint8)
    source = np.full((3, 4, 4, 1), 16, np.uint8)
    grid = pictures.beside_samples(samples, 256, [(source, 17)])
    # Two columns of pairs of 8 x 4 pixels, enlarged to a height of 32, and lines between them.
    assert grid.shape == (2 * 33 + 1, 2 * 65 + 1, 3)
    assert (grid[1:33, 1:33] == 255).all() and (grid[1:33, 33:65] == 0).all()


def test_best_checkpoints_may_be_those_of_errors_to_the_truth():
    for config, metric in ((pairs(), "eval/l1"), (cycles(), "eval/cycle")):
        config["train"] |= dict(eval_every=2, best_metric=metric)
        assert configs.build(config).train.best_metric == metric
    with pytest.raises(ConfigError, match="lowest value is the best"):
        configs.build({**config, "train": {**config["train"], "best_metric": "eval/l1"}})
