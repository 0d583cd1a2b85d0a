"""Measures of strokes, of figures whose thickness and slant are known."""

import numpy as np
import pytest

from genjax.evaluation import rank_correlation, slant, thickness


def ring(radius, width, size=200):
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    distance = np.abs(np.hypot(x, y) - radius)
    return np.clip((width / 2 - distance) / 4 + 0.5, 0.0, 1.0)  # edges of four pixels


@pytest.mark.parametrize("width", [6.0, 8.0, 12.0])
def test_the_thickness_of_a_ring_is_its_width_and_of_a_disc_its_radius(width):
    assert thickness(ring(60.0, width)[None]) == pytest.approx(width, rel=0.02)
    disc = ring(0.0, 10 * width)  # about a ring of radius 0
    assert thickness(disc[None]) == pytest.approx(5 * width, rel=0.02)


def test_brightness_and_channels_do_not_matter():
    image = ring(60.0, 5.0)
    same = np.stack([image, 7.0 * image])[..., None].repeat(3, -1)
    np.testing.assert_allclose(thickness(same), thickness(image[None]).repeat(2))
    np.testing.assert_allclose(slant(same), slant(image[None]).repeat(2), atol=1e-12)


@pytest.mark.parametrize("shear", [-0.5, 0.0, 0.25])
def test_slant_is_the_shear_of_an_upright_stroke(shear):
    rows = np.arange(60)
    image = np.zeros((60, 120))
    for row in rows:
        # Upwards is to lower rows; shares of a column fall on two of them.
        place = 60 + shear * (30 - row)
        left = int(np.floor(place))
        image[row, left], image[row, left + 1] = left + 1 - place, place - left
    assert slant(image[None]) == pytest.approx(shear, abs=1e-9)


def test_images_without_strokes_have_neither():
    blank = np.zeros((1, 8, 8))
    assert np.isnan(thickness(blank)).all() and np.isnan(slant(blank)).all()
    with pytest.raises(ValueError, match=r"expected images .*, got shape \(8, 8\)"):
        thickness(blank[0])


def test_rank_correlation_is_that_of_each_example():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    x, measured = np.linspace(-2, 2, 7), rng.normal(size=(7, 5))
    expected = np.mean([spearmanr(x, column).statistic for column in measured.T])
    assert rank_correlation(x, measured) == pytest.approx(expected)
    assert rank_correlation(x, np.exp(x)[:, None]) == pytest.approx(1.0)
    # What does not change, or is not finite, says nothing.
    measured[:, 1] = 3.0
    measured[2, 2] = np.nan
    expected = np.mean([spearmanr(x, measured[:, i]).statistic for i in (0, 3, 4)])
    assert rank_correlation(x, measured) == pytest.approx(expected)
    assert np.isnan(rank_correlation(x, np.ones((7, 2))))
    with pytest.raises(ValueError, match=r"got shapes \(7,\) and \(6, 5\)"):
        rank_correlation(x, measured[:-1])
