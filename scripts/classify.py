"""A class-conditional model as a classifier: accuracy and calibration of p(y|x) on its test split.

The class of a row is the one under which it is most probable, log p(x|y) + log p(y). With
``--baselines`` scikit-learn's logistic regression and linear discriminant analysis stand beside it.

    python scripts/classify.py --workdir=/tmp/genjax/conditional_flow --baselines
"""

import json
from typing import Any

import numpy as np
from absl import app, flags, logging

import genjax
from genjax import evaluation

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
_NUM_ROWS = flags.DEFINE_integer("num_rows", 10_000, "Most test rows that are classified.")
_PRIOR = flags.DEFINE_enum("prior", "train", ["train", "uniform"], "Probabilities of the classes.")
_BINS = flags.DEFINE_integer("num_bins", 15, "Bins of the calibration error.")
_BASELINES = flags.DEFINE_bool("baselines", False, "Whether to fit classifiers to compare with.")
_JSON = flags.DEFINE_string("json", None, "File to write all numbers to.")
_FIGURE = flags.DEFINE_string("figure", None, "PNG to write: accuracy against confidence.")


def baselines_of(run: genjax.Run, x: np.ndarray) -> dict[str, np.ndarray]:
    """Log-probabilities of classes by classifiers of scikit-learn, fitted on the training split."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    source = run.experiment.train_data.source
    rows = source.rows(np.arange(min(len(source), 20_000)))
    count = run.experiment.spec["label"].num_classes or 0
    found = {}
    for name, model in (
        ("logistic regression", LogisticRegression(max_iter=2000)),
        ("linear discriminant analysis", LinearDiscriminantAnalysis()),
    ):
        fitted = make_pipeline(StandardScaler(), model)
        fitted.fit(rows["x"].reshape(len(rows["x"]), -1), rows["label"])
        logs = np.full((len(x), count), -np.inf)
        logs[:, fitted.classes_] = fitted.predict_log_proba(x.reshape(len(x), -1))
        found[name] = logs
    return found


def draw(found: dict[str, np.ndarray], labels: np.ndarray, path: str) -> None:
    """Draws accuracy against confidence."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.5)
    for name, logs in found.items():
        bins = evaluation.reliability(evaluation.class_probabilities(logs), labels, _BINS.value)
        axes.plot(bins["confidence"], bins["accuracy"], marker="o", label=name)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    figure.savefig(path, dpi=100)


def main(_: list[str]) -> None:
    """Classifies, measures, prints."""
    logging.set_verbosity(logging.WARNING)
    run = genjax.load(_WORKDIR.value, quiet=True)
    source = run.experiment.test_data.source
    rows = source.rows(np.arange(min(len(source), _NUM_ROWS.value)))
    try:
        found = {"this model": run.class_log_probs(rows["x"], prior=_PRIOR.value)}
    except ValueError as error:
        raise app.UsageError(f"{_WORKDIR.value}: {error}") from error
    if _BASELINES.value:
        found |= baselines_of(run, rows["x"])
    labels = rows["label"]
    print(f"{len(labels)} test rows, prior of the classes: {_PRIOR.value}\n")
    print("| classifier | accuracy | nats | Brier | confidence | calibration error |")
    print("|---" * 6 + "|")
    kept: dict[str, Any] = {"workdir": _WORKDIR.value, "num_rows": len(labels), "scores": {}}
    for name, logs in found.items():
        one = evaluation.classification_scores(logs, labels, _BINS.value)
        kept["scores"][name] = one
        print(
            f"| {name} | {one['accuracy']:.3f} ± {one['accuracy_stderr']:.3f} | "
            f"{one['nats']:.3f} | {one['brier']:.3f} | {one['confidence']:.3f} | "
            f"{one['calibration_error']:.3f} |"
        )
    if _JSON.value:
        kept["protocol"] = dict(run.family.eval_protocol)
        with open(_JSON.value, "w") as file:
            json.dump(kept, file, indent=1)
    if _FIGURE.value:
        draw(found, labels, _FIGURE.value)


if __name__ == "__main__":
    app.run(main)
