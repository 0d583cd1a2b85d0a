"""Compares runs: what their configs differ in, last and best values of metrics, steps, time.

    python scripts/compare.py /tmp/genjax/ring/* --metrics=w1,modes_covered
    python scripts/compare.py '/tmp/genjax/grid/*' --metrics=bits_per_dim,train/loss --format=csv

Folders of a pattern that hold no run are passed over. A metric is a full name, or one under
``eval/``; without ``--metrics`` it is what each run's best checkpoint is chosen by. The best value
is the lowest, but for measures that are better the higher they are. Standard errors are those the
run has logged.
"""

import argparse
import csv
import glob
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from absl import logging

_ABSENT = "-"


class Logged(NamedTuple):
    """A logged value with its standard error, if there is one, and its step."""

    value: float
    stderr: float | None
    step: int

    def __str__(self) -> str:
        around = "" if self.stderr is None else f" ± {self.stderr:.2g}"
        return f"{self.value:.5g}{around}"


class Found(NamedTuple):
    """What is known of a run: its config by dotted key, its log, and what a sweep noted."""

    name: str
    config: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    outcome: Mapping[str, Any]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0] if __doc__ else None, allow_abbrev=False
    )
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR", help="directories, or patterns")
    parser.add_argument("--metrics", default="", help="comma-separated; under eval/, or in full")
    parser.add_argument("--format", default="markdown", choices=["markdown", "csv"])
    args = parser.parse_args()
    logging.set_verbosity(logging.WARNING)
    runs = _read(args.workdirs)
    metrics = _metrics(runs, [name for name in args.metrics.split(",") if name])
    keys = _differing(runs)
    if args.format == "csv":
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerows(_numbers(runs, keys, metrics))
        return
    rows = _words(runs, keys, metrics)
    rows.insert(1, ["---"] * len(rows[0]))
    for row in rows:
        print(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |")


def _read(patterns: Sequence[str]) -> list[Found]:
    """The runs in folders; those of a pattern as far as they hold one."""
    from genjax.training.loggers import flat
    from genjax.training.logs import read_metrics
    from genjax.training.workdir import WorkdirError, read_config, resolved

    places: dict[str, bool] = {}
    for pattern in patterns:
        matched = sorted(glob.glob(pattern)) if "://" not in pattern else []
        several = len(patterns) > 1 or matched != [pattern]
        places |= {place: several for place in matched or [pattern]}
    found = []
    for place, several in places.items():
        try:
            folder = resolved(place)
            if several and not (folder / "config.json").exists() and folder.is_dir():
                continue
            config = read_config(folder)
        except WorkdirError as error:
            sys.exit(f"error: {error if '://' in place else f'{place} holds no run: {error}'}")
        try:
            outcome = json.loads((folder / "outcome.json").read_text())
        except (OSError, ValueError):
            outcome = {}
        found.append(Found(place, dict(flat(config)), read_metrics(folder), outcome))
    if not found:
        sys.exit(f"error: no run in {' '.join(patterns)}: expected folders with a config.json")
    return found


def _metrics(runs: Sequence[Found], asked: Sequence[str]) -> list[str]:
    """Full names of the metrics that are compared."""
    known = sorted(
        {
            name
            for run in runs
            for row in run.rows
            for name, value in row.items()
            if name != "step" and not isinstance(value, str)
        }
    )
    if not asked:
        chosen = dict.fromkeys(str(run.config.get("train.best_metric")) for run in runs)
        return [name for name in chosen if name in known] or [n for n in known if n == "train/loss"]
    names = [name if "/" in name else f"eval/{name}" for name in asked]
    for name in names:
        if name not in known:
            spread = ("_stderr", "_std")
            valid = ", ".join(n for n in known if not n.endswith(spread)) or "none is logged"
            sys.exit(f"error: no run has logged {name}; valid: {valid}")
    return names


def _differing(runs: Sequence[Found]) -> list[str]:
    """Dotted keys whose values are not the same in all configs."""
    keys = dict.fromkeys(key for run in runs for key in sorted(run.config))
    return sorted(
        key for key in keys if len({str(run.config.get(key, _ABSENT)) for run in runs}) > 1
    )


def _logged(run: Found, name: str) -> list[Logged]:
    """All values of a metric, in the order they were logged."""
    values = []
    for row in run.rows:
        if name in row:
            spread = row.get(f"{name}_stderr", row.get(f"{name}_std"))
            values.append(Logged(row[name], spread, row["step"]))
    return values


def _best(values: Sequence[Logged], name: str) -> Logged | None:
    """The best of the values that are numbers, the later of equal ones."""
    from genjax.training.quality import HIGHER_IS_BETTER

    higher = name.removeprefix("eval/").startswith(HIGHER_IS_BETTER)
    finite = [value for value in values if math.isfinite(value.value)]
    sign = -1.0 if higher else 1.0
    return min(finite, key=lambda found: (sign * found.value, -found.step), default=None)


def _seconds_training(run: Found) -> float | None:
    """Seconds in training steps, by the rates of the log: no compilation, evaluation or saves."""
    total, before = 0.0, 0
    for row in run.rows:
        rate = row.get("train/steps_per_second")
        if rate:
            total += (row["step"] - before) / rate
            before = row["step"]
    return total or None


def _step(run: Found) -> int:
    return max((row["step"] for row in run.rows), default=0)


def _words(runs: Sequence[Found], keys: Sequence[str], metrics: Sequence[str]) -> list[list[str]]:
    """The table for people: a head, and a line a run."""
    by_wall = any("seconds" in run.outcome for run in runs)
    heads = ["run", *keys]
    for name in metrics:
        heads += [f"{name}, last", f"{name}, best (step)"]
    heads += ["steps", "s in steps", *(["s in all"] if by_wall else [])]
    table = [heads]
    for run in runs:
        line = [run.name, *(str(run.config.get(key, _ABSENT)) for key in keys)]
        for name in metrics:
            values = _logged(run, name)
            best = _best(values, name)
            line.append(str(values[-1]) if values else _ABSENT)
            line.append(f"{best} ({best.step})" if best else _ABSENT)
        line.append(f"{_step(run)} of {run.config.get('train.num_steps', '?')}")
        seconds = [_seconds_training(run), *([run.outcome.get("seconds")] if by_wall else [])]
        line += [_ABSENT if s is None else f"{s:.0f}" for s in seconds]
        table.append(line)
    return table


def _numbers(runs: Sequence[Found], keys: Sequence[str], metrics: Sequence[str]) -> list[list[Any]]:
    """The table for programs: one number a cell, nothing where there is none."""
    heads = ["run", *keys]
    for name in metrics:
        heads += [
            name,
            f"{name}_stderr",
            *(f"{name}_best{end}" for end in ("", "_stderr", "_step")),
        ]
    table: list[list[Any]] = [[*heads, "step", "num_steps", "seconds_training", "seconds"]]
    for run in runs:
        line = [run.name, *(run.config.get(key) for key in keys)]
        for name in metrics:
            values = _logged(run, name)
            last, best = values[-1] if values else None, _best(values, name)
            line += [None, None] if last is None else [last.value, last.stderr]
            line += [None] * 3 if best is None else [best.value, best.stderr, best.step]
        line += [_step(run), run.config.get("train.num_steps")]
        table.append([*line, _seconds_training(run), run.outcome.get("seconds")])
    return table


if __name__ == "__main__":
    main()
