"""Batches as pure functions of the step, so that a resumed run needs no iterator state."""

import contextlib
import functools
import itertools
import multiprocessing
import os
import signal
import threading
import zlib
from collections.abc import Generator, Iterator, Mapping
from multiprocessing import resource_tracker
from typing import Any

import grain
import numpy as np
from absl import flags

from genjax.data.features import ArraySource, Source

Batch = dict[str, np.ndarray]


@functools.lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    """The order of an epoch: a permutation that depends on nothing but the arguments."""
    sequence = np.random.SeedSequence((seed, epoch))
    return np.random.Generator(np.random.Philox(sequence)).permutation(num_examples)


def _share(batch_size: int, process_index: int, process_count: int) -> tuple[int, int]:
    """Number of rows of a process in each global batch, and the first of them."""
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"the batch size must be a positive multiple of the {process_count} processes, "
            f"got {batch_size}"
        )
    size = batch_size // process_count
    return size, process_index * size


class TrainBatches:
    """Shuffled batches without end; item ``step`` is the batch of that step, or its batches.

    Epochs follow each other without a gap: a batch may hold the end of one and the start of the
    next, and every example is seen equally often. With several processes, each gets its own
    consecutive rows of the same global batches and never reads the others' examples.

    Args:
        source: Examples.
        batch_size: Size of the global batch.
        seed: Seed of the order.
        batches_per_step: Batches a step; if more than one, they are stacked along a first axis.
        process_index: This process, of ``process_count``.
        process_count: Number of processes, which must divide ``batch_size``.

    Raises:
        ValueError: If ``process_count`` does not divide ``batch_size``.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        *,
        seed: int,
        batches_per_step: int = 1,
        process_index: int = 0,
        process_count: int = 1,
    ):
        self.source = source
        self.batch_size = batch_size
        self.seed = seed
        self.batches_per_step = batches_per_step
        self.local_size, self.first_row = _share(batch_size, process_index, process_count)

    def indices(self, step: int, num_steps: int = 1) -> np.ndarray:
        """Positions in the source of this process's rows of the batches of some steps.

        Args:
            step: The first step.
            num_steps: Number of steps.

        Returns:
            ``[num_steps * batches_per_step * rows of a batch]``, one batch after the other.
        """
        num_examples = len(self.source)
        size = self.batches_per_step * self.batch_size
        start, stop = step * size, (step + num_steps) * size
        runs = []
        for epoch in range(start // num_examples, -(-stop // num_examples)):
            begin = epoch * num_examples
            order = epoch_order(self.seed, epoch, num_examples)
            runs.append(order[max(start - begin, 0) : stop - begin])
        batches = np.concatenate(runs).reshape(-1, self.batch_size)
        return batches[:, self.first_row : self.first_row + self.local_size].reshape(-1)

    def __len__(self) -> int:
        return 2**31 - 1

    def __getitem__(self, step: int) -> Batch:
        rows = self.source.rows(self.indices(int(step)))
        if self.batches_per_step == 1:
            return rows
        lead = (self.batches_per_step, self.local_size)
        return {name: array.reshape(*lead, *array.shape[1:]) for name, array in rows.items()}


def stream_seed(seed: int, stream: str) -> int:
    """The seed of the order of a further stream: unrelated to that of the first and the others."""
    sequence = np.random.SeedSequence((seed, zlib.crc32(stream.encode())))
    return int(sequence.generate_state(1)[0])


def stream_name(stream: str, feature: str) -> str:
    """What a feature of a stream is called in a batch; those of the first, ``""``, as they are.

    Example:
        >>> stream_name("", "x"), stream_name("unlabelled", "x")
        ('x', 'unlabelled/x')
    """
    return f"{stream}/{feature}" if stream else feature


class JoinedSource:
    """Examples of one stream, each beside one of the others: a pass over the first sees them all.

    Examples of streams belong to no pairs: those of the others are taken in their order, again from
    the start where there are too few.

    Args:
        sources: Examples by the names of their streams, that of the pass, ``""``, first.
    """

    def __init__(self, sources: Mapping[str, Source]):
        self.sources = sources

    def __len__(self) -> int:
        return len(self.sources[""])

    def rows(self, indices: np.ndarray) -> Batch:
        """The examples at ``indices``, stacked, under the names they have in batches."""
        return {
            stream_name(name, feature): rows
            for name, source in self.sources.items()
            for feature, rows in source.rows(indices % len(source)).items()
        }


class EvalBatches:
    """One pass in order, every example once; the last batch is filled up and masked.

    Each batch has, besides the examples, ``index`` (position in the split, int32) and ``mask``
    (False on the filling).

    Args:
        source: Examples.
        batch_size: Size of the global batch.
        process_index: This process, of ``process_count``.
        process_count: Number of processes, which must divide ``batch_size``.

    Raises:
        ValueError: If ``process_count`` does not divide ``batch_size``.
    """

    def __init__(
        self, source: Source, batch_size: int, *, process_index: int = 0, process_count: int = 1
    ):
        self.source = source
        self.batch_size = batch_size
        self.local_size, self.first_row = _share(batch_size, process_index, process_count)

    def __len__(self) -> int:
        return -(-len(self.source) // self.batch_size)

    def __getitem__(self, step: int) -> Batch:
        start = int(step) * self.batch_size + self.first_row
        positions = np.arange(start, start + self.local_size)
        mask = positions < len(self.source)
        rows = self.source.rows(np.where(mask, positions, 0))
        return {**rows, "index": positions.astype(np.int32), "mask": mask}


def iterate(
    batches: TrainBatches | EvalBatches, start: int, stop: int, *, num_workers: int = 0
) -> Generator[Batch, None, None]:
    """Yields ``batches[start]``, ..., ``batches[stop - 1]``, read ahead by Grain.

    Closed, it reads no further and ends its workers.

    Args:
        batches: The batches.
        start: First item.
        stop: Item to stop before.
        num_workers: Worker processes that decode sets not held in memory; 0 for threads only.
    """
    in_memory = isinstance(batches.source, ArraySource)
    if in_memory:
        num_workers = 0
    dataset: Any = grain.MapDataset.source(batches)[start:stop]
    # In memory a batch is one indexing operation: a single thread stays ahead of any step.
    threads = grain.ReadOptions(num_threads=1 if in_memory else 8, prefetch_buffer_size=8)
    iterator = dataset.to_iter_dataset(threads)
    if num_workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain reads absl flags, which not every program has
        workers = grain.MultiprocessingOptions(num_workers=num_workers)
        iterator = iterator.mp_prefetch(workers, worker_init_fn=_end_with_the_run)
    with contextlib.closing(iter(iterator)) as ahead:
        if num_workers:
            resource_tracker.ensure_running()  # which would let go of the signals held
            with _signals_held():
                first = list(itertools.islice(ahead, 1))  # starts the workers
            yield from first
        yield from ahead


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Keeps what asks a run to stop from this thread, and for good from workers that it starts.

    Ctrl-C in a terminal, and schedulers' notices, reach all processes of a run; its main process
    may need more batches before it has saved its state.
    """
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_the_run(index: int, count: int) -> None:
    """Lets a worker end when its run does, which may have been killed and could not end it."""
    run = multiprocessing.parent_process()
    assert run is not None

    def watch() -> None:
        run.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch").start()
