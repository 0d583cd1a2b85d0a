"""How good the translations of runs are, beside what they start from and the truth.

The test rows of the first run are translated by all: pairs (``source`` to ``x``, as
super-resolution and pix2pix have them), or rows of the stream ``source``, whose truth is their
feature ``partner`` where there is one. Errors are to the truth: L1 as a share of the levels; PSNR
of all channels; PSNR of the brightness (BT.601, 16 to 235), without a border as wide as the factor
of an enlargement; SSIM (Gaussian windows of 11 pixels). FD compares the features of a classifier of
what is made with those of the test rows; ``as labelled`` is the share that it assigns to the class
of what was translated.

    python scripts/translate.py --workdir=/tmp/genjax/srresnet_mnist,/tmp/genjax/srgan_mnist \
        --classifier=/tmp/genjax/classifier_mnist
"""

import json
import os
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import app, flags, logging

import genjax
from genjax import data, evaluation
from genjax.data.pairing import luma

_WORKDIR = flags.DEFINE_list("workdir", None, "Directories of runs.", required=True)
_CLASSIFIER = flags.DEFINE_string(
    "classifier", None, "Directory of a classifier's run, of images as the translations are."
)
_NUM_ROWS = flags.DEFINE_integer("num_rows", 1000, "Most test rows that are translated.")
_BATCH = flags.DEFINE_integer("batch_size", 250, "Rows translated at a time.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of what is drawn in translations.")
_BORDER = flags.DEFINE_integer(
    "border", None, "Pixels left out of the PSNR of brightness; the factor of enlargement if None."
)
_JSON = flags.DEFINE_string("json", None, "File to write all numbers to.")
_FIGURE = flags.DEFINE_string("figure", None, "PNG to write: source, translations, truth.")


class Task(NamedTuple):
    """What is to be translated.

    Attributes:
        name: What the family calls it: ``source`` or ``source/x``.
        source: What is translated, ``[N, ...]``.
        truth: What it should become, ``[N, *event]``, where that is known.
        label: Its classes, ``[N]``, where there are any.
        levels: Number of grey levels of what is made.
    """

    name: str
    source: np.ndarray
    truth: np.ndarray | None
    label: np.ndarray | None
    levels: int


def task_of(run: genjax.Run, num_rows: int) -> Task:
    """What a run translates: the first of its test rows."""
    asked = [name for name in ("source", "source/x") if name in run.family.reads]
    levels = run.experiment.spec["x"].num_levels
    if not asked or levels is None or len(run.experiment.spec["x"].shape) != 3:
        raise app.UsageError(
            f"{run.workdir}: expected a family that makes images of grey levels from a source, "
            "such as super_resolution, pix2pix or cycle_gan; this one reads "
            f"{', '.join(run.family.reads) or 'nothing'}"
        )
    stream, _, feature = asked[0].rpartition("/")
    held = run.experiment.streams[stream].test.source
    rows = held.rows(np.arange(min(len(held), num_rows)))
    truth = rows.get("partner" if stream else "x")
    return Task(asked[0], rows[feature], truth, rows.get("label"), levels)


def translated(run: genjax.Run, task: Task) -> np.ndarray:
    """Translations by a run, a batch at a time."""
    parts = []
    for number, start in enumerate(range(0, len(task.source), _BATCH.value)):
        reads: dict[str, Any] = {task.name: task.source[start : start + _BATCH.value]}
        parts.append(run.sample(seed=_SEED.value + number, **reads))
    return np.concatenate(parts)


def untranslated(task: Task, event_shape: tuple[int, ...]) -> tuple[str, np.ndarray] | None:
    """The source as an image like ``x``: enlarged, in its channels; None where it is no image."""
    source = task.source
    if source.ndim != 4:
        return None
    name, (height, width, channels) = "source", event_shape
    if source.shape[1:3] != (height, width):
        # By the filter that the pairs were shrunk with by default.
        name, source = "bicubic", data.resized(source, height, width)
    if source.shape[-1] == channels:
        return name, source
    grey = source if source.shape[-1] == 1 else luma(source)
    return name, np.repeat(np.rint(grey), channels, axis=-1).astype(source.dtype)


class Judge:
    """A trained classifier: features and decisions."""

    def __init__(self, place: str, event_shape: tuple[int, ...], levels: int):
        from genjax.config.features import classifier_features

        run = genjax.load(place, quiet=True)
        feature = run.experiment.spec["x"]
        if feature.shape != event_shape or feature.num_levels != levels:
            raise app.UsageError(
                f"{place}: expected a classifier of {levels} levels {event_shape}, as translations "
                f"are; it is of {feature.num_levels} levels {feature.shape}"
            )
        found = classifier_features(dataset=run.experiment.train_data, workdir=place)
        self.description = found.description
        self._apply = jax.jit(lambda images: found.apply(found.variables, images))

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features ``[N, F]`` and classes ``[N]``."""
        parts = []
        for start in range(0, len(images), 500):
            rows = images[start : start + 500]
            filled = rows[np.minimum(np.arange(500), len(rows) - 1)]  # one compilation for all
            parts.append([np.asarray(a)[: len(rows)] for a in self._apply(filled)])
        features, logits = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return features, logits.argmax(1)


def measured(
    sets: dict[str, np.ndarray], task: Task, judge: Judge | None, real: np.ndarray
) -> dict[str, dict[str, float]]:
    """Numbers of each set of images."""
    found: dict[str, dict[str, float]] = {}
    reference = judge(real)[0] if judge else None
    border = _BORDER.value
    if border is None:
        ratio = real.shape[1] // task.source.shape[1] if task.source.ndim == 4 else 1
        border = ratio if ratio > 1 else 0
    for name, images in sets.items():
        one: dict[str, float] = {}
        found[name] = one
        if task.truth is not None and name != "truth":
            peak = task.levels - 1.0
            one |= evaluation.image_errors(images, task.truth, peak=peak, border=border)
        if judge is not None and reference is not None:
            features, classes = judge(images)
            one["fd"] = evaluation.frechet_distance(reference, features)
            if task.label is not None:
                one["as_labelled"] = float((classes == task.label).mean())
    return found


COLUMNS = {
    "l1": ("L1", "{:.4f}"),
    "psnr": ("PSNR", "{:.2f}"),
    "psnr_y": ("PSNR (Y)", "{:.2f}"),
    "ssim": ("SSIM", "{:.4f}"),
    "chroma": ("chroma", "{:.3f}"),
    "fd": ("FD", "{:.2f}"),
    "as_labelled": ("as labelled", "{:.3f}"),
}


def draw(sets: dict[str, np.ndarray], levels: int, path: str) -> None:
    """Draws the first ten rows of each set, a set a line."""
    from PIL import Image

    from genjax.training.pictures import image_grid

    grid = image_grid(np.concatenate([rows[:10] for rows in sets.values()]), levels, columns=10)
    Image.fromarray(grid).save(path)


def main(_: list[str]) -> None:
    """Translates, measures, prints."""
    logging.set_verbosity(logging.WARNING)
    runs = {os.path.basename(os.path.normpath(w)): w for w in _WORKDIR.value}
    if len(runs) < len(_WORKDIR.value):
        raise app.UsageError("--workdir: two runs have one name; their last folders must differ")
    sets: dict[str, np.ndarray] = {}
    task: Task | None = None
    for name, place in runs.items():
        run = genjax.load(place, quiet=True)
        own = task_of(run, _NUM_ROWS.value)
        if task is None:
            task, test = own, run.experiment.test_data
            before = untranslated(task, test.event_shape)
            sets |= {} if before is None else {before[0]: before[1]}
        elif not np.array_equal(task.source, own.source):
            raise app.UsageError(f"{place}: its test rows are not those of {_WORKDIR.value[0]}")
        sets[name] = translated(run, own)
    assert task is not None
    if task.truth is not None and task.truth.shape[1:] == test.event_shape:
        sets["truth"] = task.truth
    else:
        task = task._replace(truth=None)
    real = test.source.rows(np.arange(min(len(test.source), 10_000)))["x"]
    judge = Judge(_CLASSIFIER.value, test.event_shape, task.levels) if _CLASSIFIER.value else None
    found = measured(sets, task, judge, real)
    print(f"{len(task.source)} test rows of {test.name}", end="")
    print(f"; FD to {len(real)} of them by {judge.description}\n" if judge else "\n")
    shown = [key for key in COLUMNS if any(key in one for one in found.values())]
    print("| images | " + " | ".join(COLUMNS[key][0] for key in shown) + " |")
    print("|---" * (1 + len(shown)) + "|")
    for name, one in found.items():
        cells = [COLUMNS[key][1].format(one[key]) if key in one else "-" for key in shown]
        print(f"| {name} | " + " | ".join(cells) + " |")
    if _JSON.value:
        said: dict[str, Any] = {"workdirs": _WORKDIR.value, "num_rows": len(task.source)}
        with open(_JSON.value, "w") as file:
            json.dump({**said, "seed": _SEED.value, "images": found}, file, indent=1)
    if _FIGURE.value:
        draw(sets, task.levels, _FIGURE.value)


if __name__ == "__main__":
    app.run(main)
