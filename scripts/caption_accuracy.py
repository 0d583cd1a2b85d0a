"""Whether a model of captioned digits draws what captions ask for, also what it has never seen.

Takes a run on ``captioned_digits`` of a family that samples from ``tokens``, or a pipeline that
ends in one, which is given nothing but captions. It draws for captions of the splits ``test``
(combinations that training has) and ``held_out`` (those that it has not).
A digit is what a classifier of plain digits takes it for, after the colours are undone, one slot
after the other; a colour is the nearest of those that captions name; ``exact`` is all at once.
FD compares the classifier's features of what is drawn, of each slot and channel as it stands, with
those of rows of the split that were not asked for; FD of digits those of digits whose colours are
undone. Lines of real images say what no model exceeds: the accuracy of the same captions' own
images, and their FD. Where the model is of latents, lines of images that came back from theirs say
what its first stage leaves of that.

    python scripts/caption_accuracy.py --workdir=/tmp/genjax/text_to_image \
        --scales=0,1,2,4 --results=captions.jsonl --figure=captions.png

The classifier is that of ``--classifier``, else of the run's ``eval.features``, else
``/tmp/genjax/classifier_mnist`` (or ``_digits``), where ``experiments/classifier`` puts it.
"""

import ast
import dataclasses
import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import app, flags, logging
from etils import epath

import genjax
from genjax import data, diffusion, evaluation
from genjax.data.captions import COLOURS, GROUNDS
from genjax.pipeline import has_pipeline
from genjax.training.workdir import WorkdirError

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run, or of the pipeline.", required=True
)
_CLASSIFIER = flags.DEFINE_string("classifier", None, "Directory of a run of a digit classifier.")
_SPLITS = flags.DEFINE_list("splits", ["test", "held_out"], "Splits whose captions are asked for.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 1000, "Samples of each split.")
_SCALES = flags.DEFINE_list("scales", [], "Scales of guidance; as in the run if left out.")
_NUM_STEPS = flags.DEFINE_integer("num_steps", None, "Steps; those of the run if left out.")
_SAMPLER = flags.DEFINE_string(
    "sampler", None, "Sampler: a name, or a mapping as in a config; that of the run if left out."
)
_BATCH = flags.DEFINE_integer("batch_size", 250, "Samples drawn at a time.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the captions and of the noise.")
_RESULTS = flags.DEFINE_string("results", None, "File of a JSON line a row; none if left out.")
_FIGURE = flags.DEFINE_string("figure", None, "PNG of accuracy against FD; none if left out.")

COLUMNS = {"label": "digit", "right": "right digit", "colour": "colour", "ground": "ground",
           "exact": "exact"}  # fmt: skip
MORE = {"fd": ("FD", "{:.2f}"), "fd_digits": ("FD of digits", "{:.2f}"),
        "consistency_psnr": ("consistency (dB)", "{:.1f}"),
        "seconds": ("seconds a picture", "{:.3g}")}  # fmt: skip
_PALETTE = np.array([*GROUNDS.values(), *COLOURS.values()])


class Asked(NamedTuple):
    """What of a split is asked for, and what samples are compared with.

    Attributes:
        rows: Features of the rows whose captions are asked for, ``[N, ...]``.
        others: What a classifier sees in the rows that are compared with, as of
            :meth:`Judge.features`.
        disjoint: Whether these are other rows; else there are too few, and they are all.
        source: Images of a lower resolution that samples are to agree with, where the family reads
            them.
    """

    rows: Mapping[str, np.ndarray]
    others: Mapping[str, np.ndarray]
    disjoint: bool
    source: np.ndarray | None


class Judge:
    """A trained classifier of single digits in one channel."""

    def __init__(self, place: str, size: tuple[int, ...]):
        from genjax.config.features import classifier_features

        try:
            run = genjax.load(place, quiet=True)
        except WorkdirError as error:
            raise app.UsageError(
                f"--classifier: {error}; train one of experiments/classifier, or name another"
            ) from error
        feature = run.experiment.spec["x"]
        if feature.shape != (*size, 1) or feature.num_levels is None:
            raise app.UsageError(
                f"{place}: expected a classifier of grey images {(*size, 1)} of one digit, got one "
                f"of {feature.shape}; name another in --classifier"
            )
        found = classifier_features(dataset=run.experiment.train_data, workdir=place)
        self.description, self._top = found.description, feature.num_levels - 1
        self._dtype = feature.dtype
        self._apply = jax.jit(lambda images: found.apply(found.variables, images))

    def _asked(self, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features and logits of shares of white ``[N, H, W, 1]``."""
        parts = []
        for start in range(0, len(shares), 500):
            rows = np.rint(shares[start : start + 500] * self._top).astype(self._dtype)
            filled = rows[np.minimum(np.arange(500), len(rows) - 1)]  # one compilation for all
            parts.append([np.asarray(a)[: len(rows)] for a in self._apply(filled)])
        features, logits = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return features, logits

    def classify(self, shares: np.ndarray) -> np.ndarray:
        """Class ids ``[N]`` of shares of white ``[N, H, W, 1]``."""
        return self._asked(shares)[1].argmax(1)

    def features(self, images: np.ndarray, *, pair: bool) -> dict[str, np.ndarray]:
        """Features ``[N, D]`` of images from 0 to 255.

        Args:
            images: ``[N, H, W, C]``.
            pair: Whether they are of two digits.

        Returns:
            ``fd``, of all slots and channels side by side, and of colours ``fd_digits``, of digits
            without them.
        """
        slots = np.split(images, 2, axis=2) if pair else [images]
        channels = [slot[..., i : i + 1] / 255.0 for slot in slots for i in range(slot.shape[-1])]
        parts = {"fd": channels}
        if images.shape[-1] == 3:
            parts["fd_digits"] = evaluation.digit_slots(images, pair=pair)
        return {
            name: np.concatenate([self._asked(shares)[0] for shares in found], axis=1)
            for name, found in parts.items()
        }


def split_of(run: genjax.Run, split: str) -> data.DataSet:
    """A split of the run's data, prepared as its own are."""
    settings = run.experiment.data
    try:
        loaded = data.load(
            "captioned_digits",
            split,
            data_dir=settings.data_dir,
            memory_limit_mib=settings.memory_limit_mib,
            **(settings.options or {}),
        )
    except ValueError as error:
        raise app.UsageError(f"--splits: {error}") from error
    return data.prepared(loaded, run.experiment.streams[""].transforms)


def asked_of(run: genjax.Run, split: str, judge: Judge, *, with_source: bool) -> Asked:
    """Draws whose captions are asked for; again from the start where there are too few."""
    dataset, count = split_of(run, split), _NUM_SAMPLES.value
    order = np.random.default_rng(_SEED.value).permutation(len(dataset.source))
    rows = dataset.source.rows(order[np.arange(count) % len(order)])
    disjoint = len(order) >= 2 * count
    others = dataset.source.rows(np.sort(order[count:] if disjoint else order))["x"]
    source = rows["source"] if with_source and "source" in run.family.reads else None
    if source is not None and (source.ndim != 4 or source.shape[1:3] == rows["x"].shape[1:3]):
        source = None
    return Asked(rows, judge.features(others, pair="right" in rows), disjoint, source)


def guidance_of(run: genjax.Run, scale: float) -> diffusion.ClassifierFree:
    """Guidance at a scale, in all else that of the run."""
    section = dict(run.experiment.sample.guidance or {})
    if section.pop("name", "classifier_free") != "classifier_free":
        raise app.UsageError("--scales: expected a run with classifier-free guidance, or with none")
    return diffusion.ClassifierFree(**{**section, "scale": scale})


def sampler_of(words: str | None) -> Mapping[str, Any] | None:
    """The sampler that ``--sampler`` describes."""
    if words is None:
        return None
    try:
        found = ast.literal_eval(words) if words.startswith("{") else {"name": words}
    except (SyntaxError, ValueError) as error:
        raise app.UsageError(f"--sampler: expected a name or a mapping, got {words!r}") from error
    return dict(found)


class Drawing:
    """Draws one way from a run or a pipeline; the first call compiles, which is not timed.

    Args:
        run: The run, or the last one of the pipeline.
        pipeline: The pipeline, if it is one.
        guidance: Guidance, of all stages; None for that of each.
    """

    def __init__(
        self,
        run: genjax.Run,
        pipeline: genjax.Pipeline | None,
        guidance: diffusion.ClassifierFree | None,
    ):
        self._run = run
        self._pipeline = pipeline
        how = dict(
            num_steps=_NUM_STEPS.value, guidance=guidance, sampler=sampler_of(_SAMPLER.value)
        )
        self._how: dict[str, Any] = {key: value for key, value in how.items() if value is not None}
        self._compiled = False
        stages = [run]
        if pipeline is not None:
            stages = [pipeline.stages[link.stage] for link in pipeline.chain]
        self.protocol = "; then ".join(protocol_of(stage, self._how) for stage in stages)

    def _drawn(self, rows: Mapping[str, np.ndarray], seed: int) -> np.ndarray:
        if self._pipeline is None:
            reads = [name for name in self._run.family.reads if "/" not in name]
            asked: dict[str, Any] = {name: rows[name] for name in reads}
            return self._run.sample(seed=seed, **self._how, **asked)
        words = self._run.experiment.spec["tokens"].vocabulary
        assert words is not None  # of captioned digits
        texts = words.decode(rows["tokens"])
        return self._pipeline.sample(len(texts), prompts=texts, seed=seed, **self._how)

    def __call__(self, rows: Mapping[str, np.ndarray], seed: int) -> tuple[np.ndarray, float]:
        """Images of captions ``[N, H, W, C]``, and the seconds that each took."""
        if not self._compiled:
            self._drawn({name: column[:1] for name, column in rows.items()}, seed)
            self._compiled = True
        start = time.perf_counter()
        images = self._drawn(rows, seed)
        return images, (time.perf_counter() - start) / len(images)


def protocol_of(run: genjax.Run, how: Mapping[str, Any]) -> str:
    """How samples of a run are drawn, its own way but for what is said."""
    family, resampled = run.family, run.experiment.resampled
    if how and resampled is not None:  # else it does not go from noise to data in steps
        settings = run.experiment.sample
        steps = how.get("num_steps", settings.num_steps)
        changed = {key: value for key, value in how.items() if key != "num_steps"}
        # Sections become values, which say what they are.
        family = resampled(dataclasses.replace(settings, num_steps=steps), **changed)
    return ", ".join(family.sample_protocol.values())


def reconstructed(run: genjax.Run, rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """The images of rows as they come back from their latents ``[N, H, W, C]``."""
    back, key = run.family.reconstruct, jax.random.key(_SEED.value)
    assert back is not None
    read = {name: rows[name] for name in ("x", "tokens")}
    return np.asarray(run.of_rows("back", lambda state, batch: back(state, batch, key), read))


def measured(images: np.ndarray, asked: Asked, judge: Judge, *, real: bool) -> dict[str, Any]:
    """Numbers of images that should be as captions say."""
    found: dict[str, Any] = evaluation.caption_accuracy(
        images, judge.classify, asked.rows, colours=np.array(list(COLOURS.values())),
        grounds=_PALETTE,
    )  # fmt: skip
    found["num_samples"] = len(images)
    # Rows are at no distance from themselves, which says nothing.
    if asked.disjoint or not real:
        for name, own in judge.features(images, pair="right" in asked.rows).items():
            found[name] = evaluation.frechet_distance(asked.others[name], own)
    if asked.source is not None:
        ratios = evaluation.consistency_psnr(images, asked.source)
        finite = ratios[np.isfinite(ratios)]  # as tables of PSNR have it
        found["consistency_psnr"] = float(finite.mean()) if len(finite) else float("inf")
    return {**found, "num_others": len(asked.others["fd"])}


def table(rows: list[dict[str, Any]]) -> str:
    """All rows in Markdown."""
    parts = [name for name in COLUMNS if any(name in row for row in rows)]
    more = {key: value for key, value in MORE.items() if any(key in row for row in rows)}
    heads = ["captions", "images", *(COLUMNS[n] for n in parts), *(h for h, _ in more.values())]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in sorted(rows, key=lambda row: _SPLITS.value.index(row["split"])):
        cells = [row["split"], row["images"]]
        cells += [f"{row[name]:.3f} ± {row[f'{name}_stderr']:.3f}" for name in parts]
        cells += [form.format(row[key]) if key in row else "-" for key, (_, form) in more.items()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: str) -> None:
    """Draws exact accuracy against FD, a line a split, with the scales of guidance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, split in enumerate(dict.fromkeys(row["split"] for row in rows)):
        own = [row for row in rows if row["split"] == split and row["scale"] is not None]
        x, y, error = (np.array([row[k] for row in own]) for k in ("fd", "exact", "exact_stderr"))
        axes.errorbar(x, y, yerr=error, marker="o", color=f"C{number}", label=split)
        for row in own:
            axes.annotate(
                f"{row['scale']:g}", (row["fd"], row["exact"]), xytext=(4, 4),
                textcoords="offset points", fontsize="small",
            )  # fmt: skip
        real = next(row for row in rows if row["split"] == split and row["images"] == "real")
        axes.axhline(
            real["exact"], color=f"C{number}", linestyle=":", label=f"{split}, real images"
        )
    axes.set(xlabel="FD", ylabel="share of captions met in all parts", ylim=(0, 1.03))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=100)


def judge_of(run: genjax.Run) -> Judge:
    """The classifier of ``--classifier``, or where the run or the experiments have it."""
    options = run.experiment.data.options or {}
    features = run.experiment.eval.features or {}
    own = features.get("workdir") if features.get("name") == "classifier" else None
    default = f"/tmp/genjax/classifier_{options.get('images', 'mnist')}"
    height, width, _ = run.experiment.spec["x"].shape
    width //= 2 if options.get("scene") == "pair" else 1
    return Judge(_CLASSIFIER.value or own or default, (height, width))


def opened(place: str, batch_size: int) -> tuple[genjax.Run, genjax.Pipeline | None]:
    """The run in a workdir, or the last one of the pipeline there, and the pipeline."""
    if not has_pipeline(epath.Path(place)):
        return genjax.load(place, {"sample.batch_size": batch_size}, quiet=True), None
    stages = [link.stage for link in genjax.Pipeline(None, place, quiet=True).chain]
    sizes = {f"stages.{name}.sample.batch_size": batch_size for name in stages}
    pipeline = genjax.Pipeline(None, place, sizes, quiet=True)
    return pipeline.stages[stages[-1]], pipeline


def main(_: list[str]) -> None:
    """Draws, measures, prints and draws a figure."""
    logging.set_verbosity(logging.WARNING)
    run, pipeline = opened(_WORKDIR.value, min(_BATCH.value, _NUM_SAMPLES.value))
    if run.experiment.data.name != "captioned_digits" or "tokens" not in run.family.reads:
        raise app.UsageError(
            f"{_WORKDIR.value}: expected a run on captioned_digits of a family that samples from "
            f"tokens; it is on {run.experiment.data.name} and reads "
            f"{', '.join(run.family.reads) or 'nothing'}"
        )
    if _FIGURE.value and not _SCALES.value:
        raise app.UsageError("--figure is of scales of guidance: give --scales, too")
    judge = judge_of(run)
    source = pipeline is None  # which makes its own small images
    asked = {name: asked_of(run, name, judge, with_source=source) for name in _SPLITS.value}
    rows: list[dict[str, Any]] = []

    def add(said: dict[str, Any], images: np.ndarray) -> None:
        found = measured(images, asked[said["split"]], judge, real=said["images"] == "real")
        rows.append({**said, **found, "classifier": judge.description})
        print(json.dumps(rows[-1]), flush=True)
        if _RESULTS.value:
            with open(_RESULTS.value, "a") as file:
                file.write(json.dumps(rows[-1]) + "\n")

    for name, one in asked.items():
        add({"split": name, "images": "real", "scale": None}, one.rows["x"])
        if run.family.reconstruct is not None:
            back = {"split": name, "images": "reconstructed", "scale": None}
            add(back, reconstructed(run, one.rows))
    scales: list[float | None] = [float(scale) for scale in _SCALES.value] or [None]
    for scale in scales:
        drawing = Drawing(run, pipeline, None if scale is None else guidance_of(run, scale))
        called = "drawn" if scale is None else f"guidance {scale:g}"
        for name, one in asked.items():
            images, seconds = drawing(one.rows, _SEED.value)
            said = {"split": name, "images": called, "scale": scale, "seconds": seconds}
            add({**said, "protocol": drawing.protocol}, images)
    print(f"\n{_NUM_SAMPLES.value} captions of each split; FD by {judge.description}")
    for protocol in dict.fromkeys(row["protocol"] for row in rows if row.get("protocol")):
        print(f"drawn by {protocol}")
    print("\n" + table(rows))
    if _FIGURE.value:
        draw(rows, _FIGURE.value)


if __name__ == "__main__":
    app.run(main)
