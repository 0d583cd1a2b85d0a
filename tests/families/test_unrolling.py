"""Generators that look ahead through the critic's optimiser, against closed forms."""

import flax.linen as nn
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import families, nets
from genjax.families.gan.unrolling import unrolled
from genjax.training import optimizers

KEY = jax.random.key(0)
ETA = 0.1


class Place(nn.Module):
    """The same number for all latents."""

    @nn.compact
    def __call__(self, latent, label=None, *, train=False):
        return jnp.broadcast_to(self.param("x", nn.initializers.ones, (1,)), (len(latent), 1))


class Slope(nn.Module):
    """-xy: the critic's Wasserstein loss is -xy, the generator's xy."""

    @nn.compact
    def __call__(self, x, label=None, *, train=False):
        return -x[:, 0] * self.param("y", nn.initializers.ones, ())


class Small(nn.Module):
    """A critic in the precision of its parameters: that of the package ends in float32."""

    @nn.compact
    def __call__(self, x, label=None, *, train=False):
        return nn.Dense(1)(nn.leaky_relu(nn.Dense(4)(x), 0.2))[:, 0]


def bilinear(steps):
    return families.gan(
        generator=Place(),
        critic=Slope(),
        generator_optimizer=optax.sgd(ETA),
        critic_optimizer=optax.sgd(ETA),
        event_shape=(1,),
        num_levels=None,
        batch_size=4,
        loss="wasserstein",
        rows=families.Rows(unroll_steps=steps),
    )


def rows_of(family, size=4, width=1):
    lead = (size,) if family.batches_per_step == 1 else (family.batches_per_step, size)
    return {"x": jnp.zeros((*lead, width))}


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_the_bilinear_game_spirals_in_at_the_rate_that_unrolling_says(steps):
    family = bilinear(steps)
    data = rows_of(family)
    state = family.init(KEY, data)
    step = jax.jit(family.train_step)
    # y ascends xy by one step; x descends f(x, y + K eta x), of slope y + 2 K eta x.
    x, y = 1.0, 1.0
    for _ in range(6):
        state, _ = step(state, data, KEY)
        y += ETA * x
        x -= ETA * (y + 2 * steps * ETA * x)
        assert float(state.params["generator"]["x"][0]) == pytest.approx(x, abs=1e-5)
        assert float(state.params["critic"]["y"]) == pytest.approx(y, abs=1e-5)
    matrix = np.array([[1 - (1 + 2 * steps) * ETA**2, -ETA], [ETA, 1.0]])
    radius = np.abs(np.linalg.eigvals(matrix)).max() ** 2
    assert radius == pytest.approx(1 - 2 * steps * ETA**2)


def points(unroll_steps, critic_optimizer):
    return families.gan(
        generator=nets.MLPGenerator((2,), hidden_size=4, num_layers=1),
        critic=Small(),
        generator_optimizer=optax.sgd(1.0),
        critic_optimizer=critic_optimizer,
        event_shape=(2,),
        num_levels=None,
        batch_size=6,
        latents=families.Latent(latent_size=3),
        rows=families.Rows(unroll_steps=unroll_steps),
    )


@pytest.mark.slow
def test_the_gradient_goes_through_adams_moments(x64):
    rate, steps = 0.1, 3
    adam = optax.adam(rate, b1=0.5, eps_root=1e-16)
    family = points(steps, adam)
    assert family.batches_per_step == 2
    x = jax.random.normal(KEY, (2, 6, 2))
    state = jax.tree.map(
        lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a,
        family.init(KEY, {"x": x}),
    )
    new, _ = jax.jit(family.train_step)(state, {"x": x}, KEY)
    flat, back = jax.flatten_util.ravel_pytree(state.params["generator"])
    found = flat - jax.flatten_util.ravel_pytree(new.params["generator"])[0]

    generator = nets.MLPGenerator((2,), hidden_size=4, num_layers=1)
    critic = Small()
    z = jax.random.normal(jax.random.split(jax.random.split(KEY)[1], 3)[1], (6, 3))

    @jax.jit
    def ahead(flat):
        """The generator's loss after the critic's steps, with moments written out."""
        fake = generator.apply({"params": back(flat)}, z)

        def loss(own):
            real, made = (critic.apply({"params": own}, rows) for rows in (x[1], fake))
            return jnp.mean(jax.nn.softplus(-real) + jax.nn.softplus(made))

        own, kept = new.params["critic"], new.opt_state["critic"][0]
        mean, square, count = kept.mu["critic"], kept.nu["critic"], kept.count
        for _ in range(steps):
            grads, count = jax.grad(loss)(own), count + 1
            mean = jax.tree.map(lambda m, g: 0.5 * m + 0.5 * g, mean, grads)
            square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g**2, square, grads)
            own = jax.tree.map(
                lambda p, m, s, n=count: (
                    p - rate * m / (1 - 0.5**n) / (jnp.sqrt(s / (1 - 0.999**n) + 1e-16) + 1e-8)
                ),
                own,
                mean,
                square,
            )
        return jnp.mean(jax.nn.softplus(-critic.apply({"params": own}, fake)))

    for seed in range(3):
        way = jax.random.normal(jax.random.key(seed), flat.shape)
        difference = (ahead(flat + 1e-5 * way) - ahead(flat - 1e-5 * way)) / 2e-5
        assert float(found @ way) == pytest.approx(float(difference), rel=1e-4, abs=1e-8)


def test_steps_that_do_not_move_the_critic_change_nothing():
    x = jax.random.normal(KEY, (2, 6, 2))
    plain, ahead = points(0, optax.set_to_zero()), points(3, optax.set_to_zero())
    assert plain.batches_per_step == 1 and ahead.batches_per_step == 2
    state = plain.init(KEY, {"x": x[0]})
    one, _ = jax.jit(plain.train_step)(state, {"x": x[0]}, KEY)
    two, _ = jax.jit(ahead.train_step)(state, {"x": x}, KEY)
    for a, b in zip(*map(jax.tree.leaves, (one.params, two.params)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    own, kept = {"critic": {"w": jnp.ones(2)}}, {"critic": {}}
    still = unrolled(lambda o, s: (jnp.zeros(()), s), own, kept, optax.sgd(0.1), None, num_steps=0)
    assert still[0] is own and still[1] is kept


def test_dead_units_have_a_slope_if_the_root_is_kept_from_zero():
    with pytest.raises(ValueError, match="eps_root, say to 1e-16"):
        points(2, optimizers.adam())
    family = points(2, optimizers.adam(eps_root=1e-16))
    x = jnp.zeros((2, 6, 2))  # no critic's weight has a gradient on rows of zeros
    state = family.init(KEY, {"x": x})
    dead = jax.tree.map(jnp.zeros_like, state.params)
    new, _ = jax.jit(family.train_step)(state.replace(params=dead), {"x": x}, KEY)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new.params))
    with pytest.raises(ValueError, match="eps_root must not be negative"):
        optimizers.adam(eps_root=-1.0)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(rows=families.Rows(unroll_steps=-1)), "unroll_steps must not be negative"),
        (dict(rows=families.Rows(joint_batches=True)), "rows of one origin"),
        (dict(slope_control=families.SlopeControl(penalties={"r1": 1.0})), "slope of single rows"),
    ],
)
def test_what_cannot_work_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        families.gan(
            generator=nets.MLPGenerator((2,), 4, 1),
            critic=nets.MLPCritic(4, 1, num_minibatch_kernels=2),
            generator_optimizer=optax.sgd(1.0),
            critic_optimizer=optax.sgd(1.0),
            event_shape=(2,),
            num_levels=None,
            batch_size=4,
            **kwargs,
        )
