"""What latents of a trained model are used for."""

import numpy as np


def active_units(latents: np.ndarray, threshold: float = 0.01) -> int:
    r"""How many entries of latents differ from example to example.

    Args:
        latents: The mean of the posterior of each example, ``[N, Z]``, as ``Run.encode`` gives it.
        threshold: Variance over the examples above which an entry counts.

    Returns:
        The number of entries whose :math:`\mathrm{Var}_x \mathrm{E}_{q(z|x)}[z]` is larger.

    Raises:
        ValueError: If they are no matrix of finite numbers with two rows at least, or the threshold
            is negative.

    Example:
        >>> active_units(np.array([[0.0, 1.0], [0.01, 2.0]]))
        1

    References:
        Burda et al., Importance Weighted Autoencoders, arXiv:1509.00519, section 5.2.
    """
    latents = np.asarray(latents, np.float64)
    if latents.ndim != 2 or len(latents) < 2 or not np.isfinite(latents).all():
        raise ValueError(
            f"expected finite latents [N, Z] of two examples at least, got shape {latents.shape}"
        )
    if threshold < 0:
        raise ValueError(f"threshold must not be negative, got {threshold}")
    return int((latents.var(axis=0, ddof=1) > threshold).sum())
