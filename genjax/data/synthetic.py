"""Images and texts of noise: to plan a large run, or to time one, before its data is at hand."""

import numpy as np

from genjax.data.digit_sets import generator
from genjax.data.features import DataSet, Feature
from genjax.data.vocabulary import PADDING, UNKNOWN, Vocabulary

_SPLITS = ("train", "test")


class SyntheticSource:
    """Rows that are drawn when they are asked for, each the same whenever it is.

    Args:
        spec: Features of whole numbers: ``x`` of grey levels, others of classes or tokens.
        num_rows: Number of rows.
        seed: Seed of the rows.
    """

    def __init__(self, spec: dict[str, Feature], num_rows: int, seed: int):
        self._spec = spec
        self._num_rows = num_rows
        self._seed = seed

    def __len__(self) -> int:
        return self._num_rows

    def _drawn(self, name: str, index: int) -> np.ndarray:
        feature = self._spec[name]
        number = list(self._spec).index(name)
        high = feature.num_levels or feature.num_classes or 1
        draw = generator(self._seed, number, index).integers
        return np.asarray(draw(high, size=feature.shape, dtype=feature.dtype))

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at ``indices``, stacked."""
        places = np.asarray(indices).tolist()
        return {name: np.stack([self._drawn(name, i) for i in places]) for name in self._spec}

    def column(self, name: str) -> np.ndarray | None:
        """Labels or texts of all examples; images are not drawn at once."""
        if name == "x":
            return None
        return np.stack([self._drawn(name, i) for i in range(self._num_rows)])


def synthetic(
    split: str,
    *,
    data_dir: str | None = None,
    memory_limit_mib: int = 2048,
    size: int = 32,
    num_channels: int = 3,
    num_classes: int | None = None,
    text_length: int | None = None,
    num_tokens: int = 1000,
    num_rows: int = 10_000,
) -> DataSet:
    """Independent uniform grey levels, labels and tokens, in the shapes of real data.

    There is nothing to learn from them. They stand in for data in ``--mode=plan``, which looks at
    shapes alone, and in measuring how fast a machine trains.

    Args:
        split: ``train`` or ``test``, whose rows differ.
        data_dir: Not looked at: nothing is read.
        memory_limit_mib: Not looked at: rows are drawn when they are asked for.
        size: Height and width of the images.
        num_channels: Their channels.
        num_classes: Number of classes; None for no labels.
        text_length: Tokens of a text; None for no texts.
        num_tokens: Number of tokens of the vocabulary, that of padding included.
        num_rows: Number of rows of either split.

    Returns:
        The split: ``x`` uint8 ``[size, size, num_channels]``, and as asked for ``label`` and
        ``tokens``, int32 ``[text_length]``, whose words are ``unknown``, padding and numbers.

    Raises:
        ValueError: If there is no such split, or a number is too small.

    Example:
        >>> found = synthetic("train", size=8, text_length=5)
        >>> {name: rows.shape for name, rows in found.source.rows([0, 7]).items()}
        {'x': (2, 8, 8, 3), 'tokens': (2, 5)}
    """
    if split not in _SPLITS:
        raise ValueError(f"synthetic has the splits train and test, got {split!r}")
    least = dict(size=size, num_channels=num_channels, num_classes=num_classes,
                 text_length=text_length, num_rows=num_rows)  # fmt: skip
    small = {name: value for name, value in least.items() if value is not None and value < 1}
    if small or num_tokens < 3:
        wrong = small or {"num_tokens": num_tokens}
        raise ValueError(f"expected sizes of at least 1, and 3 tokens, got {wrong}")
    spec = {"x": Feature((size, size, num_channels), np.dtype(np.uint8), 256)}
    if num_classes is not None:
        spec["label"] = Feature((), np.dtype(np.int32), None, num_classes)
    if text_length is not None:
        words = (UNKNOWN, PADDING, *(f" {number}" for number in range(num_tokens - 2)))
        vocabulary = Vocabulary("word", words)
        spec["tokens"] = Feature(
            (text_length,), np.dtype(np.int32), None, num_tokens, vocabulary=vocabulary
        )
    return DataSet("synthetic", SyntheticSource(spec, num_rows, _SPLITS.index(split)), spec)
