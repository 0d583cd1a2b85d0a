"""How well made embeddings of images are those of a text, and of images."""

import numpy as np

from genjax.evaluation.frechet import frechet_distance
from genjax.evaluation.retrieval import retrieval_ranks


def nearest_candidates(candidates: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Of several embeddings made for a text, the one that fits it best.

    Args:
        candidates: Embeddings of images, ``[K, N, D]``.
        texts: Embeddings of the texts, ``[N, D]``.

    Returns:
        For each text the candidate of the largest product with its embedding, ``[N, D]``.

    Raises:
        ValueError: If shapes do not fit.

    Example:
        >>> nearest_candidates(np.array([[[0.0, 1.0]], [[0.6, 0.8]]]), np.array([[1.0, 0.0]]))
        array([[0.6, 0.8]])

    References:
        Ramesh et al., arXiv:2204.06125, section 2.2, with two candidates.
    """
    candidates, texts = np.asarray(candidates), np.asarray(texts)
    if candidates.ndim != 3 or not len(candidates) or candidates.shape[1:] != texts.shape:
        raise ValueError(
            "expected candidates [K, N, D] and texts [N, D], got "
            f"{list(candidates.shape)} and {list(texts.shape)}"
        )
    best = np.einsum("knd,nd->kn", candidates, texts).argmax(axis=0)
    return np.asarray(candidates[best, np.arange(len(texts))])


def embedding_scores(
    made: np.ndarray, real: np.ndarray, texts: np.ndarray, right: np.ndarray
) -> dict[str, float]:
    """Scores of embeddings that were made for texts.

    Args:
        made: Embeddings of unit length, one for each image, ``[N, D]``.
        real: Those of the images, ``[N, D]``.
        texts: Those of the texts that may be nearest, ``[M, D]``.
        right: Which of these says what the image's own text does: a position for each image,
            ``[N]``, or True where it does, ``[N, M]``.

    Returns:
        ``retrieval_at_1``, the share of embeddings whose nearest text is a right one;
        ``frechet_distance`` to the real ones, biased upwards where there are few rows; and
        ``cosine``, the mean product with the real one, which is largest of a mean.

    Raises:
        ValueError: If shapes do not fit.
    """
    made, real = np.asarray(made, np.float64), np.asarray(real, np.float64)
    if made.shape != real.shape:
        raise ValueError(
            f"expected an embedding for each image, got {list(made.shape)} and {list(real.shape)}"
        )
    return {
        "retrieval_at_1": float(np.mean(retrieval_ranks(made, texts, right) == 0)),
        "frechet_distance": frechet_distance(made, real),
        "cosine": float(np.mean(np.sum(made * real, axis=1))),
    }
