"""Where a workdir can be."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

from genjax import config as configs
from genjax.config.frozen import complete_frozen
from genjax.training.workdir import WorkdirError, check_config, resolved

REPO = pathlib.Path(__file__).resolve().parents[2]


def test_a_local_workdir_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(resolved("runs/../run")) == str(tmp_path.resolve() / "run")
    assert str(resolved(pathlib.Path("~/run"))) == str(pathlib.Path.home().resolve() / "run")


@pytest.mark.parametrize(
    "place, message",
    [
        ("s3://bucket/run", r"cannot be in s3://.*local folder.*aws s3 sync DIR s3://bucket/run"),
        ("az://box/run", r"cannot be in az://: Orbax writes checkpoints to .* gs://BUCKET/FOLDER"),
        ("http://host/run", r"cannot be in http://"),
    ],
)
def test_stores_that_orbax_cannot_write_to_are_refused(place, message):
    with pytest.raises(WorkdirError, match=message):
        resolved(place)
    with pytest.raises(configs.ConfigError, match=message):
        complete_frozen({"workdir": place}, "model.frozen")


@pytest.mark.parametrize("missing", ["gcsfs", "google.cloud.storage"])
def test_a_bucket_without_the_packages_that_reach_it_is_refused(monkeypatch, missing):
    def find(name):
        if name == missing and "." in name:
            raise ModuleNotFoundError("No module named 'google'")
        return None if name == missing else object()

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(WorkdirError, match=r"pip install -e '\.\[gcs\]'"):
        resolved("gs://bucket/run")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert str(resolved("gs://bucket/run")) == "gs://bucket/run"


@pytest.mark.slow
def test_the_command_ends_in_one_line_before_anything_starts():
    done = subprocess.run(
        [sys.executable, "scripts/run.py", "--config=experiments/vdm/toy2d.py",
         "--workdir=s3://bucket/run"],
        cwd=REPO, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: a workdir cannot be in")


def test_a_generator_is_sampled_with_another_truncation_but_not_trained_on_with_it(
    tmp_path,
):
    own = {"model": {"generator": {"name": "stylegan2", "truncation": 1.0}}}
    other = {"model": {"generator": {"name": "stylegan2", "truncation": 0.7}}}
    check_config(tmp_path, own, other, training=False)
    with pytest.raises(WorkdirError, match="differs from that of the run"):
        check_config(tmp_path, own, other, training=True)
