r"""Directions in the activations of a network: of largest variance, between classes, at random.

All of it is on the host in float64: activations have more entries than there are samples of them.
Directions are ``[M, *shape]``, one for each network call of a sampler, as
:func:`genjax.diffusion.bottleneck.steered` adds them.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Components:
    """Principal components of activations, at each network call on its own.

    Attributes:
        mean: Mean activation, ``[M, *shape]``.
        directions: Components of unit length, ``[K, M, *shape]``.
        std: Standard deviation along each, ``[K, M]``.
        share: Share of the variance that is along each, ``[K, M]``.
    """

    mean: np.ndarray
    directions: np.ndarray
    std: np.ndarray
    share: np.ndarray

    def scaled(self, component: int) -> np.ndarray:
        """A direction of one standard deviation at each call, ``[M, *shape]``."""
        std = self.std[component]
        scaled: np.ndarray = self.directions[component] * _beside(std, self.directions[component])
        return scaled


def principal_components(h: np.ndarray, num_components: int) -> Components:
    r"""Principal components of activations at each network call.

    They come from the N x N Gram matrix of the centred activations, which is small where these have
    many entries: of an eigenvector v of its eigenvalue :math:`\lambda`, :math:`H^T v /
    \sqrt\lambda` is the component and :math:`\sqrt{\lambda / (N - 1)}` the standard deviation. A
    component of either sign is one: those of each call are given the sign that points along the
    call before.

    Args:
        h: Activations of samples, ``[N, M, *shape]``.
        num_components: Number of components, fewer than there are samples.

    Returns:
        The components, the one of largest variance first.

    Raises:
        ValueError: If there are too few samples, or activations are not finite.

    References:
        Haas et al., arXiv:2303.11073, section 3.1.
    """
    h = np.asarray(h)
    if h.ndim < 3:
        raise ValueError(f"expected activations [N, M, ...], got shape {h.shape}")
    count, calls = h.shape[:2]
    size = int(np.prod(h.shape[2:]))
    if not 1 <= num_components < min(count, size + 1):
        raise ValueError(
            f"num_components must be at least 1 and below the {count} samples"
            f"{f' of {size} entries' if size < count else ''}, got {num_components}"
        )
    mean = np.empty((calls, size))
    directions = np.empty((num_components, calls, size))
    std, share = np.empty((2, num_components, calls))
    for call in range(calls):
        rows = h[:, call].reshape(count, size).astype(np.float64)
        if not np.isfinite(rows).all():
            raise ValueError(f"the activations of network call {call} are not finite")
        mean[call] = rows.mean(0)
        rows -= mean[call]
        variances, vectors = _eigen(rows, num_components)
        std[:, call] = np.sqrt(variances)
        total = np.square(rows).sum() / (count - 1)
        share[:, call] = variances / total if total > 0 else 0.0
        if call:
            agreement = (vectors * directions[:, call - 1]).sum(1)
            vectors *= np.where(agreement < 0, -1.0, 1.0)[:, None]
        directions[:, call] = vectors
    shape = h.shape[2:]
    return Components(
        mean.reshape(calls, *shape),
        directions.reshape(num_components, calls, *shape),
        std,
        share,
    )


def _eigen(rows: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest variances of centred rows ``[N, D]``, and unit vectors ``[num, D]`` along them."""
    count, size = rows.shape
    few = size <= count
    values, vectors = np.linalg.eigh(rows.T @ rows if few else rows @ rows.T)
    values = np.maximum(values[::-1][:num], 0.0)
    vectors = vectors[:, ::-1][:, :num].T
    if not few:
        vectors = vectors @ rows
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    # Without variance there is no direction.
    vectors = np.where(lengths > 1e-10, vectors / np.maximum(lengths, 1e-300), 0.0)
    return values / (count - 1), vectors


def mean_difference(
    h: np.ndarray, labels: np.ndarray, from_class: int, to_class: int
) -> np.ndarray:
    """What takes the mean activation of one class to that of another.

    Args:
        h: Activations of samples, ``[N, M, *shape]``.
        labels: Their classes, ``[N]``.
        from_class: The class that edits begin at.
        to_class: The class that they lead to.

    Returns:
        The direction, ``[M, *shape]``, float64.

    Raises:
        ValueError: If a class has no samples.

    References:
        Haas et al., arXiv:2303.11073, section 3.3.
    """
    labels = np.asarray(labels)
    means = []
    for number in (from_class, to_class):
        if not (labels == number).any():
            raise ValueError(f"there are no samples of class {number} among {len(labels)}")
        means.append(h[labels == number].mean(0, dtype=np.float64))
    difference: np.ndarray = means[1] - means[0]
    return difference


def projected_off(direction: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """A direction without what it has in common with others: what it changes besides them.

    Args:
        direction: The direction, ``[M, *shape]``.
        *others: Directions of the same shape, in the span of which nothing is left.

    Returns:
        The part of it that is orthogonal to them, at each network call on its own.

    Example:
        >>> projected_off(np.array([[3.0, 4.0]]), np.array([[2.0, 0.0]]))
        array([[0., 4.]])
    """
    calls = len(direction)
    rest: np.ndarray = np.asarray(direction, np.float64).reshape(calls, -1)
    spans = np.stack([np.asarray(o, np.float64).reshape(calls, -1) for o in others], axis=-1)
    kept = np.empty_like(rest)
    for call in range(calls):
        basis, singular, _ = np.linalg.svd(spans[call], full_matrices=False)
        basis = basis[:, singular > 1e-10 * max(singular.max(), 1e-300)]
        kept[call] = rest[call] - basis @ (basis.T @ rest[call])
    return kept.reshape(np.shape(direction))


def random_direction(seed: int, like: np.ndarray) -> np.ndarray:
    """A direction at random, the same at each network call, with the lengths of another.

    It is what directions must be better than to mean something.

    Args:
        seed: Seed of the draw.
        like: The direction whose length it has at each call, ``[M, *shape]``.

    Returns:
        The direction, float64.
    """
    drawn = np.random.default_rng(seed).normal(size=like.shape[1:])
    drawn /= np.linalg.norm(drawn)
    lengths = np.linalg.norm(np.asarray(like, np.float64).reshape(len(like), -1), axis=1)
    random: np.ndarray = _beside(lengths, like) * drawn
    return random


def _beside(numbers: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Numbers ``[M]`` with the axes of ``[M, *shape]``."""
    return numbers.reshape(-1, *(1,) * (like.ndim - 1))
