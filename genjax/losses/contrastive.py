r"""Contrastive losses of images and texts: each row tells its own text from those of the others.

Rows :math:`I_i` and :math:`T_j` are vectors of unit length, and
:math:`e^s \langle I_i, T_j \rangle` the logit that image i and text j belong together.

Where rows share a caption, no model can tell their texts apart. The cross-entropy of n rows with
one caption is then at least :math:`\log n`, whether the target is a row's own text or is spread
over the n alike (:func:`contrastive_floor`): with few captions and many rows most of the loss is
this constant. The gradients differ: with own targets, rows of one caption push each other away
(:func:`caption_targets` has the other ones).

References:
    Radford et al., Learning Transferable Visual Models From Natural Language Supervision,
    arXiv:2103.00020 (CLIP), figure 3.
    Zhai et al., Sigmoid Loss for Language Image Pre-Training, arXiv:2303.15343 (SigLIP).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from genjax.losses.arrays import check_same_shape, paired, widened


def unit_length(x: Float[Array, "B D"]) -> Float[Array, "B D"]:
    """Rows divided by their Euclidean lengths.

    Args:
        x: Vectors, ``[B, D]``.

    Returns:
        Vectors of length 1, ``[B, D]``; those shorter than 1e-6 are divided by that, so that a
        vector of zeros stays one and has a slope.

    Example:
        >>> unit_length(jnp.array([[3.0, 4.0]]))
        Array([[0.6, 0.8]], dtype=float32)
    """
    x = widened(x)
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))


def same_captions(tokens: Int[Array, "B T"], others: Int[Array, "N T"]) -> Bool[Array, "B N"]:
    """Whether captions are the same, token by token.

    Args:
        tokens: Captions of some rows, ``[B, T]``.
        others: Captions of the rows that they are compared with, ``[N, T]``.

    Returns:
        ``[B, N]``.

    Raises:
        ValueError: If the captions are not of one length.

    Example:
        >>> same_captions(jnp.array([[1, 2], [1, 3]]), jnp.array([[1, 3], [1, 3]])).tolist()
        [[False, False], [True, True]]
    """
    tokens, others = jnp.asarray(tokens), jnp.asarray(others)
    if tokens.ndim != 2 or others.ndim != 2 or tokens.shape[1] != others.shape[1]:
        raise ValueError(
            "expected captions of one length, tokens [B, T] and others [N, T], got "
            f"{list(tokens.shape)} and {list(others.shape)}"
        )
    return jnp.all(tokens[:, None] == others, axis=-1)


def caption_targets(same: Bool[Array, "B N"]) -> Float[Array, "B N"]:
    """Targets that are spread alike over all rows with the caption of a row.

    Args:
        same: Whether row i has the caption of row j, ``[B, N]``: each has its own.

    Returns:
        Probabilities, rows of which sum to 1, ``[B, N]``.

    Example:
        >>> caption_targets(jnp.array([[True, True], [False, True]]))
        Array([[0.5, 0.5],
               [0. , 1. ]], dtype=float32)
    """
    counts = widened(same)
    return counts / jnp.maximum(jnp.sum(counts, axis=-1, keepdims=True), 1.0)


def contrastive_floor(same: Bool[Array, "B N"]) -> Float[Array, " B"]:
    r"""The least that :func:`contrastive_loss` can be, in nats: :math:`\log n_i`.

    Here :math:`n_i` is the number of rows with the caption of row i. With :func:`caption_targets`
    it is the floor of each row (their entropy). With own targets it is the floor of the mean over
    all rows: equal captions have equal vectors, and the mean cross-entropy of n rows among n
    logits that all of them share is at least :math:`\log n`.

    Args:
        same: Whether row i has the caption of row j, ``[B, N]``.

    Returns:
        The floor, ``[B]``; 0 where a caption is that of one row alone.

    Example:
        >>> contrastive_floor(jnp.array([[True, True], [True, True]])).round(4)
        Array([0.6931, 0.6931], dtype=float32)
    """
    return jnp.log(jnp.maximum(jnp.sum(widened(same), axis=-1), 1.0))


def contrastive_loss(
    image_logits: Float[Array, "B N"],
    text_logits: Float[Array, "B N"],
    targets: Float[Array, "B N"],
) -> Float[Array, " B"]:
    r"""Cross-entropy of which text is an image's and which image a text's, the mean of both.

    Args:
        image_logits: Logits of the image of row i with the texts of all rows,
            :math:`e^s \langle I_i, T_j \rangle`, ``[B, N]``. The N rows are those of the whole
            batch, of which the B may be the part of one device.
        text_logits: Logits of the text of row i with the images of all rows,
            :math:`e^s \langle T_i, I_j \rangle`, ``[B, N]``; where B is the whole batch, the
            transposed of the above.
        targets: Probabilities that the row j is meant, rows of which sum to 1: the identity, or
            :func:`caption_targets`.

    Returns:
        The loss of each row in nats, ``[B]``; at least :func:`contrastive_floor`.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> logits = 10.0 * jnp.eye(2)
        >>> contrastive_loss(logits, logits.T, jnp.eye(2)) < 1e-4
        Array([ True,  True], dtype=bool)

    References:
        Radford et al., arXiv:2103.00020, figure 3.
    """
    image_logits, text_logits = paired(image_logits=image_logits, text_logits=text_logits)
    targets = widened(targets)
    check_same_shape(image_logits=image_logits, targets=targets)

    def cross_entropy(logits: Array) -> Array:
        return -jnp.sum(targets * jax.nn.log_softmax(logits, axis=-1), axis=-1)

    return 0.5 * (cross_entropy(image_logits) + cross_entropy(text_logits))


def sigmoid_contrastive_loss(
    logits: Float[Array, "B N"], same: Bool[Array, "B N"]
) -> Float[Array, " B"]:
    r"""Whether an image and a text belong together, of each pair by itself.

    With :math:`z_{ij} = 1` where they do and -1 where not it is
    :math:`\sum_j \log(1 + e^{-z_{ij} l_{ij}})`: no pair is compared with others, so that nothing is
    to be known of them but their own vectors, and its floor is 0.

    Args:
        logits: Logits of image i and text j, :math:`l_{ij} = e^s \langle I_i, T_j \rangle + b`,
            ``[B, N]``. The bias b begins at -10, since almost all pairs do not belong together.
        same: Whether they belong together: the identity, or :func:`same_captions`.

    Returns:
        The loss of each row, summed over the N texts, ``[B]``: its mean is that of the paper.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> sigmoid_contrastive_loss(jnp.zeros((1, 2)), jnp.array([[True, False]])).round(4)
        Array([1.3863], dtype=float32)

    References:
        Zhai et al., arXiv:2303.15343, section 3.2.
    """
    logits, together = widened(logits), widened(same)
    check_same_shape(logits=logits, same=together)
    return jnp.sum(jax.nn.softplus(jnp.where(together > 0.0, -logits, logits)), axis=-1)
