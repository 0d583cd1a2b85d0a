"""Coverage of the components of a known mixture, and of the classes of a classifier."""

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import rel_entr

from genjax.evaluation.arrays import check_features


def mode_coverage(
    samples: np.ndarray, centres: np.ndarray, std: float, *, radius: float = 3.0
) -> dict[str, float]:
    """How samples are spread over the equally weighted components of a known mixture.

    Args:
        samples: Points, ``[N, D]``.
        centres: Centres of the components, ``[K, D]``.
        std: Standard deviation of each component, the same in all directions.
        radius: Standard deviations from its nearest centre within which a sample is of high
            quality.

    Returns:
        ``modes_covered``, components with at least one sample of high quality;
        ``high_quality``, the share of such samples; ``mode_kl``, the Kullback-Leibler divergence in
        nats from equal weights to the shares of all samples by nearest centre: 0 to log K.

    Raises:
        ValueError: If widths differ or ``std`` is not positive.

    Example:
        >>> mode_coverage(np.zeros((4, 1)), np.array([[0.0], [9.0]]), 1.0)["modes_covered"]
        1.0

    References:
        Srivastava et al., VEEGAN, arXiv:1705.07761, section 4.1; Lin et al., PacGAN,
        arXiv:1712.04086, section 4.
    """
    if not std > 0:
        raise ValueError(f"std must be positive, got {std}")
    samples, centres = check_features(samples, centres)
    # From differences: of clusters far apart squares have no digits left for small distances.
    distances = cdist(samples, centres, "sqeuclidean")
    nearest = distances.argmin(1)
    good = distances.min(1) <= (radius * std) ** 2
    # Every sample counts here, those far from all centres too.
    shares = np.bincount(nearest, minlength=len(centres)) / len(samples)
    return {
        "modes_covered": float(len(np.unique(nearest[good]))),
        "high_quality": float(good.mean()),
        "mode_kl": float(rel_entr(shares, 1.0 / len(centres)).sum()),
    }


def class_coverage(class_ids: np.ndarray, num_classes: int) -> dict[str, float]:
    """How samples are spread over classes, each of which is to be as frequent as the others.

    Args:
        class_ids: What a classifier decides of each sample, whole numbers ``[N]`` from 0.
        num_classes: Number of classes.

    Returns:
        ``modes_covered``, classes with at least one sample, and ``mode_kl``, the Kullback-Leibler
        divergence in nats from equal weights to the shares of the classes: 0 to log of their
        number. No sample is left out for its quality.

    Raises:
        ValueError: If class ids are none.

    Example:
        >>> class_coverage(np.array([0, 0, 1, 1]), 4)
        {'modes_covered': 2.0, 'mode_kl': 0.6931471805599453}

    References:
        Metz et al., arXiv:1611.02163, section 3.3.1; Lin et al., PacGAN, arXiv:1712.04086, section
        4.2: 26,000 samples of stacked MNIST.
    """
    ids = np.asarray(class_ids)
    whole = ids.ndim == 1 and np.issubdtype(ids.dtype, np.integer)
    if not whole or not len(ids) or ids.min() < 0 or ids.max() >= num_classes:
        raise ValueError(
            f"expected class ids [N] from 0 to {num_classes - 1}, got {ids.dtype}{list(ids.shape)}"
        )
    shares = np.bincount(ids, minlength=num_classes) / len(ids)
    return {
        "modes_covered": float(np.count_nonzero(shares)),
        "mode_kl": float(rel_entr(shares, 1.0 / num_classes).sum()),
    }
