"""Missing entries: how they come to be missing, what fills them, and how good that is.

Masks are True where an entry is known.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

Mechanism = Literal["mcar", "mar", "mnar", "lower_half"]
"""How entries come to be missing: see :func:`known_entries`."""


def known_entries(
    x: np.ndarray, mechanism: Mechanism = "mcar", share: float = 0.5, *, seed: int = 0
) -> np.ndarray:
    """Draws which entries of rows are known.

    Args:
        x: Complete rows ``[N, *event]``.
        mechanism: ``"mcar"``, completely at random: each entry is missing with the probability
            ``share``. ``"mar"``, at random: a random half of the columns is always known, and
            entries of the others are missing with a probability that is logistic in a random
            combination of the known ones, ``share`` in the mean. ``"mnar"``, not at random: in a
            random half of the columns, the largest ``share`` of the values is missing.
            ``"lower_half"``: of images, the lower half of the rows of pixels.
        share: Share of the entries that may be missing which are, in (0, 1).
        seed: Seed of the draws.

    Returns:
        Booleans of the shape of ``x``, False where an entry is missing.

    Raises:
        ValueError: If an argument is out of range or the rows have too few columns.

    Example:
        >>> known_entries(np.arange(8.0).reshape(4, 2), "mnar", 0.5).sum()
        np.int64(6)

    References:
        Self-masking: Ipsen et al., not-MIWAE, arXiv:2006.12871, section 4, where what is above the
        mean is missing.
    """
    x = np.asarray(x)
    if mechanism not in get_args(Mechanism):
        raise ValueError(f"mechanism must be one of {get_args(Mechanism)}, got {mechanism!r}")
    if not 0.0 < share < 1.0:
        raise ValueError(f"share must be in (0, 1), got {share}")
    rng = np.random.Generator(np.random.Philox(seed))
    if mechanism == "lower_half":
        if x.ndim != 4:
            raise ValueError(f"lower_half is of images [N, H, W, C], got shape {x.shape}")
        known = np.ones(x.shape, bool)
        known[:, x.shape[1] // 2 :] = False
        return known
    flat = x.reshape(len(x), -1).astype(np.float64)
    if mechanism == "mcar":
        return (rng.random(flat.shape) >= share).reshape(x.shape)
    if flat.shape[1] < 2:
        raise ValueError(f"{mechanism} needs at least 2 columns, got {flat.shape[1]}")
    order = rng.permutation(flat.shape[1])
    half = flat.shape[1] // 2
    hidden, shown = order[:half], order[half:]
    known = np.ones(flat.shape, bool)
    if mechanism == "mnar":
        # Of several equal values, as many are missing as belong to the share.
        ranks = np.argsort(np.argsort(flat[:, hidden], axis=0, kind="stable"), axis=0)
        known[:, hidden] = ranks < round((1.0 - share) * len(flat))
        return known.reshape(x.shape)
    std = flat[:, shown].std(0)
    units = (flat[:, shown] - flat[:, shown].mean(0)) / np.where(std > 0, std, 1.0)
    weights = rng.normal(size=(len(shown), len(hidden)))
    logits = units @ weights / math.sqrt(len(shown))
    missing = _sigmoid(2.0 * logits + _offsets(2.0 * logits, share))
    known[:, hidden] = rng.random(missing.shape) >= missing
    return known.reshape(x.shape)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _offsets(logits: np.ndarray, share: float) -> np.ndarray:
    """What is added to each column so that the mean of its probabilities is ``share``."""
    low, high = np.full(logits.shape[1], -50.0), np.full(logits.shape[1], 50.0)
    for _ in range(60):  # bisection, to the last digit
        middle = 0.5 * (low + high)
        above = _sigmoid(logits + middle).mean(0) > share
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return 0.5 * (low + high)


def observed_moments(
    x: np.ndarray, known: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the known entries: the units that errors are given in.

    Args:
        x: Training rows ``[N, *event]``. Of images ``[N, H, W, C]`` the standard deviation is one
            of each channel, about the mean of each pixel: single pixels may never vary.
        known: Which entries are known; all if None.

    Returns:
        Mean and standard deviation, ``[*event]``; a standard deviation of 0 is that of a column
        which never varies, whose entries are not scored.

    Raises:
        ValueError: If a column has no known entry.
    """
    x = np.asarray(x, np.float64)
    weight = np.ones(x.shape) if known is None else np.asarray(known, np.float64)
    count = weight.sum(0)
    if not (count > 0).all():
        raise ValueError(f"{int((count == 0).sum())} columns have no known entry to standardise by")
    filled = np.where(weight > 0, x, 0.0)
    mean = filled.sum(0) / count
    squares = (weight * (filled - mean) ** 2).sum(0)
    if x.ndim == 4:
        of_channel = squares.sum((0, 1)) / count.sum((0, 1))
        return mean, np.broadcast_to(np.sqrt(of_channel), mean.shape)
    return mean, np.sqrt(squares / count)


def imputation_scores(
    truth: np.ndarray,
    draws: np.ndarray,
    known: np.ndarray,
    std: np.ndarray,
    *,
    level: float = 0.9,
) -> dict[str, float]:
    r"""How good draws of missing entries are, in standard deviations of the training data.

    The root mean squared error is the best for the mean of the truth: a draw of the right
    distribution scores :math:`\sqrt 2` times as much. The continuous ranked probability score is
    the best for the right distribution.

    Args:
        truth: Complete rows ``[N, *event]``.
        draws: Filled rows, ``[M, N, *event]``; of a method without randomness one.
        known: True where an entry was known, ``[N, *event]``.
        std: Standard deviation of each entry, ``[*event]``: see :func:`observed_moments`. Entries
            where it is 0 are left out.
        level: Share of the draws that the interval has whose coverage is given.

    Returns:
        ``rmse`` of the mean of the draws, ``rmse_of_draw`` of single ones, ``crps`` (without bias
        for the number of draws; of one draw the mean absolute error) and, of enough draws for
        the interval to be inside of them (19 for 90 %), ``coverage``: the share of the true entries
        in the central interval. ``num_entries`` counts entries.

    Raises:
        ValueError: If shapes do not fit, or nothing is missing.

    References:
        CRPS: Gneiting and Raftery, Strictly Proper Scoring Rules, 2007, eq. 21; without bias:
        Ferro, Fair scores for ensemble forecasts, 2014.
    """
    truth, draws = np.asarray(truth, np.float64), np.asarray(draws, np.float64)
    known = np.asarray(known, bool)
    if draws.shape[1:] != truth.shape or known.shape != truth.shape:
        raise ValueError(
            "expected rows [N, *event], draws [M, N, *event] and a mask [N, *event], got shapes "
            f"{truth.shape}, {draws.shape} and {known.shape}"
        )
    std = np.broadcast_to(np.asarray(std, np.float64), truth.shape)
    scored = ~known & (std > 0.0)
    if not scored.any():
        raise ValueError("no missing entry of a column that varies: there is nothing to score")
    y, own = truth[scored] / std[scored], draws[:, scored] / std[scored]
    if not np.isfinite(own).all():
        raise ValueError("draws hold values that are not finite")
    count = len(own)
    error = np.abs(own - y).mean(0)
    if count > 1:
        # sum_ij |x_i - x_j| = 2 sum_k (2k - n + 1) x_(k), of sorted draws counted from 0.
        weights = 2.0 * np.arange(count) - count + 1.0
        ordered = np.sort(own, axis=0)
        error = error - (weights[:, None] * ordered).sum(0) / (count * (count - 1))
    found = {
        "rmse": float(np.sqrt(np.mean((own.mean(0) - y) ** 2))),
        "rmse_of_draw": float(np.sqrt(np.mean((own - y) ** 2))),
        "crps": float(error.mean()),
        "num_entries": int(scored.sum()),
    }
    tail = 0.5 * (1.0 - level)
    if tail * (count + 1) >= 1.0 - 1e-9:
        # The k-th of n draws leaves k / (n + 1) below, which other kinds of quantiles do not.
        low, high = np.quantile(own, [tail, 1.0 - tail], axis=0, method="weibull")
        found["coverage"] = float(((low <= y) & (y <= high)).mean())
    return found


def gaussian_conditional(
    mean: np.ndarray, covariance: np.ndarray, x: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    r"""Missing entries of a row of a normal distribution, given the known ones.

    Args:
        mean: Mean, ``[D]``.
        covariance: Covariance, ``[D, D]``.
        x: The row, ``[D]``; read where it is known.
        known: True where it is, ``[D]``.

    Returns:
        :math:`\mu_m + \Sigma_{mo} \Sigma_{oo}^{+} (x_o - \mu_o)` and
        :math:`\Sigma_{mm} - \Sigma_{mo} \Sigma_{oo}^{+} \Sigma_{om}` of the missing entries.

    Raises:
        ValueError: If shapes do not fit.

    Example:
        >>> cov = np.array([[1.0, 0.9], [0.9, 1.0]])
        >>> m, v = gaussian_conditional(np.zeros(2), cov, np.array([1.5, np.nan]), [True, False])
        >>> m.round(2), v.round(2)
        (array([1.35]), array([[0.19]]))
    """
    mean, covariance = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
    known, x = np.asarray(known, bool), np.asarray(x, np.float64)
    if covariance.shape != (len(mean),) * 2 or x.shape != mean.shape or known.shape != mean.shape:
        raise ValueError(
            f"expected [D], [D, D], [D] and [D], got shapes {mean.shape}, {covariance.shape}, "
            f"{x.shape} and {known.shape}"
        )
    missing = ~known
    across = covariance[np.ix_(missing, known)]
    # Columns that never vary make the covariance singular.
    gain = across @ np.linalg.pinv(covariance[np.ix_(known, known)], hermitian=True)
    return (
        mean[missing] + gain @ (x[known] - mean[known]),
        covariance[np.ix_(missing, missing)] - gain @ across.T,
    )


Baseline = Literal["mean", "knn", "iterative", "gaussian"]
BASELINES: Sequence[str] = get_args(Baseline)
"""Names of the ways to fill in that are measured beside a model."""


def baseline_imputation(
    name: Baseline,
    train: np.ndarray,
    x: np.ndarray,
    known: np.ndarray,
    *,
    num_draws: int = 20,
    seed: int = 0,
) -> np.ndarray:
    """Missing entries filled without a generative model, to compare with.

    Args:
        name: ``"mean"`` of the column, ``"knn"`` (the mean of the five nearest rows),
            ``"iterative"`` (each column regressed on the others in turn), all by scikit-learn
            with its defaults, or ``"gaussian"``: draws of the normal distribution with the moments
            of the training rows.
        train: Complete training rows, ``[M, *event]``.
        x: Rows ``[N, *event]``; read where they are known.
        known: True where they are, ``[N, *event]``.
        num_draws: Draws of ``"gaussian"``; the others have one.
        seed: Seed of the draws, and of the order in ``"iterative"``.

    Returns:
        Filled rows, ``[num_draws or 1, N, *event]``, real numbers.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in BASELINES:
        raise ValueError(f"baseline must be one of {', '.join(BASELINES)}, got {name!r}")
    # Neighbours are nearest in standard deviations, whatever the units of columns are.
    mean, std = observed_moments(train)
    unit = np.where(std > 0.0, std, 1.0)
    shape, seen = np.shape(x), known.reshape(len(x), -1)
    fit = ((train - mean) / unit).reshape(len(train), -1)
    rows = np.where(seen, ((np.asarray(x) - mean) / unit).reshape(len(x), -1), np.nan)
    made = _normal_draws(fit, rows, num_draws, seed) if name == "gaussian" else None
    if made is None:
        made = _fitted(name, seed).fit(fit).transform(rows)[None]
    return np.where(known, x, made.reshape(-1, *shape) * unit + mean)


def _normal_draws(fit: np.ndarray, rows: np.ndarray, num_draws: int, seed: int) -> np.ndarray:
    """Draws of the normal distribution with the moments of ``fit``, ``[num_draws, N, D]``."""
    mean, covariance = fit.mean(0), np.cov(fit.T)
    rng = np.random.Generator(np.random.Philox(seed))
    made = np.repeat(rows[None], num_draws, axis=0)
    for i, row in enumerate(rows):
        missing = np.isnan(row)
        if missing.any():
            centre, spread = gaussian_conditional(mean, covariance, row, ~missing)
            made[:, i, missing] = rng.multivariate_normal(
                centre, spread, num_draws, check_valid="ignore", method="eigh"
            )
    return made


def _fitted(name: str, seed: int) -> Any:
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

    if name == "iterative":
        return IterativeImputer(random_state=seed, keep_empty_features=True)
    return (KNNImputer if name == "knn" else SimpleImputer)(keep_empty_features=True)
