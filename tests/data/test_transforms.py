import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import data

KEY = jax.random.key(0)
IMAGES = np.arange(6 * 4 * 5 * 2, dtype=np.uint8).reshape(6, 4, 5, 2)


def augmented(transforms, x, step, key=KEY):
    return np.asarray(data.augmenter(transforms, key, 3)({"x": jnp.asarray(x)}, step)["x"])


def test_a_flip_mirrors_half_of_the_rows_from_seed_step_and_row_alone():
    x = np.random.default_rng(0).integers(0, 256, (400, 4, 5, 1), dtype=np.uint8)
    first = augmented([data.HorizontalFlip()], x, 3)
    mirrored = (first == x[:, :, ::-1]).all((1, 2, 3))
    assert (mirrored | (first == x).all((1, 2, 3))).all() and first.dtype == np.uint8
    assert 150 < mirrored.sum() < 250
    np.testing.assert_array_equal(first, augmented([data.HorizontalFlip()], x, 3))
    assert (augmented([data.HorizontalFlip()], x, 4) != first).any()
    assert (augmented([data.HorizontalFlip()], x, 3, jax.random.key(1)) != first).any()
    # A row's draw depends on its place, not on how many others there are.
    np.testing.assert_array_equal(augmented([data.HorizontalFlip()], x[:7], 3), first[:7])
    always, never = (data.HorizontalFlip(probability=p) for p in (1.0, 0.0))
    np.testing.assert_array_equal(augmented([always], x, 0), x[:, :, ::-1])
    np.testing.assert_array_equal(augmented([never], x, 0), x)


def test_batches_of_a_step_are_rows_like_others():
    x = np.stack([IMAGES, IMAGES])
    flat = augmented([data.HorizontalFlip()], x.reshape(12, 4, 5, 2), 2)
    np.testing.assert_array_equal(
        augmented([data.HorizontalFlip()], x, 2).reshape(flat.shape), flat
    )


@pytest.mark.parametrize("mode", ["reflect", "edge", "constant"])
def test_a_random_crop_is_a_window_of_the_padded_image(mode):
    crop = data.RandomCrop(padding=2, mode=mode)
    x = np.random.default_rng(0).integers(0, 256, (60, 5, 6, 3), dtype=np.uint8)
    made = augmented([crop], x, 0)
    assert made.shape == x.shape and made.dtype == x.dtype
    corners = set()
    for before, after in zip(x, made, strict=True):
        padded = np.pad(before, [(2, 2), (2, 2), (0, 0)], mode=mode)
        windows = {(i, j) for i in range(5) for j in range(5)
                   if np.array_equal(padded[i : i + 5, j : j + 6], after)}  # fmt: skip
        assert windows
        corners |= windows
    assert len(corners) > 20


def test_transforms_without_randomness_change_the_set_and_its_spec():
    dataset = data.from_arrays("mine", x=IMAGES, label=np.arange(6))
    made = data.prepared(dataset, [data.CenterCrop(size=3), data.HorizontalFlip()])
    assert made.event_shape == (3, 3, 2) and made.num_levels == 256 and made.num_classes == 6
    np.testing.assert_array_equal(made.source.arrays["x"], IMAGES[:, 0:3, 1:4])
    assert data.prepared(dataset, [data.HorizontalFlip()]) is dataset
    # Row by row where the set is not in memory.
    crop = data.CenterCrop(size=3)
    stream = data.transforms.PreparedSource(
        dataset.source, lambda rows: {**rows, "x": crop.prepare(rows["x"])}, ["x"]
    )
    np.testing.assert_array_equal(stream.rows(np.array([4]))["x"], IMAGES[4:5, 0:3, 1:4])
    assert len(stream) == 6


def test_resizing_keeps_flat_images_flat_and_means_under_a_box():
    flat = np.full((2, 8, 8, 3), 77, np.uint8)
    assert (data.Resize(size=4).prepare(flat) == 77).all()
    x = np.random.default_rng(0).random((3, 8, 8, 2)).astype(np.float32)
    made = data.Resize(size=4, method="box").prepare(x)
    assert made.shape == (3, 4, 4, 2) and made.dtype == np.float32
    np.testing.assert_allclose(made, x.reshape(3, 4, 2, 4, 2, 2).mean((2, 4)), rtol=1e-5)
    assert data.Resize(size=16).prepare(flat[..., :1]).shape == (2, 16, 16, 1)


@pytest.mark.parametrize("make, message", [
    (lambda: data.HorizontalFlip(probability=1.5), r"probability must be in \[0, 1\]"),
    (lambda: data.RandomCrop(padding=0), "padding must be at least 1"),
    (lambda: data.Resize(size=0), "size must be at least 1"),
    (lambda: data.CenterCrop(size=9).prepare(IMAGES), "size must be from 1 to 4"),
    (lambda: data.Resize(size=2).prepare(IMAGES.astype(np.int32)), "bytes or real numbers"),
    (lambda: data.Resize(size=2).prepare(np.zeros((3, 2))), "resize is for images"),
    (lambda: augmented([data.RandomCrop(padding=4)], IMAGES, 0), "cannot be reflected"),
    (lambda: data.augmenter([data.HorizontalFlip()], KEY, 1)({"x": jnp.zeros((3, 2))}, 0),
     "is for images"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_transform_that_changes_the_shape_in_training_is_refused():
    class Half:
        def augment(self, x, key):
            return x[:2]

    with pytest.raises(
        ValueError, match=r"Half.augment must keep shape and type: uint8\[4, 5, 2\]"
    ):
        augmented([Half()], IMAGES, 0)


def test_what_filters_overshoot_stays_within_the_levels():
    steps = np.zeros((1, 8, 8, 1), np.uint8)
    steps[:, 2:6, 2:6] = 16
    dataset = data.from_arrays("steps", x=steps, num_levels=17)
    sharp = data.prepared(dataset, [data.Resize(size=13, method="lanczos")])
    assert sharp.source.arrays["x"].max() == 16
    data.check_rows(sharp)


def test_streams_have_orders_of_their_own_and_the_first_keeps_its():
    assert data.stream_name("", "x") == "x" and data.stream_name("b", "x") == "b/x"
    seeds = {data.stream_seed(0, name) for name in ("a", "b", "c")} | {0}
    assert len(seeds) == 4
    assert data.stream_seed(0, "a") == data.stream_seed(0, "a") != data.stream_seed(1, "a")


def test_arrays_become_a_data_set_with_named_features():
    made = data.from_arrays("mine", x=np.zeros((4, 2), np.float32), label=np.array([0, 2, 1, 0]),
                            source=np.zeros((4, 3)))  # fmt: skip
    assert made.spec["source"].shape == (3,) and made.spec["label"].num_classes == 3
    assert made.num_levels is None and made.event_shape == (2,)
    with pytest.raises(ValueError, match="needs a feature x"):
        data.from_arrays("mine", y=np.zeros(3))
    with pytest.raises(ValueError, match="same number of rows"):
        data.from_arrays("mine", x=np.zeros(3), label=np.zeros(2, int))


def test_random_levels_replace_a_share_of_the_entries_by_any_level():
    transform = data.RandomLevels(share=0.3, num_levels=5)
    x = jnp.full((100, 100, 1), 200, jnp.uint8)
    made = np.asarray(transform.augment(x, jax.random.key(0)))
    assert abs((made != 200).mean() - 0.3) < 0.02
    counts = np.bincount(made[made != 200], minlength=5)
    assert len(counts) == 5 and counts.min() > 450
    with pytest.raises(ValueError, match="random_levels is for grey levels"):
        transform.augment(jnp.ones(3), jax.random.key(0))
    with pytest.raises(ValueError, match="share must be in"):
        data.RandomLevels(share=1.5)


def test_grey_images_become_three_like_channels():
    x = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
    made = data.ToRGB().prepare(x)
    assert made.shape == (2, 2, 2, 3) and made.dtype == np.uint8
    np.testing.assert_array_equal(made, np.broadcast_to(x, made.shape))
    np.testing.assert_array_equal(data.ToRGB().prepare(made), made)
    with pytest.raises(ValueError, match="images of one channel, got 2"):
        data.ToRGB().prepare(np.zeros((1, 2, 2, 2)))
