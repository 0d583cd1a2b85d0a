"""Edits with trained models: what is kept is kept, what means nothing changes nothing."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import config as configs
from genjax.diffusion import DDIM, Estimate, VariancePreserving
from genjax.diffusion.directions import principal_components
from genjax.families.base import Denoising
from genjax.training.editor import checked_mask
from genjax.training.edits import EditError, part_of

UNET = dict(
    name="unet", channels=8, multipliers=(1, 2), num_blocks=1, num_groups=4, attention_sizes=(),
    dropout_rate=0.0,
)  # fmt: skip
DIGITS = dict(
    data=dict(name="digits", batch_size=16),
    model=UNET,
    family=dict(name="diffusion", process=dict(name="vp"), ema_decay=0.0),
    optimizer=dict(name="adam", learning_rate=1e-2),  # the last layer begins at 0
    train=dict(num_steps=5, eval_every=0, sample_every=0),
    eval=dict(batch_size=32),
    sample=dict(num_samples=5, num_steps=4, sampler=dict(name="ddim", eta=1.0)),
)
LABELLED = DIGITS | dict(
    model=UNET | dict(num_classes=10),
    family=dict(name="vdm", schedule=dict(name="fixed_linear"), label_dropout=0.2, ema_decay=0.0),
    sample=DIGITS["sample"] | dict(guidance=dict(name="classifier_free", scale=2.0)),
)
OTHERS = {
    "ddpm": DIGITS | dict(
        family=dict(name="ddpm", loss="hybrid", variance="learned", ema_decay=0.0,
                    process=dict(name="chain", num_timesteps=20, beta_max=0.01)),
        model=UNET | dict(out_channels=2),
        sample=dict(num_samples=3, num_steps=4),
    ),
    "edm": DIGITS | dict(family=dict(name="edm", ema_decay=0.0), sample=dict(
        num_samples=3, num_steps=4, sampler=dict(name="dpm_solver"))),
    "flow_matching": DIGITS | dict(family=dict(name="flow_matching", ema_decay=0.0)),
}  # fmt: skip
POINTS = DIGITS | dict(
    data=dict(name="two_moons", batch_size=16),
    model=dict(name="score_mlp", hidden_size=8, num_layers=1),
    sample=dict(num_samples=5, num_steps=20),
)


def finished(config, workdir, **overrides):
    genjax.Run(genjax.build(config), workdir, quiet=True).train()
    return genjax.load(workdir, overrides, quiet=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished(DIGITS, tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return finished(LABELLED, tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    return finished(POINTS, tmp_path_factory.mktemp("points"))


def test_rows(run, count):
    return run.experiment.test_data.source.rows(np.arange(count))["x"]


test_rows.__test__ = False


@pytest.mark.slow
@pytest.mark.parametrize("method", ["replacement", "resampling"])
def test_what_is_known_is_kept_to_the_level(run, method):
    x = test_rows(run, 3)
    known = ~part_of("right", (8, 8))
    filled = run.edit.inpaint(x, known, method=method, jump_length=2, num_resamplings=2)
    assert filled.shape == x.shape and filled.dtype == x.dtype
    np.testing.assert_array_equal(filled[:, known], x[:, known])
    assert (filled[:, ~known] != x[:, ~known]).any()
    # Nothing unknown is read.
    other = run.edit.inpaint(
        np.where(known[..., None], x, 0), known, method=method, jump_length=2, num_resamplings=2
    )
    np.testing.assert_array_equal(filled, other)


def test_variations_are_of_their_seed_and_of_the_batch_alone(run):
    x = test_rows(run, 5)
    a, b = (run.edit.vary(x, 0.5, seed=3) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert a.shape == x.shape and a.dtype == x.dtype
    assert (a != run.edit.vary(x, 0.5, seed=4)).any()
    assert (a != run.edit.vary(x, 0.5, seed=3, num_steps=10)).any()


def test_edits_take_the_sampler_they_are_told(points):
    x = test_rows(points, 10)
    own = points.edit.vary(x, 0.5)
    same = points.edit.using(sampler=DDIM(eta=1.0)).vary(x, 0.5)
    np.testing.assert_allclose(own, same, rtol=1e-4, atol=1e-5)
    other = points.edit.using(sampler=dict(name="ddim", eta=0.0))
    assert (own != other.vary(x, 0.5)).any()
    np.testing.assert_array_equal(own, points.edit.vary(x, 0.5))
    with pytest.raises(ValueError, match="needs a model that takes labels"):
        points.edit.using(guidance=dict(name="classifier_free", scale=2.0))


def test_points_of_standardised_data_are_varied_and_filled_in_their_own_units(points):
    x = test_rows(points, 40) * np.float32(1.0)
    near = points.edit.vary(x, 0.05)
    assert np.abs(near - x).max() < 1.0
    known = np.array([True, False])
    filled = points.edit.inpaint(x, known, method="replacement")
    np.testing.assert_array_equal(filled[:, 0], x[:, 0])
    assert np.isfinite(filled).all()


def test_ways_between_rows_begin_and_end_at_them(points):
    x = test_rows(points, 6)
    ways = points.edit.interpolate(x[:3], x[3:], 5)
    assert ways.shape == (3, 5, 2)
    np.testing.assert_allclose(ways[:, 0], points.reconstruct(x[:3]), atol=1e-3)
    np.testing.assert_allclose(ways[:, 0], x[:3], atol=5e-3)
    np.testing.assert_allclose(ways[:, -1], x[3:], atol=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["run", "labelled"])
def test_recording_and_steering_by_nothing_give_the_samples_bit_for_bit(which, request):
    run = request.getfixturevalue(which)
    plain = run.sample(6, seed=3)
    seen = run.edit.record(6, seed=3)
    np.testing.assert_array_equal(seen.rows, plain)
    assert seen.h.shape == (6, 4, 4, 4, 16) and seen.h.dtype == np.float32
    assert set(seen.reads) == (set() if which == "run" else {"label"})
    direction = np.random.default_rng(0).normal(size=seen.h.shape[1:])
    steered = run.edit.steer(direction, (0.0, 100.0), 6, seed=3)
    np.testing.assert_array_equal(steered[0], plain)
    assert (steered[1] != plain).any()
    still = run.edit.steer(direction, (0.0,), 6, seed=3, asymmetric=True)
    np.testing.assert_array_equal(still[0], plain)


@pytest.mark.slow
def test_what_is_recorded_is_what_the_network_keeps(run):
    seen = run.edit.record(4, seed=0)
    # At the first call the latents are the prior's, at time 1.
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 3), 0)
    _, key_prior = jax.random.split(key)
    z = jax.random.normal(key_prior, (4, 8, 8, 1))
    net = run.networks["net"]
    _, kept = net.apply(net.variables, z, jnp.ones(4), mutable="intermediates")
    (h,) = kept["intermediates"]["h"]
    np.testing.assert_allclose(seen.h[:, 0], h, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_steering_adds_the_direction_to_what_the_network_keeps(run):
    seen = run.edit.record(5, seed=0)
    state = run.state
    net = run.experiment.networks["net"]
    asked = run.family.denoising(state, {"x": jnp.zeros((5, 8, 8, 1), "u1")})
    assert isinstance(asked, Denoising) and isinstance(asked.denoiser.process, VariancePreserving)
    assert asked.sampler == DDIM(eta=1.0) and asked.denoiser.bottleneck.shape == (4, 4, 16)
    z, t = jnp.ones((5, 8, 8, 1)), jnp.float32(0.5)
    delta = jnp.asarray(seen.h[:, 0])
    found = asked.denoiser.bottleneck.estimate(z, t, delta)
    out = net.apply({"params": state.ema["net"]}, z, jnp.full(5, t), None, delta_h=delta)
    alpha, sigma = asked.denoiser.process.scales(jnp.float32(0.5))
    np.testing.assert_allclose(found.noise, out, rtol=1e-5, atol=1e-6)
    expected = Estimate((z - sigma * out) / alpha, out)
    np.testing.assert_allclose(found.data, expected.data, rtol=1e-4, atol=1e-5)


def test_components_of_recorded_activations_are_those_of_scikit_learn(run):
    from sklearn.decomposition import PCA

    h = run.edit.record(12, seed=1).h
    found = principal_components(h, 2)
    for call in range(h.shape[1]):
        rows = h[:, call].reshape(12, -1).astype("f8")
        oracle = PCA(2, svd_solver="full").fit(rows)
        own = found.directions[:, call].reshape(2, -1)
        signs = np.sign((own * oracle.components_).sum(1))[:, None]
        np.testing.assert_allclose(own * signs, oracle.components_, atol=1e-6)
        np.testing.assert_allclose(found.std[:, call] ** 2, oracle.explained_variance_, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_every_family_that_denoises_is_edited(tmp_path, name):
    run = finished(OTHERS[name], tmp_path)
    x = test_rows(run, 2)
    assert run.edit.vary(x, 0.5).shape == x.shape
    known = ~part_of("top", (8, 8))
    for method in ("replacement", "resampling"):
        filled = run.edit.inpaint(x, known, method=method, jump_length=2, num_resamplings=2)
        np.testing.assert_array_equal(filled[:, known], x[:, known])
        # A chain's own sampler, with a variance that it learns, would not ask what is known.
        assert (filled[:, ~known] != run.edit.vary(x, 1.0)[:, ~known]).any()
    h = run.edit.record(3).h
    assert h.shape == (3, 4, 4, 4, 16)
    assert (run.edit.steer(50 * h[0], (0.0, 1.0), 3)[1] != run.edit.record(3).rows).any()


def test_what_does_not_fit_is_refused_in_one_line(run, labelled, points, tmp_path):
    x = test_rows(run, 2)
    gan = genjax.Run(genjax.build(DIGITS | dict(
        data=dict(name="two_moons", batch_size=16),
        model={p: dict(name="mlp", hidden_size=8, num_layers=1) for p in ("generator", "critic")},
        family=dict(name="gan", latent_size=2),
        optimizer={p: dict(name="adam") for p in ("generator", "critic")},
        sample=dict(num_samples=3),
    )), tmp_path, quiet=True)  # fmt: skip
    untrained = genjax.Run(genjax.build(DIGITS), tmp_path / "none", quiet=True)
    mask = np.ones((8, 8), bool)
    for call, message in [
        (lambda: run.edit.inpaint(x, mask[:4]), r"mask: expected the shape of .*\(8, 8\), got \(4"),
        (lambda: run.edit.inpaint(x, mask * 0.5), "mask: expected True where x is known"),
        (lambda: run.edit.inpaint(x, mask), "jump_length must be at most the 4 steps, got 10"),
        (lambda: run.edit.inpaint(x, mask, method="magic"), "method must be resampling or"),
        (lambda: run.edit.vary(x, 0.0), "strength must be above 0 and at most 1, got 0.0"),
        (lambda: run.edit.vary(x, 1e-6), "expected a time above 1e-05, the earliest"),
        (lambda: run.edit.vary(x[:0], 0.5), "expected rows, got none"),
        (lambda: run.edit.interpolate(x, x[:1]), "expected as many rows at both ends"),
        (lambda: run.edit.interpolate(x, x, 1), "num must be at least 2, for both ends, got 1"),
        (lambda: run.edit.steer(np.ones((3, 4, 4, 16)), (1,)), r"for 4 network calls, got \(3, 4"),
        (lambda: labelled.edit.vary(x, 0.5), "this model is conditional: give label"),
        (lambda: points.edit.record(3), "this network has no bottleneck"),
        (lambda: gan.edit.vary(np.ones((2, 2), "f4"), 0.5), "this family does not go from noise"),
        (lambda: untrained.edit.vary(x, 0.5), "there is no checkpoint in .*: train first"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "shape", [(8, 8), (8, 8, 1), (8, 8, 3), (5, 8, 8), (5, 8, 8, 1), (5, 8, 8, 3)]
)
def test_masks_are_of_pixels_of_an_example_or_of_all_rows(shape):
    mask = np.random.default_rng(0).random(shape) < 0.5
    full = checked_mask(mask, (5, 8, 8, 3))
    own = mask[..., None] if shape[-1] == 8 else mask
    np.testing.assert_array_equal(full, np.broadcast_to(own, (5, 8, 8, 3)))
    np.testing.assert_array_equal(full, checked_mask(mask.astype(int), (5, 8, 8, 3)))


def test_parts_of_images_are_halves_or_the_middle():
    assert part_of("top", (4, 2)).tolist() == [[True, True]] * 2 + [[False, False]] * 2
    assert part_of("bottom", (4, 2)).tolist() == (~part_of("top", (4, 2))).tolist()
    assert part_of("left", (2, 4)).tolist() == (~part_of("right", (2, 4))).tolist()
    middle = part_of("center", (8, 8))
    assert middle[2:6, 2:6].all() and middle.sum() == 16


# The section edit.

SMALL = {
    "vary": {"edit.strengths": (0.5, 1.0), "edit.num_rows": 3},
    "interpolate": {"edit.num_rows": 2, "edit.num_frames": 3},
    "inpaint": {"edit.jump_length": 2, "edit.num_resamplings": 2, "edit.num_rows": 3},
    "components": {
        "edit.num_samples": 6, "edit.num_rows": 3, "edit.num_components": 2, "edit.num_random": 1,
        "edit.num_shown": 2,
    },
    "class_direction": {
        "edit.num_samples": 6, "edit.num_rows": 3, "edit.num_random": 1, "edit.to_class": 7,
    },
}  # fmt: skip
SEEN = {
    "vary": {"rms_0.5", "rms_1"},
    "interpolate": {"round_trip_rms"},
    "inpaint": {"num_changed_known", "unknown_rms"},
    "components": {
        *(f"{n}_{i}" for n in ("share", "rms", "thickness_rank", "slant_rank") for i in range(2)),
        *(f"random_{n}" for n in ("rms", "thickness_rank", "slant_rank")),
    },
    "class_direction": {
        *(f"{n}{m}" for n in ("", "random_") for m in ("rms", "thickness_rank", "slant_rank")),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_edit_of_a_config_leaves_pictures_arrays_and_numbers(name, request, capsys):
    which = "labelled" if name in ("class_direction", "inpaint") else "run"
    place = request.getfixturevalue(which).workdir
    run = genjax.load(place, {"edit.name": name, **SMALL[name]})
    numbers = run.draw_edit()
    out = capsys.readouterr().out
    assert f"step 5: {name} in" in out.replace("\n", " ")
    assert set(numbers) == {f"edit/{name}/{n}" for n in SEEN[name]}
    if name == "inpaint":
        assert numbers["edit/inpaint/num_changed_known"] == 0
    lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    assert set(numbers) <= set(lines[-1]) and lines[-1]["step"] == 5
    stem = f"step_00000005_{name}"
    with np.load(place / "edits" / f"{stem}.npz") as file:
        assert file.files
    pictures = sorted(p.name for p in (place / "edits").iterdir() if p.name.startswith(stem))
    expected = [f"{stem}_component_{i}.png" for i in range(2)] if name == "components" else []
    assert pictures == sorted([f"{stem}.npz", *(expected or [f"{stem}.png"])])


@pytest.mark.slow
def test_an_edit_of_the_same_seed_is_the_same(run):
    once, again = (
        genjax.load(run.workdir, {"edit.name": "vary", **SMALL["vary"]}, quiet=True).draw_edit()
        for _ in range(2)
    )
    assert once == again


def test_a_run_may_be_edited_differently_and_its_config_has_no_edit(run, tmp_path):
    assert "edit" not in run.config
    with pytest.raises(EditError, match="there is no edit"):
        run.draw_edit()
    with pytest.raises(
        configs.ConfigError, match="no section 'edit'.*valid: attribute, class_direction, com"
    ):
        configs.build(configs.load_config(DIGITS), mode="edit")
    for overrides, message in [
        ({"edit.name": "magic"}, "unknown edit.name 'magic'"),
        ({"edit.name": "vary", "edit.part": "left"}, "unknown config key 'edit.part'"),
        ({"edit.name": "vary", "edit.strengths": (2.0,)}, "edit: strengths must be above 0"),
        ({"edit.name": "inpaint", "edit.part": "all"}, "edit.part must be"),
    ]:
        with pytest.raises(configs.ConfigError, match=message):
            genjax.build(DIGITS, overrides)
    words = ["--config.edit.name=inpaint", "--config.edit.part=top", "--config.edit.num_rows=2"]
    edit = genjax.build(DIGITS, words).edit
    assert (edit.part, edit.num_rows, edit.method) == ("top", 2, "resampling")


def test_edits_that_do_not_fit_a_run_are_one_line(points, run):
    for place, name, message in [
        (points, "inpaint", "inpaint: inpaint fills in a part of images"),
        (points, "components", "components: this network has no bottleneck"),
        (run, "class_direction", "class_direction: class_direction needs classes of samples"),
    ]:
        opened = genjax.load(place.workdir, {"edit.name": name, "edit.num_rows": 2}, quiet=True)
        with pytest.raises(EditError, match=re.escape(message)) as caught:
            opened.draw_edit()
        assert "\n" not in str(caught.value)
