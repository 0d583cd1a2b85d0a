r"""Exponential integrators of the probability flow: DPM-Solver++ and UniPC.

With :math:`\lambda = \log(\alpha/\sigma)` the flow from s to t is exactly

.. math:: z_t = \frac{\sigma_t}{\sigma_s} z_s + \sigma_t \int_{\lambda_s}^{\lambda_t}
    e^\lambda\,\hat x(\lambda)\,d\lambda,

and the methods differ in the polynomial that stands for the estimate :math:`\hat x`.
"""

import dataclasses
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from genjax.diffusion.grid import Grid, Spacing
from genjax.diffusion.process import Process
from genjax.diffusion.samplers.linear import LinearSampler, Table, rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPMSolver(LinearSampler):
    r"""DPM-Solver++, in its forms of one and of several steps, and its stochastic form.

    The order is lowered where there is no estimate to build on: in the first steps, and in the last
    one, to data, where the log ratio is infinite (of fewer than 15 steps in the last but one too).
    The multistep form of order 3 is the published one, in which the second derivative counts by
    half: its error falls with the square of the steps, but is the smaller one up to about 50 steps.

    Attributes:
        order: 1, 2 or 3.
        form: ``"multistep"``: the polynomial goes through earlier estimates; ``"singlestep"``:
            through those inside of a step over ``order`` times of the grid; ``"stochastic"``:
            multistep for the reverse stochastic equation, of order 1 or 2.

    References:
        Lu et al., DPM-Solver++, arXiv:2211.01095, algorithms 1 and 2, section 4.2 and appendix A.
    """

    order: int = 2
    form: Literal["multistep", "singlestep", "stochastic"] = "multistep"
    times: Spacing = "karras"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in ("multistep", "singlestep", "stochastic"):
            raise ValueError(f"form must be multistep, singlestep or stochastic, got {self.form!r}")
        most = 2 if self.form == "stochastic" else 3
        if self.order not in range(1, most + 1):
            raise ValueError(f"order must be from 1 to {most} with {self.form}, got {self.order}")

    def table(self, process: Process, grid: Grid) -> Table:
        """The coefficients for the steps of a grid of a process."""
        del process
        if self.form == "singlestep":
            return self._singlestep(grid)
        orders = orders_of(len(grid.times), self.order, clean=grid.clean)
        ends = _Ends(grid)
        h, before, alpha = ends.h, ends.before, ends.alpha
        if self.form == "stochastic":
            whole = -alpha * jnp.expm1(-2.0 * h)
            tilt = jnp.where(orders >= 2, 0.5 * whole * h / before[0], 0.0)
            noise = ends.sigma * jnp.sqrt(-jnp.expm1(-2.0 * h))
            kept = ends.kept * jnp.exp(-h)
            steps = rows(grid.times, latent=kept, estimates=(whole + tilt, -tilt), noise=noise)
            return Table(grid.times, steps, stochastic=True)
        whole = -alpha * jnp.expm1(-h)
        # Differences of estimates, divided by how many of this step they are apart.
        r0, r1 = (step / h for step in before)
        tilt = jnp.where(orders == 2, 0.5 * whole / r0, 0.0)
        slope, bend = ends.slope_and_bend()
        # Order 3: the slope's and the bend's coefficients of the two differences. The difference of
        # these over r0 + r1 is half the second derivative.
        first = (slope * (1.0 + r0 / (r0 + r1)) + bend / (r0 + r1)) / r0
        second = -(slope * r0 / (r0 + r1) + bend / (r0 + r1)) / r1
        first, second = (jnp.where(orders == 3, c, 0.0) for c in (first, second))
        estimates = (whole + tilt + first, -tilt - first + second, -second)
        return Table(grid.times, rows(grid.times, latent=ends.kept, estimates=estimates))

    def _singlestep(self, grid: Grid) -> Table:
        """Steps over several times of the grid, each from the latent at its beginning."""
        place = np.concatenate(
            [np.arange(size) for size in blocks_of(len(grid.times), self.order, clean=grid.clean)]
        )
        begin = np.arange(len(place)) - place
        last = np.append(place[1:] == 0, True)
        lam, sigma, alpha = grid.lam, grid.sigma[1:], grid.alpha[1:]
        h = lam[1:] - lam[begin]
        whole = -alpha * jnp.expm1(-h)
        kept = sigma / grid.sigma[begin]
        # Where the estimates inside of the step are, as shares of it.
        at_newest = (lam[:-1] - lam[begin]) / h
        at_middle = (lam[np.minimum(begin + 1, len(place) - 1)] - lam[begin]) / h
        tilt = jnp.where(place == 1, 0.5 * whole / at_newest, 0.0)
        slope, bend = _slope_and_bend(alpha, h)
        apart = at_newest - at_middle
        # Of (newest - first) / at_newest and (middle - first) / at_middle, whose difference over
        # the distance is half the second derivative.
        of_newest = (-slope * at_middle + 2.0 * bend) / apart / at_newest
        of_middle = (slope * at_newest - 2.0 * bend) / apart / at_middle
        of_newest, of_middle = (jnp.where(place == 2, c, 0.0) for c in (of_newest, of_middle))
        single, double, triple = ((place == k).astype(float) for k in range(3))
        estimates = (
            single * whole + tilt + of_newest,
            double * whole - tilt + of_middle,
            triple * whole - of_newest - of_middle,
        )
        steps = rows(grid.times, base=kept, estimates=estimates)
        stay = rows(grid.times, base=1.0)
        return Table(grid.times, steps, jnp.where(last[:, None], steps, stay))


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniPC(LinearSampler):
    r"""UniPC in its data form: each step's estimate also corrects the step that led to it.

    A corrector costs no network call. The order is lowered as in :class:`DPMSolver`.

    Attributes:
        order: 1, 2 or 3.
        variant: :math:`B(h)`: ``"bh1"`` is h, ``"bh2"`` is :math:`e^h - 1`.

    References:
        Zhao et al., UniPC, arXiv:2302.04867, algorithms 5 to 8 and section 3.
    """

    order: int = 2
    variant: Literal["bh1", "bh2"] = "bh2"
    times: Spacing = "karras"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in (1, 2, 3):
            raise ValueError(f"order must be from 1 to 3, got {self.order}")
        if self.variant not in ("bh1", "bh2"):
            raise ValueError(f"variant must be bh1 or bh2, got {self.variant!r}")

    def table(self, process: Process, grid: Grid) -> Table:
        """The coefficients for the steps of a grid of a process."""
        del process
        count = len(grid.times)
        orders = orders_of(count, self.order, clean=grid.clean)
        ends = _Ends(grid)
        kept, predicted, _ = self._weights(ends, orders, corrector=False)
        # The corrector of the step that led here: coefficients of the estimate here, then of those
        # before. Nothing led to the first latent.
        kept_c, corrected, of_newest = self._weights(ends, orders, corrector=True)
        led = [jnp.concatenate([jnp.zeros_like(c[:1]), c[:-1]]) for c in (of_newest, *corrected)]
        base = jnp.concatenate([jnp.ones_like(kept_c[:1]), kept_c[:-1]])
        bases = rows(grid.times, base=base, estimates=tuple(led))
        steps = rows(grid.times, base=kept * base, estimates=tuple(
            kept * c + p for c, p in zip(led, (*predicted, jnp.zeros_like(kept)), strict=True)
        ))  # fmt: skip
        return Table(grid.times, steps, bases)

    def _weights(
        self, ends: "_Ends", orders: np.ndarray, *, corrector: bool
    ) -> tuple[Array, list[Array], Array]:
        """Coefficients of each step: of its latent, of three estimates, and of the one at its end.

        Estimates are those at the beginning of the step and before. Predictor and corrector of
        order p take p of them; the corrector also the one at the end.
        """
        h = ends.h
        scale = -h if self.variant == "bh1" else jnp.expm1(-h)
        b0, b1 = ends.before
        # Where earlier estimates are, in steps from the beginning of this one, then its end.
        places = [-b0 / h, -(b0 + b1) / h, jnp.ones_like(h)]
        estimates = [jnp.zeros_like(h) for _ in range(4)]  # the last is that at the end
        for order in range(1, self.order + 1):
            used = places[: order - 1] + ([places[2]] if corrector else [])
            index = [1, 2][: order - 1] + ([3] if corrector else [])
            if not used:
                continue
            weights = self._solved(used, h, scale)
            if len(used) == 1:  # as published, in place of the exact solution
                weights = [jnp.full_like(h, 0.5)]
            for weight, place, i in zip(weights, used, index, strict=True):
                part = jnp.where(orders == order, -ends.alpha * scale * weight / place, 0.0)
                estimates[i] = estimates[i] + part
                estimates[0] = estimates[0] - part
        estimates[0] = estimates[0] - ends.alpha * jnp.expm1(-h)
        return ends.kept, estimates[:3], estimates[3]

    @staticmethod
    def _solved(places: list[Array], h: Array, scale: Array) -> list[Array]:
        """Weights with which differences at some places match the first moments of the integral."""
        moment = jnp.expm1(-h) / -h - 1.0
        factorial, moments = 1.0, []
        for power in range(len(places)):
            moments.append(moment * factorial / scale)
            factorial *= power + 2
            moment = moment / -h - 1.0 / factorial
        powers = jnp.stack([jnp.stack([p**k for p in places], -1) for k in range(len(places))], -2)
        # What is infinite belongs to steps of a lower order, which do not read it.
        finite = jnp.isfinite(powers).all((-1, -2)) & jnp.isfinite(jnp.stack(moments, -1)).all(-1)
        powers = jnp.where(finite[:, None, None], powers, jnp.eye(len(places)))
        right = jnp.where(finite[:, None], jnp.stack(moments, -1), 0.0)
        solved = jnp.linalg.solve(powers.astype(right.dtype), right[..., None])[..., 0]
        return [solved[:, i] for i in range(len(places))]


class _Ends:
    """What exponential integrators need of each step of a grid.

    Attributes:
        h: Length of each step in lambda; infinite to data.
        before: Lengths of the one and of the two steps before: 1 where there are none.
        alpha: Signal scale at its end.
        sigma: Noise scale at its end.
        kept: The share of the latent that is kept, the ratio of the noise scales.
    """

    def __init__(self, grid: Grid):
        lam = grid.lam
        self.h = lam[1:] - lam[:-1]
        one = jnp.ones_like(self.h[:1])
        previous = jnp.concatenate([one, self.h[:-1]])
        self.before = (previous, jnp.concatenate([one, previous[:-1]]))
        self.alpha, self.sigma = grid.alpha[1:], grid.sigma[1:]
        self.kept = grid.sigma[1:] / grid.sigma[:-1]

    def slope_and_bend(self) -> tuple[Array, Array]:
        return _slope_and_bend(self.alpha, self.h)


def _slope_and_bend(alpha: Array, h: Array) -> tuple[Array, Array]:
    """Coefficients of the first and second derivative of the estimate in a step as long as 1."""
    slope = alpha * (jnp.expm1(-h) / h + 1.0)
    bend = -alpha * ((jnp.expm1(-h) + h) / jnp.square(h) - 0.5)
    return slope, bend


def orders_of(num_steps: int, order: int, *, clean: bool) -> np.ndarray:
    """The order of each step of a multistep method, ``[num_steps]``.

    Args:
        num_steps: Number of steps.
        order: The highest.
        clean: Whether the last step goes to data, and is of order 1.

    Returns:
        The orders.

    Example:
        >>> orders_of(6, 3, clean=True)
        array([1, 2, 3, 3, 2, 1])
    """
    orders = np.minimum(np.arange(num_steps) + 1, order)
    if clean:
        left = num_steps - np.arange(num_steps)
        orders = np.where(left == 1, 1, orders)
        if num_steps < 15:
            orders = np.minimum(orders, np.where(left <= 2, left, order))
    return orders


def blocks_of(num_steps: int, order: int, *, clean: bool) -> list[int]:
    """Sizes of the steps of a singlestep method, in times of the grid.

    Args:
        num_steps: Number of times.
        order: The highest.
        clean: Whether the last one goes to data, and is alone.

    Returns:
        The sizes, which add up to ``num_steps``.

    Example:
        >>> blocks_of(9, 3, clean=True)
        [3, 3, 2, 1]
    """
    blocks, left = [], num_steps - 1 if clean else num_steps
    while left:
        # Two steps of order 2 in place of one of order 3 and one of order 1.
        blocks.append(2 if order == 3 and left == 4 else min(order, left))
        left -= blocks[-1]
    return [*blocks, 1] if clean else blocks
