"""Scores of outliers, of classes by density and of imputation: against closed forms."""

import math

import numpy as np
import pytest
from scipy import stats

from genjax import evaluation

RNG = np.random.default_rng(0)


# Outliers.


def test_the_most_probable_point_is_no_typical_one():
    # In 100 dimensions all draws lie near the sphere of radius 10; the origin is what none is like.
    train, test, origin = RNG.normal(size=(2000, 100)), RNG.normal(size=(500, 100)), np.zeros(100)
    nats = lambda x: 0.5 * (x**2).sum(1) + 50 * math.log(2 * math.pi)  # noqa: E731
    inside, outside = nats(test), nats(np.tile(origin, (50, 1)))
    assert evaluation.auroc(inside, outside) == 0.0
    near = [evaluation.typicality(n, nats(train)) for n in (inside, outside)]
    assert evaluation.auroc(*near) == 1.0
    # The entropy is 50 log(2 pi e).
    np.testing.assert_allclose(near[1], 50.0, rtol=0.01)
    threshold = evaluation.typicality_threshold(nats(test), nats(train), level=0.95)
    # A sum of 100 squares has the standard deviation sqrt(200), of which nats are half.
    assert abs(threshold - 1.96 * math.sqrt(50)) < 2.0
    of_ten = evaluation.typicality_threshold(nats(test), nats(train), 10, level=0.95)
    assert abs(of_ten - threshold / math.sqrt(10)) < 1.0
    assert evaluation.batch_typicality(nats(test), nats(train), 10).shape == (50,)


def test_the_most_probable_string_of_a_coin_is_all_heads_and_untypical():
    share, length = 0.6, 200
    flips = RNG.random((1000, length)) < share
    nats = lambda x: -(x * math.log(share) + ~x * math.log(1 - share)).sum(1)  # noqa: E731
    heads, fair = np.ones((20, length), bool), RNG.random((1000, length)) < 0.4
    assert evaluation.auroc(nats(flips), nats(heads)) == 0.0
    scores = [evaluation.typicality(nats(x), nats(flips)) for x in (flips, heads, fair)]
    assert evaluation.auroc(scores[0], scores[1]) == 1.0
    assert evaluation.auroc(scores[0], scores[2]) > 0.99


def test_areas_are_those_of_two_normal_distributions_and_say_what_is_positive():
    inside, outside = RNG.normal(size=20_000), RNG.normal(size=2_000) + 1.0
    assert abs(evaluation.auroc(inside, outside) - stats.norm.cdf(1 / math.sqrt(2))) < 0.02
    # A score that knows nothing has the share of what is to be found.
    noise = RNG.normal(size=2_000)
    assert abs(evaluation.auprc(inside, noise) - 1 / 11) < 0.01
    assert abs(evaluation.auprc(inside, noise, "inliers") - 10 / 11) < 0.01
    swapped = evaluation.auprc(-outside, -inside)
    assert abs(evaluation.auprc(inside, outside, "inliers") - swapped) < 1e-12


def test_complexity_tells_smooth_images_from_those_that_are_likely():
    flat = np.full((5, 16, 16, 3), 7, np.uint8)
    noise = RNG.integers(256, size=(5, 16, 16, 3)).astype(np.uint8)
    bits = evaluation.code_bits(np.concatenate([flat, noise]))
    assert bits[:5].max() < 800 and bits[5:].min() >= 8 * 16 * 16 * 3
    assert (bits <= evaluation.code_bits(np.concatenate([flat, noise]), ["png"])).all()
    scores = evaluation.input_complexity(np.full(10, 1000.0), np.concatenate([flat, noise]))
    np.testing.assert_allclose(scores, 1000.0 / math.log(2) - bits)
    ratio = evaluation.likelihood_ratio(np.array([3.0, 1.0]), np.array([1.0, 2.0]))
    np.testing.assert_array_equal(ratio, [2.0, -1.0])


def test_outliers_are_of_the_kind_of_the_rows():
    x = RNG.integers(17, size=(6, 16, 16, 1)).astype(np.uint8)
    made = evaluation.outlier_sets(x, 17)
    assert set(made) == {
        "blank", "faded", "rotated", "shuffled", "noise", "constant", "half_contrast", "blurred",
        "digits",
    }  # fmt: skip
    for name, rows in made.items():
        assert rows.dtype == np.uint8 and rows.shape[1:] == (16, 16, 1) and rows.max() < 17, name
    np.testing.assert_array_equal(made["rotated"], x[:, ::-1, ::-1])
    np.testing.assert_array_equal(
        np.sort(made["shuffled"].reshape(6, -1)), np.sort(x.reshape(6, -1))
    )
    assert (made["faded"] == x // 2).all() and (
        made["blank"] == np.bincount(x.ravel()).argmax()
    ).all()
    assert np.ptp(made["constant"], axis=(1, 2)).max() == 0
    ratio = made["half_contrast"].std((1, 2, 3)) / x.std((1, 2, 3))
    np.testing.assert_allclose(ratio, 0.5, atol=0.03)
    assert (made["blurred"].std((1, 2)) < x.std((1, 2))).all()
    table = RNG.normal(size=(50, 3))
    shuffled = evaluation.outlier_sets(table, None)["shuffled"]
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(table, axis=0))
    assert "digits" not in evaluation.outlier_sets(x[:, :8, :8], 17)


# Classes.


def test_a_classifier_that_says_what_it_knows_is_calibrated():
    probabilities = RNG.dirichlet(np.full(4, 0.5), size=20_000)
    labels = (RNG.random((20_000, 1)) > probabilities.cumsum(1)).sum(1).clip(0, 3)
    scores = evaluation.classification_scores(np.log(probabilities) + 5.0, labels)
    assert scores["calibration_error"] < 0.015
    assert abs(scores["accuracy"] - probabilities.max(1).mean()) < 4 * scores["accuracy_stderr"]
    entropy = -(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum(1).mean()
    assert abs(scores["nats"] - entropy) < 0.02
    # Twice as certain is too certain.
    sharp = evaluation.classification_scores(4.0 * np.log(probabilities), labels)
    assert sharp["calibration_error"] > 0.05 and sharp["accuracy"] == scores["accuracy"]
    bins = evaluation.reliability(probabilities, labels, 10)
    assert bins["count"].sum() == 20_000 and np.isnan(bins["accuracy"][0])  # 1/4 at least


def test_brier_and_bins_by_hand():
    logs = np.log([[0.8, 0.2], [0.8, 0.2], [0.3, 0.7]])
    scores = evaluation.classification_scores(logs, np.array([0, 1, 1]), 5)
    assert abs(scores["brier"] - (0.08 + 1.28 + 0.18) / 3) < 1e-12
    # (0.6, 0.8] holds all three: confidence 0.7667, accuracy 2/3.
    assert abs(scores["calibration_error"] - (0.7 + 0.8 + 0.8) / 3 + 2 / 3) < 1e-12


# Missing entries.


@pytest.mark.parametrize("mechanism", ["mcar", "mar", "mnar"])
def test_mechanisms_hide_the_share_they_say_and_mnar_the_largest(mechanism):
    x = RNG.normal(size=(4000, 6))
    x[:, 3] += x[:, 1]
    known = evaluation.known_entries(x, mechanism, 0.3, seed=1)
    missing = 1.0 - known.mean(0)
    hidden = missing > 0
    assert hidden.sum() == (6 if mechanism == "mcar" else 3)
    np.testing.assert_allclose(missing[hidden], 0.3, atol=0.03)
    gaps = [x[~known[:, j], j].mean() - x[known[:, j], j].mean() for j in np.flatnonzero(hidden)]
    if mechanism == "mnar":
        assert min(gaps) > 1.0
        assert all(x[known[:, j], j].max() < x[~known[:, j], j].min()
                   for j in np.flatnonzero(hidden))  # fmt: skip
    elif mechanism == "mcar":
        assert np.abs(gaps).max() < 0.15
    else:  # which entries are missing follows from those that are known
        (shown,) = np.nonzero(~hidden)
        j = np.flatnonzero(hidden)[0]
        correlations = [np.corrcoef(x[:, k], known[:, j])[0, 1] for k in shown]
        assert np.abs(correlations).max() > 0.1


def test_the_right_draws_cover_what_they_say_and_one_of_them_is_worse_than_their_mean():
    covariance = np.array([[1.0, 0.8, 0.0], [0.8, 1.5, 0.3], [0.0, 0.3, 0.5]])
    rows = RNG.multivariate_normal([3.0, -1.0, 2.0], covariance, 3000)
    train, x = rows[:2000], rows[2000:]
    known = np.tile([True, False, True], (1000, 1))
    _, std = evaluation.observed_moments(train)
    draws = evaluation.baseline_imputation("gaussian", train, x, known, num_draws=99)
    scores = evaluation.imputation_scores(x, draws, known, std)
    _, spread = evaluation.gaussian_conditional([3.0, -1.0, 2.0], covariance, x[0], known[0])
    sigma = math.sqrt(spread[0, 0]) / std[1]
    assert abs(scores["rmse"] - sigma) < 0.1 * sigma
    assert abs(scores["rmse_of_draw"] / scores["rmse"] - math.sqrt(2)) < 0.03
    # The score of a normal distribution that is right is sigma / sqrt(pi).
    assert abs(scores["crps"] - sigma / math.sqrt(math.pi)) < 0.1 * sigma
    assert abs(scores["coverage"] - 0.9) < 0.04
    few = evaluation.imputation_scores(x, draws[:19], known, std)
    assert abs(few["coverage"] - 0.9) < 0.04 and abs(few["crps"] - scores["crps"]) < 0.02
    assert "coverage" not in evaluation.imputation_scores(x, draws[:18], known, std)
    mean = evaluation.baseline_imputation("mean", train, x, known)
    of_mean = evaluation.imputation_scores(x, mean, known, std)
    assert abs(of_mean["rmse"] - 1.0) < 0.06 and of_mean["rmse"] == of_mean["rmse_of_draw"]
    linear = evaluation.baseline_imputation("iterative", train, x, known)
    assert abs(evaluation.imputation_scores(x, linear, known, std)["rmse"] - sigma) < 0.1 * sigma
    nearest = evaluation.baseline_imputation("knn", train, x, known)
    assert (nearest[0][known] == x[known]).all()
    assert evaluation.imputation_scores(x, nearest, known, std)["rmse"] < 1.25 * sigma


def test_columns_that_never_vary_are_not_scored_and_units_are_of_what_is_known():
    x = np.array([[1.0, 5.0], [3.0, 5.0], [100.0, 5.0]])
    mean, std = evaluation.observed_moments(x, np.array([[1, 1], [1, 1], [0, 1]]))
    np.testing.assert_array_equal(mean, [2.0, 5.0])
    np.testing.assert_array_equal(std, [1.0, 0.0])
    none = np.zeros_like(x, bool)
    assert evaluation.imputation_scores(x, x[None], none, std)["num_entries"] == 3


@pytest.mark.parametrize("call, message", [
    (lambda: evaluation.auroc(np.zeros(3), np.array([np.nan])), "1 of them are not finite"),
    (lambda: evaluation.typicality(np.zeros((3, 1)), np.zeros(3)), "expected one number a row"),
    (lambda: evaluation.auprc(np.zeros(3), np.zeros(3), "both"), "positive must be"),
    (lambda: evaluation.code_bits(np.zeros((1, 8, 8, 1))), "of images of bytes"),
    (lambda: evaluation.code_bits(np.zeros((1, 8, 8, 2), "u1"), ["png"]), "1 or 3 channels"),
    (lambda: evaluation.likelihood_ratio(np.zeros(3), np.zeros(2)), "as many nats of both"),
    (lambda: evaluation.class_probabilities(np.full((1, 2), -np.inf)), "a row of -inf"),
    (lambda: evaluation.reliability(np.ones((2, 2)), np.zeros(2, int)), "that sum to 1"),
    (lambda: evaluation.classification_scores(np.zeros((2, 2)), np.array([0, 2])), "from 0 to 1"),
    (lambda: evaluation.known_entries(np.zeros((3, 2)), "mcar", 1.0), r"share must be in \(0, 1\)"),
    (lambda: evaluation.known_entries(np.zeros((3, 2)), "lower_half"), "of images"),
    (lambda: evaluation.known_entries(np.zeros((3, 1)), "mar"), "at least 2 columns"),
    (lambda: evaluation.imputation_scores(np.zeros((2, 2)), np.zeros((1, 2, 2)),
                                          np.ones((2, 2), bool), np.ones(2)), "nothing to score"),
    (lambda: evaluation.baseline_imputation("median", np.zeros((2, 2)), np.zeros((2, 2)),
                                            np.ones((2, 2), bool)), "baseline must be one of"),
    (lambda: evaluation.observed_moments(np.zeros((2, 2)), np.array([[1, 0], [1, 0]])),
     "1 columns have no known entry"),
])  # fmt: skip
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
