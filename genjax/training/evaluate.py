"""One exact pass over a split, and samples in batches, on the mesh."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from genjax.families.base import Family, Samples, TrainState
from genjax.training import mesh as meshes

Wrap = Callable[[Iterable[Any], int, str], Iterable[Any]]


class Evaluator:
    """Evaluates and samples; compiles each once.

    Args:
        family: The family.
        mesh: Mesh the state lives on.
        progress: ``(items, total, label) -> items``, to show progress.
    """

    def __init__(
        self, family: Family, mesh: Mesh, *, progress: Wrap = lambda items, total, label: items
    ):
        self._mesh = mesh
        self._progress = progress
        self._eval_step = family.eval_step and jax.jit(
            family.eval_step, out_shardings=meshes.by_row(mesh)
        )
        self._sample = family.sample and jax.jit(
            family.sample, out_shardings=meshes.replicated(mesh)
        )
        self._by_row: dict[str, Any] = {}
        self._drawing: dict[str, Any] = {}

    def evaluate(
        self,
        state: TrainState,
        batches: Iterator[Mapping[str, np.ndarray]],
        num_batches: int,
        key: jax.Array,
    ) -> dict[str, float | int | str]:
        """Means over a split, with their standard errors.

        Args:
            state: State whose averaged parameters are evaluated.
            batches: This process's rows of each batch, with ``index`` and ``mask``.
            num_batches: Number of batches.
            key: Key of the pass; the result is a function of state, split and key.

        Returns:
            For each metric its mean over examples and ``_stderr``, the standard error of that mean
            over the draw of examples and noise; and ``num_examples``. Where scores are NaN or
            infinite the mean is too, and ``_num_nonfinite`` counts them.

        Raises:
            ValueError: If the family has no score of single examples.
        """
        if self._eval_step is None:
            raise ValueError("this family is evaluated by its samples, not by single examples")
        key = meshes.put(key, meshes.replicated(self._mesh))
        rows: list[Mapping[str, np.ndarray]] = []
        for local in self._progress(batches, num_batches, "evaluating"):
            batch = meshes.global_batch(self._mesh, local)
            mask = batch.pop("mask")
            metrics, kept = meshes.to_host((self._eval_step(state, batch, key), mask))
            rows.append({name: np.asarray(v, np.float64)[kept] for name, v in metrics.items()})
        result: dict[str, float | int | str] = {}
        for name in sorted(rows[0]):
            values = np.concatenate([row[name] for row in rows])
            num_nonfinite = int((~np.isfinite(values)).sum())
            if num_nonfinite:
                result[f"{name}_num_nonfinite"] = num_nonfinite
                result[name] = float(values.mean())
                continue
            result[name] = math.fsum(values) / values.size
            result[f"{name}_stderr"] = float(values.std(ddof=1) / math.sqrt(values.size))
        return {**result, "num_examples": values.size}

    def sample(
        self,
        state: TrainState,
        requests: Mapping[str, np.ndarray],
        key: jax.Array,
        *,
        batch_size: int,
    ) -> Samples:
        """Draws one sample for each row of ``requests``.

        Args:
            state: State whose averaged parameters are used.
            requests: Batch of any size; models read labels or source images from it.
            key: Key of the draw.
            batch_size: Rows drawn at a time.

        Returns:
            The samples, on the host; what else the family shows is that of the first batch.

        Raises:
            ValueError: If the family generates nothing.
        """
        if self._sample is None:
            raise ValueError("this family generates nothing to sample")
        count = len(next(iter(requests.values())))
        starts = range(0, count, batch_size)
        parts: list[Samples] = []
        for start, batch in self._batches(requests, starts, batch_size, "sampling"):
            with jax.set_mesh(self._mesh):
                drawn = jax.device_get(self._sample(state, jax.random.fold_in(key, start), batch))
            parts.append(drawn if not parts else Samples(rows=drawn.rows))
        drawn_rows: Any = np.concatenate([part.rows for part in parts])[:count]
        return parts[0].replace(rows=drawn_rows)

    def draw(
        self,
        name: str,
        function: Callable[[TrainState, Any, jax.Array, Mapping[str, Any]], Any],
        state: TrainState,
        shared: Any,
        requests: Mapping[str, np.ndarray],
        key: jax.Array,
        *,
        batch_size: int,
    ) -> Any:
        """A random function of the state and of rows, in batches.

        Args:
            name: What is done, shown as progress up to the first space. A function is compiled once
                for each name.
            function: ``(state, shared, key, batch) -> tree`` of arrays ``[B, ...]``.
            state: The state.
            shared: Tree of arrays that all batches are told.
            requests: Batch of any size.
            key: Key of the draw.
            batch_size: Rows at a time.

        Returns:
            The tree, of arrays ``[N, ...]``, on the host.
        """
        if name not in self._drawing:
            self._drawing[name] = jax.jit(function, out_shardings=meshes.replicated(self._mesh))
        count = len(next(iter(requests.values())))
        starts = range(0, count, batch_size)
        shared = meshes.put(shared, meshes.replicated(self._mesh))
        parts = []
        for start, batch in self._batches(requests, starts, batch_size, name.split()[0]):
            with jax.set_mesh(self._mesh):
                own = jax.random.fold_in(key, start)
                parts.append(jax.device_get(self._drawing[name](state, shared, own, batch)))
        return jax.tree.map(lambda *arrays: np.concatenate(arrays)[:count], *parts)

    def _batches(
        self, requests: Mapping[str, np.ndarray], starts: range, size: int, label: str
    ) -> Iterator[tuple[int, Any]]:
        """Batches of one size on the devices, each with the number of its first row.

        The last one is filled up with the last row.
        """
        count = len(next(iter(requests.values())))
        sharding = meshes.by_row(self._mesh)
        if size % self._mesh.size:
            sharding = meshes.replicated(self._mesh)
        for start in self._progress(starts, len(starts), label):
            rows = np.minimum(np.arange(start, start + size), count - 1)
            # Every process knows all requests; each device takes its own part of them.
            yield start, meshes.put({k: array[rows] for k, array in requests.items()}, sharding)

    def by_row(
        self,
        name: str,
        function: Callable[[TrainState, Mapping[str, Any]], Any],
        state: TrainState,
        batches: Iterator[Mapping[str, np.ndarray]],
        num_batches: int,
    ) -> Any:
        """A function of the state and of rows, of all rows of some batches.

        Args:
            name: What is done, shown as progress up to the first space. A function is compiled once
                for each name.
            function: ``(state, batch) -> tree`` of arrays ``[B, ...]``.
            state: The state.
            batches: This process's rows of each batch, with ``mask``; all else is given to the
                function.
            num_batches: Number of batches.

        Returns:
            The tree, of arrays ``[N, ...]``.
        """
        if name not in self._by_row:
            self._by_row[name] = jax.jit(function, out_shardings=meshes.by_row(self._mesh))
        found = []
        for local in self._progress(batches, num_batches, name.split()[0]):
            batch = meshes.global_batch(self._mesh, local)
            mask = batch.pop("mask")
            made, kept = meshes.to_host((self._by_row[name](state, batch), mask))
            found.append(jax.tree.map(lambda rows, kept=kept: np.asarray(rows)[kept], made))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *found)
