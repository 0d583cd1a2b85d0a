r"""Exact and entropic transport plans between two sets of points, drawn.

The exact plan of n points to n is an assignment. With :math:`\varepsilon` times the entropy the
plan spreads out; its cost is above the exact one by :math:`\varepsilon \log n` at most. The
entropic cost of a set to itself is not 0; Sinkhorn's divergence takes that off.

    python scripts/why_gans_fail/transport_plans.py --figure=plans.png
"""

import argparse
import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from genjax import evaluation

SHARES = (0.0, 0.05, 0.2, 1.0)


class Plan(NamedTuple):
    """A plan at one weight of the entropy, in the units of the squared distance."""

    regularization: float
    plan: np.ndarray
    cost: float
    divergence: float


def points(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points around a circle and within a disk beside it, ``[count, 2]`` each."""
    rng = np.random.default_rng(seed)
    angle, turn = 2.0 * math.pi * rng.uniform(size=(2, count))
    circle = np.stack([np.cos(angle), np.sin(angle)], 1) + 0.05 * rng.normal(size=(count, 2))
    radius = 0.7 * np.sqrt(rng.uniform(size=count))[:, None]
    return circle, np.array([2.2, 0.5]) + radius * np.stack([np.cos(turn), np.sin(turn)], 1)


def plans(x: np.ndarray, y: np.ndarray, shares: tuple[float, ...] = SHARES) -> list[Plan]:
    """The plans with weights of these shares of the mean cost; 0 is the exact one."""
    mean, found = cdist(x, y, "sqeuclidean").mean(), []
    for share in shares:
        eps = float(share * mean)
        plan, cost = evaluation.transport_plan(x, y, regularization=eps)
        divergence = evaluation.sinkhorn_divergence(x, y, regularization=eps) if eps else cost
        found.append(Plan(eps, plan, cost, divergence))
    return found


def draw(x: np.ndarray, y: np.ndarray, found: list[Plan], path: str) -> None:
    """Draws each plan: a line is as dark as what goes along it."""
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.8), layout="constrained")
    for axes, made in zip(figure.subplots(1, len(found)), found, strict=True):
        share = made.plan * len(x)
        i, j = np.nonzero(share > 0.01)
        ends = np.stack([x[i], y[j]], 1)
        colors = [(0.2, 0.2, 0.2, min(1.0, a)) for a in share[i, j]]
        axes.add_collection(LineCollection(ends.tolist(), colors=colors, linewidths=0.8))
        axes.plot(*x.T, ".", color="C0")
        axes.plot(*y.T, ".", color="C1")
        title = f"eps {made.regularization:.3g}" if made.regularization else "exact"
        axes.set(title=f"{title}: cost {made.cost:.3f}", aspect="equal", xticks=[], yticks=[])
    figure.savefig(path, dpi=80)


def main() -> None:
    """Transports, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--num_points", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", help="PNG to write")
    args = parser.parse_args()
    x, y = points(args.num_points, args.seed)
    found = plans(x, y)
    cost = cdist(x, y, "sqeuclidean")
    exact = float(cost[linear_sum_assignment(cost)].mean())
    print("| eps / mean cost | eps | cost | above the assignment's | at most eps log n | "
          "Sinkhorn divergence |\n|---|---|---|---|---|---|")  # fmt: skip
    for share, made in zip(SHARES, found, strict=True):
        bound = made.regularization * math.log(len(x))
        print(
            f"| {share:g} | {made.regularization:.4f} | {made.cost:.4f} | {made.cost - exact:.4f} "
            f"| {bound:.4f} | {made.divergence:.4f} |"
        )
    if args.figure:
        draw(x, y, found, args.figure)


if __name__ == "__main__":
    main()
