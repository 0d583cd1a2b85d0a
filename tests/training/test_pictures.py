import types

import numpy as np
import pytest

from genjax.data import ArraySource
from genjax.families.base import Density, Samples
from genjax.training import pictures

RNG = np.random.default_rng(0)


def test_grid_places_images_in_reading_order_at_full_contrast():
    images = np.arange(6)[:, None, None, None] * np.ones((1, 8, 8, 1), int)
    grid = pictures.image_grid(images, 6)
    assert grid.shape == (2 * 33 + 1, 3 * 33 + 1, 3) and grid.dtype == np.uint8
    centres = grid[16::33, 16::33, 0]
    np.testing.assert_array_equal(centres, [[0, 51, 102], [153, 204, 255]])
    assert pictures.image_grid(np.zeros((1, 32, 32, 4)), 2).shape == (34, 34, 3)


def test_plots_are_pictures():
    points = np.random.default_rng(0).normal(size=(2, 50, 2))
    curve = {"gamma(t)": (np.linspace(0, 1, 5), np.arange(5.0))}
    drawn = [
        pictures.samples_picture(points.reshape(-1, *shape)[:4], None)
        for shape in ((1,), (2,), (4,), (2, 2, 1))
    ]
    drawn.append(pictures.samples_picture(np.zeros((3, 8), np.uint8), 256))
    density = pictures.density_map(np.ones((5, 5)), np.array([-2.0, 2.0, -1.0, 1.0]), points[0])
    for pixels in (pictures.scatter(points), pictures.plot_curves(curve), density, *drawn):
        assert pixels.dtype == np.uint8 and pixels.shape[2] == 3 and pixels.std() > 1


def test_images_of_real_numbers_have_one_scale_that_leaves_out_what_is_not_finite():
    values = np.array([-2.0, 0.0, 2.0, np.nan, np.inf, -np.inf])
    images = values[:, None, None, None] * np.ones((1, 8, 8, 1))
    centres = pictures.samples_picture(images, None)[16::33, 16::33, 0]
    np.testing.assert_array_equal(centres, [[0, 128, 255], [0, 0, 0]])
    # Time from left to right, a sample a row.
    frames = images[[3, 0, 2, 1]].reshape(2, 2, 8, 8, 1)
    centres = pictures.trajectory_picture(frames, None)[16::33, 16::33, 0]
    np.testing.assert_array_equal(centres, [[0, 255], [0, 128]])


@pytest.mark.parametrize("num_levels", [1, 2, None])
def test_images_without_contrast_are_black(num_levels):
    grid = pictures.image_grid(np.zeros((1, 32, 32, 1)), num_levels)
    assert (grid[1:-1, 1:-1] == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_points_and_numbers_that_are_not_finite_are_left_out(bad):
    points = RNG.normal(size=(50, 2))
    broken = np.concatenate([points, [[bad, 0.0], [0.0, bad]]])
    np.testing.assert_array_equal(
        pictures.samples_picture(broken, None), pictures.samples_picture(points, None)
    )
    np.testing.assert_array_equal(
        pictures.samples_picture(broken[:-1, :1], None),
        pictures.samples_picture(points[:, :1], None),
    )
    assert pictures.num_nonfinite(broken) == 2
    nothing = np.full((2, 5, 2), bad)
    for shown in (nothing, nothing[..., :1], nothing[..., None, None]):
        assert pictures.trajectory_picture(shown, None).dtype == np.uint8
    curve = {"gamma(t)": (np.arange(3.0), np.array([0.0, bad, 1.0]))}
    assert pictures.plot_curves(curve).std() > 1
    assert (
        pictures.density_map(np.array([[0.0, bad], [1.0, 2.0]]), np.full(4, bad), broken).std() > 1
    )


@pytest.mark.parametrize("shape", [(1,), (2,), (5,), (3, 4), (4, 4, 1), (4, 4, 2)])
@pytest.mark.parametrize("num_levels", [None, 4])
def test_samples_and_trajectories_of_any_shape_have_pictures(shape, num_levels):
    frames = np.abs(RNG.normal(size=(3, 7, *shape))).round() % 4
    drawn = Samples(
        rows=frames[-1],
        trajectory=frames,
        density=Density(np.ones((4, 4)), np.array([-2.0, 2.0, -2.0, 2.0])),
    )
    points = ArraySource(x=RNG.normal(size=(5, 2)))
    data = types.SimpleNamespace(num_levels=num_levels, source=points, vocabulary=None)
    drawing = pictures.of_samples(drawn, data, lambda: {"a": (np.arange(3), np.arange(3))})
    assert set(drawing) == {"samples", "trajectory", "density", "curves"}
    for draw in drawing.values():
        pixels = draw()
        assert pixels.dtype == np.uint8 and pixels.shape[2] == 3


def test_captions_stand_beneath_their_images_and_change_no_pixel_of_them():
    images = np.arange(3)[:, None, None, None] * np.ones((1, 8, 8, 1), int)
    grid = pictures.captioned_grid(images, 3, ["a red seven on green", "", "word " * 60])
    # Images are enlarged to 112 pixels; of a caption there are four lines at most.
    height, width = 112 + 4 + 4 * 13 + 1, 112 + 1
    assert grid.shape == (2 * height + 1, 2 * width + 1, 3)
    for index, level in enumerate((0, 128, 255)):
        top, left = (index // 2) * height + 1, (index % 2) * width + 1
        assert (grid[top : top + 112, left : left + 112] == level).all()
        beneath = grid[top + 112 : top + height - 1, left : left + 112]
        assert (beneath.max() > 200) == (index != 1)
    # Other words are other pictures, and no letter leaves the tile of its image.
    other = pictures.captioned_grid(images, 3, ["a blue seven on green", "", "word " * 60])
    assert (other != grid).any() and (other[:, width:] == grid[:, width:]).all()


def test_samples_from_captions_are_shown_with_them_beside_what_they_were_made_from():
    rows, source = np.full((2, 8, 8, 1), 3), np.zeros((2, 8, 4, 3))
    data = types.SimpleNamespace(num_levels=4, vocabulary=None)
    drawn = Samples(rows=rows)
    draw = pictures.of_samples(drawn, data, None, [(source, 2)], ["a", "b"])["samples"]
    pixels = draw()
    assert (pixels[1:50, 1:30] == 0).all() and (pixels[1:50, 60:100] == 255).all()
    plain = pictures.of_samples(drawn, data, None, [(source, 2)])["samples"]()
    assert plain.shape[0] < pixels.shape[0]
