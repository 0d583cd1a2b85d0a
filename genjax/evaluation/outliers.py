"""Scores of how much a row is an outlier, from likelihoods, and how well scores tell sets apart.

All scores are higher the more of an outlier a row is; ``nats`` are negative log-likelihoods, as
``-run.log_prob(x)`` gives them.
"""

import bz2
import io
import lzma
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np


def typicality(nats: np.ndarray, train_nats: np.ndarray) -> np.ndarray:
    r"""How far the likelihood of a row is from what is usual, above or below.

    Draws of a density in many dimensions lie where the negative log-likelihood is close to the
    entropy, not where the density is highest.

    Args:
        nats: Negative log-likelihoods of the rows, ``[N]``.
        train_nats: Those of the training set, ``[M]``, whose mean estimates the entropy.

    Returns:
        :math:`\lvert -\log p(x) - H \rvert` in nats, ``[N]``.

    Raises:
        ValueError: If a set is empty or not finite.

    Example:
        >>> typicality(np.array([1.0, 3.0, 7.0]), np.array([2.0, 4.0]))
        array([2., 0., 4.])

    References:
        Nalisnick et al., Detecting Out-of-Distribution Inputs to Deep Generative Models Using
        Typicality, arXiv:1906.02994, section 4, with batches of one row.
    """
    return batch_typicality(nats, train_nats, 1)


def batch_typicality(nats: np.ndarray, train_nats: np.ndarray, batch_size: int) -> np.ndarray:
    r"""Typicality of consecutive batches, each of the distribution or out of it as a whole.

    Args:
        nats: Negative log-likelihoods, ``[N]``; rows that do not fill a batch are left out.
        train_nats: Those of the training set, ``[M]``.
        batch_size: Rows of a batch.

    Returns:
        :math:`\lvert \frac1B\sum -\log p(x_i) - H \rvert` in nats, ``[N // batch_size]``.

    Raises:
        ValueError: If a set is empty or not finite, or there are fewer rows than a batch has.

    References:
        Nalisnick et al., arXiv:1906.02994, equation 5.
    """
    nats, train_nats = _scores(nats=nats), _scores(train_nats=train_nats)
    if not 1 <= batch_size <= len(nats):
        raise ValueError(f"batch_size must be from 1 to the {len(nats)} rows, got {batch_size}")
    count = len(nats) // batch_size
    means = nats[: count * batch_size].reshape(count, batch_size).mean(1)
    return np.abs(means - train_nats.mean())


def typicality_threshold(
    nats: np.ndarray,
    train_nats: np.ndarray,
    batch_size: int = 1,
    *,
    level: float = 0.99,
    num_bootstraps: int = 1000,
    seed: int = 0,
) -> float:
    """What share ``level`` of batches of the distribution is below of, by the bootstrap.

    Args:
        nats: Negative log-likelihoods of held-out rows of the distribution, ``[N]``.
        train_nats: Those of the training set, ``[M]``.
        batch_size: Rows of a batch.
        level: Share of batches that is to count as typical, in (0, 1).
        num_bootstraps: Batches that are drawn of the held-out rows, with replacement.
        seed: Seed of the draws.

    Returns:
        The threshold of :func:`batch_typicality`, in nats: batches above it are outliers.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Nalisnick et al., arXiv:1906.02994, algorithm 1.
    """
    nats, train_nats = _scores(nats=nats), _scores(train_nats=train_nats)
    if not 0.0 < level < 1.0 or batch_size < 1 or num_bootstraps < 1:
        raise ValueError(
            "level must be in (0, 1), batch_size and num_bootstraps at least 1, got "
            f"{level}, {batch_size} and {num_bootstraps}"
        )
    rng = np.random.Generator(np.random.Philox(seed))
    means = nats[rng.integers(len(nats), size=(num_bootstraps, batch_size))].mean(1)
    return float(np.quantile(np.abs(means - train_nats.mean()), level))


def likelihood_ratio(nats: np.ndarray, background_nats: np.ndarray) -> np.ndarray:
    r"""How much better a background model explains a row.

    A background model knows what is common to all images, such as how smooth they are: one of the
    same kind that was trained on data whose meaning was destroyed (the transform
    ``random_levels``), or on other images altogether.

    Args:
        nats: Negative log-likelihoods under the model, ``[N]``.
        background_nats: Those under the background model, ``[N]``.

    Returns:
        :math:`\log p_0(x) - \log p(x)` in nats, ``[N]``.

    Raises:
        ValueError: If lengths differ or values are not finite.

    References:
        Ren et al., Likelihood Ratios for Out-of-Distribution Detection, arXiv:1906.02845, eq. 4.
    """
    nats, background_nats = _scores(nats=nats), _scores(background_nats=background_nats)
    if len(nats) != len(background_nats):
        raise ValueError(
            f"expected as many nats of both models, got {len(nats)} and {len(background_nats)}"
        )
    return nats - background_nats


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
        file, "PNG", optimize=True
    )
    return file.getvalue()


_RAW_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
CODECS: Mapping[str, Callable[[np.ndarray], bytes]] = {
    "png": _png,
    "zlib": lambda image: zlib.compress(image.tobytes(), 9),
    "lzma": lambda image: lzma.compress(image.tobytes(), format=lzma.FORMAT_RAW, filters=_RAW_LZMA),
    "bz2": lambda image: bz2.compress(image.tobytes()),
}
"""Lossless codecs of an image ``[H, W, C]`` of bytes."""


def code_bits(images: np.ndarray, codecs: Sequence[str] = tuple(CODECS)) -> np.ndarray:
    """Bits of the shortest of several lossless codes of each image.

    Headers are counted as they are, so that of images of a few dozen pixels they are most of it.

    Args:
        images: Grey levels ``[N, H, W, C]``, uint8; PNG is of 1 or 3 channels and is passed over
            otherwise.
        codecs: Names out of :data:`CODECS`.

    Returns:
        Bits, ``[N]``.

    Raises:
        ValueError: If these are no images of bytes, or a codec is unknown.

    Example:
        >>> noise = np.random.default_rng(0).integers(256, size=(16, 16, 1))
        >>> bits = code_bits(np.stack([noise * 0, noise]).astype(np.uint8))
        >>> bool(bits[0] < 200 and bits[1] > 2000)
        True
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(
            "input complexity is of images of bytes: expected uint8 [N, H, W, C], got "
            f"{images.dtype} {list(images.shape)}"
        )
    unknown = sorted(set(codecs) - set(CODECS))
    if unknown or not codecs:
        raise ValueError(f"codecs must be some of {', '.join(CODECS)}, got {list(codecs)}")
    fitting = [name for name in codecs if name != "png" or images.shape[-1] in (1, 3)]
    if not fitting:
        raise ValueError(f"png is of 1 or 3 channels, got {images.shape[-1]}: name another codec")
    return np.array([8.0 * min(len(CODECS[name](image)) for name in fitting) for image in images])


def input_complexity(
    nats: np.ndarray, images: np.ndarray, codecs: Sequence[str] = tuple(CODECS)
) -> np.ndarray:
    r"""Likelihood less what a universal code makes of the same image.

    A likelihood rates smooth images high whatever they show; the length of their code says how much
    of it is their smoothness.

    Args:
        nats: Negative log-likelihoods, ``[N]``.
        images: The images, uint8 ``[N, H, W, C]``.
        codecs: Names out of :data:`CODECS`, of which the shortest code counts.

    Returns:
        :math:`-\log_2 p(x) - L(x)` in bits, ``[N]``.

    Raises:
        ValueError: If numbers of rows differ, or these are no images of bytes.

    References:
        Serra et al., Input Complexity and Out-of-distribution Detection, arXiv:1909.11480, eq. 1.
    """
    nats, bits = _scores(nats=nats), code_bits(images, codecs)
    if len(nats) != len(bits):
        raise ValueError(f"expected nats of {len(bits)} images, got {len(nats)}")
    return nats / math.log(2.0) - bits


def auroc(inliers: np.ndarray, outliers: np.ndarray) -> float:
    """Area under the ROC curve: the probability that an outlier has the higher score.

    It is the same whichever of the two is called positive; ties count one half.

    Args:
        inliers: Scores of rows of the distribution, ``[N]``.
        outliers: Scores of others, ``[M]``.

    Returns:
        1 if the score tells all apart, 0.5 if it knows nothing, 0 if it is always wrong.

    Raises:
        ValueError: If a set is empty or not finite.

    Example:
        >>> auroc(np.array([0.0, 1.0]), np.array([0.5, 2.0]))
        0.75
    """
    from sklearn.metrics import roc_auc_score

    labels, scores = _labelled(inliers, outliers)
    return float(roc_auc_score(labels, scores))


def auprc(
    inliers: np.ndarray,
    outliers: np.ndarray,
    positive: Literal["outliers", "inliers"] = "outliers",
) -> float:
    """Area under the curve of precision and recall, as average precision.

    Unlike :func:`auroc` it depends on which set is positive and on its share of the rows, which is
    also what a score that knows nothing reaches.

    Args:
        inliers: Scores of rows of the distribution, ``[N]``.
        outliers: Scores of others, ``[M]``.
        positive: Which of the two is to be found.

    Returns:
        The average precision, at most 1.

    Raises:
        ValueError: If a set is empty or not finite.

    Example:
        >>> auprc(np.array([0.0, 1.0, 2.0]), np.array([3.0]))
        1.0
    """
    from sklearn.metrics import average_precision_score

    if positive not in ("outliers", "inliers"):
        raise ValueError(f"positive must be 'outliers' or 'inliers', got {positive!r}")
    labels, scores = _labelled(inliers, outliers)
    if positive == "inliers":
        labels, scores = 1 - labels, -scores
    return float(average_precision_score(labels, scores))


def _labelled(inliers: np.ndarray, outliers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether rows are outliers, 0 or 1, and their scores."""
    sets = _scores(inliers=inliers), _scores(outliers=outliers)
    labels = np.repeat([0, 1], [len(s) for s in sets])
    return labels, np.concatenate(sets)


def _scores(**named: np.ndarray) -> np.ndarray:
    ((name, values),) = named.items()
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or not len(scores):
        raise ValueError(f"{name}: expected one number a row [N], got shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{name}: {int((~np.isfinite(scores)).sum())} of them are not finite")
    return scores
