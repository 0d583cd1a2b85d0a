"""Glyphs: drawn as another renderer of fonts draws them, with true attributes and clean splits."""

import os

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import genjax
from genjax import data
from genjax.config import ConfigError
from genjax.data import glyphs as module

SIZE, PAIRS = 28, 21 * 62


def rows(split, **options):
    return data.load("glyphs", split, **options).source.arrays


def both(**options):
    train, test = (rows(split, **options) for split in ("train", "test"))
    return {name: np.concatenate([train[name], test[name]]) for name in train}


@pytest.mark.parametrize("split_by, counts", [("combination", (1172, 130)), ("font", (1054, 248))])
def test_every_glyph_is_in_one_split_with_the_attributes_of_its_face(split_by, counts):
    options = dict(split_by=split_by, variants=2)
    train, test = rows("train", **options), rows("test", **options)
    assert (len(train["x"]), len(test["x"])) == tuple(3 * n for n in counts)
    pairs = [set(zip(r["font"].tolist(), r["label"].tolist(), strict=True)) for r in (train, test)]
    assert len(pairs[0]) + len(pairs[1]) == len(pairs[0] | pairs[1]) == PAIRS
    spec = data.load("glyphs", "train", **options).spec
    assert spec["x"].shape == (SIZE, SIZE, 1) and spec["x"].num_levels == 256
    assert "".join(spec["label"].class_names) == module.CHARACTERS
    # What faces say of themselves in their names, where they do.
    for name, bold, italic, mono in zip(
        spec["font"].class_names,
        *(np.array(list(module.FACES.values()))[:, i] for i in (0, 1, 3)),
        strict=True,
    ):
        assert bold == ("Bol" in name or name == "cmb10")
        assert italic == ("Obl" in name or "Ita" in name or name == "cmti10")
        assert mono == ("Mono" in name or name == "cmtt10")
    attributes = ["weight", "slant", "serif", "width"]
    seen = [{tuple(v) for v in np.stack([r[a] for a in attributes], 1)} for r in (train, test)]
    assert seen[1] <= seen[0]
    assert set(train["label"]) == set(range(62))
    if split_by == "font":
        held_out = {spec["font"].class_names[i] for i in set(test["font"].tolist())}
        assert held_out == set(module.HELD_OUT_FONTS)
    else:
        assert set(train["font"]) == set(range(21))


def with_pillow(face, character, pixels, x, y, side):
    """A character on its baseline, black and white in shades; ``pixels`` an em."""
    place = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", f"{face}.ttf")
    font = ImageFont.truetype(place, pixels, layout_engine=ImageFont.Layout.BASIC)
    canvas = Image.new("L", (side, side))
    ImageDraw.Draw(canvas).text((x, y), character, fill=255, font=font, anchor="ls")
    return canvas


@pytest.mark.parametrize("face", ["DejaVuSerif-BoldItalic", "STIXGeneral", "cmtt10"])
def test_pictures_are_those_of_pillow_under_the_documented_rule(face):
    drawn = (with_pillow(face, c, 500, 200, 700, 1000) for c in module.CHARACTERS)
    boxes = 2.0 * np.array([image.getbbox() for image in drawn]) - [400, 1400, 400, 1400]
    top, bottom = boxes[:, 1].min(), boxes[:, 3].max()  # in thousandths of an em
    reach = max(bottom - top, (boxes[:, 2] - boxes[:, 0]).max())
    scale, finer = SIZE * 12 / 14 / reach, 16
    y = (SIZE / 2 - scale * (top + bottom) / 2) * finer
    made = both(variants=0)
    of_face = made["font"] == list(module.FACES).index(face)
    for character in "AgQifW4":
        label = module.CHARACTERS.index(character)
        x = (SIZE / 2 - scale * (boxes[label, 0] + boxes[label, 2]) / 2) * finer
        large = with_pillow(face, character, 1000 * scale * finer, x, y, SIZE * finer)
        theirs = np.asarray(large.resize((SIZE, SIZE), Image.Resampling.BOX)).astype(float)
        ours = made["x"][of_face & (made["label"] == label)][0, ..., 0]
        assert np.abs(ours - theirs).mean() < 2.5, character
        assert ours.sum() / theirs.sum() == pytest.approx(1.0, abs=0.03), character
        inside = ours[2:-2, 2:-2].sum(dtype=int)
        assert inside == ours.sum(dtype=int)


def test_variants_are_smaller_and_elsewhere_but_whole():
    made = both(variants=3)
    ink = made["x"].sum((1, 2, 3), dtype=float)
    order = np.lexsort((made["label"], made["font"]))  # stable: variants stay in their order
    ink = ink[order].reshape(PAIRS, 4)
    share = ink[:, 1:] / ink[:, :1]  # of the area, which shears and shifts leave as it is
    assert 0.62 < share.min() < 0.66 and 0.98 < share.max() < 1.03
    assert share.mean() == pytest.approx((1 - 0.8**3) / (3 * 0.2), abs=0.01)
    places = np.array([np.argwhere(x[..., 0]).mean(0) for x in made["x"]])[order]
    moved = (places.reshape(PAIRS, 4, 2) - places.reshape(PAIRS, 4, 2)[:, :1])[:, 1:]
    assert 0.9 < moved.std((0, 1)).min() < moved.std((0, 1)).max() < 1.6


def test_rows_depend_on_the_arguments_alone():
    few, more = rows("train", variants=1), rows("train", variants=2)
    np.testing.assert_array_equal(few["x"], more["x"][: len(few["x"])])
    other = rows("train", variants=1, seed=1)["x"]
    half = len(other) // 2
    np.testing.assert_array_equal(other[:half], few["x"][:half])
    assert (other[half:] != few["x"][half:]).any((1, 2, 3)).mean() > 0.99
    module.drawn.cache_clear()
    module._outlines.cache_clear()
    np.testing.assert_array_equal(few["x"], rows("train", variants=1)["x"])
    origin = data.identity(data.load("glyphs", "test", variants=0))["origin"]
    assert origin["matplotlib"] == matplotlib.__version__ and set(origin) == {
        "matplotlib", "FreeType",
    }  # fmt: skip


def test_any_model_may_leave_the_further_features_alone():
    mlp = dict(name="mlp", hidden_size=4, num_layers=1, num_classes=62)
    config = dict(
        data=dict(name="glyphs", options=dict(size=8, variants=0), batch_size=4),
        model=dict(encoder=mlp, decoder=mlp),
        family=dict(name="vae", observation=dict(name="discretized_logistic")),
        optimizer=dict(name="adam"),
        train=dict(num_steps=1, eval_every=0),
    )
    experiment = genjax.build(config)
    experiment.check_step()
    assert set(experiment.spec) == {"x", "label", "font", "weight", "slant", "serif", "width"}
    assert set(experiment.train_batches()[""][0]) == set(experiment.spec)
    config["data"]["options"]["sise"] = 8
    with pytest.raises(ConfigError, match=r"data\.options\.sise.*'size'"):
        genjax.build(config)


@pytest.mark.parametrize("options, message", [
    (dict(size=7), "size must be from 8 to 256 pixels, got 7"),
    (dict(variants=-1), "variants and seed must be at least 0"),
    (dict(split_by="face"), "split_by must be 'combination' or 'font', got 'face'"),
    (dict(size=256, variants=99), "take 8138 MiB and are held in memory: lower size"),
])  # fmt: skip
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        data.load("glyphs", "train", **options)


def test_what_the_installed_matplotlib_lacks_is_named(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="glyphs has the splits train and test, got 'valid'"):
        data.load("glyphs", "valid")
    monkeypatch.setattr(module, "CHARACTERS", "A\N{HIRAGANA LETTER A}")
    with pytest.raises(data.MissingDataError, match=r"DejaVuSans\.ttf of matplotlib .* has no"):
        module._outlines.__wrapped__()
    monkeypatch.setattr(matplotlib, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(data.MissingDataError, match=r"has no font .*DejaVuSans\.ttf, which glyphs"):
        module._outlines.__wrapped__()
    (tmp_path / "fonts" / "ttf").mkdir(parents=True)
    (tmp_path / "fonts" / "ttf" / "DejaVuSans.ttf").write_bytes(b"no font")
    with pytest.raises(data.DamagedDataError, match=r"DejaVuSans\.ttf cannot be read"):
        module._outlines.__wrapped__()


def test_pairs_are_the_same_character_in_another_face_of_the_design():
    made = data.load("glyphs", "test", variants=1, source={"weight": "regular"})
    arrays = made.source.arrays
    assert made.spec["source"] == made.spec["x"] and (arrays["weight"] == 1).all()
    plain = data.load("glyphs", "test", variants=1).source.arrays
    bold = plain["weight"] == 1
    np.testing.assert_array_equal(arrays["x"], plain["x"][bold])
    # Of the pictures that are not variants, those that the face has by itself.
    every = [data.load("glyphs", split, variants=0).source.arrays for split in ("train", "test")]
    faces, letters, x = (np.concatenate([a[n] for a in every]) for n in ("font", "label", "x"))
    names = made.spec["font"].class_names
    for row in range(0, bold.sum() // 2, 7):
        regular = names[arrays["font"][row]].replace("cmb10", "cmr10")
        for ending in ("-Bold", "Bold", "Bol"):
            regular = regular.replace(ending, "-" if ending == "-Bold" else "")
        regular = {"STIXGeneralIta": "STIXGeneralItalic"}.get(regular, regular.rstrip("-"))
        found = (faces == names.index(regular)) & (letters == arrays["label"][row])
        np.testing.assert_array_equal(arrays["source"][row], x[found][0])
    # Variants move alike: pictures overlap as much as those that were not moved.
    half = len(arrays["x"]) // 2
    overlap = np.minimum(arrays["x"], arrays["source"]).sum((1, 2, 3), dtype=float)
    share = overlap / arrays["source"].sum((1, 2, 3), dtype=float)
    assert abs(share[:half].mean() - share[half:].mean()) < 0.05


def test_partners_are_withheld_truths_of_unpaired_domains():
    sans = data.load("glyphs", "train", variants=0, partner={"serif": "serif"})
    serif = data.load("glyphs", "train", variants=0, only={"serif": "serif"})
    assert set(sans.spec) - set(serif.spec) == {"partner"}
    assert (sans.source.arrays["serif"] == 0).all() and (serif.source.arrays["serif"] == 1).all()
    fonts = {sans.spec["font"].class_names[i] for i in sans.source.arrays["font"]}
    assert "cmss10" in fonts and "DejaVuSans" in fonts and "DejaVuSansMono" not in fonts


@pytest.mark.parametrize("options, message", [
    ({"only": {"serif": "slab"}}, "only: no glyph has serif 'slab'; they have weight: regular"),
    ({"source": {"colour": "red"}}, "source: no glyph has colour 'red'"),
    ({"only": {"weight": "regular"}, "source": {"weight": "regular"}}, "no glyph has what only"),
])  # fmt: skip
def test_pairs_that_no_face_has_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        data.load("glyphs", "test", **options)
