import functools
import itertools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import families, losses, nets
from genjax.families.gan import augmentation_pipeline as pipelines
from genjax.families.gan import augmentation_warp as warps

KEY = jax.random.key(0)
IMAGES = dict(event_shape=(8, 8, 1), num_levels=17)


class Score(nn.Module):
    event_rank = 3

    @nn.compact
    def __call__(self, x, label=None, *, train=False):
        return nn.Dense(1)(jnp.sin(x.reshape(x.shape[0], -1)))[:, 0]


class Rows(nn.Module):
    event_rank = 3

    @nn.compact
    def __call__(self, latent, label=None, *, train=False):
        return nn.Dense(64)(latent).reshape(-1, 8, 8, 1)


def build(augment, make=families.gan, **kwargs):
    sgd = optax.sgd(0.1)
    given = dict(generator=Rows(), critic=Score(), generator_optimizer=sgd, critic_optimizer=sgd)
    given |= dict(latents=families.Latent(latent_size=4), batch_size=8, **IMAGES)
    return make(**given | kwargs, augment=augment)


def batch(size=8):
    x = np.random.default_rng(0).integers(17, size=(size, 8, 8, 1)).astype(np.uint8)
    return {"x": jnp.asarray(x)}


@pytest.mark.parametrize("pipeline", ["bgc", "diff_augment"])
def test_without_strength_no_bit_changes_and_with_it_most_do(pipeline):
    x = jax.random.normal(KEY, (16, 9, 8, 3))
    changed = jax.jit(lambda x, p: pipelines.augment(x, p, KEY, pipeline))
    np.testing.assert_array_equal(changed(x, jnp.float32(0.0)), x)
    moved = np.any(np.asarray(changed(x, jnp.float32(0.2))) != x, axis=(1, 2, 3))
    assert 1 < moved.sum() < 16  # rows are changed one by one
    whole = np.asarray(changed(x, jnp.float32(1.0)))
    assert np.isfinite(whole).all() and np.any(whole != x, axis=(1, 2, 3)).all()
    grad = jax.jit(
        jax.grad(lambda x: jnp.sum(pipelines.augment(x, 0.0 * jnp.sum(x), KEY, pipeline)))
    )(x)
    np.testing.assert_array_equal(grad, np.ones_like(x))


def test_pixels_move_as_mirrored_turned_and_shifted_arrays_do():
    x = np.asarray(jax.random.normal(KEY, (64, 8, 8, 1)))
    moved = np.asarray(jax.jit(lambda x: pipelines.augment(x, jnp.float32(1), KEY, "b"))(x))
    kinds = list(itertools.product((False, True), range(4), range(-1, 2), range(-1, 2)))
    seen = []
    for row, before in zip(moved, x, strict=True):
        made = {}
        for mirrored, quarters, down, right in kinds:
            y = np.rot90(before[:, ::-1] if mirrored else before, quarters)
            y = np.pad(y, ((1, 1), (1, 1), (0, 0)), "reflect")
            made[mirrored, quarters, down, right] = y[1 - down :, 1 - right :][:8, :8]
        seen += [kind for kind, y in made.items() if np.array_equal(y, row)]
    # Each row is one of the possible ones, and every kind of each change occurs.
    assert len(seen) == 64
    assert [len(set(kind)) for kind in zip(*seen, strict=True)] == [2, 4, 3, 3]


def test_the_filter_is_orthonormal_so_that_nothing_moved_is_nothing_changed():
    up, down = warps._upsampling(9), warps._downsampling(9)
    np.testing.assert_allclose(up.sum(1), 1.0, atol=1e-6)
    np.testing.assert_allclose(down.sum(1), 1.0, atol=1e-6)
    x = jax.random.normal(KEY, (2, 9, 12, 3))
    same = jnp.tile(jnp.eye(3), (2, 1, 1))
    np.testing.assert_allclose(warps.warp(x, same), x, atol=1e-5)
    # By whole pixels, to the left and down; then by the same map back and forth.
    shift = same.at[:, 0, 2].set(2.0).at[:, 1, 2].set(-3.0)
    moved = warps.warp(x, shift)
    np.testing.assert_allclose(moved[:, 3:, :-2], x[:, :-3, 2:], atol=1e-5)


def test_a_warp_is_a_matrix_whose_transpose_is_its_gradient():
    x = jax.random.normal(KEY, (2, 4, 3, 2))
    maps = pipelines._geometry(KEY, jnp.float32(1.0), 2, (4, 3))

    @jax.jit
    def found(x):
        images, back = jax.vjp(lambda x: warps.warp(x, maps), x)
        slope = jax.grad(lambda x: jnp.sum(jnp.sin(warps.warp(x, maps))))
        # As a gradient penalty has it: the gradient of the size of a gradient.
        return images, back(x)[0], jax.grad(lambda x: jnp.sum(slope(x) ** 2))(x)

    images, back, twice = (np.asarray(y).ravel() for y in found(x))
    columns = jax.vmap(lambda e: warps.warp(e, maps))(jnp.eye(x.size).reshape(-1, *x.shape))
    matrix, flat = columns.reshape(x.size, -1).T, x.ravel()
    np.testing.assert_allclose(images, matrix @ flat, atol=1e-5)
    np.testing.assert_allclose(back, matrix.T @ flat, atol=1e-5)
    slope = jax.grad(lambda x: jnp.sum(jnp.sin(matrix @ x)))
    by_hand = jax.grad(lambda x: jnp.sum(slope(x) ** 2))(flat)
    np.testing.assert_allclose(twice, by_hand, atol=1e-4)


def test_smooth_images_turn_and_stretch_as_functions_of_the_plane_do():
    place = jnp.arange(24) - 11.5
    rows, columns = place[:, None], place[None, :]

    def image(x, y):
        return jnp.cos(0.3 * x + 0.1) * jnp.cos(0.2 * y)

    angle = jnp.array([0.7])
    maps = pipelines._chain(
        pipelines._stretch(jnp.array([0.8]), 1.1),
        pipelines._turn(angle),
        pipelines._shift(jnp.array([[0.4, -0.3]])),
    )
    x, y = (maps[0, i, 0] * columns + maps[0, i, 1] * rows + maps[0, i, 2] for i in (0, 1))
    made = warps.warp(image(columns, rows)[None, :, :, None], maps)[0, :, :, 0]
    inside = (jnp.abs(x) < 7) & (jnp.abs(y) < 7)
    assert inside.sum() > 50
    np.testing.assert_allclose(made[inside], image(x, y)[inside], atol=0.02)
    assert float(jnp.abs(image(columns, rows) - image(x, y))[inside].max()) > 0.5


def test_colours_are_the_closed_forms():
    maps = np.asarray(pipelines._colour(KEY, jnp.float32(1.0), 400, True))
    linear, offset = maps[:, :3, :3], maps[:, :3, 3]
    axis = np.ones(3) / np.sqrt(3)
    # Grey stays grey: brightness adds, contrast and luma flip scale, hue and saturation spare it.
    on_axis = linear @ axis
    gain = on_axis @ axis
    np.testing.assert_allclose(on_axis, gain[:, None] * axis, atol=1e-4)
    assert 0.4 < (gain < 0).mean() < 0.6  # flipped
    assert np.std(np.log2(np.abs(gain))) == pytest.approx(0.5, rel=0.15)
    brightness = offset @ axis / np.sqrt(3) / gain
    assert np.std(brightness) == pytest.approx(0.2, rel=0.15)
    # Beside it: a rotation, times contrast and saturation.
    flat = np.eye(3) - np.outer(axis, axis)
    beside = linear @ flat / np.abs(gain)[:, None, None]
    size = np.sqrt(np.einsum("bij,bij->b", beside, beside) / 2)
    assert np.std(np.log2(size)) == pytest.approx(1.0, rel=0.15)
    turn = np.einsum("bii->b", beside) / (2 * size)  # the cosine
    assert abs(turn.mean()) < 0.15 and turn.min() < -0.95 and turn.max() > 0.95
    rotated = beside / size[:, None, None]
    np.testing.assert_allclose(
        np.swapaxes(rotated, 1, 2) @ rotated, np.broadcast_to(flat, (400, 3, 3)), atol=1e-3
    )
    # Grey images take the mean over colours of what grey becomes.
    grey = np.asarray(pipelines._coloured(KEY, jnp.float32(1.0), jnp.full((5, 2, 2, 1), 0.3)))
    expected = pipelines._colour(KEY, jnp.float32(1.0), 5, False)
    expected = (0.3 * expected[:, :3, :3].sum(2) + expected[:, :3, 3]).mean(1)
    np.testing.assert_allclose(grey[:, 0, 0, 0], expected, rtol=1e-5)


def test_strength_rises_for_a_critic_that_knows_all_rows_and_falls_to_zero_for_a_balanced_one():
    adaptive = families.AdaptiveAugment(speed_kimg=0.1, max_strength=0.8)
    known, balanced = jnp.ones(8), jnp.array([1.0, -1.0] * 4)
    state, seen = adaptive.init(), []
    for _ in range(16):
        state, metrics = adaptive.learn(state, known, 0.0)
        seen.append(float(state["strength"]))
    assert float(metrics["real_sign"]) == 1.0
    # 32 examples of 100 each fourth batch, up to the limit.
    np.testing.assert_allclose(seen[3::4], [0.32, 0.64, 0.8, 0.8], rtol=1e-6)
    assert seen[:3] == [0.0] * 3 and seen[4:7] == seen[3:6]
    for _ in range(16):
        state, metrics = adaptive.learn(state, balanced, 0.0)
    assert float(state["strength"]) == 0.0 and float(metrics["real_sign"]) == 0.0
    # Codes of 0 and 1 are told apart at a half.
    _, metrics = adaptive.learn(state, jnp.array([0.4, 0.6, 0.7, 0.9]), 0.5)
    assert float(metrics["real_sign"]) == 0.5


def test_an_overfitted_critic_of_a_game_is_met_with_augmentation():
    adaptive = families.AdaptiveAugment(pipeline="diff_augment", speed_kimg=0.1, update_every=2)
    family = build(adaptive, make=families.lsgan)
    data = batch()
    state = jax.jit(family.init)(KEY, data)
    step = jax.jit(family.train_step)
    for value, rises in ((2.0, True), (0.1, False)):
        start, bias = state, jnp.full(1, value)
        critic = jax.tree.map(jnp.zeros_like, state.params["critic"])
        critic["Dense_0"]["bias"] = bias
        start = state.replace(params={**state.params, "critic": critic})
        start = start.replace(
            model_state={
                **state.model_state,
                "augment": {**adaptive.init(), "strength": jnp.float32(0.5)},
            }
        )
        _, metrics = step(start, data, KEY)
        assert float(metrics["augment_strength"]) == 0.5
        for i in range(2):
            start = start.replace(params={**start.params, "critic": critic})
            start, _ = step(start, data, jax.random.key(i))
        found = float(start.model_state["augment"]["strength"])
        assert found == pytest.approx(0.66 if rises else 0.34, rel=1e-5)


def test_a_fixed_strength_ramps_up_along_a_cosine():
    fixed = families.FixedAugment(strength=0.6, ramp_kimg=0.1)
    at = [float(fixed.current({}, jnp.array(step), 10.0)) for step in (0, 5, 10, 30)]
    np.testing.assert_allclose(at, [0.0, 0.3, 0.6, 0.6], atol=1e-6)


@pytest.mark.slow
def test_a_game_of_strength_0_is_the_game_without():
    data, found = batch(), []
    for augment in (None, families.FixedAugment(strength=0.0), families.AdaptiveAugment()):
        family = build(augment, make=families.hinge_gan)
        state = jax.jit(family.init)(KEY, data)
        for i in range(2):
            state, _ = jax.jit(family.train_step)(state, data, jax.random.key(i))
        found.append(state.params)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    for other in found[1:]:  # to rounding: the compiler joins other operations
        jax.tree.map(close, found[0], other)


def test_both_players_see_augmented_rows_and_penalties_are_of_the_rows_before():
    # A step of each against the same written out by hand.
    slope = families.SlopeControl(penalties=dict(r1=0.7))
    family = build(families.FixedAugment(strength=0.9, pipeline="diff_augment"),
                   slope_control=slope)  # fmt: skip
    data = batch()
    state = jax.jit(family.init)(KEY, data)
    _, metrics = jax.jit(family.train_step)(state, data, KEY)
    first, second = jax.random.split(KEY)

    def changed(x, key, number):
        return pipelines.augment(
            x, jnp.float32(0.9), jax.random.fold_in(key, number), "diff_augment"
        )

    def made(params, key):
        z = jax.random.normal(jax.random.split(key, 3)[1], (8, 4))
        return Rows().apply({"params": params}, z)

    def score(params, x):
        return Score().apply({"params": params}, x)

    real = data["x"].astype(jnp.float32) / 8.0 - 1.0

    @jax.jit
    def critic_loss(own):
        fake = made(state.params["generator"], first)
        slopes = jax.grad(lambda x: jnp.sum(score(own, changed(x, first, 3))))(real)
        value = losses.logistic_critic_loss(
            score(own, changed(real, first, 3)), score(own, changed(fake, first, 4))
        )
        return jnp.mean(value) + 0.35 * jnp.mean(jnp.sum(slopes**2, axis=(1, 2, 3)))

    value, grads = jax.value_and_grad(critic_loss)(state.params["critic"])
    np.testing.assert_allclose(metrics["critic_loss"], value, rtol=1e-5)
    own = jax.tree.map(lambda p, g: p - 0.1 * g, state.params["critic"], grads)

    @jax.jit
    def generator_loss(params):
        fake = changed(made(params, second), second, 4)
        return jnp.mean(losses.nonsaturating_generator_loss(score(own, fake)))

    value, grads = jax.value_and_grad(generator_loss)(state.params["generator"])
    np.testing.assert_allclose(metrics["generator_loss"], value, rtol=1e-5)
    np.testing.assert_allclose(metrics["generator_grad_norm"], optax.global_norm(grads), rtol=1e-4)


@pytest.mark.parametrize("augment, kwargs, message", [
    (families.AdaptiveAugment(), dict(make=families.wgan_gp), "take augment 'fixed'"),
    (families.AdaptiveAugment(), dict(make=families.r3gan), "take augment 'fixed'"),
    (families.AdaptiveAugment(), dict(rows=families.Rows(pack_size=2)), "pack_size to 1"),
    (families.FixedAugment(strength=0.1),
     dict(generator=nets.MLPGenerator((2,), 8, 1), critic=nets.MLPCritic(8, 1),
          event_shape=(2,), num_levels=None), "is for images"),
])  # fmt: skip
def test_what_cannot_be_augmented_is_refused(augment, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(augment, **kwargs)


@pytest.mark.parametrize("make, message", [
    (lambda: families.FixedAugment(strength=1.5), "strength must be in"),
    (lambda: families.FixedAugment(strength=0.5, ramp_kimg=-1.0), "ramp_kimg"),
    (lambda: families.AdaptiveAugment(target=1.0), "target must be in"),
    (lambda: families.AdaptiveAugment(speed_kimg=0.0), "speed_kimg must be positive"),
    (lambda: families.AdaptiveAugment(update_every=0), "update_every must be at least 1"),
    (lambda: families.AdaptiveAugment(max_strength=0.0), "max_strength must be positive"),
])  # fmt: skip
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


DEVICES = """
import json, tempfile
import jax, jax.numpy as jnp, numpy as np, optax
from genjax import families, nets
from genjax.training import mesh as meshes, step as stepping
from genjax.training.checkpoints import Checkpoints
mesh = meshes.make_mesh()
small = dict(channels=8, min_channels=4)
def make(spread):
    family = families.hinge_gan(
        generator=nets.DCGANGenerator((8, 8, 1), **small),
        critic=nets.DCGANCritic(**small, norm="none"),
        generator_optimizer=optax.adam(1e-3), critic_optimizer=optax.adam(1e-3),
        event_shape=(8, 8, 1), num_levels=17, batch_size=16,
        latents=families.Latent(latent_size=4),
        augment=families.AdaptiveAugment(target=-0.99, speed_kimg=0.2, update_every=2))
    return meshes.per_device(family, mesh) if spread else family
batch = {"x": np.random.default_rng(0).integers(17, size=(16, 8, 8, 1)).astype(np.uint8)}
key = jax.random.key(0)
found = {}
for spread in (False, True):
    family = make(spread)
    on_mesh, whole = meshes.global_batch(mesh, batch, 1), jax.device_put(
        key, meshes.replicated(mesh))
    start = stepping.init_state(family, key, batch, mesh)
    shapes = jax.eval_shape(lambda: start)
    step = stepping.compile_train_step(family, start, batch, key, mesh)
    def train(state, count):
        for _ in range(count):
            state, metrics = step(state, on_mesh, whole)
        return state, metrics
    straight, metrics = train(jax.tree.map(jnp.copy, start), 6)
    half, _ = train(start, 3)
    with tempfile.TemporaryDirectory() as place, Checkpoints(place) as checkpoints:
        checkpoints.save(3, half, [])
        checkpoints.wait()
        resumed = checkpoints.restore(stepping.state_template(shapes, mesh)).state
    resumed, _ = train(resumed, 3)
    leaves = lambda tree: [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    kept = straight.model_state["augment"]
    found["pmap" if spread else "jit"] = dict(
        same=all(np.array_equal(a, b) for a, b in zip(leaves(straight), leaves(resumed))),
        alike=all(np.array_equal(shard.data, leaf.addressable_shards[0].data)
                  for leaf in jax.tree.leaves(straight) for shard in leaf.addressable_shards),
        kept=[float(kept[n]) for n in ("strength", "signs", "batches")],
        loss=float(metrics["critic_loss"]))
print(json.dumps(found))
"""


@pytest.mark.slow
def test_three_steps_and_three_are_six_on_any_devices(in_a_process):
    one, four = (in_a_process(DEVICES, devices=n) for n in (1, 4))
    for found in (one, four):
        assert all(found[s]["same"] and found[s]["alike"] for s in ("jit", "pmap"))
        # 32 examples of 200, three times.
        assert found["jit"]["kept"] == pytest.approx([0.48, 0.0, 0.0])
        assert found["pmap"]["kept"][0] == pytest.approx(0.48) and found["pmap"]["kept"][2] == 0
    assert one["jit"]["loss"] == pytest.approx(four["jit"]["loss"], rel=1e-3)
    assert json.dumps(one)  # numbers, all of them finite
    assert np.isfinite([f[s]["loss"] for f in (one, four) for s in f]).all()
