"""How well a prior makes embeddings of images from texts: a table, with baselines.

The nearest text counts as right if it says what the image's own does: for each combination of class
ids one is a candidate. The baselines are the embedding of the text itself, the mean of training
images with the same class ids, and one of these images, which no prior can beat by far. The Fréchet
distance is that of vectors of unit length to those of the images that the texts are of.

    python scripts/prior_table.py --workdir=/tmp/genjax/unclip_prior --num_candidates=2
"""

import json

import numpy as np
from absl import app, flags, logging

import genjax
from genjax import data, evaluation

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the prior's run.", required=True)
_SPLIT = flags.DEFINE_string("split", None, "Split of the rows, such as held_out; the run's test.")
_NUM_ROWS = flags.DEFINE_integer("num_rows", 2000, "Most rows of it.", lower_bound=2)
_NUM_TRAIN = flags.DEFINE_integer("num_train", 20_000, "Most training rows.", lower_bound=1)
_NUM_CANDIDATES = flags.DEFINE_integer(
    "num_candidates", 2, "Draws for a text, of which the nearest to it is kept.", lower_bound=1
)
_NUM_STEPS = flags.DEFINE_integer("num_steps", None, "Steps; those of the run if left out.")
_JSON = flags.DEFINE_string("json", None, "File to write all numbers to.")


def rows_of(run: genjax.Run) -> dict[str, np.ndarray]:
    """The rows that are asked about."""
    source, settings = run.experiment.test_data.source, run.experiment.data
    if _SPLIT.value is not None:
        assert settings.name is not None
        source = data.load(
            settings.name, _SPLIT.value, data_dir=settings.data_dir, **(settings.options or {})
        ).source
    return source.rows(np.arange(min(len(source), _NUM_ROWS.value)))


def meanings(run: genjax.Run, *sets: dict[str, np.ndarray]) -> list[np.ndarray]:
    """A number for each combination of class ids, of the rows of several sets."""
    ids = [n for n, f in run.experiment.spec.items() if f.num_classes and not f.shape]
    joined = np.concatenate([np.stack([rows[n] for n in ids], axis=1) for rows in sets])
    numbers = np.unique(joined, axis=0, return_inverse=True)[1].reshape(-1)
    return np.split(numbers, np.cumsum([len(rows["x"]) for rows in sets])[:-1])


def baselines(
    images: np.ndarray, ids: np.ndarray, asked: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What training images with the same class ids give.

    Args:
        images: Embeddings of training images, ``[N, D]``.
        ids: Their combinations of class ids, ``[N]``.
        asked: Those of the rows that are asked about, ``[M]``.

    Returns:
        Which of these have such images, ``[M]``, and the embeddings made for them, by name.
    """
    rng = np.random.default_rng(0)
    places = {number: np.flatnonzero(ids == number) for number in np.unique(ids)}
    known = np.isin(asked, ids)
    means = {number: images[where].mean(axis=0) for number, where in places.items()}
    means = {number: mean / np.linalg.norm(mean) for number, mean in means.items()}
    return known, {
        "mean of training images": np.array([means[n] for n in asked[known]]),
        "a training image": np.array([images[rng.choice(places[n])] for n in asked[known]]),
    }


def measure(run: genjax.Run) -> dict[str, dict[str, float]]:
    """Scores, and the number of rows they are of, by what makes the embeddings.

    Raises:
        ValueError: If the run is no prior.
    """
    if run.experiment.data.embeddings is None or "tokens" not in run.family.reads:
        raise ValueError("expected a run with data.embeddings of what='x' that is told texts")
    if run.experiment.data.embeddings["what"] != "x":
        raise ValueError("expected a prior (data.embeddings of what='x'), got a decoder")
    rows, train = rows_of(run), run.experiment.train_data.source
    training = train.rows(np.arange(min(len(train), _NUM_TRAIN.value)))
    real = run.embed(rows["x"])["embedding"]
    texts = run.embed(tokens=rows["tokens"])["text_embedding"]
    draws = [
        run.sample(tokens=rows["tokens"], seed=seed, num_steps=_NUM_STEPS.value)
        for seed in range(_NUM_CANDIDATES.value)
    ]
    asked, ids = meanings(run, rows, training)
    _, first = np.unique(asked, return_index=True)
    right = asked[:, None] == asked[first]

    def scores(made: np.ndarray, kept: np.ndarray) -> dict[str, float]:
        found = evaluation.embedding_scores(made, real[kept], texts[first], right[kept])
        return {"rows": int(kept.sum()), **found}

    every = np.ones(len(asked), bool)
    made = {"prior": evaluation.nearest_candidates(np.stack(draws), texts), "text": texts}
    found = {"images": scores(real, every)}
    found |= {name: scores(vectors, every) for name, vectors in made.items()}
    known, others = baselines(run.embed(training["x"])["embedding"], ids, asked)
    if known.sum() >= 2:
        found |= {name: scores(vectors, known) for name, vectors in others.items()}
    return found


def main(_: list[str]) -> None:
    """Measures and prints."""
    logging.set_verbosity(logging.WARNING)
    run = genjax.load(_WORKDIR.value, quiet=True)
    try:
        found = measure(run)
    except ValueError as error:
        raise app.UsageError(f"{_WORKDIR.value}: {error}") from error
    names = list(next(iter(found.values())))
    print("| embeddings | " + " | ".join(names) + " |\n|---" + "|---" * len(names) + "|")
    for called, row in found.items():
        print(f"| {called} | " + " | ".join(f"{row[n]:.4g}" for n in names) + " |")
    if _JSON.value:
        said = {"workdir": _WORKDIR.value, "num_candidates": _NUM_CANDIDATES.value}
        with open(_JSON.value, "w") as file:
            json.dump({**said, "scores": found}, file, indent=1)


if __name__ == "__main__":
    app.run(main)
