"""How much of a classifier's accuracy withstands an attack: FGSM and PGD on its test rows.

    python scripts/attack.py --workdir=/tmp/genjax/mnist_robust --epsilon=0.3 --steps=40

``--epsilon`` is a share of the range from black to white, of real numbers in units of the data.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import app, flags, logging
from etils import epath

import genjax
from genjax.training.attacking import Attacked, as_shares
from genjax.training.pictures import image_grid, write_png

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
_EPSILON = flags.DEFINE_float("epsilon", 0.3, "Radius of the ball.", lower_bound=0.0)
_STEPS = flags.DEFINE_integer("steps", 40, "Steps of PGD.", lower_bound=1)
_STEP_SIZE = flags.DEFINE_float(
    "step_size", None, "Length of a step; 2.5 epsilon / steps if unset."
)
_NORM = flags.DEFINE_enum("norm", "linf", ["linf", "l2"], "Norm of the ball.")
_RESTARTS = flags.DEFINE_integer("restarts", 1, "Random starts of PGD.", lower_bound=1)
_NUM_ROWS = flags.DEFINE_integer("num_rows", 10_000, "Most test rows that are attacked.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the starts.")
_JSON = flags.DEFINE_string("json", None, "File to write all numbers to.")
_FIGURE = flags.DEFINE_string("figure", None, "PNG to write: rows, and what became of them.")


def accuracy(decisions: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Share of right decisions, and its standard error."""
    right = decisions == label
    return float(right.mean()), float(right.std(ddof=1) / np.sqrt(len(right)))


def draw(run: genjax.Run, x: np.ndarray, found: Attacked, path: str, count: int = 10) -> None:
    """Draws the first rows above what became of them; images only."""
    rows = np.concatenate([as_shares(run.experiment, x[:count]), found.rows[:count]])
    if rows.ndim != 4:
        raise app.UsageError("--figure: only images are drawn")
    levels = np.round(rows * 255).clip(0, 255).astype(np.uint8)
    write_png(epath.Path(path), image_grid(levels, 256, columns=count))


def main(args: list[str]) -> None:
    """Attacks, measures, prints."""
    del args
    logging.set_verbosity(logging.WARNING)
    run = genjax.load(_WORKDIR.value, quiet=True)
    source = run.experiment.test_data.source
    rows = source.rows(np.arange(min(len(source), _NUM_ROWS.value)))
    shared: dict[str, Any] = dict(epsilon=_EPSILON.value, norm=_NORM.value, seed=_SEED.value)
    try:
        fgsm = run.attack(rows["x"], rows["label"], num_steps=1, **shared)
        pgd = run.attack(
            rows["x"], rows["label"], num_steps=_STEPS.value, step_size=_STEP_SIZE.value,
            num_restarts=_RESTARTS.value, **shared,
        )  # fmt: skip
    except (KeyError, ValueError) as error:
        raise app.UsageError(f"{_WORKDIR.value}: {error}") from error
    label = rows["label"]
    found: dict[str, tuple[tuple[float, float], Mapping[str, Any]]] = {
        "none": (accuracy(pgd.natural, label), {}),
        "FGSM": (accuracy(fgsm.attacked, label), fgsm.protocol),
        f"PGD-{_STEPS.value}x{_RESTARTS.value}": (accuracy(pgd.attacked, label), pgd.protocol),
    }
    print(f"{len(label)} test rows, {_NORM.value}, epsilon {_EPSILON.value}\n")
    print("| attack | accuracy |\n|---|---|")
    for name, ((mean, stderr), _) in found.items():
        print(f"| {name} | {mean:.4f} ± {stderr:.4f} |")
    if _JSON.value:
        kept = {
            name: {"accuracy": mean, "stderr": stderr, **protocol}
            for name, ((mean, stderr), protocol) in found.items()
        }
        with open(_JSON.value, "w") as file:
            json.dump({"workdir": _WORKDIR.value, "num_rows": len(label), **kept}, file, indent=1)
    if _FIGURE.value:
        draw(run, rows["x"], pgd, _FIGURE.value)


if __name__ == "__main__":
    app.run(main)
