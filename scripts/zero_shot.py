"""Classes by what is said of them, and captions of images: what a contrastive model finds.

The vector of a class is the mean of those of all training captions that say it, or that of
``--template`` with its name. A caption counts as right if it says what the image's own does: for
each combination of class ids one is a candidate.

    python scripts/zero_shot.py --workdir=/tmp/genjax/contrastive_digits \
        --template="a photo of the digit {}"
"""

import json

import numpy as np
from absl import app, flags, logging

import genjax
from genjax import data, evaluation

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
_SPLIT = flags.DEFINE_string("split", None, "Split of the rows, such as held_out; the run's test.")
_NUM_ROWS = flags.DEFINE_integer("num_rows", 10_000, "Most rows of it.", lower_bound=2)
_NUM_CAPTIONS = flags.DEFINE_integer("num_captions", 1000, "Most captions to find among.")
_FEATURE = flags.DEFINE_string("feature", "label", "Class ids to find.")
_TEMPLATE = flags.DEFINE_string("template", None, "What is said of a class, {} being its name.")
_JSON = flags.DEFINE_string("json", None, "File to write all numbers to.")


def rows_of(run: genjax.Run) -> dict[str, np.ndarray]:
    """The rows that are asked about."""
    source, settings = run.experiment.test_data.source, run.experiment.data
    if _SPLIT.value is not None:
        if settings.transforms:
            raise app.UsageError("--split: the run's data has transforms: only its test split")
        assert settings.name is not None
        source = data.load(
            settings.name, _SPLIT.value, data_dir=settings.data_dir, **(settings.options or {})
        ).source
    return source.rows(np.arange(min(len(source), _NUM_ROWS.value)))


def class_vectors(run: genjax.Run) -> np.ndarray:
    """One vector for each class, ``[C, D]``."""
    feature = run.experiment.spec.get(_FEATURE.value)
    if feature is None or feature.num_classes is None:
        raise app.UsageError(f"--feature: the data has no class ids {_FEATURE.value!r}")
    if _TEMPLATE.value is not None:
        names = feature.class_names or tuple(map(str, range(feature.num_classes)))
        said = [_TEMPLATE.value.format(name) for name in names]
        return run.embed(tokens=said)["text_embedding"]
    source = run.experiment.train_data.source
    rows = source.rows(np.arange(min(len(source), 60_000)))
    texts, first = np.unique(rows["tokens"], axis=0, return_index=True)
    vectors, ids = run.embed(tokens=texts)["text_embedding"], rows[_FEATURE.value][first]
    return evaluation.prototypes([vectors[ids == c] for c in range(feature.num_classes)])


def share(found: np.ndarray) -> tuple[float, float]:
    """Share that is true, and its standard error."""
    return float(found.mean()), float(found.std(ddof=1) / np.sqrt(len(found)))


def measure(run: genjax.Run) -> dict[str, tuple[int, float, float, float]]:
    """Number of candidates, share found with its standard error, and by chance, by what is found.

    Raises:
        ValueError: If the model gives no vectors.
    """
    rows = rows_of(run)
    images = run.embed(x=rows["x"])["embedding"]
    classes = class_vectors(run)
    found = {}
    right = rows[_FEATURE.value]
    ranks = evaluation.retrieval_ranks(images, classes, right)
    found[f"{_FEATURE.value} of an image"] = (len(classes), *share(ranks == 0), 1 / len(classes))
    ids = [n for n, f in run.experiment.spec.items() if f.num_classes and not f.shape]
    _, first, meaning = np.unique(
        np.stack([rows[n] for n in ids], axis=1), axis=0, return_index=True, return_inverse=True
    )
    kept = np.random.default_rng(0).permutation(len(first))[: _NUM_CAPTIONS.value]
    texts = run.embed(tokens=rows["tokens"][first[kept]])["text_embedding"]
    same = meaning.reshape(-1, 1) == kept
    among = same.any(axis=1)  # what the other images show is not among the captions
    to_text = evaluation.retrieval_ranks(images[among], texts, same[among])
    to_image = evaluation.retrieval_ranks(texts, images, same.T)
    found["caption of an image"] = (len(texts), *share(to_text == 0), 1 / len(texts))
    found["image of a caption"] = (len(images), *share(to_image == 0), float(same.mean()))
    return found


def main(_: list[str]) -> None:
    """Measures and prints."""
    logging.set_verbosity(logging.WARNING)
    run = genjax.load(_WORKDIR.value, quiet=True)
    try:
        found = measure(run)
    except ValueError as error:
        raise app.UsageError(f"{_WORKDIR.value}: {error}") from error
    print("| what is found | among | nearest is right | by chance |\n|---|---|---|---|")
    for name, (among, mean, stderr, chance) in found.items():
        print(f"| {name} | {among} | {mean:.4f} ± {stderr:.4f} | {chance:.4f} |")
    if _JSON.value:
        kept = {
            name: {"among": among, "share": mean, "stderr": stderr, "chance": chance}
            for name, (among, mean, stderr, chance) in found.items()
        }
        with open(_JSON.value, "w") as file:
            json.dump({"workdir": _WORKDIR.value, "split": _SPLIT.value, **kept}, file, indent=1)


if __name__ == "__main__":
    app.run(main)
