r"""The game f(x, y) = x y: who moves when decides whether gradient play finds (0, 0).

x descends and y ascends with steps :math:`\eta`, by the training step of the adversarial families.
Every play is linear, :math:`z_{t+1} = M z_t`, and turns; its radius grows by
:math:`\sqrt{\det M}` a step:

* simultaneous: :math:`1 + \eta^2`, which diverges; of K unrolled steps of y,
  :math:`1 - (2K - 1)\eta^2`;
* alternating, y first: 1, an orbit; of K unrolled steps, :math:`1 - 2K\eta^2`.

The mean of an orbit goes to 0 like 1/t, and a moving average is a smaller orbit.

    python scripts/why_gans_fail/bilinear_game.py --figure=game.png
"""

import argparse
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from genjax.families import HalfLife
from genjax.families.adversarial import Adversarial
from genjax.families.players import Player

START = (1.0, 0.5)


class Play(NamedTuple):
    """A way of playing: the order of moves, and steps of y that x looks ahead."""

    order: Any
    unrolled: int = 0

    def matrix(self, rate: float) -> np.ndarray:
        """What maps (x, y) to the next, ``[2, 2]``."""
        k = self.unrolled
        # x goes down the slope y + 2 K rate x of x (y + K rate x).
        ascend = np.array([[1.0, 0.0], [rate, 1.0]])
        descend = np.array([[1.0 - 2.0 * k * rate**2, -rate], [0.0, 1.0]])
        if self.order == "critic first":
            return descend @ ascend
        return ascend + descend - np.eye(2)

    def growth(self, rate: float) -> float:
        """Growth of the radius in a step, by the facts above."""
        k = self.unrolled
        return float(
            np.sqrt(1 - 2 * k * rate**2)
            if self.order == "critic first"
            else np.sqrt(1 - (2 * k - 1) * rate**2)
        )


PLAYS = {
    "simultaneous": Play("together"),
    "alternating": Play("critic first"),
    "simultaneous, 1 step unrolled": Play("together", 1),
    "simultaneous, 5 steps unrolled": Play("together", 5),
    "alternating, 5 steps unrolled": Play("critic first", 5),
}


def family(play: Play, rate: float, half_life: float) -> Adversarial:
    """The game as an adversarial family: what is "generated" is x itself."""
    ascent = optax.sgd(rate)

    def critic_loss(params: Any, state: Any, batch: Any, fake: Any, key: Any, turn: Any) -> Any:
        return -fake * params["y"]["value"], ({}, state)

    def generator_loss(params: Any, state: Any, batch: Any, fake: Any, key: Any, turn: Any) -> Any:
        own: Any = {"y": params["y"]}
        opt_state = turn.opt_state["critic"]
        for _ in range(play.unrolled):
            grads = jax.grad(lambda own: critic_loss(own, state, batch, fake, key, turn)[0])(own)
            updates, opt_state = ascent.update(grads, opt_state, own)
            own = optax.apply_updates(own, updates)
        return fake * own["y"]["value"], ({}, state)

    return Adversarial(
        init_networks=lambda key, batch: (
            {n: {"value": jnp.asarray(v)} for n, v in zip("xy", START, strict=True)},
            {"x": {}, "y": {}},
        ),
        generate=lambda params, state, batch, factor, key: (params["x"]["value"], state),
        critic=Player(networks=("y",), loss_fn=critic_loss, optimizer=ascent),
        generator=Player(networks=("x",), loss_fn=generator_loss, optimizer=optax.sgd(rate)),
        batch_size=1,
        order=play.order,
        averaged=("x", "y"),
        average=HalfLife(ema_half_life_kimg=1e-3 * half_life, ema_rampup=0.0),
    )


def played(play: Play, rate: float, num_steps: int, half_life: float = 50.0) -> np.ndarray:
    """The points (x, y), and their moving average, from the start on, ``[T + 1, 2, 2]``."""
    step = family(play, rate, half_life)
    batch, key = {"x": jnp.zeros((1, 1))}, jax.random.key(0)

    def points(state: Any) -> jax.Array:
        return jnp.stack(
            [jnp.stack([p[n]["value"] for n in "xy"]) for p in (state.params, state.ema)]
        )

    def move(state: Any, nothing: None) -> Any:
        state, _ = step.train_step(state, batch, key)
        return state, points(state)

    first = step.init(key, batch)
    _, rest = jax.lax.scan(move, first, None, num_steps)
    return np.concatenate([points(first)[None], rest])


def exactly(play: Play, rate: float, num_steps: int) -> np.ndarray:
    """The same points by powers of the matrix, ``[T + 1, 2]``."""
    points = [np.asarray(START)]
    for _ in range(num_steps):
        points.append(play.matrix(rate) @ points[-1])
    return np.stack(points)


def mean_of(play: Play, rate: float, num_steps: int) -> np.ndarray:
    """The mean of the first T points in closed form, ``[2]``: a geometric series."""
    m = play.matrix(rate)
    power = np.linalg.matrix_power(m, num_steps)
    return np.linalg.solve(np.eye(2) - m, (np.eye(2) - power) @ START) / num_steps


def draw(found: dict[str, np.ndarray], path: str) -> None:
    """Draws the spirals, and the radii over steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, points in found.items():
        left.plot(*points[:, 0].T, linewidth=1.0, label=name)
        right.semilogy(np.linalg.norm(points[:, 0], axis=1), linewidth=1.0)
    orbit = found["alternating"]
    means = np.cumsum(orbit[:, 0], axis=0) / np.arange(1, len(orbit) + 1)[:, None]
    for points, label in [(means, "mean of alternating"), (orbit[:, 1], "moving average of it")]:
        left.plot(*points.T, "--", linewidth=1.2, label=label)
        right.semilogy(np.linalg.norm(points, axis=1), "--", linewidth=1.2)
    left.set(xlabel="x", ylabel="y", aspect="equal", xlim=(-4, 4), ylim=(-4, 4))
    right.set(xlabel="step", ylabel="distance from (0, 0)", ylim=(1e-3, 20))
    figure.legend(*left.get_legend_handles_labels(), fontsize="small", loc="outside right upper")
    right.grid(alpha=0.3)
    figure.savefig(path, dpi=80)


def main() -> None:
    """Plays, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rate", type=float, default=0.1, help="size of steps")
    parser.add_argument("--num_steps", type=int, default=400)
    parser.add_argument("--figure", help="PNG to write")
    args = parser.parse_args()
    found = {}
    print("| play | growth of the radius a step | played | distance at the end | largest "
          "difference from M^t z |\n|---|---|---|---|---|")  # fmt: skip
    for name, play in PLAYS.items():
        points = found[name] = played(play, args.rate, args.num_steps)
        radii = np.linalg.norm(points[:, 0], axis=1)
        growth = (radii[-1] / radii[0]) ** (1 / args.num_steps)
        off = np.abs(points[:, 0] - exactly(play, args.rate, args.num_steps)).max()
        exact = play.growth(args.rate)
        print(f"| {name} | {exact:.5f} | {growth:.5f} | {radii[-1]:.3g} | {off:.1e} |")
    orbit = found["alternating"]
    mean = np.linalg.norm(orbit[:-1, 0].mean(0))
    exact = float(np.linalg.norm(mean_of(PLAYS["alternating"], args.rate, args.num_steps)))
    average = np.linalg.norm(orbit[-1, 1])
    print(f"\nmean of the alternating play: {mean:.4f} from (0, 0), in closed form {exact:.4f}")
    print(f"moving average of it with a half-life of 50 steps: {average:.4f}")
    if args.figure:
        draw(found, args.figure)


if __name__ == "__main__":
    main()
