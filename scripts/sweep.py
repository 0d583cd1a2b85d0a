"""Runs an experiment for several variants, values of keys and seeds; prints means and spreads.

    python scripts/sweep.py --config=experiments/gan/ring2d.py --variants=wgan_gp,hinge --seeds=5 \
        --workdir=/tmp/genjax/ring --metrics=modes_covered,mode_kl,w1 --jobs=2
    python scripts/sweep.py --config=experiments/vdm/toy2d.py --seeds=3 --workdir=/tmp/genjax/grid \
        --grid optimizer.learning_rate=1e-4,2e-4 --grid model.hidden_size=32,64 \
        --metrics=bits_per_dim

A variant is what an experiment file takes after a colon; ``--grid`` tries all combinations of the
values of its keys. Every run is one of ``scripts/run.py`` in a folder of its own, so that a sweep
that was stopped goes on where it was. Further arguments (``--config.train.num_steps=500``) go to
each run; the runs of a sweep that is called with others go on with them.
"""

import argparse
import concurrent.futures
import itertools
import json
import pathlib
import subprocess
import sys
import threading
import time
import urllib.parse
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging

REPO = pathlib.Path(__file__).resolve().parents[1]


class Cell(NamedTuple):
    """A line of the table: runs that differ in their seeds only."""

    variant: str
    values: tuple[str, ...]
    grid: Mapping[str, Sequence[str]]

    @property
    def overrides(self) -> list[str]:
        """Its values of the keys, as words."""
        return [f"--config.{k}={v}" for k, v in zip(self.grid, self.values, strict=True)]

    def folder(self, workdir: pathlib.Path, seed: int) -> pathlib.Path:
        """Where the run of a seed is."""
        named = [f"{k}={v}" for k, v in zip(self.grid, self.values, strict=True)]
        name = "_".join(
            [self.variant or "run", *(urllib.parse.quote(n, safe="=,()") for n in named)]
        )
        if len(name) > 200:  # file systems allow 255 bytes
            name = f"{name[:190]}_{zlib.crc32(name.encode()):08x}"
        return workdir / f"{name}_{seed}"

    def __str__(self) -> str:
        return " ".join([self.variant or "run", *self.overrides])


def main() -> None:
    """Runs the sweep and prints its table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0] if __doc__ else None, allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="experiment file")
    parser.add_argument("--variants", default="", help="comma-separated; none for the file itself")
    parser.add_argument("--grid", action="append", default=[], help="key=value,value,...; repeated")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0")
    parser.add_argument("--workdir", required=True, help="local folder, in which each run has one")
    parser.add_argument("--metrics", required=True, help="comma-separated names under eval/")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    args, overrides = parser.parse_known_args()
    if "://" in args.workdir:
        sys.exit(f"error: --workdir must be a local folder, got {args.workdir}")
    if args.seeds < 1 or args.jobs < 1:
        sys.exit(f"error: --seeds and --jobs must be positive, got {args.seeds} and {args.jobs}")
    grid = _grid(args.grid)
    cells = [
        Cell(variant, values, grid)
        for variant in args.variants.split(",")
        for values in itertools.product(*grid.values())
    ]
    if grid:
        _check_keys(args.config, cells, overrides)
    workdir = pathlib.Path(args.workdir).expanduser()
    runs = [(cell, seed) for cell in cells for seed in range(args.seeds)]

    stopped = threading.Event()

    def one(run: tuple[Cell, int]) -> None:
        if stopped.is_set():  # what is queued may come before the main thread can cancel it
            return
        try:
            _run(args.config, run[0], run[1], workdir, overrides)
        except KeyboardInterrupt:
            stopped.set()
            raise

    pool = concurrent.futures.ThreadPoolExecutor(args.jobs)
    try:
        list(pool.map(one, runs))
    except KeyboardInterrupt:  # the runs have got it, too, and save
        stopped.set()
        pool.shutdown(cancel_futures=True)
        print("stopped; the same command goes on", file=sys.stderr)
        sys.exit(130)
    for line in _table(cells, args.seeds, workdir, args.metrics.split(",")):
        print(line)


def _grid(words: Sequence[str]) -> dict[str, list[str]]:
    """Values by key."""
    grid: dict[str, list[str]] = {}
    for word in words:
        key, _, values = word.removeprefix("--config.").partition("=")
        if "." not in key or not values:
            sys.exit(f"error: --grid must be section.key=value,value,..., got {word!r}")
        if key in grid:
            sys.exit(f"error: --grid has {key} twice; give all its values at once")
        if key == "train.seed":
            sys.exit("error: --grid: seeds are --seeds")
        grid[key] = list(_split(values))
        if len(set(grid[key])) < len(grid[key]) or "" in grid[key]:
            sys.exit(f"error: --grid: the values of {key} must differ and not be empty: {values}")
    return grid


def _split(values: str) -> Iterator[str]:
    """Parts between commas that are in no brackets: ``(1,2),(1,2,4)`` are two."""
    depth = start = 0
    for i, letter in enumerate(values):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            yield values[start:i].strip()
            start = i + 1
    yield values[start:].strip()


def _check_keys(config: str, cells: Sequence[Cell], overrides: Sequence[str]) -> None:
    """Ends the sweep if the grid has keys or values that the config does not take."""
    logging.set_verbosity(logging.WARNING)
    from genjax import config as configs

    for cell in cells:
        file = f"{config}:{cell.variant}" if cell.variant else config
        try:
            configs.load_config(file, overrides)
        except configs.ConfigError:
            continue  # not for the grid: its runs fail, and are counted
        try:
            configs.load_config(file, [*overrides, *cell.overrides])
        except configs.ConfigError as error:
            sys.exit(f"error: --grid: {' '.join(str(error).split())}")


def _run(
    config: str, cell: Cell, seed: int, workdir: pathlib.Path, overrides: Sequence[str]
) -> None:
    """One run, unless it is done already."""
    folder = cell.folder(workdir, seed)
    folder.mkdir(parents=True, exist_ok=True)
    before = _outcome(folder)
    if before.get("code") == 0 and before.get("overrides", overrides) == overrides:
        return
    command = [sys.executable, str(REPO / "scripts" / "run.py"),
               f"--config={config}:{cell.variant}" if cell.variant else f"--config={config}",
               f"--workdir={folder}", f"--config.train.seed={seed}", *overrides,
               *cell.overrides]  # fmt: skip
    start = time.perf_counter()
    with (folder / "log.txt").open("a") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
    seconds = time.perf_counter() - start
    # The run went on, and so does its time; what failed before it began has taken none.
    total = seconds + (before.get("seconds", 0.0) if (folder / "checkpoints").exists() else 0.0)
    outcome = {"code": code, "seconds": total, "overrides": list(overrides)}
    (folder / "outcome.json").write_text(json.dumps(outcome))
    print(f"{cell} seed {seed}: exit {code}, {seconds:.0f} s", file=sys.stderr)


def _outcome(folder: pathlib.Path) -> dict[str, Any]:
    """What became of a run; empty if that is not known, as of one that was killed."""
    try:
        return dict(json.loads((folder / "outcome.json").read_text()))
    except (OSError, ValueError):
        return {}


def _table(
    cells: Sequence[Cell], seeds: int, workdir: pathlib.Path, metrics: Sequence[str]
) -> Iterator[str]:
    """Lines of the table: what the runs of each differ in, metrics, seconds."""
    keys = list(cells[0].grid)
    by_variant = not keys or any(cell.variant for cell in cells)
    heads = [*(["variant"] if by_variant else []), *keys, *metrics, "seconds a run"]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for cell in cells:
        folders = [cell.folder(workdir, seed) for seed in range(seeds)]
        outcomes = [_outcome(folder) for folder in folders]
        kept = [
            (_last(folder), outcome["seconds"])
            for folder, outcome in zip(folders, outcomes, strict=True)
            if outcome.get("code") == 0
        ]
        for row, _ in kept:
            missing = [name for name in metrics if f"eval/{name}" not in row]
            if missing:
                known = ", ".join(k.removeprefix("eval/") for k in row if k.startswith("eval/"))
                sys.exit(f"error: no metric {missing[0]!r} in {cell}; valid: {known}")
        failed = len(folders) - len(kept)
        named = [*([cell.variant or "run"] if by_variant else []), *cell.values]
        named[0] += f" ({failed} failed: see log.txt)" if failed else ""
        numbers = [_mean_and_spread([row[f"eval/{name}"] for row, _ in kept]) for name in metrics]
        numbers.append(f"{np.mean([seconds for _, seconds in kept]):.0f}" if kept else "-")
        yield f"| {' | '.join([*named, *numbers])} |"


def _last(folder: pathlib.Path) -> dict[str, Any]:
    """The last evaluation of a finished run."""
    from genjax.training.logs import read_metrics

    rows = [row for row in read_metrics(folder) if any(key.startswith("eval/") for key in row)]
    if not rows:
        sys.exit(f"error: {folder} has no evaluation: set train.eval_every")
    return rows[-1]


def _mean_and_spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over runs."""
    if not values:
        return "-"
    # Not those of the standard library, whose spread of what is not finite is an error.
    spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.3g} ± {spread:.2g}"


if __name__ == "__main__":
    main()
