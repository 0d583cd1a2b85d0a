"""What a run says while it goes: tables, lines and bars, on a terminal or in a notebook."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
from jax.sharding import Mesh
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from genjax.families.base import Family
from genjax.training.experiment import Experiment

_LOSSES = ("loss", "critic_loss", "generator_loss", "grad_norm")


class Reporter:
    """Says what a run does.

    Args:
        quiet: Whether to say nothing at all.
    """

    def __init__(self, *, quiet: bool = False):
        self.console = Console(highlight=False, markup=False, soft_wrap=True, quiet=quiet)
        # Bars in a notebook are widgets; without them it has the lines.
        widgets = self.console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
        shown = not quiet and (self.console.is_terminal or widgets)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[rate]}"),
            console=self.console,
            disable=not shown,
        )

    def say(self, line: str) -> None:
        """One line."""
        self.console.print(line)

    def summary(self, experiment: Experiment, mesh: Mesh, *, workdir: str, step: int) -> None:
        """What is about to be trained, on what."""
        table = Table("network", "part", "parameters", title=workdir)
        total = 0
        for network, tree in experiment.state_shapes.params.items():
            for part, branch in sorted(tree.items()):
                count = sum(leaf.size for leaf in jax.tree.leaves(branch))
                total += count
                table.add_row(network, part, f"{count:,}")
        table.add_row("total", "", f"{total:,}")
        self.console.print(table)
        for name, stream in experiment.streams.items():
            train = stream.train
            of = "" if train.vocabulary is None else f", of {train.num_levels:,} tokens"
            said = "; ".join(f"{what} {value}" for what, value in train.origin.items())
            self.say(
                f"{name + ': ' if name else ''}{train.name}: {len(train.source):,} training and "
                f"{len(stream.test.source):,} test examples of shape {train.event_shape}{of}"
                f"{f' ({said})' if said else ''}"
            )
        self.say(f"{mesh.size} x {jax.devices()[0].device_kind}, jax {jax.__version__}")
        if experiment.config is not None:
            self.console.print_json(data=experiment.config, sort_keys=True)
        self.say(f"{'resuming at' if step else 'starting from'} step {step}; compiling")

    def evaluation(self, step: int, result: Mapping[str, Any]) -> None:
        """Numbers with their spread, then in brackets how they were made."""
        spreads = {f"{name}_{kind}" for name in result for kind in ("stderr", "std")}
        counts = {"num_examples": "examples of", "num_samples": "samples against"}
        numbers = []
        for name, value in result.items():
            if isinstance(value, float) and name not in spreads:
                around = [
                    result[f"{name}_{k}"] for k in ("stderr", "std") if f"{name}_{k}" in result
                ]
                numbers.append(f"{name} {value:.4f}" + (f" ± {around[0]:.4f}" if around else ""))
        made = [
            f"{result[count]} {what} {result[of]}"
            for (count, what), of in zip(counts.items(), ("split", "reference"), strict=True)
            if count in result
        ]
        shown = {*counts, "split", "reference"}
        made += [
            f"{name} {value}"
            for name, value in result.items()
            if not isinstance(value, float) and name not in shown
        ]
        self.say(f"step {step}: {'; '.join(numbers)} ({', '.join(made)})")

    def progress(
        self, items: Iterable[Any], total: int, label: str, give_way: Callable[[], None]
    ) -> Iterator[Any]:
        """Shows progress through ``items``; ``give_way`` is called before each."""
        task = self.bars.add_task(label, total=total, rate="")
        try:
            for item in items:
                give_way()
                yield item
                self.bars.advance(task)
        finally:
            self.bars.remove_task(task)

    def training(self, family: Family, first: int, num_steps: int) -> "Training":
        """Shows where training is: a bar where one is seen, and a line a log step everywhere.

        Args:
            family: The family, which looks at its metrics.
            first: Step it starts from.
            num_steps: Steps in all.
        """
        return Training(self, family, first, num_steps)


class Training:
    """Where training is: see :meth:`Reporter.training`."""

    def __init__(self, report: Reporter, family: Family, first: int, num_steps: int):
        self._report = report
        self._family = family
        self._num_steps = num_steps
        self._task = report.bars.add_task("training", total=num_steps, completed=first, rate="")
        self._warned: set[str] = set()

    def advance(self, step: int) -> None:
        """So many steps have been taken."""
        self._report.bars.update(self._task, completed=step)
        if step == self._num_steps:
            self._report.bars.remove_task(self._task)

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Says a line of the log, which is of a step of its own.

        Args:
            step: Number of steps taken, for the time that is left.
            row: The line, with its ``step``.
        """
        if self._report.console.quiet:
            return
        rate = row["train/steps_per_second"]
        left = (self._num_steps - step) / rate
        if step < self._num_steps:
            self._report.bars.update(self._task, rate=f"{rate:.2f} steps/s")
        numbers = "  ".join(
            f"{name} {row[f'train/{name}']:.4g}" for name in _LOSSES if f"train/{name}" in row
        )
        self._report.say(
            f"step {row['step']}/{self._num_steps}  {numbers}  {rate:.2f} steps/s  "
            f"{left // 60:.0f}:{left % 60:02.0f} left"
        )
        if self._family.diagnose is None:
            return
        means = {
            name.removeprefix("train/"): value
            for name, value in row.items()
            if name.startswith("train/")
        }
        found = {one.kind: one.message for one in self._family.diagnose(means)}
        for kind in found.keys() - self._warned:  # said again only after it had gone
            self._report.say(f"warning: step {row['step']}: {found[kind]}")
        self._warned = set(found)
