"""What classifier-free guidance does at each scale: a table, and the same samples side by side.

Takes a class-conditional run of a family that denoises, trained with labels left out, and draws at
each scale the same noise with the same labels, by the sampler, the steps and the interval of the
run's ``sample`` section. Scale 1 is no guidance, 0 the unconditional model.

    python scripts/guidance_scales.py --workdir=/tmp/genjax/diffusion_mnist --scales=0,1,2,4 \
        --results=scales.jsonl --figure=scales.png
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags, logging

import genjax
from genjax import diffusion
from genjax.training import pictures

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
_SCALES = flags.DEFINE_list("scales", ["0", "1", "1.5", "2", "4", "8"], "Scales of guidance.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 1000, "Samples of each scale.")
_NUM_STEPS = flags.DEFINE_integer("num_steps", None, "Steps; those of the run if left out.")
_BETWEEN = flags.DEFINE_multi_float(
    "between", None, "Times from and to which guidance acts: the flag twice; as in the run if not."
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the noise.")
_SHOWN = flags.DEFINE_integer("shown", 20, "Samples of each scale in the figure.")
_RESULTS = flags.DEFINE_string("results", None, "File of a JSON line a scale; none if left out.")
_FIGURE = flags.DEFINE_string("figure", None, "PNG to write; none if left out.")


def guidance_of(run: genjax.Run) -> diffusion.ClassifierFree:
    """The run's guidance, or that of all times; with the interval that was asked for."""
    section = dict(run.experiment.sample.guidance or {})
    if section.pop("name", "classifier_free") != "classifier_free":
        raise app.UsageError("expected a run with classifier-free guidance, or with none")
    if _BETWEEN.value is not None:
        if len(_BETWEEN.value) != 2:
            raise app.UsageError(f"--between must be given twice, got {_BETWEEN.value}")
        section |= dict(zip(("start", "stop"), _BETWEEN.value, strict=True))
    return diffusion.ClassifierFree(**section)


def measured(run: genjax.Run, guidance: diffusion.ClassifierFree) -> tuple[Any, dict[str, Any]]:
    """The samples of one scale, and what is measured of them."""
    count = _NUM_SAMPLES.value
    quality = None if run.experiment.quality is None else run.experiment.quality()
    labels = None if quality is None else quality.labels
    requests = run.experiment.sample_requests(count, labels=labels)
    reads: dict[str, Any] = {key: value for key, value in requests.items() if key != "x"}
    asked: dict[str, Any] = dict(guidance=guidance, num_steps=_NUM_STEPS.value, seed=_SEED.value)
    start = time.perf_counter()
    samples = run.sample(count, **asked, **reads)
    row = {"scale": guidance.scale, "guidance": str(guidance), "num_samples": count}
    row["seconds"] = round(time.perf_counter() - start, 1)
    # Labels of data come as they stand there; pictures have one class after the other.
    shown = run.sample(_SHOWN.value, **asked)
    if quality is not None:
        row |= quality.measure(
            samples,
            reads.get("label"),
            mesh=run.mesh,
            batch_size=run.experiment.sample.batch_size or count,
            progress=lambda items, total, label: items,
        )
    return shown, row


def table(rows: list[dict[str, Any]], names: Sequence[str]) -> str:
    """All numbers of all scales in Markdown."""
    lines = ["| scale | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in rows:
        lines.append(f"| {row['scale']:g} | " + " | ".join(f"{row[n]:.3g}" for n in names) + " |")
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Draws, measures, prints and draws a figure."""
    logging.set_verbosity(logging.WARNING)
    run = genjax.load(_WORKDIR.value, quiet=True)
    if run.family.denoising is None or "label" not in run.family.reads:
        raise app.UsageError(f"{_WORKDIR.value}: expected a class-conditional run that denoises")
    guidance = guidance_of(run)
    grids, rows = [], []
    for scale in map(float, _SCALES.value):
        shown, row = measured(run, dataclasses.replace(guidance, scale=scale))
        grids.append(shown)
        rows.append(row)
        print(json.dumps(row), flush=True)
        if _RESULTS.value:
            with open(_RESULTS.value, "a") as file:
                file.write(json.dumps(row) + "\n")
    if run.experiment.quality is not None:
        print(f"\n{_NUM_SAMPLES.value} samples, {guidance}\n".replace(f" {guidance.scale:g}", ""))
        print(table(rows, run.experiment.quality().names))
    if _FIGURE.value:
        from PIL import Image

        levels = run.experiment.train_data.num_levels
        images = pictures.image_grid(np.concatenate(grids), levels, columns=_SHOWN.value)
        Image.fromarray(images).save(_FIGURE.value)


if __name__ == "__main__":
    app.run(main)
