"""How well a run fills in missing entries of its test rows, beside baselines.

Entries are missing completely at random (``mcar``), at random (``mar``), not at random (``mnar``)
or in the lower half of images. Errors are in standard deviations of the training split; RMSE is
that of the mean of the draws, divided by what filling in the mean has. Models and baselines were
fitted on complete training rows.

    python scripts/impute.py --workdir=/tmp/genjax/vae_digits --mechanism=mcar --share=0.5
"""

import json
import time
from typing import Any

import numpy as np
from absl import app, flags, logging

import genjax
from genjax import evaluation

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
_MECHANISM = flags.DEFINE_enum(
    "mechanism", "mcar", ["mcar", "mar", "mnar", "lower_half"], "How entries come to be missing."
)
_SHARE = flags.DEFINE_float("share", 0.5, "Share of the entries that may be missing which are.")
_NUM_ROWS = flags.DEFINE_integer("num_rows", 100, "Most test rows that are filled in.")
_NUM_DRAWS = flags.DEFINE_integer("num_draws", 19, "Draws of each row; 19 for coverage of 90 %.")
_NUM_STEPS = flags.DEFINE_integer("num_steps", None, "Steps of a chain, or of a sampler.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of what is missing, and of draws.")
_BASELINES = flags.DEFINE_list("baselines", list(evaluation.BASELINES), "Names; none if empty.")
_JSON = flags.DEFINE_string("json", None, "File to write all numbers to.")
_FIGURE = flags.DEFINE_string("figure", None, "PNG to write: rows, what is known, draws.")


def filled_by(
    name: str, run: genjax.Run, train: np.ndarray, rows: dict[str, np.ndarray], known: np.ndarray
) -> np.ndarray:
    """Rows filled by the run or by a baseline, ``[draws, N, *event]``."""
    count, seed = _NUM_DRAWS.value, _SEED.value
    if name != "this model":
        return evaluation.baseline_imputation(
            name,  # type: ignore[arg-type]  # it says itself which names it knows
            train,
            rows["x"],
            known,
            num_draws=count,
            seed=seed,
        )
    reads = {n: rows[n] for n in run.family.reads if n in rows and n not in run.family.steers}
    steps = _NUM_STEPS.value
    return run.impute(rows["x"], known, num_draws=count, num_steps=steps, seed=seed, **reads)


def draw(run: genjax.Run, x: np.ndarray, known: np.ndarray, drawn: np.ndarray, path: str) -> None:
    """Draws images: each row, what is known of it, and five draws."""
    from PIL import Image

    from genjax.training.pictures import image_grid

    columns = [x, np.where(known, x, 0).astype(x.dtype), *drawn[:5]]
    tiles = np.stack(columns, axis=1)[:10]
    flat = tiles.reshape(-1, *x.shape[1:])
    grid = image_grid(flat, run.experiment.test_data.num_levels, columns=len(columns))
    Image.fromarray(grid).save(path)


def main(_: list[str]) -> None:
    """Fills in, measures, prints."""
    logging.set_verbosity(logging.WARNING)
    run = genjax.load(_WORKDIR.value, quiet=True)
    source, train = run.experiment.test_data.source, run.experiment.train_data.source
    rows = source.rows(np.arange(min(len(source), _NUM_ROWS.value)))
    fit = np.asarray(train.rows(np.arange(min(len(train), 20_000)))["x"])
    if _FIGURE.value and rows["x"].ndim != 4:
        raise app.UsageError("--figure is of images")
    try:
        mechanism: Any = _MECHANISM.value  # one of the names, as the flag has looked at
        known = evaluation.known_entries(rows["x"], mechanism, _SHARE.value, seed=_SEED.value)
        std = evaluation.observed_moments(fit)[1]
        found: dict[str, dict[str, float]] = {}
        for name in ["this model", *dict.fromkeys(["mean", *_BASELINES.value])]:
            start = time.perf_counter()
            drawn = filled_by(name, run, fit, rows, known)
            seconds = time.perf_counter() - start
            found[name] = evaluation.imputation_scores(rows["x"], drawn, known, std)
            found[name] |= {"num_draws": len(drawn), "seconds": round(seconds, 1)}
            if name == "this model" and _FIGURE.value:
                draw(run, rows["x"], known, drawn, _FIGURE.value)
    except ValueError as error:
        raise app.UsageError(f"{_WORKDIR.value}: {error}") from error
    print(
        f"{len(known)} test rows, {_MECHANISM.value}, {1.0 - known.mean():.0%} of the entries "
        "missing; RMSE relative to that of the mean, the others in standard deviations\n"
    )
    print("| method | draws | RMSE | RMSE of one draw | CRPS | coverage of 90 % | s |")
    print("|---" * 7 + "|")
    for name, one in found.items():
        scale = found["mean"]["rmse"]
        one |= {f"relative_{n}": one[n] / scale for n in ("rmse", "rmse_of_draw")}
        covered = f"{one['coverage']:.3f}" if "coverage" in one else "-"
        print(
            f"| {name} | {one['num_draws']} | {one['relative_rmse']:.3f} | "
            f"{one['relative_rmse_of_draw']:.3f} | {one['crps']:.3f} | {covered} | "
            f"{one['seconds']} |"
        )
    if _JSON.value:
        said: dict[str, Any] = {"workdir": _WORKDIR.value, "mechanism": _MECHANISM.value}
        said |= {"share": _SHARE.value, "seed": _SEED.value, "num_steps": _NUM_STEPS.value}
        with open(_JSON.value, "w") as file:
            json.dump({**said, "methods": found}, file, indent=1)


if __name__ == "__main__":
    app.run(main)
