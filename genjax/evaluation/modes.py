"""Coverage of the components of a known mixture."""

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
