import numpy as np
import pytest

from genjax import evaluation

ROW, COLUMN, CHANNEL = np.meshgrid(np.arange(16), np.arange(20), np.arange(3), indexing="ij")
PATTERN = 7 * ROW * ROW + 13 * COLUMN + 50 * CHANNEL + 3 * ROW * COLUMN
TRUTH = (PATTERN % 256).astype(np.uint8)[None]
MADE = ((PATTERN + (ROW * COLUMN) % 23 - 5 * CHANNEL) % 256).astype(np.uint8)[None]


def test_psnr_and_ssim_are_those_of_scikit_image():
    # scikit-image 0.26.0: peak_signal_noise_ratio(data_range=255); structural_similarity with
    # gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255; the first of
    # rgb2ycbcr(...)[4:-4, 4:-4, 0].
    assert evaluation.psnr(MADE, TRUTH)[0] == pytest.approx(15.96304366949023, abs=1e-9)
    assert evaluation.ssim(MADE, TRUTH)[0] == pytest.approx(0.8072867152041295, abs=1e-9)
    grey = evaluation.ssim(MADE[..., :1], TRUTH[..., :1])[0]
    assert grey == pytest.approx(0.8662989087300371, abs=1e-9)
    luma = evaluation.psnr_of_luma(MADE, TRUTH, border=4)[0]
    assert luma == pytest.approx(19.46469518966215, abs=1e-3)  # its coefficients have more digits


def test_measures_follow_their_peak_and_their_rows():
    for measure in (evaluation.psnr, evaluation.ssim, evaluation.psnr_of_luma):
        both = measure(np.concatenate([MADE, TRUTH]), np.concatenate([TRUTH, TRUTH]))
        assert both.shape == (2,) and both[1] in (1.0, np.inf) and both[0] == measure(MADE, TRUTH)
        scaled = measure(MADE / 255.0, TRUTH / 255.0, peak=1.0)
        np.testing.assert_allclose(scaled, measure(MADE, TRUTH))
    white = evaluation.luma(np.full((1, 1, 1, 3), 255))
    np.testing.assert_allclose([white.item(), evaluation.luma(np.zeros((1, 1, 1, 3))).item()],
                               [235.0, 16.0])  # fmt: skip


def test_a_border_is_left_out_of_the_luma_alone():
    wrong = TRUTH.copy()
    wrong[:, 0] = 255 - wrong[:, 0]
    assert np.isinf(evaluation.psnr_of_luma(wrong, TRUTH, border=1)[0])
    found = evaluation.image_errors(wrong, TRUTH, border=1)
    assert np.isinf(found["psnr_y"]) and np.isfinite(found["psnr"]) and found["num_exact"] == 0
    # Of one channel, the channel itself.
    np.testing.assert_allclose(
        evaluation.psnr_of_luma(MADE[..., :1], TRUTH[..., :1]),
        evaluation.psnr(MADE[..., :1], TRUTH[..., :1]),
    )


def test_greys_are_far_in_colour_and_a_permutation_of_the_pixels_is_not():
    grey = np.repeat(TRUTH.mean(-1, keepdims=True), 3, -1)
    assert evaluation.chroma_distance(grey, TRUTH) > 0.8
    shuffled = TRUTH.reshape(1, -1, 3)[:, np.random.default_rng(0).permutation(320)]
    assert evaluation.chroma_distance(shuffled.reshape(TRUTH.shape), TRUTH) == 0.0
    shares = evaluation.chroma_histogram(grey)
    assert shares.shape == (15, 15) and shares[7, 7] == 1.0
    assert evaluation.chroma_histogram(TRUTH).sum() == pytest.approx(1.0)


def test_errors_of_images_are_means_over_them():
    other = np.clip(TRUTH.astype(int) + 51, 0, 255)
    flat = np.full((2, 12, 12, 1), 51.0)
    found = evaluation.image_errors(flat, np.zeros_like(flat))
    assert found["l1"] == pytest.approx(0.2) and found["l2"] == pytest.approx(0.2)
    assert found["psnr"] == found["psnr_y"] == pytest.approx(20 * np.log10(5))
    assert "chroma" not in found
    assert set(evaluation.image_errors(other, TRUTH)) == {
        "l1", "l2", "psnr", "psnr_y", "ssim", "chroma", "num_exact"
    }  # fmt: skip
    exact = evaluation.image_errors(TRUTH, TRUTH)
    assert exact["num_exact"] == 1 and exact["psnr"] == np.inf and exact["ssim"] == 1.0
    small = evaluation.image_errors(np.zeros((1, 8, 8, 1)), np.ones((1, 8, 8, 1)))
    assert "ssim" not in small


def test_an_enlargement_is_consistent_if_its_means_are_what_was_enlarged():
    low = TRUTH[:, :8, :10].astype(float)
    blocks = low.repeat(2, axis=1).repeat(3, axis=2)
    assert np.isinf(evaluation.consistency_psnr(blocks, low)[0])
    # Detail of mean 0 in each block is free; an offset is what it is of any image.
    detail = np.zeros_like(blocks)
    detail[:, ::2], detail[:, 1::2] = 40.0, -40.0
    assert np.isinf(evaluation.consistency_psnr(blocks + detail, low)[0])
    off = evaluation.consistency_psnr(blocks + detail + 2.55, low)
    assert off[0] == pytest.approx(40.0) and off.shape == (1,)
    np.testing.assert_allclose(
        evaluation.consistency_psnr((blocks + 2.55) / 255, low / 255, peak=1.0), off
    )
    # At the same resolution it is the PSNR itself.
    np.testing.assert_array_equal(
        evaluation.consistency_psnr(MADE, TRUTH), evaluation.psnr(MADE, TRUTH)
    )


@pytest.mark.parametrize("call, message", [
    (lambda: evaluation.consistency_psnr(MADE, MADE[:, :5]), "by whole factors, got"),
    (lambda: evaluation.consistency_psnr(MADE, MADE[:, :8, :10, :1]), "by whole factors, got"),
    (lambda: evaluation.psnr(MADE, TRUTH[0]), r"expected images \[N, H, W, C\] of one shape"),
    (lambda: evaluation.ssim(MADE[:, :10], TRUTH[:, :10]), "at least 11 pixels a side"),
    (lambda: evaluation.psnr_of_luma(MADE, TRUTH, border=8), "below half of 16 x 20, got 8"),
    (lambda: evaluation.luma(MADE[..., :1]), r"expected colours \[N, H, W, 3\]"),
    (lambda: evaluation.chroma_distance(MADE[..., :1], TRUTH), "expected colours"),
    (lambda: evaluation.chroma_histogram(TRUTH, num_bins=1), "num_bins must be at least 2"),
])  # fmt: skip
def test_images_that_cannot_be_compared_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
