"""Metrics on disk: one JSON object a line, and TensorBoard event files beside it."""

import json
import os
from collections.abc import Mapping
from typing import Any

from etils import epath

Value = float | int | str


class MetricLog:
    """Appends to ``metrics.jsonl`` and to event files in ``tensorboard/``.

    A run that resumes from step ``n`` calls :meth:`rewind` with it: what a crashed run logged after
    its last checkpoint is dropped, since the resumed run logs it again. An object store cannot
    append: there ``metrics.jsonl`` is written anew at each :meth:`flush`.

    Args:
        workdir: Directory of the run.
        active: False on processes that do not write.
    """

    def __init__(self, workdir: epath.PathLike, *, active: bool = True):
        self._path = epath.Path(workdir) / "metrics.jsonl"
        self._event_folder = str(epath.Path(workdir) / "tensorboard")
        self._active = active
        self._file: Any = None
        self._lines: list[str] | None = None
        self._writer: Any = None
        self._purge_step: int | None = None

    def rewind(self, step: int, *, actions_due: bool = False) -> None:
        """Drops every line after ``step``, and what is no line at all: a write that was cut off.

        Args:
            step: Step the run resumes from.
            actions_due: Whether it starts with the evaluation of that step, whose line it drops.
        """
        self._purge_step = step + 1
        if not self._active or not self._path.exists():
            return
        kept = []
        for line in self._path.read_text().splitlines():
            try:
                record = json.loads(line)
                evaluated = any(name.startswith("eval/") for name in record)
                keep = record["step"] < step + (not (actions_due and evaluated))
            except (json.JSONDecodeError, KeyError, TypeError):
                keep = False
            if keep:
                kept.append(line + "\n")
        write_atomically(self._path, "".join(kept))

    def write(self, step: int, values: Mapping[str, Value]) -> None:
        """Logs values, whose names carry their prefix (``train/loss``), at a step."""
        if not self._active:
            return
        line = json.dumps({"step": step, **values}) + "\n"
        if is_remote(self._path):
            if self._lines is None:
                self._lines = [self._path.read_text()] if self._path.exists() else []
            self._lines.append(line)
        else:
            self._append(line)
        for name, value in values.items():
            if not isinstance(value, str):
                self._events().add_scalar(name, value, step)

    def _append(self, line: str) -> None:
        if self._file is None:
            torn = self._path.exists() and self._path.read_bytes()[-1:] not in (b"", b"\n")
            self._file = self._path.open("a")
            line = "\n" * torn + line
        self._file.write(line)
        self._file.flush()

    def image(self, step: int, name: str, pixels: Any) -> None:
        """Adds a picture ``[H, W, C]`` uint8 to the event files."""
        if self._active:
            self._events().add_image(name, pixels, step, dataformats="HWC")

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

    def __exit__(self, *_: object) -> None:
        self.flush()
        for opened in (self._file, self._writer):
            if opened is not None:
                opened.close()
        self._file = self._lines = self._writer = None


def is_remote(path: epath.PathLike) -> bool:
    """Whether a path is that of an object store (``gs://``), not of a file system."""
    return "://" in str(path)


def write_atomically(path: epath.Path, text: str) -> None:
    """Writes a file so that it exists whole or not at all."""
    if is_remote(path):  # an object appears when it is complete
        path.write_text(text)
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
