import subprocess
import sys

import numpy as np
import pytest

from genjax import data
from genjax.data.features import ArraySource
from genjax.data.sources import DENSITIES


def source(n):
    return ArraySource(x=np.arange(n), label=np.arange(n) % 3)


def test_an_epoch_holds_every_example_once_in_another_order_each_time():
    batches = data.TrainBatches(source(30), 10, seed=0)
    epochs = [np.concatenate([batches[3 * e + i]["x"] for i in range(3)]) for e in range(3)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(30))
    assert (epochs[0] != epochs[1]).any() and (epochs[1] != epochs[2]).any()


def test_batches_go_on_across_the_end_of_an_epoch():
    batches = data.TrainBatches(source(7), 5, seed=1)
    seen = np.concatenate([batches[i]["x"] for i in range(7)])
    np.testing.assert_array_equal(np.bincount(seen), np.full(7, 5))


def test_a_batch_is_a_function_of_seed_and_step():
    a, b, c = (data.TrainBatches(source(50), 8, seed=s) for s in (0, 0, 1))
    for step in (17, 3, 1000):
        np.testing.assert_array_equal(a[step]["x"], b[step]["x"])
    assert (a[0]["x"] != c[0]["x"]).any()


def test_a_batch_larger_than_the_set_is_filled():
    assert len(data.TrainBatches(source(3), 8, seed=0)[0]["x"]) == 8


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_same_global_batch(count):
    whole = data.TrainBatches(source(50), 8, seed=0)[11]["x"]
    parts = [
        data.TrainBatches(source(50), 8, seed=0, process_index=i, process_count=count)[11]["x"]
        for i in range(count)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


class Recorded:
    """Notes which examples are asked for."""

    def __init__(self, count):
        self.count, self.asked = count, []

    def __len__(self):
        return self.count

    def rows(self, indices):
        self.asked.extend(indices.tolist())
        return {"x": indices}


def test_no_process_reads_anothers_rows():
    sources = [Recorded(48) for _ in range(4)]
    for i, one in enumerate(sources):
        batches = data.TrainBatches(one, 8, seed=0, process_index=i, process_count=4)
        list(data.iterate(batches, 0, 6))  # an epoch
        assert len(one.asked) == 12
    assert sorted(sum((one.asked for one in sources), [])) == list(range(48))


STREAM = """
import resource, sys
import numpy as np
from genjax import data
set_ = data.load("npy", "train", data_dir=sys.argv[1], memory_limit_mib=64)
batches = data.TrainBatches(set_.source, 32, seed=0)
list(data.iterate(batches, 0, 2))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for batch in data.iterate(batches, 2, 102):
    assert batch["x"].shape == (32, 4096) and not batch["x"].any()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_a_set_larger_than_memory_streams(tmp_path):
    # 64 GiB of zeros, none of which is on the disk.
    shape = (2**22, 4096)
    with open(tmp_path / "train.npy", "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * shape[0] * shape[1])
    out = subprocess.run(
        [sys.executable, "-c", STREAM, tmp_path], capture_output=True, text=True, check=True
    )
    assert int(out.stdout) < 512 * 1024  # KiB


def test_batches_of_a_step_are_stacked_and_follow_each_other():
    one = data.TrainBatches(source(50), 8, seed=0)
    three = data.TrainBatches(source(50), 8, seed=0, batches_per_step=3)
    for step in (0, 5):
        batch = three[step]
        assert batch["x"].shape == (3, 8) and batch["label"].shape == (3, 8)
        for i in range(3):
            np.testing.assert_array_equal(batch["x"][i], one[3 * step + i]["x"])
    parts = [
        data.TrainBatches(
            source(50), 8, seed=0, batches_per_step=3, process_index=i, process_count=2
        )[5]["x"]
        for i in range(2)
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), three[5]["x"])


@pytest.mark.parametrize("name", ["ring", "eight_gaussians", "grid"])
def test_mixtures_are_where_they_say(name):
    loaded = data.load(name, "train")
    points = loaded.source.rows(np.arange(20_000))["x"]
    centres, std = loaded.mixture
    distances = np.linalg.norm(points[:, None] - centres[None], axis=-1)
    nearest = distances.argmin(1)
    count = len(centres)
    np.testing.assert_allclose(np.bincount(nearest) / 20_000, np.full(count, 1 / count), atol=0.01)
    if name == "ring":  # far apart: the spread around the nearest centre is the component's
        assert np.sqrt((distances.min(1) ** 2).mean() / 2) == pytest.approx(std, rel=0.02)
        np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 2.0)
    assert data.load("swirl", "test").mixture is None


@pytest.mark.parametrize("count", [1, 2])
def test_evaluation_sees_each_example_once(count):
    seen = []
    for process in range(count):
        batches = data.EvalBatches(source(11), 4, process_index=process, process_count=count)
        assert len(batches) == 3
        for i in range(3):
            batch = batches[i]
            assert len(batch["x"]) == 4 // count
            np.testing.assert_array_equal(batch["x"][batch["mask"]], batch["index"][batch["mask"]])
            seen.extend(batch["x"][batch["mask"]])
    assert sorted(seen) == list(range(11))


def test_iteration_starts_anywhere():
    batches = data.TrainBatches(source(50), 8, seed=0)
    got = [b["x"] for b in data.iterate(batches, 5, 8)]
    np.testing.assert_array_equal(got, [batches[i]["x"] for i in (5, 6, 7)])


def test_a_batch_the_processes_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of the 3 processes"):
        data.TrainBatches(source(9), 8, seed=0, process_count=3)


def test_digits_are_all_there_and_split():
    train, test = data.load("digits", "train"), data.load("digits", "test")
    assert (len(train.source), len(test.source)) == (1437, 360)
    assert train.event_shape == (8, 8, 1) and train.num_levels == 17 and train.num_classes == 10
    x = np.concatenate([s.source.arrays["x"] for s in (train, test)])
    assert x.dtype == np.uint8 and x.max() == 16
    assert len(np.unique(x.reshape(1797, -1), axis=0)) == 1797  # no digit in both splits


@pytest.mark.parametrize("name", DENSITIES)
def test_densities_are_fixed_draws_of_unit_size(name):
    train, test = data.load(name, "train"), data.load(name, "test")
    again = data.load(name, "train")
    np.testing.assert_array_equal(train.source.arrays["x"], again.source.arrays["x"])
    assert train.event_shape == (2,) and train.num_levels is None and train.num_classes is None
    for split in (train, test):
        spread = split.source.arrays["x"].std()
        # Modes of the grid are far apart.
        assert 0.4 < spread < (3.0 if name == "grid" else 1.5)
    assert not np.isin(test.source.arrays["x"][:, 0], train.source.arrays["x"][:, 0]).all()


def test_streamed_and_resident_sets_give_the_same_batches(tfds_dir):
    sets = [data.load("mnist", "test", data_dir=tfds_dir, memory_limit_mib=m) for m in (2048, 0)]
    assert isinstance(sets[0].source, ArraySource) and not isinstance(sets[1].source, ArraySource)
    batches = [data.TrainBatches(s.source, 32, seed=0) for s in sets]
    resident = data.iterate(batches[0], 311, 315)
    streamed = data.iterate(batches[1], 311, 315, num_workers=2)
    for a, b in zip(resident, streamed, strict=True):
        assert a.keys() == b.keys() == {"x", "label"}
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])


def test_real_mnist_is_the_original(tfds_dir):
    mnist = data.load("mnist", "test", data_dir=tfds_dir)
    assert mnist.event_shape == (28, 28, 1) and mnist.num_levels == 256
    counts = np.bincount(mnist.source.arrays["label"])
    np.testing.assert_array_equal(counts, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    assert mnist.source.arrays["x"].mean() / 255 == pytest.approx(0.1325, abs=1e-4)


def test_a_set_that_is_not_prepared_says_how_to_prepare_it(tmp_path):
    with pytest.raises(data.MissingDataError, match=r"prepare_data.py --name=mnist --data_dir="):
        data.load("mnist", "train", data_dir=str(tmp_path))


def save(folder, **arrays):
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def test_arrays_of_the_user_are_read_whole_or_row_by_row(tmp_path):
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(20, 3)), np.arange(20) % 4
    save(tmp_path, train=x, train_label=label, pictures=np.ones((5, 2, 2, 1), np.uint8))
    sets = [
        data.load("npy", "train", data_dir=str(tmp_path), memory_limit_mib=limit)
        for limit in (1, 0)
    ]
    for dataset in sets:
        assert dataset.event_shape == (3,) and dataset.num_classes == 4
        assert dataset.num_levels is None and len(dataset.source) == 20
        rows = dataset.source.rows(np.array([4, 4, 19]))
        assert rows["x"].dtype == np.float32
        np.testing.assert_array_equal(rows["x"], x[[4, 4, 19]].astype(np.float32))
        assert rows["label"].tolist() == [0, 0, 3]
    assert type(sets[0].source) is not type(sets[1].source)
    pictures = data.load("npy", "pictures", data_dir=str(tmp_path))
    assert pictures.num_levels == 256 and pictures.num_classes is None


@pytest.mark.parametrize("arrays, message", [
    (dict(), r"there is no file .*train\.npy \(nor train\.npz\); expected an array"),
    (dict(train=np.zeros(5)), r"must hold real numbers or 8-bit levels \[N, \.\.\.\], got float64"),
    (dict(train=np.zeros((5, 2), int)), "got int64"),
    (dict(train=np.full((5, 2), np.nan)), "NaN or infinity"),
    (dict(train=np.zeros((5, 2)), train_label=np.zeros(4, int)), r"whole numbers \[5\]"),
    (dict(train=np.zeros((5, 2)), train_label=np.arange(5) - 1), "from -1 to 3"),
])  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, message):
    save(tmp_path, **arrays)
    with pytest.raises(ValueError, match=message):
        data.load("npy", "train", data_dir=str(tmp_path))
    with pytest.raises(ValueError, match="needs data_dir"):
        data.load("npy", "train")


def test_a_file_cut_short_is_named(tmp_path):
    save(tmp_path, train=np.zeros((50, 2)))
    file = tmp_path / "train.npy"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"train\.npy cannot be read"):
        data.load("npy", "train", data_dir=str(tmp_path))


@pytest.mark.parametrize("name, split", [("mnits", "train"), ("digits", "validation")])
def test_unknown_names_raise(name, split):
    with pytest.raises(ValueError, match="unknown data set|has the splits"):
        data.load(name, split)


def histogram_bits_per_dim(train, test, num_levels):
    """What a smoothed histogram for each pixel scores: no dependence between pixels at all."""
    train, test = (x.reshape(len(x), -1) for x in (train, test))
    counts = np.stack([(train == k).sum(0) for k in range(num_levels)]) + 1.0
    probability = counts / counts.sum(0)
    return -np.log2(probability[test, np.arange(test.shape[1])]).mean()


@pytest.mark.slow
def test_histograms_score_what_the_readme_says(tfds_dir):
    digits = [data.load("digits", split).source.arrays["x"] for split in ("train", "test")]
    assert histogram_bits_per_dim(*digits, 17) == pytest.approx(2.42, abs=0.005)
    mnist = [
        data.load("mnist", split, data_dir=tfds_dir).source.arrays["x"]
        for split in ("train", "test")
    ]
    assert histogram_bits_per_dim(*mnist, 256) == pytest.approx(1.69, abs=0.005)


def test_labelled_rows_are_as_many_of_each_class_by_a_seed():
    every = data.load("digits", "train")
    few = data.labelled_rows(every, per_class=3, seed=1)
    labels = few.source.arrays["label"]
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 3))
    again = data.labelled_rows(every, per_class=3, seed=1)
    np.testing.assert_array_equal(few.source.arrays["x"], again.source.arrays["x"])
    other = data.labelled_rows(every, per_class=3, seed=2)
    assert not np.array_equal(few.source.arrays["x"], other.source.arrays["x"])
    # They are rows of the set, with their own labels, in their order.
    x = every.source.arrays["x"]
    where = [int(np.flatnonzero((x == row).all((1, 2, 3)))[0]) for row in few.source.arrays["x"]]
    assert where == sorted(where)
    np.testing.assert_array_equal(every.source.arrays["label"][where], labels)
    with pytest.raises(ValueError, match="has [0-9]+ examples of the class 0"):
        data.labelled_rows(every, per_class=500)
    with pytest.raises(ValueError, match="per_class must be at least 1"):
        data.labelled_rows(every, per_class=0)
    with pytest.raises(ValueError, match="no labels at hand"):
        data.labelled_rows(data.load("ring", "train"), per_class=1)


def test_stacked_images_have_a_digit_in_each_channel():
    base = data.load("digits", "train")
    made = data.stacked(base, num_rows=50, seed=3)
    assert made.event_shape == (8, 8, 3) and made.num_classes == 1000 and made.num_levels == 17
    rows = made.source.rows(np.arange(50))
    x, labels = base.source.arrays["x"][..., 0], base.source.arrays["label"]
    for image, label in zip(rows["x"][:5], rows["label"][:5], strict=True):
        found = [labels[(x == image[..., i]).all((1, 2))][0] for i in range(3)]
        assert label == 100 * found[0] + 10 * found[1] + found[2]
    np.testing.assert_array_equal(made.source.column("label"), rows["label"])
    some = made.source.rows(np.array([7, 3]))
    np.testing.assert_array_equal(some["x"], rows["x"][[7, 3]])
    with pytest.raises(ValueError, match="labelled images of one channel"):
        data.stacked(made, num_rows=5)
    with pytest.raises(ValueError, match="num_rows must be at least 1"):
        data.stacked(base, num_rows=0)


def test_the_grid_has_25_modes():
    centres, std = data.load("grid", "test").mixture
    assert std == 0.05 and sorted({tuple(c) for c in centres.tolist()}) == sorted(
        (x, y) for x in (-4.0, -2.0, 0.0, 2.0, 4.0) for y in (-4.0, -2.0, 0.0, 2.0, 4.0)
    )
