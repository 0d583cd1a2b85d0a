"""Handwritten digits that need no files of their own, and digits on photographs."""

import numpy as np

from genjax.data.features import ArraySource, DataSet, Feature, from_arrays
from genjax.data.resizing import resized
from genjax.data.tfds_sets import tfds_set

_NUM_TESTED = 360  # of the 1,797
_BOX = 20  # pixels of a side that MNIST's digits fill, of 28


def generator(*seed: int) -> np.random.Generator:
    """A generator of the same draws on every platform.

    Args:
        *seed: Whole numbers that are not negative.
    """
    # Philox: counter-based, the same stream on every platform.
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))


def _check_split(name: str, split: str) -> None:
    if split not in ("train", "test"):
        raise ValueError(f"{name} has the splits train and test, got {split!r}")


def digits(split: str) -> DataSet:
    """1,797 handwritten digits, 8x8 pixels, 17 grey levels; 1,437 to train and 360 to test.

    Args:
        split: ``train`` or ``test``.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    order = generator(0).permutation(len(found.images))
    kept = order[_NUM_TESTED:] if split == "train" else order[:_NUM_TESTED]
    return from_arrays(
        "digits",
        num_levels=17,
        x=found.images[kept].astype(np.uint8)[..., None],
        label=found.target[kept].astype(np.int32),
    )


def digits_28(split: str, *, data_dir: str | None = None, memory_limit_mib: int = 2048) -> DataSet:
    """The digits of scikit-learn as MNIST has its own: enlarged to 20 pixels in a frame of 28.

    Args:
        split: ``train`` or ``test``: the rows of ``digits``, in their order.
        data_dir: Not looked at: the digits are where scikit-learn is.
        memory_limit_mib: Not looked at: they take 2 MiB.

    Returns:
        The split: ``x`` uint8 ``[28, 28, 1]`` of 256 levels, and ``label``.

    Raises:
        ValueError: If there is no such split.
    """
    del data_dir, memory_limit_mib
    _check_split("digits_28", split)
    source = digits(split).source
    assert isinstance(source, ArraySource)
    small = source.arrays["x"].astype(np.float32) * (255.0 / 16.0)
    large = np.clip(np.rint(resized(small, _BOX, _BOX)), 0.0, 255.0)
    frame = (28 - _BOX) // 2
    x = np.pad(large.astype(np.uint8), [(0, 0), (frame, frame), (frame, frame), (0, 0)])
    return from_arrays("digits_28", x=x, label=source.arrays["label"])


def mnist_on_cifar(
    split: str, *, data_dir: str | None = None, memory_limit_mib: int = 2048, seed: int = 0
) -> DataSet:
    """MNIST's digits as the negative of what stands behind them: crops of CIFAR-10's photographs.

    Where a pixel of the digit is not 0 each channel of the photograph is inverted, as in MNIST-M,
    whose photographs are of another set. Digits of the training split stand on photographs of
    CIFAR-10's training split, those of the test split on photographs of its test split. Which crop
    belongs to a row depends on nothing but ``seed``, the split and the position of the row.

    Args:
        split: ``train`` (60,000 rows) or ``test`` (10,000).
        data_dir: Where ``tensorflow_datasets`` has prepared ``mnist`` and ``cifar10``.
        memory_limit_mib: Larger sets are refused.
        seed: Seed of the crops.

    Returns:
        The split: ``x`` uint8 ``[28, 28, 3]``, ``label``, and the digit itself as ``partner``,
        uint8 ``[28, 28, 1]``, which families are not told of unless they ask for it.

    Raises:
        MissingDataError: If one of the two sets is not prepared.
        ValueError: If an argument is out of range.

    References:
        Ganin et al., Domain-Adversarial Training of Neural Networks, arXiv:1505.07818, section
        5.2.4.
    """
    _check_split("mnist_on_cifar", split)
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    mnist = tfds_set("mnist", split, data_dir, memory_limit_mib)
    count = len(mnist.source)
    mib = count * 28 * 28 * 4 / 2**20
    if mib > memory_limit_mib:
        raise ValueError(
            f"mnist_on_cifar takes {mib:.0f} MiB and is held in memory: raise data.memory_limit_mib"
        )
    cifar = tfds_set("cifar10", split, data_dir, memory_limit_mib)
    rows = mnist.source.rows(np.arange(count))
    photographs = cifar.source.rows(np.arange(len(cifar.source)))["x"]
    # One row of draws after the other, so that a row's are the same however many there are.
    bounds = (len(photographs), 32 - 28 + 1, 32 - 28 + 1)
    draws = generator(seed, split == "test").integers(0, bounds, (count, 3))
    windows = np.lib.stride_tricks.sliding_window_view(photographs, (28, 28), axis=(1, 2))
    crops = np.moveaxis(windows[draws[:, 0], draws[:, 1], draws[:, 2]], 1, -1)
    x = np.where(rows["x"] > 0, 255 - crops, crops)  # |crop - 255 (digit > 0)|, without a sign
    bytes_of = np.dtype(np.uint8)
    spec = {
        "x": Feature((28, 28, 3), bytes_of, num_levels=256),
        "label": mnist.spec["label"],
        "partner": Feature((28, 28, 1), bytes_of, num_levels=256),
    }
    source = ArraySource(x=np.ascontiguousarray(x), label=rows["label"], partner=rows["x"])
    return DataSet("mnist_on_cifar", source, spec)
