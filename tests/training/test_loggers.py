"""Loggers beside the files of a workdir."""

import importlib.util
import json
import sys
import types

import numpy as np
import pytest

import genjax
from genjax import config as configs
from genjax.training.logs import MetricLog

CONFIG = dict(
    data=dict(name="digits", batch_size=16),
    model=dict(name="coupling_flow", hidden_size=8, num_layers=1),
    family=dict(name="flow"),
    optimizer=dict(name="adam"),
    train=dict(num_steps=4, log_every=2, eval_every=4, sample_every=4, checkpoint_every=2),
    eval=dict(batch_size=360),
    sample=dict(num_samples=4),
)
PICTURE = np.zeros((4, 4, 3), np.uint8)


class Fake:
    """A logger that remembers what it was told; it fails where it is asked to."""

    made = []
    fails = ()

    def __init__(self, workdir, *, run_id, step):
        self._act("make")
        self.run_id = run_id or f"id{len(Fake.made)}"
        self.given, self.said, self.closed = (workdir, run_id, step), [], None
        Fake.made.append(self)

    def _act(self, kind, *what):
        if kind in Fake.fails:
            raise ConnectionError("no\nnetwork")
        if what:
            self.said.append(what)

    def describe(self, config):
        self._act("describe", "config", config)

    def scalars(self, step, values):
        self._act("scalars", step, values)

    def image(self, step, name, pixels):
        self._act("image", step, name, pixels)

    def close(self, *, complete):
        self._act("close")
        self.closed = complete


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    monkeypatch.setattr(Fake, "made", [])
    monkeypatch.setattr(Fake, "fails", ())
    module = types.ModuleType("fake_service")
    module.Logger = Fake
    monkeypatch.setitem(sys.modules, "fake_service", module)


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_logger_named_by_its_import_path_gets_what_the_files_get_and_is_gone_on_with(tmp_path):
    experiment = genjax.build(CONFIG, {"train.loggers": ("fake_service:Logger",)})
    run = genjax.Run(experiment, tmp_path, quiet=True)
    run.train()
    (first,) = Fake.made
    assert first.given == (tmp_path, None, 0) and first.closed is True
    assert first.said[0] == ("config", experiment.config)
    told = [{"step": s[0], **s[1]} for s in first.said[1:] if isinstance(s[1], dict)]
    numbers = [{k: v for k, v in r.items() if not isinstance(v, str)} for r in lines(tmp_path)]
    assert told == numbers and {"train/loss", "step"} <= told[0].keys()
    (picture,) = [what for what in first.said if what[1] == "samples"]
    assert picture[0] == 4 and picture[2].dtype == np.uint8 and picture[2].shape[-1] == 3
    # What is evaluated or trained later is of the same run there.
    run.evaluate()
    longer = {"train.loggers": ("fake_service:Logger",), "train.num_steps": 6}
    genjax.Run(genjax.build(CONFIG, longer), tmp_path, quiet=True).train()
    assert [logger.given[1:] for logger in Fake.made[1:]] == [("id0", None), ("id0", 4)]
    assert [what[0] for what in Fake.made[1].said] == [4]
    assert json.loads((tmp_path / "loggers.json").read_text()) == {"fake_service:Logger": "id0"}


@pytest.mark.slow
def test_other_loggers_do_not_hinder_resuming(tmp_path):
    genjax.Run(genjax.build(CONFIG), tmp_path, quiet=True).train()
    with_logger = {"train.loggers": ("fake_service:Logger",), "train.num_steps": 6}
    genjax.Run(genjax.build(CONFIG, with_logger), tmp_path, quiet=True).train()
    assert len(Fake.made) == 1 and lines(tmp_path)[-1]["step"] == 6


@pytest.mark.parametrize("kind", ["make", "describe", "scalars", "image", "close"])
def test_a_logger_that_fails_is_said_once_and_left_out(tmp_path, monkeypatch, caplog, kind):
    monkeypatch.setattr(Fake, "fails", (kind,))
    with MetricLog(tmp_path, loggers={"bad": Fake, "good": Recorder}) as log:
        log.rewind(0)
        log.describe({"train": {"seed": 0}}, [])
        log.write(1, {"train/loss": 1.0})
        log.image(1, "samples", PICTURE)
        log.write(2, {"train/loss": 2.0})
    assert [row["step"] for row in lines(tmp_path)] == [1, 2]
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith("train.loggers: bad failed and is off") and "\n" not in warning
    assert "(ConnectionError: no network)" in warning
    assert Recorder.last == ["config", 1, "samples", 2, "closed"]


class Recorder(Fake):
    last = []

    def __init__(self, workdir, *, run_id, step):
        self.run_id = "other"
        Recorder.last = self.said = []

    def _act(self, kind, *what):
        self.said.append({"image": what[1:2], "close": ("closed",)}.get(kind, what)[0])


def test_a_run_that_ends_with_an_error_is_not_complete(tmp_path):
    with pytest.raises(RuntimeError), MetricLog(tmp_path, loggers={"fake": Fake}) as log:
        log.write(1, {"train/loss": 1.0, "eval/split": "test"})
        raise RuntimeError
    assert Fake.made[0].closed is False and Fake.made[0].said == [(1, {"train/loss": 1.0})]


def test_processes_that_do_not_write_open_no_logger(tmp_path):
    with MetricLog(tmp_path, active=False, loggers={"fake": Fake}) as log:
        log.rewind(0)
        log.describe({}, [])
        log.write(1, {"train/loss": 1.0})
        log.image(1, "samples", PICTURE)
    assert not Fake.made and not list(tmp_path.iterdir())


def test_a_damaged_file_of_ids_costs_the_logger_alone(tmp_path, caplog):
    (tmp_path / "loggers.json").write_text("{")
    with MetricLog(tmp_path, loggers={"fake": Fake}) as log:
        log.write(1, {"train/loss": 1.0})
    assert not Fake.made and len(lines(tmp_path)) == 1
    assert "remove it to begin a new run" in caplog.text


@pytest.mark.parametrize(
    "names, message",
    [
        (("wandbb",), r"train\.loggers.*'wandbb'; did you mean 'wandb'\?"),
        (("nowhere:Logger",), r"train\.loggers\.name 'nowhere:Logger' cannot be imported"),
        ("wandb", r"train\.loggers must be Sequence\[str\], got 'wandb'"),
        (("wandb",), r"'wandb' needs the package wandb: pip install -e '\.\[wandb\]'"),
        (("mlflow",), r"'mlflow' needs the package mlflow: pip install -e '\.\[mlflow\]'"),
    ],
)
def test_loggers_that_cannot_be_are_refused_before_anything_starts(monkeypatch, names, message):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(configs.ConfigError, match=message):
        genjax.build(CONFIG, {"train.loggers": names})


def logged_twice(workdir, name):
    """A session up to step 4, and one that goes on from step 2; returns the names of runs."""
    from genjax.config.tables import LOGGERS

    found = []
    for steps, start in ([(1, 2, 3, 4), 0], [(3, 4, 5), 2]):
        with MetricLog(workdir, loggers={name: LOGGERS[name]}) as log:
            log.rewind(start)
            log.describe({"train": {"num_steps": steps[-1], "names": ["a"]}}, [])
            for step in steps:
                log.write(step, {"train/loss": float(step), "eval/split": "test"})
            log.image(steps[-1], "samples", PICTURE)
        found.append(json.loads((workdir / "loggers.json").read_text())[name])
    return found


def test_mlflow_has_each_point_once_and_the_run_goes_on(tmp_path, monkeypatch, caplog):
    mlflow = pytest.importorskip("mlflow")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    first, second = logged_twice(tmp_path / "run", "mlflow")
    assert first == second and "train.loggers" not in caplog.text
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/run/mlflow.db")
    points = client.get_metric_history(first, "train/loss")
    assert sorted((p.step, p.value) for p in points) == [(s, float(s)) for s in range(1, 6)]
    found = client.get_run(first)
    assert found.info.status == "FINISHED" and found.info.run_name == "run"
    assert found.data.params == {"train.num_steps": "4", "train.names": '["a"]'}
    pictures = [file.path for file in client.list_artifacts(first, "images")]
    assert any("step" in path and path.endswith(".png") for path in pictures)
    assert [path.name for path in tmp_path.iterdir()] == ["run"], "nothing beside the workdir"


def test_wandb_offline_goes_on_with_the_run(tmp_path, monkeypatch, caplog):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    first, second = logged_twice(tmp_path / "run", "wandb")
    assert first == second and "train.loggers" not in caplog.text
    sessions = list((tmp_path / "run" / "wandb").glob(f"offline-run-*-{first}"))
    assert sessions and all(list(folder.glob("files/media/images/*.png")) for folder in sessions)
    assert [path.name for path in tmp_path.iterdir()] == ["run"], "nothing beside the workdir"
