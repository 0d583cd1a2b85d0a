"""Files of one's own: pictures, tables, Parquet, arrays; and parts of splits."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from genjax import data
from genjax.data.splits import held_out


def picture(path, size=(8, 8), mode="RGB", level=100, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.full((size[1], size[0], channels), level, np.uint8).squeeze(
        -1 if channels == 1 else ()
    )
    Image.fromarray(pixels if channels > 1 else pixels.reshape(size[1], size[0]), mode).save(
        path, **kwargs
    )


@pytest.fixture
def pets(tmp_path):
    """Twenty mixed pictures in two classes."""
    folder = tmp_path / "pets"
    for i in range(10):
        picture(folder / "cats" / f"{i}.png", size=(9 + i, 12), level=20 + i)
        picture(folder / "dogs" / f"{i}.jpg", size=(12, 9 + i), level=200 + i)
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_folders_of_pictures_are_classes_and_some_are_held_out(pets):
    load = lambda split, **kw: data.load("images", split, data_dir=str(pets), size=8, **kw)  # noqa: E731
    train, test = load("train", holdout=0.2), load("test", holdout=0.2)
    assert train.name == "pets" and len(train.source) == 16 and len(test.source) == 4
    assert train.event_shape == (8, 8, 3) and train.num_levels == 256 and train.num_classes == 2
    for dataset in (train, test):
        rows = dataset.source.rows(np.arange(len(dataset.source)))
        levels = rows["x"].mean((1, 2, 3))
        np.testing.assert_array_equal(levels > 100, rows["label"] == 1)
    streamed = load("train", holdout=0.2, memory_limit_mib=0)
    assert not isinstance(streamed.source, data.ArraySource)
    np.testing.assert_array_equal(
        streamed.source.rows(np.arange(16))["x"], train.source.rows(np.arange(16))["x"]
    )
    assert len(load("train[:50%]", holdout=0.2, memory_limit_mib=0).source) == 8


def test_folders_train_and_test_are_splits(tmp_path):
    for split, count in [("train", 3), ("test", 2)]:
        for i in range(count):
            picture(tmp_path / "set" / split / "b" / f"{i}.webp", lossless=True)
    picture(tmp_path / "set" / "train" / "a" / "0.png")
    load = lambda split: data.load("images", split, data_dir=str(tmp_path / "set"))  # noqa: E731
    assert len(load("train").source) == 4 and load("train").num_classes == 2
    # Classes are the training split's: the first is missing here.
    np.testing.assert_array_equal(load("test").source.rows(np.arange(2))["label"], [1, 1])
    picture(tmp_path / "set" / "test" / "c" / "0.png")
    with pytest.raises(ValueError, match="class 'c' that .*train has not"):
        load("test")


def test_pictures_of_all_kinds_keep_their_brightness(tmp_path):
    folder = tmp_path / "kinds"
    folder.mkdir()
    grey = np.full((4, 6), 60, np.uint8)
    Image.fromarray(grey).save(folder / "a.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "b.png")  # sixteen bits
    Image.fromarray(np.stack([grey] * 3, -1)).quantize(4).save(folder / "c.png")
    opaque = np.concatenate(
        [np.full((4, 6, 3), 60, np.uint8), np.full((4, 6, 1), 255, np.uint8)], -1
    )
    Image.fromarray(opaque).save(folder / "d.png")
    clear = opaque.copy()
    clear[..., 3] = 0
    Image.fromarray(clear).save(folder / "e.png")
    turned = Image.fromarray(np.ascontiguousarray(grey.T))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned.save(folder / "f.png", exif=exif)
    dataset = data.load("images", "train", data_dir=str(folder), channels=1, holdout=0.01)
    test = data.load("images", "test", data_dir=str(folder), channels=1, holdout=0.01)
    assert dataset.event_shape == test.event_shape == (4, 6, 1) and dataset.num_classes is None
    levels = sorted([*dataset.source.rows(np.arange(5))["x"].mean((1, 2, 3)), float(
        test.source.rows(np.arange(1))["x"].mean())])  # fmt: skip
    np.testing.assert_allclose(levels, [60, 60, 60, 60, 60, 255], atol=1)


def test_what_is_wrong_with_a_folder_is_said(tmp_path, pets):
    load = lambda folder, **kw: data.load("images", "train", data_dir=str(folder), **kw)  # noqa: E731
    with pytest.raises(ValueError, match=r"pictures must have one size: .*set data.options.size"):
        load(pets)
    with pytest.raises(data.MissingDataError, match="there is no folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(data.MissingDataError, match="there are no pictures"):
        (tmp_path / "empty").mkdir()
        load(tmp_path / "empty")
    (pets / "cats" / "broken.png").write_bytes(b"\x89PNG not really")
    with pytest.raises(data.DamagedDataError, match=r"broken\.png cannot be decoded"):
        load(pets, size=8)
    (pets / "cats" / "broken.png").unlink()
    with pytest.raises(ValueError, match="holdout must be between 0 and 1"):
        load(pets, size=8, holdout=0.0)
    picture(pets / "loose.png")
    with pytest.raises(ValueError, match=r"others in none, such as loose\.png"):
        load(pets, size=8)
    with pytest.raises(ValueError, match="needs data_dir"):
        data.load("images", "train")


CSV = """age,income,city,kind
31,100.5,Paris,yes
42,,Rome,no
53,300.25,Paris,no
64,400,Oslo,yes
25,500,Rome,yes
"""


def test_a_table_has_numbers_categories_and_labels(tmp_path):
    file = tmp_path / "people.csv"
    file.write_text(CSV)
    load = lambda split, **kw: data.load("table", split, data_dir=str(file), **kw)  # noqa: E731
    options = dict(label="kind", categorical=["city"], missing="drop", holdout=0.25)
    train, test = load("train", **options), load("test", **options)
    assert train.name == "people" and len(train.source) == 3 and len(test.source) == 1
    rows = [{k: v for k, v in d.source.arrays.items()} for d in (train, test)]
    x = np.concatenate([r["x"] for r in rows])
    order = np.argsort(x[:, 0])
    # age, income, Oslo, Paris, Rome
    np.testing.assert_allclose(x[order], [[25, 500, 0, 0, 1], [31, 100.5, 0, 1, 0],
                                          [53, 300.25, 0, 1, 0], [64, 400, 1, 0, 0]])  # fmt: skip
    label = np.concatenate([r["label"] for r in rows])[order]
    np.testing.assert_array_equal(label, [1, 1, 0, 1])
    assert train.event_shape == (5,) and train.num_levels is None and train.num_classes == 2


@pytest.mark.parametrize("options, message", [
    (dict(categorical=["city"], label="kind"), r"empty cell in row 2, column 'income' \(1 of 5 r"),
    (dict(missing="drop"), r"'Paris' in row 1, column 'city', which is no number"),
    (dict(columns=["age", "town"]), r"no column 'town'; it has age, income, city, kind"),
    (dict(columns=["age"], categorical=["city"]), r"'city' is not among the columns"),
    (dict(columns=["age"], label="income", missing="drop"), "holds real numbers; expected class"),
])  # fmt: skip
def test_what_is_wrong_with_a_table_is_said_by_row_and_column(tmp_path, options, message):
    (tmp_path / "people.csv").write_text(CSV)
    with pytest.raises(ValueError, match=message):
        data.load("table", "train", data_dir=str(tmp_path / "people.csv"), **options)


def test_tables_of_two_files_share_categories_and_types(tmp_path):
    (tmp_path / "train.csv").write_text("a;b\n1;x\n2;y\n")
    (tmp_path / "test.csv").write_text("a;b\n3;y\n")
    load = lambda split: data.load("table", split, data_dir=str(tmp_path), categorical=["b"])  # noqa: E731
    np.testing.assert_array_equal(load("test").source.arrays["x"], [[3, 0, 1]])
    (tmp_path / "test.csv").write_text("a;b\n3;z\n")
    with pytest.raises(ValueError, match="'z' in row 1, column 'b', which the training split has"):
        load("test")
    pq.write_table(pa.table({"a": [1.0, float("inf")]}), tmp_path / "one.parquet")
    with pytest.raises(ValueError, match=r"inf in row 2, column 'a', which is no finite"):
        data.load("table", "train", data_dir=str(tmp_path / "one.parquet"))
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(data.DamagedDataError, match=r"cut\.parquet cannot be read as a table"):
        data.load("table", "train", data_dir=str(tmp_path / "cut.parquet"))


def encoded(level):
    file = io.BytesIO()
    Image.fromarray(np.full((6, 6, 3), level, np.uint8)).save(file, "png")
    return file.getvalue()


def hub_table(count, first=0):
    described = {"info": {"features": {"label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}}}
    levels = [first + i for i in range(count)]
    columns = {
        "image": [{"bytes": encoded(level), "path": None} for level in levels],
        "label": pa.array([level % 2 for level in levels], pa.int64()),
        "text": [f"level {level}" for level in levels],
    }
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(described)})


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_pictures_of_the_hub_have_labels_and_captions(tmp_path, kind):
    if kind == "parquet":
        (tmp_path / "data").mkdir()
        pq.write_table(hub_table(4), tmp_path / "data" / "train-00000-of-00002.parquet")
        pq.write_table(hub_table(2, 4), tmp_path / "data" / "train-00001-of-00002.parquet")
        pq.write_table(hub_table(3, 50), tmp_path / "data" / "test-00000-of-00001.parquet")
    else:
        for split, made in [("train", hub_table(6)), ("test", hub_table(3, 50))]:
            (tmp_path / split).mkdir()
            with pa.ipc.new_stream(
                tmp_path / split / "data-00000-of-00001.arrow", made.schema
            ) as w:
                w.write_table(made)
    load = lambda split, **kw: data.load(  # noqa: E731
        "huggingface", split, data_dir=str(tmp_path), caption="text", caption_length=8, **kw
    )
    train, test = load("train"), load("test", memory_limit_mib=0)
    assert train.event_shape == (6, 6, 3) and train.num_classes == 3
    rows = train.source.rows(np.arange(6))
    np.testing.assert_array_equal(rows["x"][:, 0, 0, 0], np.arange(6))
    np.testing.assert_array_equal(rows["label"], [0, 1, 0, 1, 0, 1])
    assert bytes(rows["caption"][3]) == b"level 3\0"
    assert test.source.rows(np.array([1]))["x"][0, 0, 0, 0] == 51
    with pytest.raises(data.MissingDataError, match="no split 'valid'; it has test, train"):
        load("valid")
    with pytest.raises(ValueError, match="no column 'picture'; it has image, label, text"):
        load("train", image="picture")


def test_captions_of_the_hub_may_be_tokens(tmp_path):
    table = hub_table(10)
    pq.write_table(table, tmp_path / "train.parquet")
    load = lambda split, **kw: data.load(  # noqa: E731
        "huggingface", split, data_dir=str(tmp_path), holdout=0.3, captions=True, **kw
    )
    train, test = load("train"), load("test")
    data.check_rows(train)
    assert train.spec == test.spec and train.spec["tokens"].shape == (3,)
    for made in (train, test):
        rows = made.source.arrays
        known = {f"level {level}" for level in train.source.arrays["x"][:, 0, 0, 0]}
        for level, text in zip(
            rows["x"][:, 0, 0, 0],
            made.spec["tokens"].vocabulary.decode(rows["tokens"]),
            strict=True,
        ):
            expected = f"level {level}"
            assert text == (expected if expected in known else f"level{data.UNKNOWN}")
    several = [[f"level {i}", "so"] if i % 2 else [f"level {i}"] for i in range(10)]
    where = table.column_names.index("text")
    pq.write_table(table.set_column(where, "text", pa.array(several)), tmp_path / "train.parquet")
    made, kept = load("train"), held_out(10, 0.3, "train")
    rows = made.source.arrays
    texts = made.spec["tokens"].vocabulary.decode(rows["tokens"])
    assert texts == [text for i in kept for text in several[i]]
    levels = [i for i in kept for _ in several[i]]
    np.testing.assert_array_equal(rows["x"][:, 0, 0, 0], levels)
    np.testing.assert_array_equal(rows["label"], np.array(levels) % 2)
    for values, message in [
        (["a", None] * 5, r"row \d+ of .* has an empty caption"),
        (list(range(10)), "are int64: expected texts"),
    ]:
        pq.write_table(
            table.set_column(where, "text", pa.array(values)), tmp_path / "train.parquet"
        )
        with pytest.raises(ValueError, match=message):
            load("train")
    with pytest.raises(ValueError, match="has no column 'caption'"):
        pq.write_table(table.drop_columns(["text"]), tmp_path / "train.parquet")
        load("train")


def test_a_hub_set_with_one_split_is_divided(tmp_path):
    pq.write_table(hub_table(10), tmp_path / "train.parquet")
    load = lambda split: data.load("huggingface", split, data_dir=str(tmp_path), holdout=0.3)  # noqa: E731
    levels = [load(s).source.arrays["x"][:, 0, 0, 0].tolist() for s in ("train", "test")]
    assert len(levels[1]) == 3 and sorted(sum(levels, [])) == list(range(10))


def test_archives_hold_x_and_label(tmp_path):
    np.savez(tmp_path / "train.npz", x=np.zeros((4, 2), np.float32), label=np.array([0, 1, 2, 0]))
    dataset = data.load("npy", "train", data_dir=str(tmp_path))
    assert dataset.num_classes == 3 and dataset.event_shape == (2,)
    (tmp_path / "train.npz").rename(tmp_path / "test.npy")
    with pytest.raises(ValueError, match=r"is an \.npz archive of x, label, not a single array"):
        data.load("npy", "test", data_dir=str(tmp_path))
    np.save(tmp_path / "objects.npy", np.array([{}, []], object), allow_pickle=True)
    with pytest.raises(ValueError, match="holds Python objects, not numbers"):
        data.load("npy", "objects", data_dir=str(tmp_path))


@pytest.mark.parametrize("split, expected", [
    ("train", range(10)), ("train[:50%]", range(5)), ("train[-3:]", range(7, 10)),
    ("train[2:4]", [2, 3]), ("train[25%:75%]", range(2, 8)), ("train[:99]", range(10)),
])  # fmt: skip
@pytest.mark.parametrize("limit", [0, 2048])
def test_parts_of_splits(tmp_path, split, expected, limit):
    np.save(tmp_path / "train.npy", np.arange(10.0)[:, None])
    np.save(tmp_path / "train_label.npy", np.arange(10))
    part = data.load("npy", split, data_dir=str(tmp_path), memory_limit_mib=limit)
    rows = part.source.rows(np.arange(len(part.source)))
    np.testing.assert_array_equal(rows["x"][:, 0], list(expected))
    np.testing.assert_array_equal(data.column(part.source, "label"), list(expected))


def test_parts_that_cannot_be_read_are_refused():
    for split in ("train[", "train[:5%]x", "train[a:b]", ""):
        with pytest.raises(ValueError, match="a split is a name, or a name and rows"):
            data.load("digits", split)
    assert len(data.load("digits", "train[:10%]").source) == 144


def test_what_is_held_out_is_fixed_and_nothing_is_lost():
    train, test = (held_out(100, 0.1, split) for split in ("train", "test"))
    assert len(test) == 10 and sorted([*train, *test]) == list(range(100))
    np.testing.assert_array_equal(test, held_out(100, 0.1, "test"))


def test_numbers_whose_differences_float32_cannot_hold_are_refused(tmp_path):
    for first in (10**18, 1_700_000_000):
        lines = [f"{first + i},{i}" for i in range(18)]
        (tmp_path / "t.csv").write_text("\n".join(["time,x", *lines]))
        with pytest.raises(
            ValueError, match=r"column 'time', varies by 1\d about 1.*e\+|in digits"
        ):
            data.load("table", "train", data_dir=str(tmp_path / "t.csv"))
        kept = data.load("table", "train", data_dir=str(tmp_path / "t.csv"), columns=["x"])
        assert kept.event_shape == (1,)
    np.save(tmp_path / "train.npy", np.stack([np.arange(9.0), 1e12 + np.arange(9.0)], 1))
    with pytest.raises(ValueError, match="column 1, varies by 8 about 1e"):
        data.load("npy", "train", data_dir=str(tmp_path))


@pytest.mark.parametrize("content, options, message", [
    ("a,a,b\n1,2,3\n4,5,6\n", {}, "has two columns 'a'"),
    ("1,2\n3,4\n5,6\n", {}, "begins with the numbers 1, 2: expected a line with the names"),
    ("a,b\n1,2\n3,4\n", dict(columns=("a", "a")), "'a' is named twice"),
    ("a,b\n1,2\n3,4\n", dict(columns=("a", "b"), label="b"), "'b' is named twice"),
    ('a;b\n"1,5";2\n"2,5";3\n', {}, "'1,5' in row 1, column 'a': expected a plain number s"),
    ("a\n7 %\n9 %\n", {}, "expected a plain number such as 7"),
])  # fmt: skip
def test_tables_that_would_be_misread_are_refused(tmp_path, content, options, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        data.load("table", "train", data_dir=str(tmp_path / "t.csv"), **options)


def test_a_table_in_another_encoding_is_named(tmp_path):
    (tmp_path / "t.csv").write_bytes("größe,b\n1,2\n".encode("latin-1"))
    with pytest.raises(data.DamagedDataError, match=r"t\.csv is not UTF-8 .*save it as UTF-8"):
        data.load("table", "train", data_dir=str(tmp_path / "t.csv"))


def test_a_category_may_be_called_na_and_an_empty_one_is_missing(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,NA\n2,SA\n3,NA\n4,SA\n")
    load = lambda: data.load("table", "train", data_dir=str(tmp_path / "t.csv"), categorical=["b"])  # noqa: E731
    assert load().event_shape == (3,)
    (tmp_path / "t.csv").write_text("a,b\n1,NA\n2,\n3,NA\n4,SA\n")
    with pytest.raises(ValueError, match="empty cell in row 2, column 'b'"):
        load()


def test_names_of_classes_are_kept(tmp_path, pets):
    made = data.load("images", "train", data_dir=str(pets), size=8)
    assert made.spec["label"].class_names == ("cats", "dogs")
    (tmp_path / "t.csv").write_text("a,b\n" + "1,no\n2,yes\n" * 9)
    made = data.load("table", "train", data_dir=str(tmp_path / "t.csv"), label="b")
    assert made.spec["label"].class_names == ("no", "yes")
    recorded = data.identity(made)
    assert recorded["features"]["label"]["class_names"] == ["no", "yes"]
    (tmp_path / "t.csv").write_text("a,b\n" + "1,no\n2,ja\n" * 9)
    other = data.identity(data.load("table", "train", data_dir=str(tmp_path / "t.csv"), label="b"))
    assert "named ja, no in place of" in data.difference(recorded, other)


def test_pictures_of_numbers_without_a_scale_are_refused(tmp_path):
    from genjax.data.pictures import Decoder

    for dtype in (np.float32, np.int32):
        Image.fromarray(np.full((4, 4), 200, dtype)).save(tmp_path / "a.tiff")
        with pytest.raises(data.DamagedDataError, match="32-bit numbers, whose scale no one knows"):
            Decoder(None, 1)(str(tmp_path / "a.tiff"))


def test_links_in_circles_and_folders_that_look_like_splits(tmp_path, pets):
    (pets / "cats" / "loop").symlink_to(pets)
    assert len(data.load("images", "train", data_dir=str(pets), size=8).source) == 18
    (pets / "cats").rename(pets / "val")
    with pytest.raises(ValueError, match="val looks like a split, but there is no"):
        data.load("images", "train", data_dir=str(pets), size=8)
    picture(tmp_path / "one" / "a.png")
    with pytest.raises(ValueError, match="too few pictures"):
        data.load("images", "train", data_dir=str(tmp_path / "one"))


def test_labels_and_pictures_of_the_hub_that_are_none_are_refused(tmp_path):
    table = hub_table(3)
    for column, values, message in [
        ("label", pa.array([0, None, 1]), "has no label in row 2"),
        ("label", pa.array(["a", "b", "a"]), "holds string: expected class ids"),
        ("image", pa.array([[1], [2], [3]]), "are lists: expected encoded bytes"),
    ]:
        where = table.column_names.index(column)
        changed = table.set_column(where, column, values)
        pq.write_table(changed, tmp_path / "train.parquet")
        with pytest.raises(ValueError, match=message):
            data.load("huggingface", "train", data_dir=str(tmp_path))


def test_damaged_archives_are_named(tmp_path):
    np.savez(tmp_path / "train.npz", x=np.zeros((400, 2)))
    content = bytearray((tmp_path / "train.npz").read_bytes())
    content[200] ^= 0xFF
    (tmp_path / "train.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"train\.npz cannot be read"):
        data.load("npy", "train", data_dir=str(tmp_path))
