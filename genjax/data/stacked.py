"""Digits in the channels of one image: a thousand modes that can be counted."""

import dataclasses

import numpy as np

from genjax.data.digit_sets import generator
from genjax.data.features import DataSet, Feature, Source, column
from genjax.data.tfds_sets import tfds_set

_CHANNELS = 3
_NUM_TESTED = 10_000


class StackedSource:
    """Images whose channels are images of another source, put together when they are asked for.

    Args:
        source: Images ``x`` of one channel, with ``label``.
        chosen: Positions of the channels' images, ``[N, channels]``.
        num_classes: Number of classes of one channel.
    """

    def __init__(self, source: Source, chosen: np.ndarray, num_classes: int):
        self._source = source
        self._chosen = chosen
        self._places = num_classes ** np.arange(chosen.shape[1])[::-1]

    def __len__(self) -> int:
        return len(self._chosen)

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at ``indices``, stacked."""
        chosen = self._chosen[np.asarray(indices)]
        found = self._source.rows(chosen.reshape(-1))
        x = found["x"][..., 0].reshape(*chosen.shape, *found["x"].shape[1:-1])
        return {"x": np.moveaxis(x, 1, -1), "label": self._joint(found["label"], chosen.shape)}

    def column(self, name: str) -> np.ndarray | None:
        """The labels of all examples, if the other source has them at hand."""
        labels = column(self._source, name) if name == "label" else None
        return None if labels is None else self._joint(labels[self._chosen], self._chosen.shape)

    def _joint(self, labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Labels of channels as digits of a number, of which the first channel's is the highest."""
        return (labels.reshape(shape) @ self._places).astype(np.int32)


def stacked(dataset: DataSet, *, num_rows: int, seed: int = 0) -> DataSet:
    """Images of three channels, each an image of another set drawn with replacement.

    Args:
        dataset: Images of one channel, with labels.
        num_rows: Number of images to make.
        seed: Seed of the draws; not negative.

    Returns:
        The set, ``stacked_`` before the name of the other: ``label`` is ``100 a + 10 b + c`` for
        ten classes, with the class of the first channel a.

    Raises:
        ValueError: If the other set has more channels or no labels, or an argument is out of range.
    """
    num_classes, shape = dataset.num_classes, dataset.event_shape
    if num_classes is None or len(shape) != 3 or shape[-1] != 1:
        raise ValueError(
            f"stacked are labelled images of one channel, but {dataset.name} has examples of "
            f"shape {shape} and {num_classes or 'no'} classes"
        )
    if num_rows < 1 or seed < 0:
        raise ValueError(
            f"num_rows must be at least 1 and seed not negative, got {num_rows} and {seed}"
        )
    chosen = generator(seed, num_rows).integers(len(dataset.source), size=(num_rows, _CHANNELS))
    image = dataclasses.replace(dataset.spec["x"], shape=(*shape[:-1], _CHANNELS))
    label = Feature((), np.dtype(np.int32), num_classes=num_classes**_CHANNELS)
    return DataSet(
        f"stacked_{dataset.name}",
        StackedSource(dataset.source, chosen, num_classes),
        {"x": image, "label": label},
    )


def stacked_mnist(
    split: str,
    *,
    data_dir: str | None = None,
    memory_limit_mib: int = 2048,
    num_rows: int = 128_000,
    seed: int = 0,
) -> DataSet:
    """Three digits of MNIST in the channels of an image: a thousand modes.

    Args:
        split: ``train``, of digits of MNIST's training split, or ``test``, 10,000 of its test
            split.
        data_dir: Where ``tensorflow_datasets`` has prepared ``mnist``.
        memory_limit_mib: As of MNIST, which is kept in memory: images are put together when they
            are asked for.
        num_rows: Images of the training split; 128,000 in PacGAN.
        seed: Seed of the draws.

    Returns:
        The split: ``x`` uint8 ``[28, 28, 3]``, and ``label`` from 0 to 999.

    Raises:
        MissingDataError: If MNIST is not prepared.
        ValueError: If an argument is out of range.

    References:
        Metz et al., arXiv:1611.02163, section 3.3.1; Lin et al., PacGAN, arXiv:1712.04086, section
        4.2.
    """
    if split not in ("train", "test"):
        raise ValueError(f"stacked_mnist has the splits train and test, got {split!r}")
    mnist = tfds_set("mnist", split, data_dir, memory_limit_mib)
    return stacked(mnist, num_rows=num_rows if split == "train" else _NUM_TESTED, seed=seed)
