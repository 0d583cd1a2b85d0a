import dataclasses
import hashlib

import jax.numpy as jnp
import numpy as np
import pytest

from genjax import evaluation
from genjax.training.feature_statistics import read_statistics, write_statistics
from genjax.training.mesh import make_mesh
from genjax.training.quality import Features, Reference, SampleQuality

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, size=(130, 4, 4, 1)).astype(np.uint8)
CALLS = []


def features(name):
    def apply(variables, images):
        CALLS.append(images.shape)
        flat = images.reshape(images.shape[0], -1).astype(jnp.float32) / 255.0
        return flat @ variables["projection"], flat[:, :10]

    projection = jnp.asarray(RNG.normal(size=(16, 5)), jnp.float32)
    return Features(name, "a random projection", apply, {"projection": projection})


def reference(rows, mixture=None):
    return Reference(
        lambda start, stop: rows[start:stop],
        len(rows),
        rows.shape[1:],
        f"{len(rows)} rows",
        mixture,
    )


def measure(quality, samples, labels=None, batch_size=50):
    return quality.measure(
        samples,
        labels,
        mesh=make_mesh(),
        batch_size=batch_size,
        progress=lambda items, total, label: items,
    )


ALL = ("fd", "kid", "precision_recall", "density_coverage", "inception_score", "label_accuracy")


@pytest.mark.parametrize("name", [None, "mnist"])
def test_numbers_are_those_of_the_features_under_the_promised_names(name):
    network = features(name)
    quality = SampleQuality(ALL, 70, reference(IMAGES[:60]), network)
    samples, labels = IMAGES[60:], np.arange(70) % 10
    result = measure(quality, samples, labels)
    assert set(quality.names) <= set(result)
    real, fake = (
        np.asarray(network.apply(network.variables, jnp.asarray(x))[0])
        for x in (IMAGES[:60], samples)
    )
    end = "" if name is None else "_mnist"
    fd = result["fid" if name is None else "fd_mnist"]
    assert fd == pytest.approx(evaluation.frechet_distance(real, fake), rel=1e-4)
    kd, stderr = evaluation.kernel_distance(real, fake)
    called = "kid" if name is None else "kd_mnist"
    assert result[called] == pytest.approx(kd, rel=1e-3, abs=1e-4)
    assert result[f"{called}_stderr"] == pytest.approx(stderr, rel=1e-3)
    pr = evaluation.precision_and_recall(real, fake)
    assert (result[f"precision{end}"], result[f"recall{end}"]) == pytest.approx(pr, abs=0.02)
    predicted = samples.reshape(70, -1)[:, :10].argmax(1)
    assert result[f"label_accuracy{end}"] == np.mean(predicted == labels)
    assert (result["num_samples"], result["reference"]) == (70, "60 rows")
    assert result["features"] == "a random projection"
    if name:
        assert not any("fid" in key or "inception" in key for key in result)


def test_numbers_do_not_depend_on_the_batch_size_and_data_is_seen_once():
    quality = SampleQuality(("fd",), 70, reference(IMAGES[:60]), features("x"))
    first = measure(quality, IMAGES[60:], batch_size=50)["fd_x"]
    assert measure(quality, IMAGES[60:], batch_size=50)["fd_x"] == first
    other = SampleQuality(("fd",), 70, reference(IMAGES[:60]), quality._features)
    assert measure(other, IMAGES[60:], batch_size=13)["fd_x"] == pytest.approx(first, rel=1e-5)


def test_points_and_modes_need_no_features():
    centres = np.array([[0.0, 0.0], [5.0, 0.0]])
    points = (centres[RNG.integers(2, size=80)] + 0.1 * RNG.normal(size=(80, 2))).astype(np.float32)
    data = reference(points[:40], (centres, 0.1))
    quality = SampleQuality(("modes", "w1", "w2", "sliced_w2"), 40, data, None)
    result = measure(quality, points[40:])
    assert set(quality.names) <= set(result) and result["modes_covered"] == 2
    assert result["w1"] == evaluation.wasserstein_distance(points[40:], points[:40])
    assert result["w1"] <= result["w2"]


@pytest.mark.parametrize("metric, least", [("kid", 20), ("precision_recall", 4), ("w1", 2)])
def test_too_few_rows_are_refused_before_any_sample_is_drawn(metric, least):
    rows = RNG.normal(size=(100, 2))
    SampleQuality((metric,), least, reference(rows), features("x"))
    with pytest.raises(ValueError, match=f"needs at least {least} samples and rows"):
        SampleQuality((metric,), least - 1, reference(rows), features("x"))
    with pytest.raises(ValueError, match=f"needs at least {least} samples and rows"):
        SampleQuality((metric,), 100, reference(rows[: least - 1]), features("x"))


def test_samples_that_are_not_finite_give_nan_and_their_number():
    centres = np.array([[0.0, 0.0], [5.0, 0.0]])
    points = (centres[RNG.integers(2, size=80)] + 0.1 * RNG.normal(size=(80, 2))).astype(np.float32)
    quality = SampleQuality(
        ("modes", "w1", "w2", "sliced_w2"), 40, reference(points[:40], (centres, 0.1)), None
    )
    broken = points[40:].copy()
    broken[3, 0], broken[7] = np.inf, np.nan
    result = measure(quality, broken)
    for name in quality.names:
        assert np.isnan(result[name]) and result[f"{name}_num_nonfinite"] == 2
    assert result["num_samples"] == 40

    # Images whose features are not finite: data of real numbers.
    images = RNG.normal(size=(130, 4, 4, 1)).astype(np.float32)
    quality = SampleQuality(ALL, 70, reference(images[:60]), features("x"))
    broken = images[60:].copy()
    broken[5, 0, 0, 0] = np.nan  # in all features, and in one of the logits
    result = measure(quality, broken, np.arange(70) % 10)
    for name in quality.names:
        assert np.isnan(result[name]) and result[f"{name}_num_nonfinite"] == 1
    assert not any("stderr" in name for name in result)


def as_pytorch_fid(path, images, network):
    """Statistics as pytorch-fid and clean-fid write them: without a word on where they are from."""
    rows = np.asarray(network.apply(network.variables, jnp.asarray(images))[0])
    np.savez(path, mu=rows.mean(0), sigma=np.cov(rows, rowvar=False))
    return path


def test_fid_is_measured_against_statistics_and_other_metrics_against_the_split(tmp_path):
    network = features(None)
    file = as_pytorch_fid(tmp_path / "train.npz", IMAGES[:60], network)
    other = reference(IMAGES[60:100])
    quality = SampleQuality(("fd", "kid"), 30, other, network, read_statistics(file))
    result = measure(quality, IMAGES[100:])
    against_file = measure(
        SampleQuality(("fd",), 30, reference(IMAGES[:60]), network), IMAGES[100:]
    )
    against_split = measure(SampleQuality(("fd", "kid"), 30, other, network), IMAGES[100:])
    assert result["fid"] == pytest.approx(against_file["fid"], rel=1e-5)
    assert abs(result["fid"] - against_split["fid"]) > 1e-3
    assert result["kid"] == against_split["kid"] and result["reference"] == "40 rows"
    digits = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    assert result["fid_statistics"] == f"train.npz, SHA-256 {digits}"
    # With statistics alone no row of the split is looked at.
    unread = Reference(lambda start, stop: IMAGES[start : stop if stop == 1 else 1 // 0], 60,
                       IMAGES.shape[1:], "60 rows")  # fmt: skip
    alone = measure(
        SampleQuality(("fd",), 30, unread, network, read_statistics(file)), IMAGES[100:]
    )
    assert alone["fid"] == result["fid"]
    assert alone["reference"] == alone["fid_statistics"] == result["fid_statistics"]


def test_statistics_of_the_reference_are_written_and_read_in_the_usual_layout(tmp_path):
    network = features("x")
    quality = SampleQuality(("fd",), 70, reference(IMAGES[:60]), network)
    made = quality.reference_statistics(
        mesh=make_mesh(), batch_size=50, progress=lambda items, total, label: items
    )
    write_statistics(tmp_path / "new" / "own.npz", made)
    rows = np.asarray(network.apply(network.variables, jnp.asarray(IMAGES[:60]))[0])
    with np.load(tmp_path / "new" / "own.npz") as file:
        np.testing.assert_allclose(file["mu"], rows.mean(0), rtol=1e-5)
        np.testing.assert_allclose(file["sigma"], np.cov(rows, rowvar=False), rtol=1e-4, atol=1e-6)
    found = read_statistics(tmp_path / "new" / "own.npz")
    assert found.description.startswith("own.npz of 60 rows, SHA-256 ")
    against = SampleQuality(("fd",), 70, reference(IMAGES[:60]), network, found)
    own = measure(quality, IMAGES[60:])["fd_x"]
    assert measure(against, IMAGES[60:])["fd_x"] == pytest.approx(own, rel=1e-9)
    other = dataclasses.replace(network, description="another network")
    with pytest.raises(ValueError, match=r"^eval\.statistics: .*of the features 'a random proj"):
        SampleQuality(("fd",), 70, reference(IMAGES[:60]), other, found)


def test_statistics_of_other_features_are_refused_before_any_sample_is_drawn(tmp_path):
    np.savez(tmp_path / "wide.npz", mu=np.zeros(7), sigma=np.eye(7))
    wide = read_statistics(tmp_path / "wide.npz")
    with pytest.raises(ValueError, match=r"^eval\.statistics: wide.* 7 features, expected the 5"):
        SampleQuality(("fd",), 70, reference(IMAGES[:60]), features("x"), wide)
    with pytest.raises(ValueError, match=r"^eval\.statistics: only the metric 'fd'"):
        SampleQuality(("kid",), 70, reference(IMAGES[:60]), features("x"), wide)


@pytest.mark.parametrize(
    "arrays, message",
    [
        (dict(mu=np.zeros(2)), r"has no array 'sigma': expected mu \[D\] and sigma \[D, D\]"),
        (dict(arr_0=np.zeros(2)), r"has no array 'mu'"),
        (dict(mu=np.zeros(2), sigma=np.eye(3)), r"has mu \[2\] and sigma \[3, 3\]"),
        (dict(mu=np.array([0, np.nan]), sigma=np.eye(2)), r"1 of 2 entries of mu are not finite"),
        (dict(mu=np.zeros(2), sigma=np.full((2, 2), np.inf)), r"4 of 4 entries of sigma"),
        (dict(mu=np.array(["a"]), sigma=np.eye(1)), r"mu must hold real numbers, got <U1"),
        (dict(mu=np.zeros(2), sigma=np.array([[1.0, 5.0], [0.0, 1.0]])), r"no covariance"),
        (dict(mu=np.zeros(2), sigma=-np.eye(2)), r"no covariance"),
        (dict(mu=np.array([{}]), sigma=np.eye(1)), r"cannot be read as an \.npz.*pickle"),
    ],
)
def test_files_without_finite_statistics_are_refused_in_one_line(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        read_statistics(tmp_path / "bad.npz")
    assert "bad.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_archive_is_refused_in_one_line(tmp_path):
    (tmp_path / "text.npz").write_text("mu")
    np.save(tmp_path / "one.npy", np.zeros(2))
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04torn")
    for name in ("text.npz", "one.npy", "torn.npz"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as an .npz"):
            read_statistics(tmp_path / name)
    with pytest.raises(ValueError, match="is a folder"):
        read_statistics(tmp_path)


def test_modes_are_the_classes_that_a_classifier_finds():
    network = features("mnist")
    quality = SampleQuality(("class_modes",), 70, reference(IMAGES[:60]), network)
    result = measure(quality, IMAGES[60:])
    assert quality.names == ["modes_covered_mnist", "mode_kl_mnist"]
    _, logits = network.apply(network.variables, jnp.asarray(IMAGES[60:]))
    shares = np.bincount(np.asarray(logits).argmax(1), minlength=10) / 70
    assert result["modes_covered_mnist"] == np.count_nonzero(shares)
    expected = sum(p * np.log(10 * p) for p in shares if p)
    assert result["mode_kl_mnist"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="class ids"):
        evaluation.class_coverage(np.array([3]), 3)


def test_each_channel_is_asked_of_a_classifier_of_one(monkeypatch):
    from genjax import data
    from genjax.config import ConfigError
    from genjax.config import features as made

    one, asked = features("digits"), []

    def of_one(dataset, workdir):
        asked.append((dataset.name, dataset.event_shape))
        return one

    monkeypatch.setattr(made, "classifier_features", of_one)
    base = data.from_arrays("tiny", x=IMAGES, label=np.arange(130, dtype=np.int32) % 10)
    dataset = data.stacked(base, num_rows=6)
    found = made.channel_features(dataset=dataset, workdir="anywhere")
    assert asked == [("tiny", (4, 4, 1))] and found.name == "stacked_digits"
    images = jnp.asarray(dataset.source.rows(np.arange(6))["x"])
    rows, joint = found.apply(found.variables, images)
    each = [one.apply(one.variables, images[..., i : i + 1]) for i in range(3)]
    np.testing.assert_allclose(rows, np.concatenate([f for f, _ in each], axis=1))
    best = [np.asarray(logits).argmax(1) for _, logits in each]
    np.testing.assert_array_equal(joint.argmax(1), 100 * best[0] + 10 * best[1] + best[2])
    np.testing.assert_allclose(np.exp(joint).sum(1), 1.0, rtol=1e-4)
    with pytest.raises(ConfigError, match="of stacked images"):
        made.channel_features(dataset=base, workdir="anywhere")


def test_reconstructions_are_measured_against_the_rows_they_are_of():
    network, rows = features("mnist"), IMAGES[:60]
    of = dataclasses.replace(reference(rows), num_levels=256)
    quality = SampleQuality(("rfd", "psnr"), 10, of, network)
    assert quality.of_reconstructions and not quality.of_samples
    assert quality.names == ["rfd_mnist", "psnr"] and quality.num_reference == 60
    made = rows.copy()
    made[1:] = np.where(made[1:] > 100, made[1:] - 3, made[1:] + 3)  # the first is met exactly
    found = quality.measure_reconstructions(
        made, mesh=make_mesh(), batch_size=50, progress=lambda items, total, label: items
    )
    of_others = 20 * np.log10(255 / 3)
    assert found["psnr"] == pytest.approx((100.0 + 59 * of_others) / 60, rel=1e-6)
    real, fake = (
        np.asarray(network.apply(network.variables, jnp.asarray(x))[0]) for x in (rows, made)
    )
    assert found["rfd_mnist"] == pytest.approx(evaluation.frechet_distance(real, fake), rel=1e-4)
    assert found["num_reconstructions"] == 60
    with pytest.raises(ValueError, match="'psnr' needs grey levels"):
        SampleQuality(("psnr",), 10, reference(rows), None)
    with pytest.raises(ValueError, match="'rfd' needs features"):
        SampleQuality(("rfd",), 10, of, None)
