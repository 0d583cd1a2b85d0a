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
    its last checkpoint is dropped, since the resumed run logs it again.

    Args:
        workdir: Directory of the run.
        active: False on processes that do not write.
    """

    def __init__(self, workdir: epath.PathLike, *, active: bool = True):
        self._path = epath.Path(workdir) / "metrics.jsonl"
        self._events = str(epath.Path(workdir) / "tensorboard")
        self._active = active
        self._writer: Any = None
        self._purge_step: int | None = None

    def rewind(self, step: int) -> None:
        """Drops every line after ``step``, and a last line that was cut off."""
        self._purge_step = step + 1
        if not self._active or not self._path.exists():
            return
        kept = []
        lines = self._path.read_text().splitlines()
        for number, line in enumerate(lines):
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                if number != len(lines) - 1:
                    raise ValueError(f"{self._path}, line {number + 1} is not JSON") from None
                continue
            if record["step"] <= step:
                kept.append(line)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(line + "\n" for line in kept))
        temporary.replace(self._path)

    def write(self, step: int, values: Mapping[str, Value]) -> None:
        """Logs values, whose names carry their prefix (``train/loss``), at a step."""
        if not self._active:
            return
        line = json.dumps({"step": step, **values}) + "\n"
        with self._path.open("a") as file:
            file.write(line)
        if self._writer is None:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(self._events, purge_step=self._purge_step)
        for name, value in values.items():
            if not isinstance(value, str):
                self._writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, pixels: Any) -> None:
        """Adds a picture ``[H, W, C]`` uint8 to the event files."""
        if self._active and self._writer is not None:
            self._writer.add_image(name, pixels, step, dataformats="HWC")

    def flush(self) -> None:
        """Hands everything written so far to the file system."""
        if self._writer is not None:
            self._writer.flush()

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def write_atomically(path: epath.Path, text: str) -> None:
    """Writes a file so that it exists whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
