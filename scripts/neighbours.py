"""What an encoder's features know of labels it never saw: nearest neighbours, and reconstruction.

The label of a test row is guessed from the nearest training row, by the last hidden layer of the
encoder, by the latents and by the entries themselves. Distances of reconstructions are beside those
of random pairs, since features of an encoder that was not trained may do well, too.

    python scripts/neighbours.py --workdir=/tmp/genjax/bigan_mnist
"""

import json
from typing import Any

import numpy as np
from absl import app, flags, logging

import genjax
from genjax import evaluation

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
_NUM_TRAIN = flags.DEFINE_integer("num_train", 60_000, "Most training rows.")
_NUM_TEST = flags.DEFINE_integer("num_test", 10_000, "Most test rows.")
_NUM_NEIGHBOURS = flags.DEFINE_integer("num_neighbours", 1, "Neighbours that vote.")
_JSON = flags.DEFINE_string("json", None, "File to write all numbers to.")


def first(dataset: Any, count: int) -> dict[str, np.ndarray]:
    """The first rows of a split."""
    return {
        name: np.asarray(rows)
        for name, rows in dataset.source.rows(np.arange(min(count, len(dataset.source)))).items()
    }


def flat(x: np.ndarray, num_levels: int | None) -> np.ndarray:
    """Entries of rows, grey levels in [0, 1]."""
    rows = x.reshape(len(x), -1).astype(np.float32)
    return rows if num_levels is None else rows / np.float32(num_levels - 1)


def main(_: list[str]) -> None:
    """Encodes, compares, prints."""
    logging.set_verbosity(logging.WARNING)
    run = genjax.load(_WORKDIR.value, quiet=True)
    if run.family.encode is None or run.family.decode is None:
        raise app.UsageError(f"{_WORKDIR.value}: this family has no latents of given rows")
    if run.family.reads:
        raise app.UsageError(
            f"{_WORKDIR.value}: this model is told {', '.join(run.family.reads)}, so its latents "
            "need not know of labels: take a model that is told nothing"
        )
    train = first(run.experiment.train_data, _NUM_TRAIN.value)
    test = first(run.experiment.test_data, _NUM_TEST.value)
    levels = run.experiment.test_data.num_levels
    found: dict[str, Any] = {}
    if "label" in test:
        sets = {"entries": [flat(rows["x"], levels) for rows in (train, test)]}
        latents = [run.encode(rows["x"]) for rows in (train, test)]
        if all(isinstance(z, np.ndarray) for z in latents):
            sets["latents"] = latents
        if run.family.generating is not None:
            sets["features"] = [run.encoder_features(rows["x"]) for rows in (train, test)]
        for name, (of_train, of_test) in sets.items():
            found[f"accuracy_{name}"] = evaluation.nearest_neighbour_accuracy(
                of_train, train["label"], of_test, test["label"], _NUM_NEIGHBOURS.value
            )
    again = flat(run.reconstruct(test["x"]), levels)
    x = flat(test["x"], levels)
    found["reconstruction_distance"] = float(np.linalg.norm(x - again, axis=1).mean())
    pairs = np.linalg.norm(np.roll(x, 1, axis=0) - again, axis=1)
    found["random_pair_distance"] = float(pairs.mean())
    found["ratio"] = found["reconstruction_distance"] / found["random_pair_distance"]
    step = run.newest()[0]
    print(f"step {step}, {len(train['x'])} training and {len(test['x'])} test rows\n")
    print("| measure | |\n|---|---|")
    for name, value in found.items():
        shown = f"{value:.2%}" if name.startswith("accuracy") else f"{value:.4g}"
        print(f"| {name.replace('_', ' ')} | {shown} |")
    if _JSON.value:
        said = {"workdir": _WORKDIR.value, "step": step, "num_neighbours": _NUM_NEIGHBOURS.value}
        said |= {"num_train": len(train["x"]), "num_test": len(test["x"])}
        with open(_JSON.value, "w") as file:
            json.dump({**said, **found}, file, indent=1)


if __name__ == "__main__":
    app.run(main)
