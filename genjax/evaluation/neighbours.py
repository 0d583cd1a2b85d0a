"""What features know of labels, by the labels of nearest neighbours."""

import numpy as np


def nearest_neighbour_accuracy(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    features: np.ndarray,
    labels: np.ndarray,
    num_neighbours: int = 1,
) -> float:
    """Share of rows whose nearest training rows have their label.

    Random features may do well, too: the pixels of MNIST reach 96.9 %, and so does a network that
    was not trained. The number says something beside that of another encoder only.

    Args:
        train_features: Features of training rows, ``[M, ...]``; compared by Euclidean distance.
        train_labels: Their class ids, ``[M]``.
        features: Features of the rows that are classified, ``[N, ...]``.
        labels: Their class ids, ``[N]``.
        num_neighbours: Neighbours that vote.

    Returns:
        The accuracy, in [0, 1].

    Raises:
        ValueError: If numbers of rows or lengths differ, values are not finite, or there are fewer
            training rows than neighbours.

    Example:
        >>> train = np.array([[0.0], [1.0], [5.0]])
        >>> nearest_neighbour_accuracy(train, np.array([0, 0, 1]), np.array([[4.0], [2.0]]),
        ...                            np.array([1, 1]))
        0.5

    References:
        Donahue et al., Adversarial Feature Learning, arXiv:1605.09782, table 1.
    """
    from sklearn.neighbors import KNeighborsClassifier

    flat = [np.asarray(f, np.float32).reshape(len(f), -1) for f in (train_features, features)]
    for rows, own in zip(flat, (train_labels, labels), strict=True):
        if len(rows) != len(own) or not len(rows):
            raise ValueError(f"expected a label for each row, got {len(own)} for {len(rows)} rows")
        if not np.isfinite(rows).all():
            raise ValueError("features must be finite")
    if flat[0].shape[1] != flat[1].shape[1]:
        raise ValueError(
            f"features differ in length: {flat[0].shape[1]} of training rows, {flat[1].shape[1]}"
        )
    if not 1 <= num_neighbours <= len(flat[0]):
        raise ValueError(
            f"num_neighbours must be from 1 to the {len(flat[0])} training rows, got "
            f"{num_neighbours}"
        )
    voters = KNeighborsClassifier(num_neighbours, algorithm="brute").fit(flat[0], train_labels)
    return float((voters.predict(flat[1]) == np.asarray(labels)).mean())
