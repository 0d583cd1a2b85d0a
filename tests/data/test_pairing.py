import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import data
from genjax.data import digit_sets

KEY = jax.random.key(0)
COLOURS = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


def of(*transforms, x=COLOURS, **more):
    return data.prepared(data.from_arrays("mine", x=x, **more), transforms)


def test_source_is_made_of_x_as_it_stands_there_and_has_its_levels():
    made = of(data.CenterCrop(size=4), data.Shrink(factor=2, method="box"))
    arrays = made.source.arrays
    assert made.spec["source"] == data.Feature((2, 2, 3), np.dtype(np.uint8), num_levels=256)
    np.testing.assert_array_equal(arrays["x"], COLOURS[:, 2:6, 2:6])
    means = COLOURS[:, 2:6, 2:6].reshape(12, 2, 2, 2, 2, 3).mean((2, 4))
    # Pillow rounds bytes after each of its two passes.
    np.testing.assert_allclose(arrays["source"], means, atol=1.01)
    data.check_rows(made)


def test_bicubic_shrinking_does_not_alias():
    # Stripes one pixel wide are grey from afar; taking every fourth pixel would make them black.
    stripes = np.zeros((1, 32, 32, 1), np.uint8)
    stripes[:, :, ::2] = 255
    inner = of(data.Shrink(factor=4), x=stripes).source.arrays["source"][0, 1:-1, 1:-1]
    assert np.abs(inner.astype(int) - 127).max() <= 2


def test_what_moves_x_moves_what_is_paired_with_it():
    # Grey first and moved after, or moved first: the same.
    after = of(data.Grey(), data.CenterCrop(size=4)).source.arrays
    before = of(data.CenterCrop(size=4), data.Grey()).source.arrays
    for name in ("x", "source"):
        np.testing.assert_array_equal(after[name], before[name])
    # A true partner, too, and rows that are not in memory alike.
    partner = COLOURS[..., :1]
    own = data.from_arrays("mine", x=COLOURS, partner=partner)
    crop = data.CenterCrop(size=4)
    stream = data.prepared(dataclasses.replace(own, source=Decoded(own.source)), [crop])
    whole = data.prepared(own, [crop]).source
    some = np.array([3, 1])
    for name, rows in stream.source.rows(some).items():
        np.testing.assert_array_equal(rows, whole.rows(some)[name])
    np.testing.assert_array_equal(whole.arrays["partner"], partner[:, 2:6, 2:6])
    assert stream.spec == {"x": stream.spec["x"], "partner": stream.spec["partner"]}
    assert data.column(stream.source, "partner") is None


class Decoded:
    """Rows that are read when they are asked for."""

    def __init__(self, source):
        self.rows, self._source = source.rows, source

    def __len__(self):
        return len(self._source)


def test_random_transforms_move_source_by_the_draws_of_x():
    x = np.random.default_rng(1).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
    flip, crop = data.HorizontalFlip(), data.RandomCrop(padding=2)
    augment = data.augmenter([flip, crop, data.RandomLevels()], KEY, 3)
    plain = data.augmenter([flip, crop], KEY, 3)
    batch = {"x": jnp.asarray(x), "source": jnp.asarray(x), "label": jnp.arange(50)}
    made = augment(batch, 3)
    moved = plain({"x": jnp.asarray(x)}, 3)["x"]
    assert (np.asarray(moved) != x).any()
    np.testing.assert_array_equal(made["source"], moved)  # levels are replaced in x alone
    assert (np.asarray(made["x"]) != moved).any()
    np.testing.assert_array_equal(made["label"], batch["label"])
    # A flip fits any size, and several batches a step.
    small = jnp.asarray(np.arange(50 * 4 * 4, dtype=np.uint8).reshape(2, 25, 4, 4, 1))
    both = data.augmenter([flip], KEY, 3)
    stacked = both({"x": jnp.asarray(x).reshape(2, 25, 8, 8, 3), "source": small}, 0)
    for image, before, source, after in zip(
        x, np.asarray(stacked["x"]).reshape(x.shape), small.reshape(50, 4, 4, 1),
        np.asarray(stacked["source"]).reshape(50, 4, 4, 1), strict=True,
    ):  # fmt: skip
        flipped = not np.array_equal(image, before)
        np.testing.assert_array_equal(after, source[:, ::-1] if flipped else source)


class Shifted:
    def prepare(self, x):
        return x

    def augment(self, x, key):
        return x


class Doubled(Shifted):
    paired: ClassVar = "left"

    def pair(self, x, num_levels):
        return x[:1]


@pytest.mark.parametrize("transforms, message", [
    ([data.Shrink(factor=2), data.Grey()], "have a source already"),
    ([data.Shrink(factor=2), data.CenterCrop(size=4)], "would move x and not source"),
    ([data.Grey(), Shifted()], "Shifted does not say what becomes of source"),
    ([Doubled()], "must keep rows and type"),
    ([data.Shrink(factor=3)], "factor must divide height and width, got 3 for images of 8 x 8"),
])  # fmt: skip
def test_what_would_part_pairs_is_refused(transforms, message):
    with pytest.raises(ValueError, match=message):
        of(*transforms)


@pytest.mark.parametrize("make, message", [
    (lambda: data.Shrink(factor=1), "factor must be at least 2"),
    (lambda: data.Edges(low=0.3, high=0.2), "0 <= low <= high <= 1"),
    (lambda: data.Grey().pair(COLOURS[..., :1], 256), "grey is for images of 3 channels"),
    (lambda: data.Edges().pair(COLOURS / 255.0, None), "whole grey levels"),
    (lambda: data.Edges().pair(COLOURS[..., :2], 256), "images of 1 or 3 channels, got 2"),
    (lambda: data.Edges().pair(np.zeros((3, 4)), 256), "edges is for images"),
    (lambda: data.augmenter([data.RandomCrop(padding=1)], KEY, 3)(
        {"x": jnp.zeros((2, 8, 8, 3)), "source": jnp.zeros((2, 4, 4, 3))}, 0),
     r"would move x and not source, which has another size \(\[4, 4\] and \[8, 8\]\)"),
])  # fmt: skip
def test_pairings_refuse_what_does_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_grey_is_the_brightness_of_bt_601():
    pure = np.eye(3, dtype=np.uint8).reshape(3, 1, 1, 3) * 255
    assert data.Grey().pair(pure, 256).reshape(-1).tolist() == [76, 150, 29]


def test_sobels_slopes_are_those_of_scikit_image():
    # skimage.filters.sobel of scikit-image 0.26.0 on the same image: a row, a corner, the sum.
    i, j = np.meshgrid(np.arange(16), np.arange(20), indexing="ij")
    image = ((7 * i * i + 13 * j + 3 * i * j) % 256) / 255.0
    slope = data.Edges(method="sobel", sigma=0.0)._of(image[None])[0]
    expected = [0.2448116, 0.2777955, 0.2928338, 0.3080367, 0.3233808, 0.1493289]
    np.testing.assert_allclose(slope[3, :6], expected, atol=1e-6)
    np.testing.assert_allclose([slope[0, 0], slope.sum()], [0.0437677, 79.1422637], rtol=1e-5)


def test_cannys_lines_are_thin_and_hang_together():
    disc = np.hypot(*np.meshgrid(np.arange(-15.5, 16), np.arange(-15.5, 16))) < 10
    edges = data.Edges()
    found = edges.pair((disc * 16).astype(np.uint8)[None, ..., None], 17)[0, ..., 0]
    assert set(np.unique(found)) == {0, 16} and found.dtype == np.uint8
    # As long as a circle of that radius is round, and nowhere two pixels off it.
    rows, columns = np.nonzero(found)
    radius = np.hypot(rows - 15.5, columns - 15.5)
    assert np.abs(radius - 10).max() < 1.5
    assert 50 < len(rows) < 80  # 57 to 80 pixels, by how corners are turned
    step = np.zeros((1, 12, 12, 1), np.uint8)
    step[:, :, 6:] = 255
    np.testing.assert_array_equal(edges.pair(step, 256)[0, ..., 0].sum(1), np.full(12, 255))
    # A faint line counts where it meets a strong one, and in no other image of the batch.
    faint = np.zeros((2, 16, 16, 1), np.uint8)
    faint[:, :, 8:] = 40
    alone = edges.pair(faint, 256)
    assert not alone.any()
    faint[0, :, 8:] = np.linspace(200, 40, 16).astype(np.uint8)[:, None, None]
    met = edges.pair(faint, 256)
    assert met[0, -1, :, 0].any() and not met[1].any()


def test_digits_of_28_pixels_are_those_of_eight_enlarged():
    small, large = (data.load(name, "test") for name in ("digits", "digits_28"))
    assert large.spec["x"] == data.Feature((28, 28, 1), np.dtype(np.uint8), num_levels=256)
    x = large.source.arrays["x"]
    np.testing.assert_array_equal(large.source.arrays["label"], small.source.arrays["label"])
    assert not x[:, :4].any() and not x[:, :, -4:].any()
    again = data.resized(x[:, 4:-4, 4:-4].astype(np.float32), 8, 8) * (16 / 255)
    assert np.abs(again - small.source.arrays["x"]).mean() < 1.0
    with pytest.raises(ValueError, match="digits_28 has the splits train and test"):
        data.load("digits_28", "all")


def behind(arrays):
    """The photographs, whatever digit was on them."""
    return np.abs(arrays["x"].astype(int) - 255 * (arrays["partner"] > 0))


def is_a_crop(crop, photographs):
    windows = [photographs[:, i : i + 28, j : j + 28] for i in range(5) for j in range(5)]
    return any((window == crop).all((1, 2, 3)).any() for window in windows)


def test_a_digit_inverts_a_photograph_of_its_own_split(monkeypatch):
    rng = np.random.default_rng(0)
    sets = {
        (name, split): data.from_arrays(
            name,
            x=rng.integers(0, 3, (count, side, side, channels), dtype=np.uint8) * 127,
            label=np.arange(count) % 10,
        )
        for name, side, channels in (("mnist", 28, 1), ("cifar10", 32, 3))
        for split, count in (("train", 20), ("test", 12))
    }
    monkeypatch.setattr(digit_sets, "tfds_set", lambda name, split, *_: sets[name, split])
    for split in ("train", "test"):
        made = data.load("mnist_on_cifar", split)
        data.check_rows(made)
        arrays = made.source.arrays
        digits = sets["mnist", split].source.arrays
        np.testing.assert_array_equal(arrays["partner"], digits["x"])
        np.testing.assert_array_equal(arrays["label"], digits["label"])
        photographs = sets["cifar10", split].source.arrays["x"]
        assert all(is_a_crop(crop, photographs) for crop in behind(arrays))
        # Of a row, the split and the seed alone: not of the other rows, and not drawn again.
        few = data.load("mnist_on_cifar", f"{split}[:5]").source.arrays["x"]
        np.testing.assert_array_equal(few, arrays["x"][:5])
        other = data.load("mnist_on_cifar", split, seed=1).source.arrays["x"]
        assert (other != arrays["x"]).any((1, 2, 3)).sum() > 8
    with pytest.raises(ValueError, match="held in memory"):
        data.load("mnist_on_cifar", "test", memory_limit_mib=0)
    with pytest.raises(ValueError, match="seed must be at least 0"):
        data.load("mnist_on_cifar", "test", seed=-1)
    with pytest.raises(ValueError, match="has the splits train and test"):
        data.load("mnist_on_cifar", "all")


@pytest.mark.slow
def test_mnist_stands_on_cifar(tfds_dir):
    made = data.load("mnist_on_cifar", "test", data_dir=tfds_dir)
    mnist, photographs = (
        data.load(n, "test", data_dir=tfds_dir).source for n in ("mnist", "cifar10")
    )
    arrays = made.source.arrays
    np.testing.assert_array_equal(arrays["partner"], mnist.rows(np.arange(len(mnist)))["x"])
    every = photographs.rows(np.arange(len(photographs)))["x"]
    assert all(is_a_crop(behind(arrays)[row], every) for row in (0, 9_999))
    data.check_rows(made)
