"""Further places where metrics go, beside the files of the workdir: W&B, MLflow, one's own.

They are a side channel: one that fails is said once and left out, and the run goes on.
"""

import json
import logging as standard_logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from absl import logging
from etils import epath

from genjax.training.files import is_remote, write_atomically

_FILE = "loggers.json"
_MOST_PARAMS = 100  # of MLflow in one call
_LONGEST_PARAM = 6000  # of MLflow, in characters


class Logger(Protocol):
    """A place where metrics go.

    Attributes:
        run_id: What the place knows the run by; kept in the workdir, so that a run that is resumed
            is one run there, too.
    """

    run_id: str

    def describe(self, config: Mapping[str, Any]) -> None:
        """Takes the complete config, JSON data; again each time the training goes on."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Takes numbers by their full names (``train/loss``), at a step."""

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Takes a picture ``[H, W, C]`` uint8."""

    def close(self, *, complete: bool) -> None:
        """Ends the session; ``complete`` says whether it came to its end without an error."""


class MakeLogger(Protocol):
    """Makes a logger: what ``train.loggers`` names."""

    def __call__(self, workdir: epath.Path, *, run_id: str | None, step: int | None) -> Logger:
        """Begins a run, or goes on with one.

        Args:
            workdir: Directory of the run.
            run_id: What a logger of this name was before in this workdir; None if there was none.
            step: Step the training goes on from: later ones are logged anew, whatever is there of
                them. None where nothing is trained.

        Returns:
            The logger.
        """


class Loggers:
    """The loggers of a run, each made when there is first something to log.

    Args:
        workdir: Directory of the run.
        makers: What makes each, by name.
    """

    def __init__(self, workdir: epath.Path, makers: Mapping[str, MakeLogger]):
        self._workdir = workdir
        self._makers = dict(makers)
        self._made: dict[str, Logger] = {}
        self._step: int | None = None

    def rewind(self, step: int) -> None:
        """Says where the training goes on from."""
        self._step = step

    def describe(self, config: Mapping[str, Any]) -> None:
        """Hands on the config."""
        self._each(lambda logger: logger.describe(config))

    def scalars(self, step: int, values: Mapping[str, float | int | str]) -> None:
        """Hands on what is a number."""
        numbers = {n: float(v) for n, v in values.items() if not isinstance(v, str)}
        self._each(lambda logger: logger.scalars(step, numbers))

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Hands on a picture."""
        self._each(lambda logger: logger.image(step, name, pixels))

    def close(self, *, complete: bool) -> None:
        """Closes those that are open; what is logged later opens them again."""
        for name in list(self._made):
            self._act(name, lambda logger: logger.close(complete=complete))
        self._made.clear()
        self._step = None

    def _each(self, action: Callable[[Logger], None]) -> None:
        for name in list(self._makers):
            self._act(name, action)

    def _act(self, name: str, action: Callable[[Logger], None]) -> None:
        try:
            if name not in self._made:
                self._made[name] = self._make(name)
            action(self._made[name])
        except Exception as error:  # noqa: BLE001 - a service may raise anything, the run goes on
            self._makers.pop(name, None)
            self._made.pop(name, None)
            logging.warning(
                "train.loggers: %s failed and is off for the rest of this run, metrics.jsonl has "
                "everything (%s: %s)",
                name, type(error).__name__, " ".join(str(error).split()),
            )  # fmt: skip

    def _make(self, name: str) -> Logger:
        place = self._workdir / _FILE
        try:
            ids = json.loads(place.read_text()) if place.exists() else {}
            run_id = ids.get(name)
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f"{place}, which has the ids of runs, cannot be read; remove it to begin a new run"
            ) from error
        logger = self._makers[name](self._workdir, run_id=run_id, step=self._step)
        if logger.run_id != run_id:
            write_atomically(place, json.dumps({**ids, name: logger.run_id}, indent=2) + "\n")
        return logger


class WandbLogger:
    """Weights & Biases. Its variables (``WANDB_MODE``, ``WANDB_PROJECT``, ...) say where to.

    Its points cannot be taken back: what a run that was killed logged after its last checkpoint
    stands there twice. All is drawn over ``step``, so that the order of calls is no matter.
    """

    def __init__(self, workdir: epath.Path, *, run_id: str | None, step: int | None):
        import wandb

        self._image = wandb.Image
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "genjax"),
            name=os.environ.get("WANDB_NAME", workdir.name),
            id=run_id,
            resume="allow" if run_id else None,
            dir=None if is_remote(workdir) else str(workdir),
            reinit="create_new",  # not the run of someone else in this process
            settings=wandb.Settings(console="off", quiet=True),
        )
        self.run_id: str = self._run.id
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def describe(self, config: Mapping[str, Any]) -> None:
        """Sets the config of the run."""
        self._run.config.update(dict(config), allow_val_change=True)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Logs numbers."""
        self._run.log({"step": step, **values})

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Logs a picture."""
        self._run.log({"step": step, name: self._image(pixels)})

    def close(self, *, complete: bool) -> None:
        """Finishes the run."""
        self._run.finish(exit_code=0 if complete else 1)


class MlflowLogger:
    """MLflow. ``MLFLOW_TRACKING_URI`` says where to; else it is a database in the workdir.

    Its points cannot be taken back: those of steps that a resumed run logs anew are looked up, and
    what has the same value is not logged again.
    """

    def __init__(self, workdir: epath.Path, *, run_id: str | None, step: int | None):
        # It would say at each new database that it makes tables.
        for name in ("mlflow.store.db.utils", "alembic"):
            standard_logging.getLogger(name).setLevel(standard_logging.WARNING)
        from mlflow import MlflowClient, entities

        self._metric, self._param = entities.Metric, entities.Param
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None and is_remote(workdir):
            raise ValueError(
                f"there is no place for its database in {workdir}: set MLFLOW_TRACKING_URI"
            )
        self._client = MlflowClient(tracking_uri=uri or f"sqlite:///{workdir / 'mlflow.db'}")
        self._held: dict[str, dict[int, float]] = {}
        if run_id is None:
            run_id = self._begin(workdir, None if uri else (workdir / "mlflow").as_uri())
        else:
            self._client.update_run(run_id, status="RUNNING")
            if step is not None:
                self._held = self._points_from(run_id, step)
        self.run_id: str = run_id

    def _begin(self, workdir: epath.Path, artifacts: str | None) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "genjax")
        found = self._client.get_experiment_by_name(name)
        experiment = (
            self._client.create_experiment(name, artifact_location=artifacts)
            if found is None
            else found.experiment_id
        )
        return str(self._client.create_run(experiment, run_name=workdir.name).info.run_id)

    def _points_from(self, run_id: str, step: int) -> dict[str, dict[int, float]]:
        """Values that are there of a step and those after it, by name."""
        return {
            name: {
                point.step: point.value
                for point in self._client.get_metric_history(run_id, name)
                if point.step >= step
            }
            for name in self._client.get_run(run_id).data.metrics
        }

    def describe(self, config: Mapping[str, Any]) -> None:
        """Logs the config as a file, and its keys as parameters, which stay as they first were."""
        self._client.log_dict(self.run_id, dict(config), "config.json")
        known = self._client.get_run(self.run_id).data.params
        params = [
            self._param(name, str(value)[:_LONGEST_PARAM])
            for name, value in flat(config)
            if name not in known
        ]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self.run_id, params=params[first : first + _MOST_PARAMS])

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Logs numbers."""
        now = int(1000 * time.time())
        metrics = [
            self._metric(name, value, now, step)
            for name, value in values.items()
            if self._held.get(name, {}).get(step) != value
        ]
        self._client.log_batch(self.run_id, metrics=metrics)

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Logs a picture."""
        self._client.log_image(self.run_id, pixels, key=name, step=step)

    def close(self, *, complete: bool) -> None:
        """Sets the status of the run."""
        self._client.set_terminated(self.run_id, status="FINISHED" if complete else "FAILED")


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, bool | float | str]]:
    """Dotted keys and values of a config; what is no number, truth value or string as JSON.

    Example:
        >>> list(flat({"a": {"b": 1}, "c": [2], "d": None}))
        [('a.b', 1), ('c', '[2]')]
    """
    for name, value in sorted(config.items()):
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        elif value is not None:
            plain = isinstance(value, bool | int | float | str)
            yield f"{prefix}{name}", value if plain else json.dumps(value)
