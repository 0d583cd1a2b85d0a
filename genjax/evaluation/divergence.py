r"""Divergences between the distributions of two samples, by critics and kernels.

What a critic is trained to maximise is a lower bound on a divergence, but only on rows that it has
not been trained on: on its own rows it grows with what the critic has learned by heart. Half of
each sample is therefore held out, and the numbers are means over that half alone.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import cdist

from genjax import losses
from genjax.evaluation.calibration import classification_scores
from genjax.evaluation.critic import CriticFit, CriticFn, Parts, fit_critic, split_rows

ESTIMATES = ("jsd", *losses.F_DIVERGENCES, "w1", "mmd", "density_ratio")
"""What :func:`divergence_between` can estimate."""
MAX_LOG_RATIO = 10.0
"""Limit of a critic's log ratios: some divergences exponentiate them, and any limit is a bound."""


def divergence_between(
    x: np.ndarray, y: np.ndarray, estimate: str = "jsd", *, fit: CriticFit = CriticFit()
) -> dict[str, float]:
    """A divergence between the distributions of two samples, by name.

    Args:
        x: Rows of P, ``[N, *event]``, at least 20.
        y: Rows of Q, ``[M, *event]``, at least 20.
        estimate: ``"jsd"``, the Jensen-Shannon divergence in [0, log 2], or a key of
            :data:`~genjax.losses.f_divergence.F_DIVERGENCES` (:func:`f_divergence_estimate`);
            ``"w1"`` (:func:`wasserstein_estimate`), ``"mmd"`` (:func:`mmd_estimate`) or
            ``"density_ratio"`` (:func:`density_ratio_estimate`).
        fit: How critics are trained.

    Returns:
        ``value`` with ``stderr``, and what the function named adds.

    Raises:
        ValueError: If the name is not known, there are too few rows or their shapes differ.
    """
    if estimate not in ESTIMATES:
        raise ValueError(f"estimate must be one of {', '.join(ESTIMATES)}, got {estimate!r}")
    if estimate == "w1":
        return wasserstein_estimate(x, y, fit=fit)
    if estimate == "mmd":
        return mmd_estimate(x, y, seed=fit.seed)
    if estimate == "density_ratio":
        return density_ratio_estimate(x, y, fit=fit)
    if estimate == "jsd":
        # The table's divergence is twice Jensen and Shannon's.
        found = f_divergence_estimate(x, y, divergence="jensen_shannon", fit=fit)
        return {name: v if name.startswith("num_") else 0.5 * v for name, v in found.items()}
    return f_divergence_estimate(x, y, divergence=estimate, fit=fit)


def f_divergence_estimate(
    x: np.ndarray, y: np.ndarray, *, divergence: str, fit: CriticFit = CriticFit()
) -> dict[str, float]:
    r"""Lower bound on an f-divergence by a critic in ratio form.

    The critic is trained on the logistic loss, whatever the divergence: the best output is
    :math:`\log p/q` for all of them, and bounds that exponentiate it are too noisy to be climbed.

    Args:
        x: Rows of P, ``[N, *event]``.
        y: Rows of Q, ``[M, *event]``.
        divergence: A key of :data:`~genjax.losses.f_divergence.F_DIVERGENCES`, which says what
            each is.
        fit: How the critic is trained.

    Returns:
        ``value`` with ``stderr``, see :func:`f_divergence_of_ratios`, on held-out rows;
        ``train_value``, the same on the rows of training, which bounds nothing; ``num_held_out``.

    Raises:
        ValueError: If the divergence is not known, or rows do not fit.
    """
    p, q, _ = _parts(x, y, fit.seed, each_entry=True)
    critic_fn = _logistic_critic(p, q, fit)

    def of(rows_p: np.ndarray, rows_q: np.ndarray) -> dict[str, float]:
        ratios = (_outputs(critic_fn, rows) for rows in (rows_p, rows_q))
        return f_divergence_of_ratios(*ratios, divergence=divergence)

    return {
        **of(p.held_out, q.held_out),
        "train_value": of(p.train, q.train)["value"],
        "num_held_out": float(len(p.held_out) + len(q.held_out)),
    }


def f_divergence_of_ratios(
    log_ratio_p: np.ndarray, log_ratio_q: np.ndarray, *, divergence: str
) -> dict[str, float]:
    r"""Lower bound on an f-divergence by any estimate of the log density ratio.

    Args:
        log_ratio_p: Estimates of :math:`\log p/q` at rows of P they were not fitted to, ``[N]``.
        log_ratio_q: Estimates at such rows of Q, ``[M]``.
        divergence: A key of :data:`~genjax.losses.f_divergence.F_DIVERGENCES`.

    Returns:
        ``value``, the mean of :math:`T(x) - f^*(T(y))` with :math:`T = f'(e^v)`, and ``stderr``,
        that of the mean, which says nothing of how far the bound is from the divergence.

    Raises:
        ValueError: If the divergence is not known.

    Example:
        >>> f_divergence_of_ratios(np.zeros(2), np.zeros(2), divergence="kl")["value"]
        0.0

    References:
        Nowozin et al., arXiv:1606.00709, eq. 4.
    """
    if divergence not in losses.F_DIVERGENCES:
        known = ", ".join(losses.F_DIVERGENCES)
        raise ValueError(f"divergence must be one of {known}, got {divergence!r}")
    v_p, v_q = (jnp.asarray(v) for v in (log_ratio_p, log_ratio_q))
    form = losses.F_DIVERGENCES[divergence].ratio
    if divergence == "total_variation":
        # The form that trains is smooth; any T within 1/2 bounds it, the sign closest.
        return _difference(np.asarray(0.5 * jnp.sign(v_p)), np.asarray(0.5 * jnp.sign(v_q)))
    return _difference(np.asarray(form.critic(v_p)), np.asarray(form.conjugate(v_q)))


def wasserstein_estimate(
    x: np.ndarray, y: np.ndarray, *, fit: CriticFit = CriticFit(), penalty_weight: float = 10.0
) -> dict[str, float]:
    r"""Wasserstein-1 distance by a critic with a gradient penalty.

    The penalty is one-sided (WGAN-LP): slopes below 1 are allowed, as they are to the critics of
    the distance. It holds the slope near 1, not at 1: the difference of means is divided by the
    largest slope between held-out rows, which makes it a bound as far as these show the slope.

    Args:
        x: Rows of P, ``[N, *event]``.
        y: Rows of Q, ``[M, *event]``.
        fit: How the critic is trained.
        penalty_weight: Weight of the penalty, on rows in units of their root mean square spread.

    Returns:
        ``value`` with ``stderr`` in the units of the rows; ``raw_value``, not divided;
        ``mean_slope`` and ``largest_slope`` on lines between held-out rows; ``num_held_out``.

    Raises:
        ValueError: If rows do not fit.

    References:
        Gulrajani et al., arXiv:1704.00028, eq. 3; Petzka et al., arXiv:1709.08894.
    """
    p, q, scale = _parts(x, y, fit.seed, each_entry=False)

    def penalty(critic_fn: CriticFn, real: Any, fake: Any, key: Any) -> Any:
        mix = jax.random.uniform(key, (len(real),))
        return penalty_weight * jnp.mean(
            losses.gradient_penalty(critic_fn, real, fake, mix, one_sided=True)
        )

    game = losses.ADVERSARIAL_LOSSES["wasserstein"]
    critic_fn = fit_critic(
        p.train, q.train, game, fit=fit, penalty=penalty, valid=(p.valid, q.valid)
    )
    raw = _difference(_outputs(critic_fn, p.held_out), _outputs(critic_fn, q.held_out))
    slopes = _slopes(critic_fn, p.held_out, q.held_out, fit.seed)
    largest = max(float(slopes.max()), 1e-12)  # of a critic that is flat
    return {
        "value": scale * raw["value"] / largest,
        "stderr": scale * raw["stderr"] / largest,
        "raw_value": scale * raw["value"],
        "mean_slope": float(slopes.mean()),
        "largest_slope": largest,
        "num_held_out": float(len(p.held_out) + len(q.held_out)),
    }


def mmd_estimate(
    x: np.ndarray, y: np.ndarray, *, bandwidth: float | None = None, seed: int = 0
) -> dict[str, float]:
    r"""Squared maximum mean discrepancy under a Gaussian kernel, unbiased.

    Args:
        x: Rows of P, ``[N, *event]``, at least 40.
        y: Rows of Q, ``[M, *event]``, at least 40.
        bandwidth: Standard deviation of the kernel in the units of the rows; the median distance of
            rows that are not held out if None.
        seed: Seed of the division.

    Returns:
        ``value``, the mean over ten or more disjoint blocks of held-out rows, with ``stderr`` from
        their spread; ``bandwidth``; ``num_held_out``.

    Raises:
        ValueError: If rows do not fit, or the bandwidth is not positive.

    References:
        Gretton et al., JMLR 13, 2012, eq. 3; the heuristic in section 8.
    """
    if min(len(x), len(y)) < 40:
        raise ValueError(f"expected at least 40 rows of each sample, got {len(x)} and {len(y)}")
    p, q = (split_rows(rows.reshape(len(rows), -1), seed) for rows in _checked(x, y))
    if bandwidth is None:
        distances = cdist(p.train[:1000], q.train[:1000])
        bandwidth = float(np.median(distances))
    if not bandwidth > 0:
        raise ValueError(f"bandwidth must be positive, got {bandwidth}: the rows are all the same")
    count = min(len(p.held_out), len(q.held_out))
    size = min(1000, count // 10)

    def kernel(a: Any, b: Any) -> Any:
        return losses.rbf_kernel(a, b, bandwidths=[bandwidth])

    of_blocks = jax.jit(lambda a, b: losses.mmd_squared(a, b, kernel=kernel))
    # About a common centre, so that float32 has the digits of distances.
    centre = p.train.mean(0)
    values = np.array([
        float(of_blocks(p.held_out[s : s + size] - centre, q.held_out[s : s + size] - centre))
        for s in range(0, count - size + 1, size)
    ])  # fmt: skip
    return {
        "value": float(values.mean()),
        "stderr": float(values.std(ddof=1) / np.sqrt(len(values))),
        "bandwidth": bandwidth,
        "num_held_out": float(2 * size * len(values)),
    }


def density_ratio_estimate(
    x: np.ndarray, y: np.ndarray, *, fit: CriticFit = CriticFit()
) -> dict[str, float]:
    r"""Log density ratio of two distributions by a calibrated classifier, and how good it is.

    Args:
        x: Rows of P, ``[N, *event]``.
        y: Rows of Q, ``[M, *event]``.
        fit: How the classifier is trained.

    Returns:
        As :func:`density_ratio_scores` of the held-out rows; ``raw_calibration_error`` that of the
        classifier before it was calibrated; ``num_held_out``.

    Raises:
        ValueError: If rows do not fit.

    References:
        Sugiyama et al., Density Ratio Estimation in Machine Learning, 2012, chapter 4.
    """
    p, q = (split_rows(rows, fit.seed) for rows in _checked(x, y))
    raw, slope, offset = _fit_log_ratio(p, q, fit)
    log_p, log_q = raw(p.held_out), raw(q.held_out)
    found = density_ratio_scores(slope * log_p + offset, slope * log_q + offset)
    before = density_ratio_scores(log_p, log_q)["calibration_error"]
    return {
        **found,
        "raw_calibration_error": before,
        "num_held_out": float(len(log_p) + len(log_q)),
    }


def fit_log_ratio(
    x: np.ndarray, y: np.ndarray, *, fit: CriticFit = CriticFit()
) -> Callable[[np.ndarray], np.ndarray]:
    r"""Trains a calibrated estimate of :math:`\log p/q` from rows of both.

    It sees the half of the rows that :func:`~genjax.evaluation.critic.split_rows` does not hold
    out.

    Args:
        x: Rows of P, ``[N, *event]``.
        y: Rows of Q, ``[M, *event]``.
        fit: How the classifier is trained.

    Returns:
        A function of rows ``[B, *event]`` to log ratios in nats, ``[B]``, float64.

    Raises:
        ValueError: If rows do not fit.
    """
    p, q = (split_rows(rows, fit.seed) for rows in _checked(x, y))
    raw, slope, offset = _fit_log_ratio(p, q, fit)
    return lambda rows: slope * raw(rows) + offset


def density_ratio_scores(log_ratio_p: np.ndarray, log_ratio_q: np.ndarray) -> dict[str, float]:
    r"""How good estimates of :math:`\log p/q` are on rows of p and of q.

    Args:
        log_ratio_p: Estimates at rows of P, ``[N]``.
        log_ratio_q: Estimates at rows of Q, ``[M]``.

    Returns:
        ``value``, their mean over P with ``stderr``: the plug-in estimate of KL(P||Q), which is no
        bound; ``kl_bound`` with ``kl_bound_stderr``, :math:`E_P[\log r] + 1 - E_Q[r]`, which is;
        ``mean_ratio`` with ``mean_ratio_stderr``, :math:`E_Q[r]`, and ``mean_inverse`` with
        ``mean_inverse_stderr``, :math:`E_P[1/r]`, both 1 for the true ratio of distributions that
        share a support; ``accuracy`` and ``calibration_error`` of the classifier that the ratio is,
        where both samples are equally likely.

    Raises:
        ValueError: If these are no such numbers.

    Example:
        >>> density_ratio_scores(np.zeros(2), np.zeros(2))["mean_ratio"]
        1.0
    """
    log_p, log_q = (np.asarray(v, np.float64) for v in (log_ratio_p, log_ratio_q))
    if log_p.ndim != 1 or log_q.ndim != 1 or min(len(log_p), len(log_q)) < 2:
        raise ValueError(
            f"expected log ratios of two rows or more, [N] and [M], got shapes {log_p.shape} and "
            f"{log_q.shape}"
        )
    # As many of each: calibration is measured under even odds.
    count = min(len(log_p), len(log_q))
    logits = np.concatenate([log_p[:count], log_q[:count]])
    of_p = np.repeat([1, 0], count)
    scores = classification_scores(np.stack([0.0 * logits, logits], axis=1), of_p)
    found = {}
    for name, values in [("mean_ratio", np.exp(log_q)), ("mean_inverse", np.exp(-log_p))]:
        found[name] = float(values.mean())
        found[f"{name}_stderr"] = float(values.std(ddof=1) / np.sqrt(len(values)))
    bound = _difference(log_p + 1.0, np.exp(log_q))
    return {
        "value": float(log_p.mean()),
        "stderr": float(log_p.std(ddof=1) / np.sqrt(len(log_p))),
        "kl_bound": bound["value"],
        "kl_bound_stderr": bound["stderr"],
        **found,
        "accuracy": scores["accuracy"],
        "calibration_error": scores["calibration_error"],
    }


def _logistic_critic(p: Parts, q: Parts, fit: CriticFit) -> CriticFn:
    """A critic whose outputs estimate the log density ratio."""
    game = losses.ADVERSARIAL_LOSSES["nonsaturating"]
    valid = (p.valid, q.valid)
    return fit_critic(p.train, q.train, game, fit=fit, valid=valid, max_output=MAX_LOG_RATIO)


def _fit_log_ratio(
    p: Parts, q: Parts, fit: CriticFit
) -> tuple[Callable[[np.ndarray], np.ndarray], float, float]:
    """A trained log ratio, and the line through it that its further rows are likeliest under."""
    from sklearn.linear_model import LogisticRegression

    centre, spread = _units(p, q, each_entry=True)
    scaled_p, scaled_q = (Parts(*((rows - centre) / spread for rows in parts)) for parts in (p, q))
    critic_fn = _logistic_critic(scaled_p, scaled_q, fit)

    def log_ratio(rows: np.ndarray) -> np.ndarray:
        # Batches hold as many rows of each, however many there are: the odds are even.
        logits = jnp.asarray(_outputs(critic_fn, (np.asarray(rows) - centre) / spread))
        return np.asarray(losses.log_density_ratio(logits, 1, 1), np.float64)

    # Platt's scaling, without a penalty to speak of.
    logits = [log_ratio(parts.valid) for parts in (p, q)]
    line = LogisticRegression(C=1e6, class_weight="balanced").fit(
        np.concatenate(logits)[:, None], np.repeat([1, 0], [len(v) for v in logits])
    )
    return log_ratio, float(line.coef_[0, 0]), float(line.intercept_[0])


def _checked(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim < 2 or x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"expected samples [N, ...] and [M, ...] of rows of one shape, got {x.shape} and "
            f"{y.shape}"
        )
    return [x, y]


def _units(p: Parts, q: Parts, *, each_entry: bool) -> tuple[np.ndarray, Any]:
    """Centre and spread of the rows that are trained on."""
    rows = np.concatenate([p.train, q.train])
    centre = rows.mean(0)
    if each_entry:
        spread = rows.std(0)
        return centre, np.where(spread > 0, spread, 1.0)
    spread = float(np.sqrt(np.mean(np.square(rows - centre)) * rows[0].size))
    return centre, spread or 1.0


def _parts(
    x: np.ndarray, y: np.ndarray, seed: int, *, each_entry: bool
) -> tuple[Parts, Parts, float]:
    """Both samples divided and in units of their spread, and the spread where there is one."""
    p, q = (split_rows(rows, seed) for rows in _checked(x, y))
    centre, spread = _units(p, q, each_entry=each_entry)
    scaled = (Parts(*((rows - centre) / spread for rows in parts)) for parts in (p, q))
    return (*scaled, 1.0 if each_entry else float(spread))  # type: ignore[return-value]


def _outputs(critic_fn: CriticFn, rows: np.ndarray) -> np.ndarray:
    """A critic's outputs in float64, so that means of many have their digits."""
    return np.asarray(critic_fn(jnp.asarray(rows, jnp.float32)), np.float64)


def _slopes(critic_fn: CriticFn, x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """Norms of a critic's gradient at random places between rows of both samples, ``[N]``."""
    count = min(len(x), len(y))
    mix = np.random.Generator(np.random.Philox(seed)).uniform(size=count)
    u = mix.reshape(-1, *[1] * (x.ndim - 1))
    # Both ends, too: the penalty acts between them, and slopes are steepest near the rows.
    points = np.concatenate([u * x[:count] + (1.0 - u) * y[:count], x, y])
    grads = jax.grad(lambda rows: jnp.sum(critic_fn(rows)))(jnp.asarray(points, jnp.float32))
    return np.linalg.norm(np.asarray(grads, np.float64).reshape(len(points), -1), axis=1)


def _difference(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Difference of the means of two independent samples, with its standard error."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    variance = a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)
    return {"value": float(a.mean() - b.mean()), "stderr": float(np.sqrt(variance))}
