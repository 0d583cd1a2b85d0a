"""How good samples are for how many network calls: a table and a figure of all samplers.

Takes a run of a family that denoises and has ``eval.metrics``, and draws from it with every sampler
as many samples as are asked for, in as many steps as the calls are enough for. With ``--scale``
other than 1 there is classifier-free guidance, which asks with and without the label: two calls.
Rows that are in ``--results`` already are not drawn again.

    python scripts/sampler_quality.py --workdir=/tmp/genjax/diffusion_mnist \
        --results=samplers.jsonl --figure=samplers.png
"""

import json
import os
import time
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

import genjax
from genjax import diffusion

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
_RESULTS = flags.DEFINE_string("results", None, "File of a JSON line a row.", required=True)
_FIGURE = flags.DEFINE_string("figure", None, "PNG to write; none if left out.")
_CALLS = flags.DEFINE_list("calls", ["5", "10", "20", "50", "100"], "Network calls of a sample.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 2000, "Samples of each row.")
_SCALE = flags.DEFINE_float("scale", 1.0, "Scale of classifier-free guidance; 1 is none.")
_BETWEEN = flags.DEFINE_multi_float(
    "between", [1.0, 0.0], "Times from and to which guidance acts: the flag twice."
)
_ONLY = flags.DEFINE_list("samplers", [], "Names of samplers; all if left out.")

SAMPLERS: dict[str, Any] = {
    "ancestral": diffusion.Ancestral(times="karras"),
    "DDIM": diffusion.DDIM(times="karras"),
    "Heun": diffusion.Heun(),
    "Heun, churn": diffusion.Heun(churn=10.0, churn_min=0.05, churn_max=20.0),
    "DPM-Solver++ 2M": diffusion.DPMSolver(order=2),
    "DPM-Solver++ 3M": diffusion.DPMSolver(order=3),
    "DPM-Solver++ 2S": diffusion.DPMSolver(order=2, form="singlestep"),
    "DPM-Solver++ 3S": diffusion.DPMSolver(order=3, form="singlestep"),
    "SDE-DPM-Solver++ 2M": diffusion.DPMSolver(order=2, form="stochastic"),
    "UniPC": diffusion.UniPC(order=2),
    "predictor-corrector": diffusion.PredictorCorrector(times="karras"),
}


def calls_of(
    process: diffusion.Process, sampler: Any, guidance: diffusion.ClassifierFree, num_steps: int
) -> int:
    """Network calls of a sample: those of guidance without the label are calls, too."""
    grid = diffusion.time_grid(process, num_steps, sampler.times, rho=sampler.rho)
    times = np.asarray(sampler.table(process, grid).times)
    guided = (times <= guidance.start) & (times >= guidance.stop)
    return len(times) + (int(guided.sum()) if guidance.asks_twice else 0)


def process_of(run: genjax.Run) -> diffusion.Process:
    """The process of a run, whose schedule may have been learned."""
    assert run.family.denoising is not None  # which main has looked at
    one = {key: jnp.asarray(value) for key, value in run.experiment.sample_requests(1).items()}
    return run.family.denoising(run.state, one).denoiser.process


def measured(
    run: genjax.Run,
    process: diffusion.Process,
    name: str,
    guidance: diffusion.ClassifierFree,
    calls: int,
) -> dict[str, Any] | None:
    """Draws samples and measures them; None if there are too few calls for a step."""
    sampler = SAMPLERS[name]
    assert run.experiment.quality is not None
    made = ((n, calls_of(process, sampler, guidance, n)) for n in range(calls, 0, -1))
    num_steps, num_calls = next((pair for pair in made if pair[1] <= calls), (0, 0))
    if not num_steps:
        return None
    quality, count = run.experiment.quality(), _NUM_SAMPLES.value
    requests = run.experiment.sample_requests(count, labels=quality.labels)
    reads = {key: value for key, value in requests.items() if key != "x"}
    start = time.perf_counter()
    asked: dict[str, Any] = {**reads, "guidance": guidance} if reads else {}
    samples = run.sample(count, num_steps=num_steps, sampler=sampler, **asked)
    seconds = time.perf_counter() - start
    found = quality.measure(
        samples,
        reads.get("label"),
        mesh=run.mesh,
        batch_size=500,
        progress=lambda items, total, label: items,
    )
    said = {"sampler": name, "asked": calls, "guidance": str(guidance)}
    timed = {"calls": num_calls, "steps": num_steps, "seconds": round(seconds, 1)}
    return {**said, **timed, **found}


def table(rows: list[dict[str, Any]], column: str) -> str:
    """One number of all rows in Markdown, a line a sampler and a column a number of calls."""
    asked = sorted({row["asked"] for row in rows})
    lines = ["| sampler | " + " | ".join(map(str, asked)) + " |", "|---" * (len(asked) + 1) + "|"]
    for name in dict.fromkeys(row["sampler"] for row in rows):
        found = {row["asked"]: row[column] for row in rows if row["sampler"] == name}
        shown = [f"{found[calls]:.3g}" if calls in found else "" for calls in asked]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], column: str, path: str) -> None:
    """Draws a number against network calls, a line a sampler."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=colormaps["tab20"].colors)  # type: ignore[attr-defined]
    for name in dict.fromkeys(row["sampler"] for row in rows):
        own = sorted((row["calls"], row[column]) for row in rows if row["sampler"] == name)
        axes.plot(*zip(*own, strict=True), marker="o", label=name)
    axes.set(xscale="log", yscale="log", xlabel="network calls of a sample", ylabel=column)
    asked = sorted({row["asked"] for row in rows})
    axes.set_xticks(asked, [str(calls) for calls in asked])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=100)


def main(_: list[str]) -> None:
    """Draws, measures, prints and draws a figure."""
    logging.set_verbosity(logging.WARNING)
    unknown = sorted(set(_ONLY.value) - set(SAMPLERS))
    if unknown:
        raise app.UsageError(f"unknown sampler {unknown[0]!r}; valid: {', '.join(SAMPLERS)}")
    run = genjax.load(_WORKDIR.value, quiet=True)
    if run.family.denoising is None or run.experiment.quality is None:
        raise app.UsageError(f"{_WORKDIR.value}: expected a run that denoises and has eval.metrics")
    if len(_BETWEEN.value) != 2:
        raise app.UsageError(f"--between must be given twice, got {_BETWEEN.value}")
    start, stop = _BETWEEN.value
    guidance = diffusion.ClassifierFree(scale=_SCALE.value, start=start, stop=stop)
    if guidance.asks_twice and not run.family.reads:
        raise app.UsageError("--scale: this model takes no labels to be guided to")
    asked, process = (str(guidance), _NUM_SAMPLES.value), process_of(run)
    rows = []
    if os.path.exists(_RESULTS.value):
        with open(_RESULTS.value) as lines:
            rows = [json.loads(line) for line in lines]
    known = {(row["sampler"], row["asked"], row["guidance"], row["num_samples"]) for row in rows}
    for calls in sorted(map(int, _CALLS.value)):
        for name in _ONLY.value or SAMPLERS:
            if (name, calls, *asked) in known:
                continue
            row = measured(run, process, name, guidance, calls)
            if row is not None:
                rows.append(row)
                print(json.dumps(row), flush=True)
                with open(_RESULTS.value, "a") as file:
                    file.write(json.dumps(row) + "\n")
    own = [row for row in rows if (row["guidance"], row["num_samples"]) == asked]
    for column in run.experiment.quality().names:
        print(f"\n{column}, {_NUM_SAMPLES.value} samples, {guidance}\n")
        print(table(own, column))
    if _FIGURE.value:
        draw(own, run.experiment.quality().names[0], _FIGURE.value)


if __name__ == "__main__":
    app.run(main)
