"""What noise schedules change in a trained VDM, and what they do not: a table and a figure.

Between the same end points every schedule has the same continuous-time bound; its estimate from one
time has another variance (Kingma et al., arXiv:2107.00630, section 5.1), and times that are spread
evenly over a batch lower that of a batch's mean (appendix I.1). Takes the network of a run of the
family ``vdm``, its learned schedule, and two fixed ones between the learned end points.

    python scripts/vdm_variance.py --workdir=/tmp/genjax/digits --figure=variance.png
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

import genjax
from genjax.diffusion import FixedLinearSchedule, independent_times, stratified_times
from genjax.families.variational_diffusion import VariationalDiffusion

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
_FIGURE = flags.DEFINE_string("figure", None, "PNG to write; none if left out.")
_NUM_BATCHES = flags.DEFINE_integer("num_batches", 200, "Batches of each estimate.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Examples in a batch.")


class CosineSchedule(nn.Module):
    """Gamma of alpha = cos(pi u / 2), where u runs evenly between the times of both end points."""

    gamma_0: float
    gamma_1: float

    @nn.compact
    def __call__(self, times: jax.Array) -> jax.Array:
        """Maps times in [0, 1] to gamma."""
        first, last = (jnp.arctan(jnp.exp(0.5 * g)) for g in (self.gamma_0, self.gamma_1))
        return 2.0 * jnp.log(jnp.tan(first + (last - first) * times))


@dataclasses.dataclass(frozen=True)
class Estimates:
    """Diffusion losses in bits per dimension: of rows ``[N, B]`` at times of the same shape."""

    times: np.ndarray
    gamma: np.ndarray
    stratified: np.ndarray
    independent: np.ndarray

    def row(self) -> tuple[float, float, float, float, float]:
        """Mean and standard error, variance of one estimate, variances of means of batches."""
        rows = self.independent.ravel()
        batches = [np.var(e.mean(1), ddof=1) for e in (self.stratified, self.independent)]
        error = self.stratified.mean(1).std(ddof=1) / np.sqrt(len(self.stratified))
        return float(self.stratified.mean()), float(error), float(rows.var(ddof=1)), *batches


def measure(
    model: VariationalDiffusion, params: Any, x: np.ndarray, num_batches: int, batch_size: int
) -> Estimates:
    """Estimates the diffusion loss of one schedule in batches of rows drawn from ``x``."""
    per_nat = 1.0 / (model.num_dims * np.log(2.0))

    @jax.jit
    def both(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        key_rows, key_noise, *keys = jax.random.split(key, 4)
        rows = jnp.asarray(x)[jax.random.randint(key_rows, (batch_size,), 0, len(x))]
        noise = jax.random.normal(key_noise, rows.shape)
        found = []
        for draw, key_times in zip((stratified_times, independent_times), keys, strict=True):
            times = draw(key_times, batch_size)
            at = model.at_times(params, times)
            found.append(per_nat * model.noise_loss(params, {"x": rows}, noise, *at))
        return times, *found

    drawn = [both(key) for key in jax.random.split(jax.random.key(0), num_batches)]
    times, stratified, independent = (
        np.asarray(jnp.stack(part)) for part in zip(*drawn, strict=True)
    )
    grid = jnp.linspace(0.0, 1.0, 201)
    return Estimates(times, np.asarray(model.gamma(params, grid)), stratified, independent)


def draw(found: dict[str, Estimates], path: str) -> None:
    """Draws gamma, the loss over time, and the variances."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    edges = np.linspace(0.0, 1.0, 26)
    for name, estimates in found.items():
        left.plot(np.linspace(0.0, 1.0, 201), estimates.gamma, label=name)
        place = np.digitize(estimates.times.ravel(), edges) - 1
        losses = estimates.independent.ravel()
        means = [losses[place == i].mean() for i in range(25)]
        middle.plot(0.5 * (edges[1:] + edges[:-1]), means, label=name)
    places = np.arange(len(found))
    for offset, (label, column) in enumerate(
        [("one example", 2), ("batch, stratified", 3), ("batch, independent", 4)]
    ):
        heights = [estimates.row()[column] for estimates in found.values()]
        right.bar(places + 0.27 * (offset - 1), heights, 0.25, label=label)
    left.set(title="gamma(t)", xlabel="t")
    middle.set(title="diffusion loss at t, bits/dim", xlabel="t")
    right.set(title="variance of its estimate", yscale="log", xticks=places)
    right.set_xticklabels(list(found))
    for axes in (left, middle, right):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def main(_: list[str]) -> None:
    """Measures, prints and draws."""
    logging.set_verbosity(logging.WARNING)
    run = genjax.load(_WORKDIR.value, quiet=True)
    nets, params = run.experiment.networks, dict(run.state.ema)
    if "schedule" not in nets:
        raise app.UsageError(f"{_WORKDIR.value} holds no run of the family vdm")
    data = run.experiment.test_data
    model = VariationalDiffusion(
        score_net=nets["score_net"],
        schedule=nets["schedule"],
        event_shape=data.event_shape,
        num_levels=data.num_levels,
    )
    ends = [float(g) for g in model.gamma(params, jnp.array([0.0, 1.0]))]
    x = data.source.rows(np.arange(len(data.source)))["x"]
    found = {}
    for name, schedule in [
        ("learned", None), ("linear", FixedLinearSchedule(*ends)), ("cosine", CosineSchedule(*ends))
    ]:  # fmt: skip
        other = model if schedule is None else dataclasses.replace(model, schedule=schedule)
        own = params if schedule is None else {**params, "schedule": {}}
        found[name] = measure(other, own, x, _NUM_BATCHES.value, _BATCH_SIZE.value)
    print("| schedule | diffusion loss, bits/dim | variance of one estimate | of a batch's mean, "
          "stratified | independent |\n|---|---|---|---|---|")  # fmt: skip
    for name, estimates in found.items():
        mean, error, *variances = estimates.row()
        shown = " | ".join(f"{variance:.3g}" for variance in variances)
        print(f"| {name} | {mean:.3f} ± {error:.3f} | {shown} |")
    if _FIGURE.value:
        draw(found, _FIGURE.value)


if __name__ == "__main__":
    app.run(main)
