import importlib.util
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from absl import flags

import genjax

REPO = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("translate", REPO / "scripts" / "translate.py")
    module = importlib.util.module_from_spec(spec)
    # Other commands in this process have flags of the same names.
    aside = {name: flags.FLAGS[name] for name in ("workdir", "seed", "json") if name in flags.FLAGS}
    for name in aside:
        delattr(flags.FLAGS, name)
    known = set(flags.FLAGS)
    try:
        spec.loader.exec_module(module)
        flags.FLAGS.mark_as_parsed()
        yield module
    finally:
        for name in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, name)
        for name, flag in aside.items():
            flags.FLAGS[name] = flag


def task(script, source, truth, levels=256):
    return script.Task("source", source, truth, np.zeros(len(source), int), levels)


def test_what_is_not_translated_is_the_source_in_the_shape_of_x(script):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    small = genjax.data.Shrink(factor=4).pair(truth, 256)
    name, images = script.untranslated(task(script, small, truth), (16, 16, 3))
    assert name == "bicubic"
    np.testing.assert_array_equal(images, genjax.data.resized(small, 16, 16))
    grey = genjax.data.Grey().pair(truth, 256)
    name, images = script.untranslated(task(script, grey, truth), (16, 16, 3))
    assert name == "source" and images.dtype == np.uint8
    np.testing.assert_array_equal(images, np.repeat(grey, 3, axis=-1))
    # Of colours to one channel, their brightness.
    _, images = script.untranslated(task(script, truth, grey), (16, 16, 1))
    np.testing.assert_array_equal(images, grey)
    assert script.untranslated(task(script, np.zeros((3, 5)), truth), (16, 16, 3)) is None


def test_numbers_are_to_the_truth_and_features_to_the_data(script):
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    wrong = truth.copy()
    wrong[:, 0] = 255 - wrong[:, 0]

    def judge(images):
        return images.mean((1, 2)).astype(float), (images[:, 0, 0, 0] > 127).astype(int)

    one = task(script, truth[:, ::4, ::4], truth)._replace(
        label=(truth[:, 0, 0, 0] > 127).astype(int)
    )
    found = script.measured({"model": wrong, "truth": truth}, one, judge, truth)
    # The border of four pixels, the factor, holds all that is wrong.
    assert found["model"]["psnr_y"] == np.inf and found["model"]["psnr"] < 20
    assert found["truth"] == {"fd": pytest.approx(0.0, abs=1e-6), "as_labelled": 1.0}
    assert found["model"]["as_labelled"] == 0.0 and found["model"]["fd"] > 0
    # Without a truth there is nothing to be far from.
    unpaired = script.measured({"model": wrong}, one._replace(truth=None), None, truth)
    assert unpaired == {"model": {}}


@pytest.mark.slow
def test_runs_stand_beside_the_bicubic_baseline(tmp_path):
    shared = dict(
        data=dict(name="digits_28", batch_size=8, transforms=[dict(name="shrink")]),
        optimizer=dict(name="adam"),
        train=dict(num_steps=2, eval_every=0, sample_every=0),
    )
    net = dict(name="rrdb", channels=4, num_blocks=1, growth=2)
    judge = dict(name="conv_classifier", channels=8, num_features=4)
    for name, family, model in (
        ("one", "super_resolution", net),
        ("two", "super_resolution", dict(net, growth=4)),
        ("judge", "classifier", judge),
    ):
        config = dict(shared, family=dict(name=family), model=model)
        genjax.Run(genjax.build(config), tmp_path / name, quiet=True).train()
    words = ["scripts/translate.py", "--num_rows=20", f"--json={tmp_path / 'found.json'}"]
    runs = f"--workdir={tmp_path / 'one'},{tmp_path / 'two'}"
    more = [f"--classifier={tmp_path / 'judge'}", f"--figure={tmp_path / 'figure.png'}"]
    done = subprocess.run(
        [sys.executable, *words, runs, *more], capture_output=True, text=True, check=False, cwd=REPO
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())["images"]
    assert list(found) == ["bicubic", "one", "two", "truth"]
    assert found["bicubic"]["psnr"] > found["one"]["psnr"] and found["bicubic"]["ssim"] > 0.5
    assert "| bicubic |" in done.stdout and "PSNR (Y)" in done.stdout
    assert (tmp_path / "figure.png").exists()
    wrong = subprocess.run(
        [sys.executable, *words, f"--workdir={tmp_path / 'judge'}"],
        capture_output=True, text=True, check=False, cwd=REPO,
    )  # fmt: skip
    assert wrong.returncode and "expected a family that makes images" in wrong.stderr
