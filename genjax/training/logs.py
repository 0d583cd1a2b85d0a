"""Metrics on disk: one JSON object a line, TensorBoard event files, and further loggers."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from absl import logging
from etils import epath

from genjax.training.files import is_remote, set_aside, write_atomically
from genjax.training.loggers import Loggers, MakeLogger, flat

Value = float | int | str


class MetricLog:
    """Appends to ``metrics.jsonl`` and to event files in ``tensorboard/``.

    A run that resumes from step ``n`` calls :meth:`rewind` with it: what a crashed run logged after
    its last checkpoint is dropped, since the resumed run logs it again. An object store cannot
    append: there ``metrics.jsonl`` is written anew at each :meth:`flush`.

    Args:
        workdir: Directory of the run.
        active: False on processes that do not write.
        loggers: What makes further loggers, by name, which get the same.
    """

    def __init__(
        self,
        workdir: epath.PathLike,
        *,
        active: bool = True,
        loggers: Mapping[str, MakeLogger] = MappingProxyType({}),
    ):
        self._path = epath.Path(workdir) / "metrics.jsonl"
        self._event_folder = str(epath.Path(workdir) / "tensorboard")
        self._active = active
        self._loggers = Loggers(epath.Path(workdir), loggers)
        self._file: Any = None
        self._lines: list[str] | None = None
        self._writer: Any = None
        self._purge_step: int | None = None

    def rewind(self, step: int, *, actions_due: bool = False) -> None:
        """Drops every line after ``step``, and what is no line of a log.

        The end of a write that was cut off goes without a word. If there is other damage, the file
        as it was is kept as ``damaged_metrics.jsonl``, and a warning says how many lines it costs.

        Args:
            step: Step the run resumes from.
            actions_due: Whether it starts with the evaluation of that step, whose line it drops.
        """
        self._purge_step = step + 1
        self._loggers.rewind(step)
        if not self._active or not self._path.exists():
            return
        kept, damaged = [], 0
        lines = self._path.read_bytes().split(b"\n")
        for number, line in enumerate(lines):
            record = _record(line)
            if record is None:
                damaged += bool(line.strip()) and number < len(lines) - 1
                continue
            evaluated = any(name.startswith("eval/") for name in record)
            if record["step"] < step + (not (actions_due and evaluated)):
                kept.append(line + b"\n")
        if damaged:
            before = set_aside(self._path, self._path.parent)
            logging.warning(
                "%d lines of %s cannot be read and are dropped; as it was it is now %s",
                damaged, self._path, before,
            )  # fmt: skip
        write_atomically(self._path, b"".join(kept))

    def write(self, step: int, values: Mapping[str, Value]) -> None:
        """Logs values, whose names carry their prefix (``train/loss``), at a step."""
        if not self._active:
            return
        line = json.dumps({"step": step, **values}) + "\n"
        if is_remote(self._path):
            if self._lines is None:
                before = self._path.read_bytes() if self._path.exists() else b""
                self._lines = [before.decode(errors="replace")]
            self._lines.append(line)
        else:
            self._append(line)
        for name, value in values.items():
            if not isinstance(value, str):
                self._events().add_scalar(name, value, step)
        self._loggers.scalars(step, values)

    def _append(self, line: str) -> None:
        if self._file is None:
            torn = self._path.exists() and self._path.read_bytes()[-1:] not in (b"", b"\n")
            self._file = self._path.open("a")
            line = "\n" * torn + line
        self._file.write(line)
        self._file.flush()

    def image(self, step: int, name: str, pixels: Any) -> None:
        """Adds a picture ``[H, W, C]`` uint8 to the event files and further loggers."""
        if self._active:
            self._events().add_image(name, pixels, step, dataformats="HWC")
            self._loggers.image(step, name, pixels)

    def text(self, step: int, name: str, text: str) -> None:
        """Adds a text to the event files."""
        if self._active:
            self._events().add_text(name, _verbatim(text), step)

    def describe(self, config: Mapping[str, Any], metrics: Sequence[str]) -> None:
        """Logs the config: in the event files as text, and as hyper-parameters to compare runs by.

        Args:
            config: The complete config, JSON data.
            metrics: Names of the values that runs are compared by.
        """
        if not self._active:
            return
        from tensorboardX.summary import hparams

        events = self._events()
        events.add_text("config", _verbatim(json.dumps(config, indent=2, sort_keys=True)), 0)
        # The writer's own add_hparams would make a folder, and with it a run, of each call.
        for summary in hparams(dict(flat(config)), dict.fromkeys(metrics)):
            events.file_writer.add_summary(summary)
        self._loggers.describe(config)

    def _events(self) -> Any:
        if self._writer is None:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(self._event_folder, purge_step=self._purge_step)
        return self._writer

    def flush(self) -> None:
        """Hands everything written so far to the file system."""
        if self._lines is not None:
            self._path.write_text("".join(self._lines))
        if self._writer is not None:
            self._writer.flush()

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.flush()
        for opened in (self._file, self._writer):
            if opened is not None:
                opened.close()
        self._file = self._lines = self._writer = None
        self._loggers.close(complete=kind is None)  # last: a service may take its time


def read_metrics(workdir: epath.PathLike) -> list[dict[str, Any]]:
    """What a run has logged, in its order; what is no line of a log is left out.

    Args:
        workdir: Directory of the run.

    Returns:
        Lines of ``metrics.jsonl``, each with its ``step``; none if there is no such file.
    """
    path = epath.Path(workdir) / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    return [record for record in map(_record, lines) if record is not None]


def _verbatim(text: str) -> str:
    """A text for TensorBoard, which reads Markdown: indented by four, it is code."""
    return "    " + text.replace("\n", "\n    ")


def _record(line: bytes) -> dict[str, Any] | None:
    """What a line says; None if it is no line of a log."""
    try:
        record = json.loads(line)
    except ValueError:  # no JSON, or no text at all
        return None
    return record if isinstance(record, dict) and type(record.get("step")) is int else None
