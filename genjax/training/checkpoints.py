"""Checkpoints with Orbax: asynchronous, atomic, and restored past damage."""

import contextlib
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from orbax.checkpoint import checkpoint_managers as managers

from genjax.families.base import TrainState
from genjax.training.logs import write_atomically

# A machine in trouble, not a damaged file: the checkpoint stays where it is.
_NOT_DAMAGE = (MemoryError, PermissionError)


class CheckpointError(RuntimeError):
    """There is no checkpoint that can be read."""


class SaveError(RuntimeError):
    """A checkpoint could not be written; the older ones are as they were."""


class Checkpoints:
    """The checkpoints of a run in ``workdir/checkpoints``.

    Kept are the last few and the one with the lowest ``best_metric``. A save returns once the state
    is copied; the files are written meanwhile and appear under their step only when complete, so a
    process may die at any moment.

    Args:
        workdir: Directory of the run.
        keep: Number of latest checkpoints to keep.
        best_metric: Metric whose lowest value marks the best checkpoint.
        read_only: Never write or delete.
    """

    def __init__(
        self,
        workdir: epath.PathLike,
        *,
        keep: int = 3,
        best_metric: str = "eval/bits_per_dim",
        read_only: bool = False,
    ):
        self._directory = epath.Path(workdir) / "checkpoints"
        self._due = epath.Path(workdir) / "actions_due"
        self._best_metric = best_metric
        self._read_only = read_only
        best = managers.BestN(
            get_metric_fn=lambda metrics: -metrics[best_metric],  # what sorts highest is kept
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        options = ocp.CheckpointManagerOptions(
            # Without it Orbax does not write the metrics down, and a resumed run forgets the best.
            best_fn=lambda metrics: metrics[best_metric],
            best_mode="min",
            preservation_policy=managers.AnyPreservationPolicy([managers.LatestN(keep), best]),
            create=not read_only,
            cleanup_tmp_directories=not read_only,
        )
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=options,
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "host": ocp.JsonCheckpointHandler(),
            },
        )

    def save(
        self,
        step: int,
        state: TrainState,
        host_state: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
        *,
        actions_due: bool = False,
    ) -> None:
        """Starts saving.

        Args:
            step: Step of the state; nothing happens if it is saved already.
            state: State on devices.
            host_state: What the loop itself needs to resume exactly; JSON.
            metrics: Metrics of this very state, if it was evaluated.
            actions_due: Note that evaluation and samples of this state are still to come.

        Raises:
            SaveError: If the save before could not be completed.
        """
        if actions_due and not jax.process_index():
            write_atomically(self._due, str(step))
        if step in self._manager.all_steps():
            return
        score = (metrics or {}).get(self._best_metric, math.inf)
        if not math.isfinite(score):
            score = math.inf  # like what was not evaluated: never the best
        host = {"loop": dict(host_state), "checksums": _checksums(state)}
        with self._writing():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), host=ocp.args.JsonSave(host)
                ),
                metrics={self._best_metric: float(score)},
            )

    def actions_due(self, step: int) -> bool:
        """Whether the state of ``step`` was saved before it was evaluated and sampled."""
        return self._due.exists() and self._due.read_text() == str(step)

    def actions_done(self) -> None:
        """Strikes the note that actions are due."""
        if not jax.process_index():
            self._due.unlink(missing_ok=True)

    def restore(self, template: TrainState) -> tuple[int, TrainState, dict[str, Any]] | None:
        """Restores the newest checkpoint that can be read.

        Damaged ones newer than it, down to a single flipped bit, are skipped with a warning and
        moved to ``damaged_<step>`` in the workdir. If none can be read, nothing is touched.

        Args:
            template: Shapes, dtypes and shardings to restore to (``jax.ShapeDtypeStruct`` leaves).

        Returns:
            Step, state and host state, or None if there has never been a checkpoint.

        Raises:
            CheckpointError: If there are checkpoints and none can be read, or if a checkpoint is
                sound and of another model.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        damaged = []
        for step in steps:
            try:
                shapes = _shapes(self._manager.item_metadata(step)["state"].tree)
            except _NOT_DAMAGE:
                raise
            except Exception as error:  # noqa: BLE001 - a damaged file may raise anything
                damaged.append(step)
                self._warn(step, error)
                continue
            self._check_fit(
                step, shapes, _shapes(ocp.tree.serialize_tree(template, keep_empty_nodes=True))
            )
            try:
                restored = self._manager.restore(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardRestore(template), host=ocp.args.JsonRestore()
                    ),
                )
                state, host = restored["state"], restored["host"]
                for name, checksum in _checksums(state).items():
                    if host["checksums"].get(name, checksum) != checksum:
                        raise ValueError(f"the content of {name} has changed since it was saved")
            except _NOT_DAMAGE:
                raise
            except Exception as error:  # noqa: BLE001
                damaged.append(step)
                self._warn(step, error)
                continue
            self._set_aside(damaged)
            return step, state, host["loop"]
        if steps:
            raise CheckpointError(
                f"none of the checkpoints in {self._directory} can be read "
                f"(steps {sorted(steps)}); the warnings above say why"
            )
        return None

    def _check_fit(self, step: int, saved: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        for name in sorted(set(saved) | set(expected)):
            if saved.get(name) != expected.get(name):
                raise CheckpointError(
                    f"checkpoint {step} in {self._directory} is of another model: {name} is "
                    f"{saved.get(name, 'absent')} there and {expected.get(name, 'absent')} in this "
                    "config"
                )

    def _warn(self, step: int, error: Exception) -> None:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        logging.warning(
            "checkpoint %d in %s cannot be read and is skipped: %s", step, self._directory, reason
        )

    def _set_aside(self, steps: list[int]) -> None:
        if self._read_only or jax.process_index():
            return
        for step in steps:
            target, copies = self._directory.parent / f"damaged_{step}", 1
            while target.exists():
                copies += 1
                target = self._directory.parent / f"damaged_{step}_{copies}"
            (self._directory / str(step)).rename(target)
        if steps:
            self._manager.reload()

    def wait(self) -> None:
        """Waits until the last save is complete.

        Raises:
            SaveError: If it could not be completed.
        """
        with self._writing():
            self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        # Also on the way out of an error: a save under way is completed, not lost.
        with self._writing():
            self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Says what a failed save means; its error may come with a later call."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - file systems and stores raise anything
            reason = str(error).strip() or type(error).__name__
            reason = "no space left on device" if _is_full(error) else reason.splitlines()[0][:300]
            raise SaveError(
                f"a checkpoint could not be written to {self._directory}: {reason}. Those before "
                f"it are intact (steps {sorted(self._manager.all_steps())}): make room or mend the "
                "storage, and the same command goes on from the last"
            ) from error


def _is_full(error: BaseException) -> bool:
    return "No space left on device" in str(error) or "Disk quota exceeded" in str(error)


def _shapes(tree: Any) -> dict[str, str]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree.leaves_with_path(tree)
        if hasattr(leaf, "shape")
    }


def _checksums(state: TrainState) -> dict[str, int]:
    """CRC-32 of every array that each process can read whole: all but what is spread over several.

    A checkpoint has none for those either, wherever it is restored.
    """
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): zlib.crc32(
            np.ascontiguousarray(jax.device_get(leaf)).tobytes()
        )
        for path, leaf in jax.tree.leaves_with_path(state)
        if leaf.is_fully_addressable or leaf.is_fully_replicated
    }
