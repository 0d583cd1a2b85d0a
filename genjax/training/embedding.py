"""Vectors of images and of captions, by a trained model that compares the two."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from genjax.data.captions import caption_tokens
from genjax.data.vocabulary import words_of
from genjax.families.base import Family, TrainState
from genjax.training.experiment import Experiment
from genjax.training.rows import rows_of_feature


class Embeds(Protocol):
    """What is asked: a trained model."""

    family: Family
    experiment: Experiment

    def of_rows(self, name: str, function: Any, rows: Mapping[str, np.ndarray]) -> Any:
        """A function of the newest state and of rows, of all of them."""
        ...


def embed(
    model: Embeds, x: ArrayLike | None, tokens: ArrayLike | Sequence[str] | None
) -> dict[str, np.ndarray]:
    """Vectors of unit length of images and of captions: see ``Run.embed``.

    Args:
        model: The trained model.
        x: Rows ``[N, *event]`` of the kind of the data; None for none.
        tokens: Captions as tokens ``[M, T]``, or as strings; None for none.

    Returns:
        ``embedding`` ``[N, D]`` and ``text_embedding`` ``[M, D]``, of what is given.

    Raises:
        ValueError: If the family does not compare images with texts, nothing is given, or it is not
            of the data's kind.
    """
    function = model.family.embed
    if function is None:
        raise ValueError(
            "this family has no vectors of images and texts: contrastive, clip and siglip have"
        )
    spec, given = model.experiment.spec, {}
    if x is not None:
        given["x"] = rows_of_feature("x", np.asarray(x), spec["x"])
    if tokens is not None:
        array = np.asarray(tokens)
        if array.dtype.kind in "US":
            array = tokens_of(model.experiment, np.atleast_1d(array).tolist())
        given["tokens"] = rows_of_feature("tokens", array, spec["tokens"])
    if not given:
        raise ValueError("expected x, tokens or both, got neither")

    def of(state: TrainState, batch: Mapping[str, Any]) -> Any:
        seen = {name: batch[name] for name in ("x", "tokens") if name in batch}
        return function({"ema": state.ema, "model_state": state.model_state}, seen)

    # One after the other: there may be more captions than images.
    found: dict[str, np.ndarray] = {}
    for name, rows in given.items():
        found |= model.of_rows(f"embedding {name}", of, {name: rows})
    return found


def tokens_of(experiment: Experiment, captions: Sequence[str]) -> np.ndarray:
    """Captions as the data has them.

    Args:
        experiment: Says which words there are.
        captions: ``N`` captions.

    Returns:
        Tokens, int32 ``[N, T]``.

    Raises:
        ValueError: If the data has no captions, a caption has a word that they have not, or is too
            long to end in padding.
    """
    feature = experiment.spec.get("tokens")
    if feature is None or feature.vocabulary is None:
        raise ValueError("the data has no captions")
    length = feature.shape[0]
    for caption in captions:
        words = words_of(caption)
        unknown = [word for word in words if word not in feature.vocabulary.tokens]
        if unknown:
            raise ValueError(
                f"caption {caption!r}: the captions of the data have no word {unknown[0].strip()!r}"
                " at such a place"
            )
        if len(words) >= length:
            raise ValueError(
                f"caption {caption!r}: expected at most {length - 1} words, got {len(words)}"
            )
    return caption_tokens(captions, feature.vocabulary, length)
