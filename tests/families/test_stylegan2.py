"""Path lengths and the training of StyleGAN2."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import families, losses, nets
from genjax.families.gan.path_length import PATH_LENGTH
from genjax.training import optimizers

KEY = jax.random.key(0)


class Linear(nets.MLPGenerator):
    """``x = A z`` and nothing else."""

    @nn.compact
    def __call__(self, latent, label=None, *, train=False):
        return latent @ self.param("a", jax.nn.initializers.normal(1.0), (4, 2))


def points(**kwargs):
    parts = dict(
        generator=Linear((2,)),
        critic=nets.MLPCritic(hidden_size=4, num_layers=1),
        generator_optimizer=optax.set_to_zero(),
        critic_optimizer=optax.set_to_zero(),
        event_shape=(2,),
        num_levels=None,
        batch_size=8,
        latents=families.Latent(latent_size=4),
    )
    return families.gan(**{**parts, **kwargs})


def path(**kwargs):
    return families.PathLength(**{"path_weight": 2.0, **kwargs})


def test_the_path_length_of_a_linear_generator_is_that_of_its_transpose():
    a, y = jax.random.normal(KEY, (5, 3)), jax.random.normal(jax.random.key(1), (4, 3))
    found = losses.path_lengths(lambda w: w @ a, jnp.zeros((4, 5)), y)
    np.testing.assert_allclose(found, jnp.linalg.norm(y @ a.T, axis=1), rtol=1e-5)
    # Of several styles it is the root of the mean over them.
    of_two = losses.path_lengths(lambda w: w[:, 0] @ a + 2 * w[:, 1] @ a, jnp.zeros((4, 2, 5)), y)
    np.testing.assert_allclose(of_two, np.sqrt((1 + 4) / 2) * found, rtol=1e-5)


def test_the_penalty_is_the_papers_and_its_mean_takes_the_batch_in():
    control = path(path_decay=0.25)
    a = jax.random.normal(KEY, (4, 2))
    z, old = jax.random.normal(KEY, (3, 4)), jnp.asarray(1.5)
    directions = jax.random.normal(jax.random.split(KEY)[1], (3, 2))

    def by_hand(a):
        lengths = jnp.linalg.norm(directions @ a.T, axis=1)
        mean = 0.75 * old + 0.25 * lengths.mean()
        return 2.0 * jnp.mean((lengths - mean) ** 2), (lengths.mean(), mean)

    def ours(a):
        value, *rest = control.penalty(Linear((2,)), {"params": {"a": a}}, old, z, None, KEY)
        return value, tuple(rest)

    # The gradient sees the batch's share of the mean, too.
    expected, actual = (jax.jit(jax.value_and_grad(f, has_aux=True))(a) for f in (by_hand, ours))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4), actual, expected)


def test_lazy_penalties_are_the_full_ones_in_expectation():
    # Small steps of plain gradient descent add up the gradients.
    def total(steps, control):
        family = points(generator_optimizer=optax.sgd(1e-3), path_length=control)
        data = {"x": jnp.zeros((8, 2))}
        state = start = jax.jit(family.init)(KEY, data)
        step = jax.jit(family.train_step)
        logged = []
        for _ in range(steps):
            state, metrics = step(state, data, KEY)
            logged.append(float(metrics.get("path_penalty", 0.0)))
        moved = (start.params["generator"]["a"] - state.params["generator"]["a"]) / 1e-3
        return moved, logged, state

    none, _, _ = total(1, families.PathLength())
    every, first, state = total(1, path(path_every=1))
    lazy, logged, after = total(2, path(path_every=2))
    twice, _, _ = total(2, families.PathLength())
    assert float(jnp.abs(every - none).max()) > 0.1
    np.testing.assert_allclose(2 * (every - none), lazy - twice, atol=0.02)
    # Logged so that the mean over an interval is the penalty's; the mean length moves with it.
    assert logged[0] == pytest.approx(2 * first[0], rel=1e-2) and logged[1] == 0.0
    kept = state.model_state[PATH_LENGTH]["mean"], after.model_state[PATH_LENGTH]["mean"]
    assert 0 < float(kept[0]) == pytest.approx(float(kept[1]), rel=1e-2)


def test_both_players_optimisers_are_told_of_their_lazy_steps():
    told = {}

    def noted(name):
        def make(acts):
            told[name] = acts.regularize_every
            return optimizers.adam(acts=acts)

        return make

    family = families.stylegan2(
        generator=Linear((2,)),
        critic=nets.MLPCritic(hidden_size=4, num_layers=1),
        generator_optimizer=noted("generator"),
        critic_optimizer=noted("critic"),
        event_shape=(2,),
        num_levels=None,
        batch_size=8,
        latents=families.Latent(latent_size=4),
    )
    jax.eval_shape(family.init, KEY, {"x": jnp.zeros((8, 2))})
    assert told == {"generator": 4, "critic": 16}


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(path_weight=-1.0), "path_weight must not be negative"),
        (dict(path_every=0), "path_every must be at least 1"),
        (dict(path_batch_divisor=0), "path_batch_divisor must be at least 1"),
        (dict(path_decay=0.0), r"path_decay must be in \(0, 1\]"),
    ],
)
def test_settings_out_of_range_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        path(**kwargs)


def test_a_generator_whose_rows_depend_on_each_other_is_refused():
    with pytest.raises(ValueError, match="the generator has batch normalisation"):
        points(
            generator=nets.DCGANGenerator((8, 8, 1), channels=4, min_channels=4),
            critic=nets.DCGANCritic(4, 4),
            event_shape=(8, 8, 1),
            path_length=path(),
        )


def small(num_classes=None, **kwargs):
    few = dict(base_channels=32, max_channels=4, num_mapping_layers=1, num_classes=num_classes)
    adam = lambda acts: optimizers.adam(learning_rate=2.5e-3, b1=0.0, b2=0.99, acts=acts)  # noqa: E731
    return families.stylegan2(
        generator=nets.StyleGAN2Generator((8, 8, 1), style_size=6, **few),
        critic=nets.StyleGAN2Critic(**few),
        generator_optimizer=adam,
        critic_optimizer=adam,
        event_shape=(8, 8, 1),
        num_levels=17,
        batch_size=8,
        latents=families.Latent(latent_size=6),
        **kwargs,
    )


@pytest.mark.slow
def test_three_steps_and_three_from_a_copy_are_six_and_all_of_it_moves():
    family = small(10, path_length=families.PathLength(path_every=2), penalty_every=3)
    rng = np.random.default_rng(0)
    data = {
        "x": jnp.asarray(rng.integers(17, size=(8, 8, 8, 1)), jnp.uint8),
        "label": jnp.asarray(rng.integers(10, size=8), jnp.int32),
    }
    start = jax.jit(family.init)(KEY, data)
    step = jax.jit(family.train_step)

    def train(state, first):
        for i in range(first, first + 3):
            state, metrics = step(state, data, jax.random.fold_in(KEY, i))
            assert all(np.isfinite(float(v)) for v in metrics.values())
        return state

    half = train(start, 0)
    copy = jax.tree.map(lambda leaf: jnp.asarray(np.array(leaf)), half)
    for a, b in zip(jax.tree.leaves(train(half, 3)), jax.tree.leaves(train(copy, 3)), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in ("generator", "critic"):
        for place, leaf in jax.tree.leaves_with_path(half.params[name]):
            before = dict(jax.tree.leaves_with_path(start.params[name]))[place]
            assert not np.array_equal(leaf, before), jax.tree_util.keystr(place)
    kept = half.model_state
    assert float(kept[PATH_LENGTH]["mean"]) > 0
    assert float(jnp.abs(kept["generator"]["styles"]["mapping_net"]["mean"]).min()) > 0
    drawn = jax.jit(family.sample)(half, KEY, data).rows
    assert drawn.shape == data["x"].shape and drawn.dtype == jnp.uint8
