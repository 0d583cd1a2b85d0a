"""How well the likelihood of a run, and scores made of it, tell outliers from its test rows.

The outliers are made of the test rows (rotated, noise, constant images, half the contrast, blur,
...), are the classes that the run was not shown (``held_out``, of a run with ``data.classes``), or
rows of a file. Each cell is the AUROC of a score: 1 if it tells all apart, 0.5 if it knows nothing,
below if outliers look more likely than the data. Of a class-conditional model the likelihood is
that of all classes together. Further scores are those of the family: what its latents are worth,
fitted to a row and group by group (``vae``, ``hierarchical_vae``), or how far its reconstruction is
from a row (``bigan``, which has no likelihood).

    python scripts/outliers.py --workdir=/tmp/genjax/flow_digits
    python scripts/outliers.py --workdir=/tmp/genjax/flow_digits --background=/tmp/genjax/noisy \
        --against=rotated,constant,/tmp/other.npy --json=outliers.json --figure=outliers.png
"""

import json
import math
from typing import Any

import numpy as np
from absl import app, flags, logging
from scipy.special import logsumexp

import genjax
from genjax import evaluation

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
_BACKGROUND = flags.DEFINE_string(
    "background", None, "Directory of a background run, for likelihood ratios."
)
_AGAINST = flags.DEFINE_list(
    "against", [], "Outliers: names, held_out, or .npy files; all names if left out."
)
_NUM_ROWS = flags.DEFINE_integer("num_rows", 1000, "Most rows of each set that are scored.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of outliers that are drawn.")
_METRIC = flags.DEFINE_enum(
    "metric", "auroc", ["auroc", "auprc_outliers", "auprc_inliers"], "What the table shows."
)
_JSON = flags.DEFINE_string("json", None, "File to write all numbers to.")
_FIGURE = flags.DEFINE_string("figure", None, "PNG to write: histograms of likelihoods.")

_SCORES = flags.DEFINE_list(
    "scores",
    None,
    "Which of the family's own scores, or all; none if left out, but where there is no likelihood.",
)


def nats_of(run: genjax.Run, x: np.ndarray) -> np.ndarray:
    """Negative log-likelihoods of rows, of all classes that were shown where there are labels."""
    if "label" in run.family.reads and "label" not in run.family.steers:
        count = run.experiment.spec["label"].num_classes or 1
        shown = run.experiment.data.classes
        prior = np.isin(np.arange(count), range(count) if shown is None else shown) * 1.0
        return -np.asarray(logsumexp(run.class_log_probs(x, prior=prior / prior.sum()), axis=1))
    return -run.log_prob(x)


def held_out(run: genjax.Run) -> np.ndarray:
    """Test rows of the classes that the run was not shown."""
    shown = run.experiment.data.classes
    if shown is None or run.config is None:
        raise app.UsageError("held_out: this run was shown all classes; train it with data.classes")
    rest = sorted(set(range(run.experiment.spec["label"].num_classes or 0)) - set(shown))
    logging.set_verbosity(logging.ERROR)  # that few classes occur is what is asked for
    other = genjax.build(dict(run.config), {"data.classes": tuple(rest)}, mode="sample")
    return first(other.test_data)


def first(dataset: Any) -> np.ndarray:
    """The first rows of a split."""
    count = min(_NUM_ROWS.value, len(dataset.source))
    return np.asarray(dataset.source.rows(np.arange(count))["x"])


def outliers_of(run: genjax.Run, x: np.ndarray) -> dict[str, np.ndarray]:
    """The sets of outliers that are asked for."""
    made = evaluation.outlier_sets(x, run.experiment.test_data.num_levels, _SEED.value)
    if run.experiment.data.classes is not None and not _AGAINST.value:
        made = {"held_out": held_out(run), **made}
    found = {}
    for name in _AGAINST.value or made:
        if name.endswith(".npy"):
            found[name] = np.load(name)[: _NUM_ROWS.value]
        elif name == "held_out":
            found[name] = held_out(run)
        elif name in made:
            found[name] = made[name]
        else:
            valid = ", ".join(["held_out", *made])
            raise app.UsageError(f"unknown outliers {name!r}; valid: {valid}, or a file.npy")
    return found


def scores_of(
    run: genjax.Run, background: genjax.Run | None, x: np.ndarray, train_nats: np.ndarray
) -> dict[str, np.ndarray]:
    """All scores of some rows, higher the more of an outlier a row is."""
    nats = nats_of(run, x)
    found = {"likelihood": nats, "typicality": evaluation.typicality(nats, train_nats)}
    if x.ndim == 4 and x.dtype == np.uint8:
        found["complexity"] = evaluation.input_complexity(nats, x)
    if background is not None:
        found["ratio"] = evaluation.likelihood_ratio(nats, nats_of(background, x))
    return found | own_scores(run, x)


def asked_scores(run: genjax.Run) -> list[str]:
    """Names of the family's own scores that are asked for."""
    every = list(run.family.outlier_scores)
    asked = _SCORES.value
    if asked is None:
        asked = [] if run.family.log_prob is not None else ["all"]
    asked = every if asked == ["all"] else asked
    for name in asked:
        if name not in every:
            known = ", ".join(every) or "none"
            raise app.UsageError(f"--scores: unknown {name!r}; this family has {known}")
    if asked and "label" in run.family.reads and "label" not in run.family.steers:
        raise app.UsageError("--scores: this model's own scores are of rows with labels")
    return list(asked)


def own_scores(run: genjax.Run, x: np.ndarray) -> dict[str, np.ndarray]:
    """The family's own scores of rows, as they are asked for."""
    asked = asked_scores(run)
    if not asked:
        return {}
    try:
        return run.outlier_scores(x, names=asked)
    except ValueError as error:
        raise app.UsageError(f"--scores: {error}") from error


def by_own_scores(run: genjax.Run) -> list[dict[str, Any]]:
    """The table of a family without a likelihood, printed; and what stands in it."""
    if not run.family.outlier_scores:
        raise app.UsageError(
            f"{_WORKDIR.value}: this family gives no likelihood of given rows, and no other score"
        )
    if not asked_scores(run):
        raise app.UsageError("--scores: name at least one, this family gives no likelihood")
    if _BACKGROUND.value or _FIGURE.value:
        raise app.UsageError(
            "--background and --figure are of likelihoods, which this family has not"
        )
    x = first(run.experiment.test_data)
    sets = outliers_of(run, x)
    inside = own_scores(run, x)
    print(f"{_METRIC.value} of {len(x)} test rows; higher scores are outliers\n")
    print(f"| outliers | {' | '.join(inside)} |")
    print("|---" * (len(inside) + 1) + "|")
    rows = []
    for name, outside_x in sets.items():
        outside = own_scores(run, outside_x)
        found = {score: measured(inside[score], outside[score]) for score in inside}
        rows.append({"outliers": name, "num_rows": len(outside_x), "scores": found})
        cells = [f"{found[score][_METRIC.value]:.3f}" for score in inside]
        print(f"| {name} | {' | '.join(cells)} |")
    return rows


def measured(inliers: np.ndarray, outliers: np.ndarray) -> dict[str, float]:
    """How well a score tells two sets apart."""
    return {
        "auroc": evaluation.auroc(inliers, outliers),
        "auprc_outliers": evaluation.auprc(inliers, outliers, "outliers"),
        "auprc_inliers": evaluation.auprc(inliers, outliers, "inliers"),
    }


def draw(bits: dict[str, np.ndarray], path: str) -> None:
    """Draws the likelihoods of all sets; what is far out is at the right end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    low = min(float(values.min()) for values in bits.values())
    middle, high = np.quantile(bits["test"], [0.5, 0.99])
    edges = np.linspace(low, float(high + 2.0 * (high - middle)), 60)
    for name, values in bits.items():
        style: Any = dict(color="black", linewidth=2) if name == "test" else {}
        axes.hist(
            np.minimum(values, edges[-1]),
            edges.tolist(),
            density=True,
            histtype="step",
            label=name,
            **style,
        )
    axes.set(xlabel="bits/dim", ylabel="density of rows")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=100)


def write(run: genjax.Run, rows: list[dict[str, Any]]) -> None:
    """Writes what stands in the table, if a file is named."""
    if _JSON.value:
        said = {"workdir": _WORKDIR.value, "background": _BACKGROUND.value, "seed": _SEED.value}
        kept = {**said, "protocol": dict(run.family.eval_protocol), "rows": rows}
        with open(_JSON.value, "w") as file:
            json.dump(kept, file, indent=1)


def main(_: list[str]) -> None:
    """Scores, measures, prints."""
    logging.set_verbosity(logging.WARNING)
    run = genjax.load(_WORKDIR.value, quiet=True)
    if run.family.log_prob is None:
        write(run, by_own_scores(run))
        return
    asked_scores(run)  # what is wrong with them is said before anything is computed
    background = genjax.load(_BACKGROUND.value, quiet=True) if _BACKGROUND.value else None
    x = first(run.experiment.test_data)
    sets = outliers_of(run, x)
    train_nats = nats_of(run, first(run.experiment.train_data))
    inside = scores_of(run, background, x, train_nats)
    per_dim = 1.0 / (x[0].size * math.log(2.0))
    bits = {"test": per_dim * inside["likelihood"]}
    rows: list[dict[str, Any]] = []
    for name, outside_x in sets.items():
        outside = scores_of(run, background, outside_x, train_nats)
        bits[name] = per_dim * outside["likelihood"]
        found = {score: measured(inside[score], outside[score]) for score in inside}
        rows.append({"outliers": name, "num_rows": len(outside_x), "scores": found})
    print(
        f"{_METRIC.value} of {len(x)} test rows ({bits['test'].mean():.3f} bits/dim, training rows "
        f"{per_dim * train_nats.mean():.3f}); higher scores are outliers\n"
    )
    print(f"| outliers | bits/dim | {' | '.join(inside)} |")
    print("|---" * (len(inside) + 2) + "|")
    for row in rows:
        row["bits_per_dim"] = float(bits[row["outliers"]].mean())
        cells = [f"{row['scores'][score][_METRIC.value]:.3f}" for score in inside]
        print(f"| {row['outliers']} | {row['bits_per_dim']:.3f} | {' | '.join(cells)} |")
    threshold = evaluation.typicality_threshold(inside["likelihood"], train_nats)
    print(f"\n99 % of test rows are typical to {threshold:.4g} nats")
    write(run, rows)
    if _FIGURE.value:
        draw(bits, _FIGURE.value)


if __name__ == "__main__":
    app.run(main)
