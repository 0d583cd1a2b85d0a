"""Runs on data of one's own: which data it was, its units, its kinds of values, its labels."""

import json

import numpy as np
import pytest

import genjax
from genjax import data
from genjax.config import ConfigError
from genjax.training.workdir import WorkdirError


def save(folder, **arrays):
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return str(folder)


def points(count, seed=0, std=(101.0, 1.5, 1040.0)):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, len(std))) * std + [50.0, 0.0, -3000.0][: len(std)]).astype(
        "f4"
    )


def config(folder, num_steps=2, **data_keys):
    return dict(
        data=dict(name="npy", data_dir=folder, batch_size=16, **data_keys),
        model=dict(name="score_mlp", hidden_size=8, num_layers=1),
        family=dict(name="vdm", schedule=dict(name="fixed_linear")),
        optimizer=dict(name="adam"),
        train=dict(num_steps=num_steps, eval_every=0, sample_every=0),
        sample=dict(num_samples=256, num_steps=50),
    )


def run(experiment, workdir, **kwargs):
    made = genjax.Run(genjax.build(experiment), workdir, quiet=True, **kwargs)
    made.train()
    return made


def test_another_data_set_does_not_go_on_with_a_run(tmp_path):
    folder = save(tmp_path / "d", train=points(64), test=points(8, 1))
    run(config(folder), tmp_path / "w")
    recorded = json.loads((tmp_path / "w" / "data.json").read_text())[""]
    assert recorded["train"]["num_examples"] == 64 and recorded["test"]["name"] == "d"
    # The same rows may lie elsewhere, and may be read as they are needed.
    moved = save(tmp_path / "e", train=points(64), test=points(8, 1))
    run(config(moved, memory_limit_mib=0), tmp_path / "w")
    for train, test, said in [
        (points(64, 5), points(8, 1), r"data\.train_split \(e\) has other values"),
        (points(60), points(8, 1), r"60 examples in place of 64"),
        (points(64), points(8, 7), r"data\.test_split \(e\) has other values"),
        (points(64)[:, :2], points(8, 1)[:, :2], r"x is float32\[2\] in place of float32\[3\]"),
    ]:
        other = save(tmp_path / "e", train=train, test=test)
        with pytest.raises(WorkdirError, match=said):
            run(config(other), tmp_path / "w")
    other = save(tmp_path / "e", train=points(64), test=points(8, 7))
    with pytest.raises(WorkdirError, match="other values"):
        genjax.load(tmp_path / "w", {"data.data_dir": other}, quiet=True).evaluate()
    run(config(other, 3), tmp_path / "w", allow_config_change=True)
    run(config(other, 4), tmp_path / "w")


def test_a_damaged_record_is_refused_and_can_be_written_anew(tmp_path):
    folder = save(tmp_path / "d", train=points(64), test=points(8, 1))
    run(config(folder), tmp_path / "w")
    for content in ("", "[]", '{"": 3}', '{"": {"train": {}}}', "\x00"):
        (tmp_path / "w" / "data.json").write_text(content)
        with pytest.raises(WorkdirError, match=r"data\.json, which says .* is damaged"):
            run(config(folder), tmp_path / "w")
    run(config(folder, 3), tmp_path / "w", allow_config_change=True)
    (tmp_path / "w" / "data.json").unlink()  # as in runs of older versions
    run(config(folder, 4), tmp_path / "w")
    assert (tmp_path / "w" / "data.json").exists()


@pytest.mark.parametrize("family", ["vdm", "gan"])
def test_columns_in_units_of_their_own_come_back_in_them(tmp_path, family):
    folder = save(tmp_path / "d", train=points(2000), test=points(100, 1))
    experiment = config(folder)
    if family == "gan":
        experiment |= dict(
            model={
                player: dict(name="mlp", hidden_size=8, num_layers=1)
                for player in ("generator", "critic")
            },
            family=dict(name="gan", latent_size=3),
            optimizer={player: dict(name="adam") for player in ("generator", "critic")},
        )
    made = run(experiment, tmp_path / "w")
    assert made.experiment.family.eval_protocol["data"] == "standardized"
    spread = made.sample().std(0) / [101.0, 1.5, 1040.0]
    if family == "vdm":  # an untrained network leaves the noise of the last step: see the prior
        x = points(500, 3)
        plain = genjax.load(tmp_path / "w", quiet=True)
        # A Gaussian fitted to data of known spread: the entropy says what to expect in nats.
        entropy = np.log([101.0, 1.5, 1040.0]).sum() + 1.5 * np.log(2 * np.pi * np.e)
        assert -plain.log_prob(x).mean() > entropy - 0.2
    assert (spread > 0.01).all() and spread.max() / spread.min() < 20
    off = genjax.build({**experiment, "data": {**experiment["data"], "standardize": False}})
    assert "data" not in off.family.eval_protocol


def test_points_near_standard_are_left_as_they_are(tmp_path):
    folder = save(tmp_path / "d", train=points(64, std=(1.0, 2.0))[:, :2] - [50.0, 0.0],
                  test=points(8, 1, std=(1.0, 2.0))[:, :2])  # fmt: skip
    assert "data" not in genjax.build(config(folder)).family.eval_protocol
    asked = genjax.build(config(folder, standardize=True))
    assert asked.family.eval_protocol["data"] == "standardized"
    grey = config("unused")
    grey["data"] = dict(name="digits", batch_size=16, standardize=True)
    grey["model"] = dict(name="score_resnet", channels=8, num_layers=1, num_groups=4)
    with pytest.raises(ConfigError, match="grey levels have units of their own"):
        genjax.build(grey)


def test_both_splits_hold_the_same_kinds(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), np.uint8)
    reals = (levels / 255).astype("f4")
    experiment = config("unused")
    experiment["model"] = dict(name="score_resnet", channels=8, num_layers=1, num_groups=4)
    for train, test in [(levels, reals), (reals, levels)]:
        folder = save(tmp_path / "d", train=train, test=test)
        experiment["data"] = dict(name="npy", data_dir=folder, batch_size=16)
        with pytest.raises(
            ConfigError, match=r"data\.test_split: x is .*, but .* in data\.train_s"
        ):
            genjax.build(experiment)


def test_floats_that_look_like_grey_levels_are_pointed_out(tmp_path, caplog):
    levels = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1)) / 255.0
    folder = save(tmp_path / "d", train=levels, test=levels)
    experiment = config(folder)
    experiment["model"] = dict(name="score_resnet", channels=8, num_layers=1, num_groups=4)
    genjax.build(experiment)
    assert "look like 8-bit grey levels in floating point" in caplog.text
    assert not data.looks_like_levels(data.from_arrays("x", x=np.random.rand(9, 4, 4, 1)))


@pytest.mark.parametrize("labels, said", [
    (np.full(64, 2**31), "class ids"), (np.full(64, -1), "class ids"),
    (np.full((64, 1), 1), "class ids"), (np.full(64, 1.0), "class ids"),
])  # fmt: skip
def test_labels_that_are_no_class_ids_are_refused(tmp_path, labels, said):
    folder = save(tmp_path / "d", train=points(64), test=points(8, 1), train_label=labels)
    with pytest.raises(ConfigError, match=said):
        genjax.build(config(folder))


def test_samples_are_asked_for_of_classes_that_occur_in_the_shares_of_the_data(tmp_path):
    label = np.where(np.arange(100) % 10 == 0, 3, 7)
    x = points(100, std=(1.0, 2.0))
    folder = save(tmp_path / "d", train=x, test=x, train_label=label, test_label=label)
    experiment = config(folder)
    experiment["model"]["num_classes"] = 8
    made = genjax.build(experiment)
    np.testing.assert_array_equal(made.sample_requests(10)["label"], [3, 7] * 5)
    shares = made.sample_requests(50, labels=label)["label"]
    assert np.bincount(shares).tolist() == [0, 0, 0, 5, 0, 0, 0, 45]


def test_rows_that_are_not_what_the_set_says_are_refused():
    def spec(**feature):
        return {"x": data.Feature(**{"shape": (2,), "dtype": np.dtype("f4"), **feature})}

    rows = np.zeros((4, 2), "f4")
    for dataset, said in [
        (data.DataSet("d", data.ArraySource(x=rows), spec(shape=(3,))), r"said to be float32\[3\]"),
        (data.DataSet("d", data.ArraySource(x=rows), spec(num_levels=4)), "are whole numbers"),
        (data.DataSet("d", data.ArraySource(x=rows, y=rows), spec()), "its rows hold x, y"),
        (data.DataSet("d", data.ArraySource(x=rows.astype(int)), spec(dtype=np.dtype(int))),
         "expected real numbers"),
        (data.from_arrays("d", x=np.full((4, 2), 9, np.uint8), num_levels=4), "grey levels from 0"),
        (data.DataSet("d", data.ArraySource(x=rows + np.inf), spec()), "holds NaN or infinity"),
        (data.from_arrays("d", x=np.zeros((0, 2))), "has no rows"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=said):
            data.check_rows(dataset)


def test_classes_are_asked_for_by_name_and_rows_must_be_finite(tmp_path):
    lines = [
        f"{a:.3f},{'yes' if a > 0 else 'no'}" for a in np.random.default_rng(0).normal(size=60)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["a,owner", *lines]))
    experiment = config(str(tmp_path / "t.csv"))
    experiment["data"] |= dict(name="table", options=dict(label="owner"))
    experiment["model"]["num_classes"] = 2
    made = run(experiment, tmp_path / "w")
    np.testing.assert_array_equal(made.sample(4, label="yes"), made.sample(4, label=1))
    assert made.log_prob([[0.1], [0.2]], label=["no", "yes"]).shape == (2,)
    with pytest.raises(ValueError, match="no class is called 'maybe'; they are no, yes"):
        made.sample(4, label="maybe")
    for bad in (np.nan, 1e40):
        with pytest.raises(ValueError, match="expected finite numbers of float32"):
            made.log_prob([[bad]], label=0)


def test_constant_columns_and_classes_that_do_not_occur_are_pointed_out(tmp_path, caplog):
    x = points(64)
    x[:, 1] = 5.0
    labels = dict(train_label=np.arange(64) % 3 * 1000, test_label=np.zeros(8, int))
    folder = save(tmp_path / "d", train=x, test=points(8, 1), **labels)
    genjax.build(config(folder))
    assert "columns 1 of d never change" in caplog.text
    assert "go up to 2000, but only 3 classes occur" in caplog.text
