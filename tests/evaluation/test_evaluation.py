import numpy as np
import pytest
import scipy.linalg
from scipy import optimize, stats

from genjax import evaluation


def gaussian(seed, n, d, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + shift


# Fréchet distance.


@pytest.mark.parametrize("d", [2, 64])
def test_frechet_distance_agrees_with_scipys_matrix_root(d):
    x, y = gaussian(0, 500, d), gaussian(1, 400, d, 0.3)
    (mean_x, cov_x), (mean_y, cov_y) = evaluation.moments(x), evaluation.moments(y)
    np.testing.assert_allclose(cov_x, np.cov(x, rowvar=False))
    root = scipy.linalg.sqrtm(cov_x @ cov_y)
    expected = np.sum((mean_x - mean_y) ** 2) + np.trace(cov_x + cov_y - 2 * root.real)
    assert evaluation.frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_one_dimension_is_its_closed_form():
    (m, s), (n, t) = (0.3, 1.2), (-1.0, 0.4)
    actual = evaluation.frechet_distance_of_moments(
        np.array([m]), np.array([[s**2]]), np.array([n]), np.array([[t**2]])
    )
    assert actual == pytest.approx((m - n) ** 2 + (s - t) ** 2, rel=1e-12)


def test_frechet_distance_with_fewer_rows_than_dimensions_is_that_of_the_covariances():
    x, y = gaussian(0, 20, 50), gaussian(1, 30, 50, 0.1)
    through_moments = evaluation.frechet_distance_of_moments(
        *evaluation.moments(x), *evaluation.moments(y)
    )
    assert evaluation.frechet_distance(x, y) == pytest.approx(through_moments, rel=1e-6)
    itself = evaluation.frechet_distance(x, x)
    assert 0.0 <= itself == pytest.approx(0.0, abs=1e-9 * np.square(x).sum())


def test_frechet_distance_is_stable_in_float32_and_with_a_large_mean():
    x, y = gaussian(0, 2000, 32), gaussian(1, 2000, 32)
    exact = evaluation.frechet_distance(x, y)
    rough = evaluation.frechet_distance((x + 50).astype(np.float32), (y + 50).astype(np.float32))
    assert rough == pytest.approx(exact, rel=1e-4)


def test_a_constant_feature_does_no_harm():
    x, y = gaussian(0, 100, 4), gaussian(1, 100, 4)
    x[:, 0] = y[:, 0] = 3.0
    rest = evaluation.frechet_distance(x[:, 1:], y[:, 1:])
    assert evaluation.frechet_distance(x, y) == pytest.approx(rest, rel=1e-9)


# Kernel distance and Inception score.


def test_kernel_distance_is_unbiased_with_an_honest_standard_error():
    rng = np.random.default_rng(0)
    zs = []
    for _ in range(200):
        value, stderr = evaluation.kernel_distance(*rng.normal(size=(2, 400, 3)))
        zs.append(value / stderr)
    assert abs(np.mean(zs)) < 4 * np.std(zs) / np.sqrt(200)
    # Student's t with 9 degrees of freedom has a standard deviation of 1.134.
    assert 0.9 < np.std(zs) < 1.4


def test_kernel_distance_by_the_definition():
    x, y = gaussian(0, 20, 5), gaussian(1, 20, 5, 1.0)
    value, _ = evaluation.kernel_distance(x, y, block_size=2)

    def k(a, b):
        return (a @ b / 5 + 1) ** 3

    # Every block of two rows, averaged by hand in the order the function draws.
    rng = np.random.Generator(np.random.Philox(0))
    x, y = x[rng.permutation(20)], y[rng.permutation(20)]
    blocks = []
    for i in range(0, 20, 2):
        (a, b), (c, d) = x[i : i + 2], y[i : i + 2]
        cross = np.mean([k(a, c), k(a, d), k(b, c), k(b, d)])
        blocks.append(k(a, b) + k(c, d) - 2 * cross)
    assert value == pytest.approx(np.mean(blocks), rel=1e-10)


def test_kernel_distance_of_sorted_rows_is_that_of_shuffled_ones():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 2)) + 5 * rng.integers(2, size=(2000, 1))
    y = rng.normal(size=(2000, 2)) + 5 * rng.integers(2, size=(2000, 1))
    value, stderr = evaluation.kernel_distance(x[x[:, 0].argsort()], y)
    assert abs(value) < 5 * stderr


def test_inception_score_at_its_ends():
    sure = 50.0 * np.eye(10)[np.arange(1000) % 10]
    assert evaluation.inception_score(sure)[0] == pytest.approx(10.0, rel=1e-6)
    collapsed = 50.0 * np.eye(10)[np.zeros(1000, int)]
    assert evaluation.inception_score(collapsed)[0] == pytest.approx(1.0, abs=1e-6)
    unsure = np.random.default_rng(0).normal(size=(1, 10)) * np.ones((1000, 1))
    assert evaluation.inception_score(unsure)[0] == pytest.approx(1.0, abs=1e-9)
    p = np.array([[0.9, 0.1], [0.3, 0.7]])
    expected = np.exp(np.mean([stats.entropy(row, p.mean(0)) for row in p]))
    assert evaluation.inception_score(np.log(p), num_splits=1)[0] == pytest.approx(expected)


# Neighbours.


def brute_precision(real, fake, k):
    radius = [np.sort(np.linalg.norm(real - r, axis=1))[k] for r in real]
    return np.mean([(np.linalg.norm(real - f, axis=1) <= radius).any() for f in fake])


def test_precision_and_recall_by_the_definition():
    real, fake = gaussian(0, 60, 3), gaussian(1, 50, 3, 0.5)
    precision, recall = evaluation.precision_and_recall(real, fake, k=3)
    assert precision == brute_precision(real, fake, 3)
    assert recall == brute_precision(fake, real, 3)


def test_precision_sees_bad_samples_and_recall_missing_ones():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(500, 2))
    narrow, wide = 0.2 * rng.normal(size=(500, 2)), 6 * rng.normal(size=(500, 2))
    precision, recall = evaluation.precision_and_recall(real, narrow)
    assert precision > 0.9 and recall < 0.3
    precision, recall = evaluation.precision_and_recall(real, wide)
    assert precision < 0.4 and recall > 0.9


def test_density_and_coverage_by_the_definition_and_their_expectations():
    real, fake = gaussian(0, 60, 3), gaussian(1, 50, 3, 0.5)
    radius = np.array([np.sort(np.linalg.norm(real - r, axis=1))[5] for r in real])
    inside = np.linalg.norm(fake[:, None] - real[None], axis=-1) <= radius
    density, coverage = evaluation.density_and_coverage(real, fake, k=5)
    assert density == pytest.approx(inside.sum() / (5 * 50))
    assert coverage == pytest.approx(inside.any(0).mean())
    # For equal distributions: density 1, coverage 1 - 2^-k (Naeem et al., section 3.3).
    rng = np.random.default_rng(0)
    density, coverage = evaluation.density_and_coverage(*rng.normal(size=(2, 3000, 4)), k=5)
    assert density == pytest.approx(1.0, abs=0.05)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.02)


# Transport.


def test_wasserstein_distances_against_sorting_and_assignment():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 1)), 1 + 2 * rng.normal(size=(200, 1))
    gaps = np.abs(np.sort(x[:, 0]) - np.sort(y[:, 0]))
    assert evaluation.wasserstein_distance(x, y) == pytest.approx(gaps.mean(), rel=1e-9)
    expected = np.sqrt((gaps**2).mean())
    assert evaluation.wasserstein_distance(x, y, p=2) == pytest.approx(expected, rel=1e-9)
    assert evaluation.sliced_wasserstein_distance(x, y) == pytest.approx(expected, rel=1e-6)

    x, y = rng.normal(size=(60, 3)), rng.normal(size=(60, 3)) + 1
    cost = np.linalg.norm(x[:, None] - y[None], axis=-1)
    rows, columns = optimize.linear_sum_assignment(cost)
    expected = cost[rows, columns].mean()
    assert evaluation.wasserstein_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_wasserstein_distance_of_sets_of_different_sizes():
    x, y = np.array([[0.0]]), np.array([[1.0], [3.0], [5.0]])
    assert evaluation.wasserstein_distance(x, y) == pytest.approx(3.0)
    assert evaluation.wasserstein_distance(x, y, p=2) == pytest.approx(np.sqrt(35 / 3))


# Modes.


def test_mode_coverage_counts_good_samples_and_weighs_all():
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    samples = np.array([[0.0, 0.1]] * 4 + [[10.0, 0.2]] * 3 + [[1.0, 9.0]])
    result = evaluation.mode_coverage(samples, centres, std=0.1)
    assert result["modes_covered"] == 2  # the third has a sample, but a poor one
    assert result["high_quality"] == pytest.approx(7 / 8)
    expected = stats.entropy([4 / 8, 3 / 8, 1 / 8, 0.0], np.full(4, 0.25))
    assert result["mode_kl"] == pytest.approx(expected)


# Data far from 0.

OFFSETS = [0.0, 1e6, 1e7, 1e8]


def eighths(seed, n, d):
    """Multiples of 1/8, which shifted by a whole number stay what they are."""
    return np.round(8 * np.random.default_rng(seed).normal(size=(n, d))) / 8


@pytest.mark.parametrize("offset", OFFSETS)
def test_distances_of_points_do_not_depend_on_where_they_lie(offset):
    x = eighths(0, 200, 2) + offset
    y = x + np.array([3.0, 4.0])
    assert evaluation.wasserstein_distance(x, y) == pytest.approx(5.0, rel=1e-12)
    assert evaluation.wasserstein_distance(x, y, p=2) == pytest.approx(5.0, rel=1e-12)
    assert evaluation.wasserstein_distance(x, x) == 0.0
    sliced = evaluation.sliced_wasserstein_distance(x, y)
    assert sliced == pytest.approx(evaluation.sliced_wasserstein_distance(x - offset, y - offset))
    assert evaluation.frechet_distance(x, y) == pytest.approx(25.0, rel=1e-9)
    few = np.concatenate([x, y], axis=1)[:3]
    assert evaluation.frechet_distance(few, few + 1.0) == pytest.approx(4.0, rel=1e-9)


@pytest.mark.parametrize("offset", OFFSETS)
def test_modes_and_neighbours_do_not_depend_on_where_they_lie(offset):
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1000.0, 1000.0]])
    samples = np.repeat(corners, 20, axis=0)
    samples[:, 0] += np.tile([1 / 32, -1 / 32], 30)
    samples[0] += 1.0  # one of sixty in none of them
    result = evaluation.mode_coverage(samples + offset, corners + offset, 1 / 64)
    assert result["modes_covered"] == 3 and result["high_quality"] == pytest.approx(59 / 60)
    x, y = eighths(0, 60, 3), eighths(1, 50, 3) + 0.5
    for measure in (evaluation.precision_and_recall, evaluation.density_and_coverage):
        assert measure(x + offset, y + offset) == pytest.approx(measure(x, y), abs=0.05)


@pytest.mark.parametrize("offset", [0, 10**3, 10**6])
def test_kernel_distance_is_exact_for_features_far_from_0(offset):
    # The cubic kernel depends on the place: compared with whole numbers of any size, in units of
    # 1/8, whose kernel is (a b + 64 D)^3 / (64 D)^3.
    x, y = eighths(0, 20, 3) + offset, eighths(1, 20, 3) + 0.5 + offset
    rng = np.random.Generator(np.random.Philox(0))
    a, b = ((8 * rows[rng.permutation(20)]).astype(int).astype(object) for rows in (x, y))
    blocks = []
    for i in range(0, 20, 2):
        (p, q), (r, s) = a[i : i + 2], b[i : i + 2]

        def k(u, v):
            return (u @ v + 64 * 3) ** 3

        total = 2 * k(p, q) + 2 * k(r, s) - k(p, r) - k(p, s) - k(q, r) - k(q, s)
        blocks.append(total / (2 * (64 * 3) ** 3))
    value, stderr = evaluation.kernel_distance(x, y, block_size=2)
    assert value == pytest.approx(np.mean(blocks), rel=1e-9, abs=1e-9 * stderr)


@pytest.mark.parametrize("call", [
    lambda: evaluation.frechet_distance(np.ones((5, 2)), np.ones((5, 3))),
    lambda: evaluation.frechet_distance(np.ones((1, 2)), np.ones((5, 2))),
    lambda: evaluation.frechet_distance_of_moments(*[np.ones(3), np.eye(2)] * 2),
    lambda: evaluation.kernel_distance(np.ones((5, 2)), np.ones((5, 2))),
    lambda: evaluation.precision_and_recall(np.ones((3, 2)), np.ones((9, 2))),
    lambda: evaluation.density_and_coverage(np.ones((9, 2)), np.ones((9, 2)), k=0),
    lambda: evaluation.wasserstein_distance(np.ones((3, 2)), np.ones((3, 2)), p=3),
    lambda: evaluation.frechet_distance(np.full((5, 2), np.nan), np.ones((5, 2))),
    lambda: evaluation.mode_coverage(np.ones((3, 2)), np.ones((3, 2)), std=0.0),
])  # fmt: skip
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(ValueError, match="expected|must be|finite"):
        call()


def test_units_are_active_where_their_mean_differs_from_example_to_example():
    rng = np.random.default_rng(0)
    stds = np.array([1.0, 0.2, 0.05, 0.0])  # variances on both sides of the threshold
    latents = 3.0 + stds * rng.normal(size=(4000, 4))
    assert evaluation.active_units(latents) == 2
    assert evaluation.active_units(latents, threshold=0.002) == 3
    for wrong in (latents[0], latents[:1], np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match="expected finite latents"):
            evaluation.active_units(wrong)
    with pytest.raises(ValueError, match="threshold must not be negative"):
        evaluation.active_units(latents, threshold=-1.0)
