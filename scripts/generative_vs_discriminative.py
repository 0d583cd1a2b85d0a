"""How many labels generative and discriminative classifiers of the digits need: a table, a figure.

A generative classifier (naive Bayes, linear discriminant analysis) is fitted to p(x, y) and a
discriminative one (logistic regression) to p(y | x). Ng and Jordan (On Discriminative vs.
Generative Classifiers, 2001) found that naive Bayes comes to its errors with fewer labels, and
logistic regression in the end to fewer errors. Each number of labels is drawn anew, each class
alike as far as numbers allow, for several seeds; errors are those on the 360 test digits.

    python scripts/generative_vs_discriminative.py --figure=figure.png
"""

import warnings
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from genjax import data, families

_FIGURE = flags.DEFINE_string("figure", None, "PNG to write; none if left out.")
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 20, "Draws of the labelled rows.")
_SIZES = flags.DEFINE_list(
    "sizes", "10,20,50,100,200,500,1000,1437", "Numbers of labelled rows, at least one a class."
)

GENERATIVE = {
    "naive Bayes, own variances": families.GaussianComponent(covariance="diagonal"),
    "naive Bayes, shared variances": families.GaussianComponent(covariance="diagonal", shared=True),
    "linear discriminant": families.GaussianComponent(shared=True),
    "linear discriminant, shrinkage 0.1": families.GaussianComponent(shared=True, shrinkage=0.1),
    "quadratic discriminant, shrinkage 0.1": families.GaussianComponent(shrinkage=0.1),
}
"""Gaussians of grey levels as bins, whose covariance has 1/12 on its diagonal at least."""
DISCRIMINATIVE = ("logistic regression, C = 1", "logistic regression, C = 10000")
"""scikit-learn's, of levels in [0, 1]; the inverse of ``C`` weighs its L2 penalty."""


def subsets(label: np.ndarray, size: int, num_seeds: int) -> np.ndarray:
    """Rows of so many labels for each seed, ``[num_seeds, size]``.

    Rows are taken in random order, and round by round one of each class that has any left.

    Args:
        label: Class ids ``[N]``.
        size: Number of rows to take.
        num_seeds: Number of draws.
    """
    found = []
    for seed in range(num_seeds):
        order = np.random.Generator(np.random.Philox(seed)).permutation(len(label))
        rounds = np.empty(len(label), int)
        for k in np.unique(label):
            own = label[order] == k
            rounds[own] = np.arange(own.sum())
        found.append(order[np.argsort(rounds, kind="stable")[:size]])
    return np.stack(found)


def generative_errors(
    component: families.GaussianComponent, train: data.DataSet, test: data.DataSet
) -> Callable[[np.ndarray], np.ndarray]:
    """From rows ``[S, n]`` to the share of wrong decisions of the model of each, ``[S]``."""
    family = families.mixture(
        component=component,
        event_shape=train.event_shape,
        num_levels=train.num_levels,
        num_classes=train.num_classes,
        labels=True,
    )
    rows, others = (_all(dataset) for dataset in (train, test))

    def one(chosen: jax.Array) -> jax.Array:
        batch = {name: values[chosen] for name, values in rows.items()}
        key = jax.random.key(0)
        state, _ = family.train_step(family.init(key, batch), batch, key)
        assert family.eval_step is not None
        return jnp.mean(family.eval_step(state, others, key)["error"])

    every = jax.jit(lambda chosen: jax.lax.map(one, chosen))
    return lambda chosen: np.asarray(every(jnp.asarray(chosen)))


def discriminative_errors(
    c: float, train: data.DataSet, test: data.DataSet
) -> Callable[[np.ndarray], np.ndarray]:
    """The same of logistic regression with a penalty of weight ``1 / c``."""
    from sklearn.linear_model import LogisticRegression

    def flat(dataset: data.DataSet) -> tuple[np.ndarray, np.ndarray]:
        rows = {name: np.asarray(values) for name, values in _all(dataset).items()}
        assert dataset.num_levels is not None
        x = rows["x"].reshape(len(rows["x"]), -1) / (dataset.num_levels - 1)
        return x, rows["label"]

    (x, label), (test_x, test_label) = flat(train), flat(test)

    def one(chosen: np.ndarray) -> float:
        model = LogisticRegression(C=c, max_iter=2000).fit(x[chosen], label[chosen])
        return float(np.mean(model.predict(test_x) != test_label))

    return lambda chosen: np.array([one(rows) for rows in chosen])


def _all(dataset: data.DataSet) -> dict[str, jax.Array]:
    rows = dataset.source.rows(np.arange(len(dataset.source)))
    return {name: jnp.asarray(values) for name, values in rows.items()}


def draw(found: dict[str, np.ndarray], sizes: Sequence[int], path: str) -> None:
    """Draws errors ``[sizes, seeds]`` against the number of labels, with their standard errors."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, errors in found.items():
        mean, spread = 100 * errors.mean(1), 100 * errors.std(1) / np.sqrt(errors.shape[1])
        style = "--" if name in DISCRIMINATIVE else "-"
        axes.errorbar(sizes, mean, spread, fmt=style, marker="o", markersize=3, label=name)
    axes.set(
        xscale="log", yscale="log", xlabel="labelled digits", ylabel="errors on test digits, %",
        xticks=sizes, xticklabels=sizes,
    )  # fmt: skip
    axes.minorticks_off()
    ticks = [2, 5, 10, 20, 50]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def main(_: list[str]) -> None:
    """Measures, prints and draws."""
    sizes, num_seeds = [int(size) for size in _SIZES.value], _NUM_SEEDS.value
    train, test = data.load("digits", "train"), data.load("digits", "test")
    label = np.asarray(_all(train)["label"])
    models = {name: generative_errors(c, train, test) for name, c in GENERATIVE.items()}
    for name in DISCRIMINATIVE:
        models[name] = discriminative_errors(float(name.split()[-1]), train, test)
    chosen = [subsets(label, size, num_seeds) for size in sizes]
    print(f"| errors in %, {num_seeds} draws | " + " | ".join(map(str, sizes)) + " |")
    print("|---" * (len(sizes) + 1) + "|")
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of versions of scikit-learn
        for name, errors in models.items():
            found[name] = np.stack([errors(rows) for rows in chosen])
            mean, spread = 100 * found[name].mean(1), 100 * found[name].std(1) / np.sqrt(num_seeds)
            cells = (f"{m:.1f} ± {s:.1f}" for m, s in zip(mean, spread, strict=True))
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    if _FIGURE.value:
        draw(found, sizes, _FIGURE.value)


if __name__ == "__main__":
    app.run(main)
