"""Pictures of captioned digits: their colours are read off, undone, and held against captions."""

import numpy as np
import pytest

from genjax import data, evaluation
from genjax.data.captions import COLOURS, GROUNDS

COLOUR = np.array(list(COLOURS.values()))
GROUND = np.array([*GROUNDS.values(), *COLOURS.values()])
PALETTES = dict(colours=COLOUR, grounds=GROUND)


def rows_of(split="test", scene="colour", **options):
    loaded = data.load("captioned_digits", split, images="digits", scene=scene, **options)
    return loaded.source.arrays


def colours_right(rows):
    stroke, ground = evaluation.stroke_and_ground(rows["x"])
    found = evaluation.nearest_colour(stroke, np.concatenate([COLOUR, GROUND]))
    of_ground = evaluation.nearest_colour(ground, GROUND)
    return (found == rows["colour"]).mean(), (of_ground == rows["ground"]).mean()


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_colours_of_all_small_digits_are_read_off(split):
    assert colours_right(rows_of(split)) == (1.0, 1.0)


def test_colours_of_mnist_are_read_off(tfds_dir):
    made = data.load("captioned_digits", "test[:1000]", data_dir=tfds_dir)
    assert colours_right(made.source.rows(np.arange(1000))) == (1.0, 1.0)


def test_colours_are_read_off_under_noise():
    rows = rows_of()
    noise = np.random.default_rng(0).normal(0, 20, rows["x"].shape)
    noisy = np.clip(np.round(rows["x"] + noise), 0, 255).astype(np.uint8)
    assert min(colours_right({**rows, "x": noisy})) > 0.995


def test_a_stroke_is_what_is_covered_whole_for_half_red_on_yellow_is_orange():
    red, orange, yellow = (np.array(COLOURS[name], float) for name in ("red", "orange", "yellow"))
    half = (red + yellow) / 2
    assert evaluation.nearest_colour(half[None], np.stack([red, orange, yellow])).item() == 1
    picture = np.broadcast_to(yellow, (1, 28, 28, 3)).copy()
    picture[:, 6:22, 10:18] = half  # 128 pixels
    picture[:, 6:22, 13:15] = red  # 32 pixels
    stroke, ground = evaluation.stroke_and_ground(picture)
    np.testing.assert_array_equal([stroke[0], ground[0]], [red, yellow])


def test_cielab_is_that_of_scikit_image():
    # skimage.color.rgb2lab of scikit-image 0.26.0, whose white has a little colour in it.
    rgb = np.array([[230, 30, 30], [40, 80, 230], [240, 230, 40]])
    known = [
        [49.3146471, 71.0810139, 52.7581815],
        [41.0551216, 41.3136676, -79.1868753],
        [89.5216746, -15.1837908, 83.1177447],
    ]
    np.testing.assert_allclose(evaluation.cielab(rgb), known, atol=0.01)
    # Dark colours lie on the straight parts of both curves: L is 903.3 times the luminance.
    luminance = np.array([10, 5, 7]) / 255 / 12.92 @ [0.2126729, 0.7151522, 0.0721750]
    dark = evaluation.cielab(np.array([10, 5, 7]))
    np.testing.assert_allclose(dark[0], 24389 / 27 * luminance, rtol=1e-6)


def test_undoing_the_colours_gives_the_digit_back():
    rows, plain = rows_of(), data.load("digits", "test").source.arrays["x"] / 16
    exact = evaluation.stroke_share(rows["x"], COLOUR[rows["colour"]], GROUND[rows["ground"]])
    assert np.abs(exact - plain).max() < 0.01  # grey levels of colours were rounded
    (read,) = evaluation.digit_slots(rows["x"])
    assert read.dtype == np.float32 and read.shape == plain.shape
    assert np.abs(read - plain).mean() < 0.003
    left, right = evaluation.digit_slots(rows_of(scene="pair")["x"], pair=True)
    np.testing.assert_allclose(left, plain, atol=0.003)
    assert right.shape == plain.shape and not np.array_equal(left, right)


def test_a_picture_of_one_colour_has_no_digit_and_none_of_its_colours():
    white = np.full((4, 8, 8, 3), 255, np.uint8)
    (share,) = evaluation.digit_slots(white)
    assert not share.any()
    asked = dict(label=np.zeros(4, int), colour=np.array([0, 1, 2, 3]), ground=np.ones(4, int))
    found = evaluation.caption_accuracy(white, lambda s: np.zeros(len(s), int), asked, **PALETTES)
    assert (found["label"], found["ground"], found["colour"], found["exact"]) == (1, 1, 0, 0)


def knows(scene):
    """A classifier that knows every digit of a scene by heart."""
    plain = data.load("digits", "test").source.arrays
    known = plain["x"].reshape(-1, 64) / 16

    def classify(shares):
        assert shares.shape[1:] == (8, 8, 1) and 0 <= shares.min() <= shares.max() <= 1
        gaps = np.square(shares.reshape(-1, 1, 64) - known).sum(-1)
        return plain["label"][gaps.argmin(1)]

    return classify


@pytest.mark.parametrize("scene, parts", [
    ("plain", {"label"}), ("pair", {"label", "right"}), ("colour", {"label", "colour", "ground"}),
])  # fmt: skip
def test_images_are_as_their_own_captions_say_and_not_as_those_of_others(scene, parts):
    rows = rows_of(scene=scene)
    found = evaluation.caption_accuracy(rows["x"], knows(scene), rows, **PALETTES)
    assert found == {
        **{name: 1.0 for name in (*parts, "exact")},
        **{f"{name}_stderr": 0.0 for name in (*parts, "exact")},
        "num_samples": 360.0,
    }
    others = np.random.default_rng(0).permutation(360)
    wrong = evaluation.caption_accuracy(rows["x"][others], knows(scene), rows, **PALETTES)
    chance = {"label": 0.1, "right": 0.1, "colour": 1 / 6, "ground": 1 / 7}
    for name in parts:
        spread = np.sqrt(chance[name] * (1 - chance[name]) / 360)
        assert abs(wrong[name] - chance[name]) < 5 * spread, name
        # Of N draws, the binomial: estimated at what was found.
        own = wrong[name]
        assert wrong[f"{name}_stderr"] == pytest.approx(np.sqrt(own * (1 - own) / 360))
    assert wrong["exact"] <= min(wrong[name] for name in parts)


def test_exact_is_all_parts_at_once():
    rows = rows_of()
    asked = {name: rows[name].copy() for name in ("label", "colour", "ground")}
    asked["label"][:90] += 1
    asked["colour"][60:120] += 1
    asked["ground"][350:] += 1
    found = evaluation.caption_accuracy(rows["x"], knows("colour"), asked, **PALETTES)
    assert found["label"] == pytest.approx(270 / 360)
    assert found["colour"] == pytest.approx(300 / 360)
    assert found["ground"] == pytest.approx(350 / 360)
    assert found["exact"] == pytest.approx(230 / 360)


GREY, RGB = np.zeros((3, 8, 8, 1)), np.zeros((3, 8, 8, 3))


@pytest.mark.parametrize("call, message", [
    (lambda: evaluation.caption_accuracy(GREY, len, {}), "expected a label, .* got nothing"),
    (lambda: evaluation.caption_accuracy(RGB, len, dict(label=[0] * 3, colour=[0] * 3)),
     "both colour and ground or neither"),
    (lambda: evaluation.caption_accuracy(GREY, len, dict(label=[0, 1])),
     r"label: expected class ids \[3\], one an image, got shape \(2,\)"),
    (lambda: evaluation.caption_accuracy(
        RGB, lambda s: np.zeros(3), dict(label=[0] * 3, colour=[0] * 3, ground=[0] * 3)),
     "give the palettes"),
    (lambda: evaluation.digit_slots(np.zeros((3, 8, 7, 1)), pair=True), "an even width, got 7"),
    (lambda: evaluation.digit_slots(np.zeros((3, 8, 8, 2))), "of 1 or 3 channels"),
    (lambda: evaluation.stroke_and_ground(GREY), r"expected colours \[N, H, W, 3\]"),
    (lambda: evaluation.stroke_share(RGB, RGB[:, 0, 0], RGB[:2, 0, 0]), "their colours"),
    (lambda: evaluation.nearest_colour(RGB[0, 0], RGB), r"a palette \[K, 3\]"),
    (lambda: evaluation.cielab(GREY), r"expected colours \[..., 3\]"),
])  # fmt: skip
def test_what_is_no_picture_of_a_caption_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
