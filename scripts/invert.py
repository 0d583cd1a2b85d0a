"""Finds latents of rows for a trained GAN: by an encoder, by optimisation, and by both.

Rows that the generator made itself have latents with an error of almost 0; rows of the test split
may have none. The encoder is the run's own (``bigan`` and others), or that of another run of the
same generator (``latent_regression``), or there is none.

    python scripts/invert.py --workdir=/tmp/genjax/dcgan_mnist --encoder=/tmp/genjax/regression
"""

import json
import time
from typing import Any

import numpy as np
from absl import app, flags, logging

import genjax
from genjax.training.inversion import Descent

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
_ENCODER = flags.DEFINE_string(
    "encoder", None, "Directory of a run whose encoder inverts the same generator."
)
_NUM_ROWS = flags.DEFINE_integer("num_rows", 100, "Rows of either kind.")
_NUM_STEPS = flags.DEFINE_integer("num_steps", 200, "Steps of Adam.")
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 0.1, "Its largest learning rate.")
_NUM_STARTS = flags.DEFINE_integer("num_starts", 3, "Random starts of a row; the best is kept.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of generated rows and of random starts.")
_JSON = flags.DEFINE_string("json", None, "File to write all numbers to.")
_FIGURE = flags.DEFINE_string("figure", None, "PNG to write: images and what the methods found.")


def in_units(run: genjax.Run, x: np.ndarray) -> np.ndarray:
    """Rows as floats: grey levels in [0, 1], real numbers as they are."""
    levels = run.experiment.test_data.num_levels
    rows = x.reshape(len(x), -1).astype(np.float64)
    return rows if levels is None else rows / (levels - 1)


def methods(encodes: bool) -> dict[str, tuple[Any, int, int]]:
    """Start, number of starts and number of steps of each method."""
    steps, found = _NUM_STEPS.value, {}
    found["from the mean"] = ("mean", 1, steps)
    found[f"from {_NUM_STARTS.value} draws"] = ("random", _NUM_STARTS.value, steps)
    if encodes:
        found["encoder"] = ("encoder", 1, 0)
        found["from the encoder"] = ("encoder", 1, steps)
    return found


def latents_of(
    run: genjax.Run, encoder: Any, x: np.ndarray, method: tuple[Any, int, int], **reads: Any
) -> np.ndarray:
    """The latents that a method finds for rows."""
    start, count, steps = method
    if start == "encoder":
        start = np.asarray(encoder.encode(x, **reads))
    descent = Descent(num_steps=steps, learning_rate=_LEARNING_RATE.value)
    return run.invert(x, start=start, num_starts=count, descent=descent, seed=_SEED.value, **reads)


def prior_latents(run: genjax.Run, count: int, reads: dict[str, Any]) -> np.ndarray:
    """Latents drawn from the prior that the run was trained with."""
    x = run.experiment.test_data.source.rows(np.zeros(count, int))["x"]  # only its shape is read
    still = Descent(num_steps=0)
    return run.invert(x, start="random", descent=still, seed=_SEED.value + 1, **reads)


def labels_of(run: genjax.Run, count: int) -> dict[str, Any]:
    """What the model reads of the first test rows."""
    rows = run.experiment.test_data.source.rows(np.arange(count))
    return {name: rows[name] for name in run.family.reads if name in rows and name != "x"}


def check_same(run: genjax.Run, encoder: genjax.Run, z: np.ndarray, **reads: Any) -> None:
    """Refuses an encoder of another generator, which makes other rows of the same latents."""
    some = {name: rows[:4] for name, rows in reads.items()}
    ours = run.decode(z[:4], **some)
    try:
        same = np.array_equal(encoder.decode(z[:4], **some), ours)
    except ValueError as error:
        raise app.UsageError(f"--encoder: {error}") from error
    if not same:
        raise app.UsageError(
            f"--encoder: the run in {_ENCODER.value} inverts another generator; train it with "
            f"model.generator=dict(frozen=dict(workdir={_WORKDIR.value!r}, network='generator'))"
        )


def draw(run: genjax.Run, columns: list[np.ndarray], path: str) -> None:
    """Draws images: one row each, the image first."""
    from PIL import Image

    from genjax.training.pictures import image_grid

    tiles = np.stack(columns, axis=1)[:10]
    flat = tiles.reshape(-1, *tiles.shape[2:])
    levels = run.experiment.test_data.num_levels
    Image.fromarray(image_grid(flat, levels, columns=len(columns))).save(path)


def main(_: list[str]) -> None:
    """Inverts, measures, prints."""
    logging.set_verbosity(logging.WARNING)
    run = genjax.load(_WORKDIR.value, quiet=True)
    if run.family.generating is None:
        raise app.UsageError(
            f"{_WORKDIR.value}: this family does not make rows of latents in one pass; GANs do"
        )
    encoder = run if run.family.encode is not None else None
    if _ENCODER.value:
        encoder = genjax.load(_ENCODER.value, quiet=True)
        if encoder.family.encode is None:
            raise app.UsageError(f"--encoder: the run in {_ENCODER.value} has no encoder")
    source = run.experiment.test_data.source
    count = min(len(source), _NUM_ROWS.value)
    test, reads = np.asarray(source.rows(np.arange(count))["x"]), labels_of(run, count)
    if _FIGURE.value and test.ndim != 4:
        raise app.UsageError("--figure is of images")
    z = prior_latents(run, count, reads)
    if encoder is not None and encoder is not run:
        check_same(run, encoder, z, **reads)
    made = run.decode(z, **reads)
    found: dict[str, dict[str, float]] = {}
    columns = [test]
    unrelated = np.mean((in_units(run, test) - in_units(run, made)) ** 2)
    for name, method in methods(encoder is not None).items():
        begin = time.perf_counter()
        of_made, of_test = (latents_of(run, encoder, x, method, **reads) for x in (made, test))
        seconds = time.perf_counter() - begin
        errors = {}
        for kind, x, own in (("generated", made, of_made), ("test", test, of_test)):
            again = run.decode(own, **reads)
            errors[f"{kind}_mse"] = float(np.mean((in_units(run, x) - in_units(run, again)) ** 2))
        columns.append(again)
        errors["latent_error"] = float(np.sum((of_made - z) ** 2) / np.sum(z**2))
        found[name] = {**errors, "seconds": round(seconds, 1)}
    print(
        f"{count} rows of either kind, {_NUM_STEPS.value} steps; squared error of an entry "
        f"(grey levels in [0, 1]), {unrelated:.4g} of unrelated rows; latent error relative to "
        "the latents\n"
    )
    print("| method | generated rows | their latents | test rows | s |")
    print("|---" * 5 + "|")
    for name, one in found.items():
        print(
            f"| {name} | {one['generated_mse']:.3g} | {one['latent_error']:.3g} | "
            f"{one['test_mse']:.3g} | {one['seconds']} |"
        )
    if _JSON.value:
        said: dict[str, Any] = {"workdir": _WORKDIR.value, "encoder": _ENCODER.value}
        said |= {"num_rows": count, "num_steps": _NUM_STEPS.value, "seed": _SEED.value}
        said |= {"learning_rate": _LEARNING_RATE.value, "unrelated_mse": float(unrelated)}
        with open(_JSON.value, "w") as file:
            json.dump({**said, "methods": found}, file, indent=1)
    if _FIGURE.value:
        draw(run, columns, _FIGURE.value)


if __name__ == "__main__":
    app.run(main)
