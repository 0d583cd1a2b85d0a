import functools
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from genjax import families, nets
from genjax.families.gan.pool import empty_pool, exchanged
from genjax.families.gan.translation import Side

KEY = jax.random.key(0)


def feature(*shape, num_levels=None):
    return types.SimpleNamespace(shape=shape, num_levels=num_levels)


class Line(nn.Module):
    """A slope for each coordinate, ``a``; dropout where it is told so."""

    start: float = 0.5
    rate: float = 0.0

    @nn.compact
    def __call__(self, x, *, train=False):
        a = self.param("a", nn.initializers.constant(self.start), x.shape[-1:])
        return nn.Dropout(self.rate, deterministic=not train)(a * x)


class Parabola(nn.Module):
    """The critic that is optimal between centred Gaussians: ``w x^2 + c``."""

    start: float = 0.1

    @nn.compact
    def __call__(self, x, *, train=False):
        w = self.param("w", nn.initializers.constant(self.start), x.shape[-1:])
        c = self.param("c", nn.initializers.constant(self.start), ())
        return jnp.sum(w * x**2, -1) + c


def build(make, rate=1.0, critic=None, generator=None, **kwargs):
    paired = make is families.pix2pix
    spec = {"x": feature(2), ("source" if paired else "source/x"): feature(2)}
    given = dict(
        generator=generator or Line(),
        critic=critic or Parabola(),
        generator_optimizer=optax.sgd(rate),
        critic_optimizer=optax.sgd(rate),
        spec=spec,
        batch_size=8,
        average=families.HalfLife(ema_half_life_kimg=0.0),
    )
    return make(**{**given, **kwargs})


def pairs(seed=0):
    rng = np.random.default_rng(seed)
    rows = {n: rng.normal(size=(8, 2)).astype(np.float32) for n in ("x", "source", "source/x")}
    return jax.tree.map(jnp.asarray, rows)


def same(found, expected, rtol=1e-4):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-5), found, expected
    )


def line(p, x):
    return p["a"] * x


def parabola(p, x):
    return jnp.sum(p["w"] * x**2, -1) + p["c"]


def less(p, grads):
    return jax.tree.map(lambda a, b: a - b, p, grads)


def test_a_step_of_pix2pix_is_one_of_two_explicit_losses_the_critics_first():
    family = build(families.pix2pix, gan_weight=2.0, l1_weight=3.0)
    data = pairs()
    state = family.init(KEY, data)
    new, metrics = jax.jit(family.train_step)(state, data, KEY)
    old = jax.tree.map(jnp.asarray, state.params)

    def critic_loss(p):
        def score(x):
            return parabola(p, jnp.concatenate([data["source"], x], -1))

        fake = line(old["generator"], data["source"])
        return jnp.mean(jax.nn.softplus(-score(data["x"])) + jax.nn.softplus(score(fake)))

    critic = less(old["critic"], jax.grad(critic_loss)(old["critic"]))

    def generator_loss(p):
        fake = line(p, data["source"])
        score = parabola(critic, jnp.concatenate([data["source"], fake], -1))
        return 2.0 * jnp.mean(jax.nn.softplus(-score)) + 3.0 * jnp.mean(jnp.abs(fake - data["x"]))

    same(new.params["critic"], critic)
    expected = less(old["generator"], jax.grad(generator_loss)(old["generator"]))
    same(new.params["generator"], expected)
    assert float(metrics["generator_loss"]) == pytest.approx(
        float(generator_loss(old["generator"])), rel=1e-5
    )


def test_without_a_gan_only_the_distance_trains_and_the_critic_stands_still():
    family = build(families.pix2pix, gan_weight=0.0, l1_weight=1.0)
    data = pairs()
    state = family.init(KEY, data)
    new, metrics = jax.jit(family.train_step)(state, data, KEY)
    same(new.params["critic"], state.params["critic"], rtol=0)
    slope = np.mean(np.sign(0.5 * data["source"] - data["x"]) * data["source"], 0) / 2
    same(new.params["generator"]["a"], 0.5 - slope)
    assert "real_output" not in metrics and float(metrics["critic_loss"]) == 0


def test_the_critic_of_pix2pix_may_be_told_nothing_of_the_source():
    of_pairs, alone = (
        build(families.pix2pix, conditional_critic=told).init(KEY, pairs())
        for told in (True, False)
    )
    assert of_pairs.params["critic"]["w"].shape == (4,)
    assert alone.params["critic"]["w"].shape == (2,)


def test_samples_of_pix2pix_have_dropout_and_rows_do_not_depend_on_each_other():
    family = build(families.pix2pix, generator=Line(rate=0.5))
    data = {**pairs(), "index": jnp.arange(8)}
    state = family.init(KEY, data)
    one, two = (family.sample(state, jax.random.key(i), data).rows for i in (0, 1))
    assert np.abs(one - two).max() > 0
    whole = family.eval_step(state, data, KEY)
    part = family.eval_step(state, jax.tree.map(lambda a: a[4:], data), KEY)
    same(part, {name: value[4:] for name, value in whole.items()})
    assert set(whole) == {"l1", "mse"}, "real numbers have no peak"
    plain = build(families.pix2pix, generator=Line(rate=0.5), as_in_training=False)
    same(plain.sample(state, KEY, data).rows, 0.5 * data["source"])
    assert plain.sample_protocol != family.sample_protocol


def test_errors_of_grey_levels_are_shares_of_the_range():
    side = Side((1, 2, 1), 256)
    truth = jnp.array([[[[0], [255]]], [[[10], [20]]]], jnp.uint8)
    made = side.units.encode(jnp.array([[[[51], [255]]], [[[10], [20]]]], jnp.uint8))
    found = side.errors(made, truth)
    same(found["l1"], jnp.array([0.1, 0.0]))
    same(found["mse"], jnp.array([0.02, 0.0]))
    same(found["psnr"], jnp.array([10 * np.log10(1 / 0.02), 100.0]))


def test_a_step_of_cycle_gan_is_one_of_two_explicit_losses_at_the_old_parameters():
    weights = dict(gan_weight=2.0, cycle_weight=3.0, identity_weight=0.5)
    family = build(families.cycle_gan, rate=0.1, **weights)
    data = pairs()
    x, s = data["x"], data["source/x"]
    state = family.init(KEY, data)
    new, metrics = jax.jit(family.train_step)(state, data, KEY)
    old = state.params

    def critics(p):
        fake_x, fake_s = line(old["generator"], s), line(old["inverse"], x)
        return sum(
            jnp.mean((parabola(p[n], real) - 1) ** 2 + parabola(p[n], fake) ** 2) / 2
            for n, real, fake in (("critic", x, fake_x), ("source_critic", s, fake_s))
        )

    def translators(p):
        there, back = p["generator"], p["inverse"]
        fake_x, fake_s = line(there, s), line(back, x)
        gan = jnp.mean((parabola(old["critic"], fake_x) - 1) ** 2) / 2
        gan += jnp.mean((parabola(old["source_critic"], fake_s) - 1) ** 2) / 2
        cycle = jnp.mean(jnp.abs(line(back, fake_x) - s)) + jnp.mean(
            jnp.abs(line(there, fake_s) - x)
        )
        same_side = jnp.mean(jnp.abs(line(there, x) - x)) + jnp.mean(jnp.abs(line(back, s) - s))
        return 2.0 * gan + 3.0 * cycle + 0.5 * same_side

    for names, loss in (
        (("critic", "source_critic"), critics),
        (("generator", "inverse"), translators),
    ):
        own = {n: old[n] for n in names}
        grads = jax.tree.map(lambda g: 0.1 * g, jax.grad(loss)(own))
        same({n: new.params[n] for n in names}, less(own, grads))
    assert float(metrics["generator_loss"]) == pytest.approx(float(translators(old)), rel=1e-5)
    assert float(metrics["critic_loss"]) == pytest.approx(float(critics(old)), rel=1e-5)


def test_networks_that_change_nothing_have_no_cycle_and_no_identity_loss():
    family = build(families.cycle_gan, generator=Line(start=1.0), identity_weight=1.0)
    data = pairs()
    state = family.init(KEY, data)
    _, metrics = jax.jit(family.train_step)(state, data, KEY)
    assert float(metrics["cycle"]) == 0 == float(metrics["identity"])
    found = family.eval_step(state, {**data, "source/partner": data["source/x"] + 1.0}, KEY)
    same(found["cycle"], jnp.zeros(8))
    same(found["inverse_cycle"], jnp.zeros(8))
    same(found["l1"], jnp.ones(8))
    assert set(found) == {"cycle", "inverse_cycle", "l1", "mse"}


def test_encoding_goes_to_the_source_and_decoding_comes_from_there():
    family = build(families.cycle_gan)
    data = pairs()
    state = family.init(KEY, data)
    params = {**state.params, "inverse": {"a": jnp.full(2, 3.0)}}
    state = state.replace(params=params, ema={n: params[n] for n in ("generator", "inverse")})
    same(family.encode(state, data, KEY), 3.0 * data["x"])
    same(family.decode(state, data["source/x"], data), 0.5 * data["source/x"])
    same(family.sample(state, KEY, data).rows, 0.5 * data["source/x"])
    assert family.reads == family.steers == ("source/x",)


@functools.cache
def game_of_gaussians(identity_weight):
    """Slopes there and back after CycleGAN between N(0, 1), the source, and N(0, 4), ``x``.

    Rows are the same in each step, with exactly these moments, and the translators slow down: what
    is left of the kinks of the cycle loss is small.
    """
    steps, quantiles = 1000, scipy.stats.norm.ppf((np.arange(64) + 0.5) / 64)[:, None]
    unit = jnp.asarray(quantiles / quantiles.std(), jnp.float32)
    data = {"x": 2.0 * unit, "source/x": unit}
    slowing = optax.cosine_decay_schedule(0.01, steps)
    family = build(
        families.cycle_gan,
        generator_optimizer=optax.adam(slowing, b1=0.5),
        critic_optimizer=optax.adam(0.03, b1=0.5),
        spec={"x": feature(1), "source/x": feature(1)},
        cycle_weight=0.1,
        identity_weight=identity_weight,
    )

    def one(state, key):
        return family.train_step(state, data, key)[0], None

    @jax.jit
    def play(there, back):
        state = family.init(KEY, data)
        slopes = {"generator": {"a": there[None]}, "inverse": {"a": back[None]}}
        state = state.replace(params={**state.params, **slopes})
        state, _ = jax.lax.scan(one, state, jax.random.split(KEY, steps))
        return jnp.stack([state.params[n]["a"][0] for n in slopes])

    return lambda *slopes: play(*map(jnp.asarray, slopes)).tolist()


def test_between_gaussians_a_gan_with_cycles_finds_the_ratio_of_deviations_or_minus_that():
    play = game_of_gaussians(0.0)
    assert play(0.7, 0.7) == pytest.approx([2.0, 0.5], rel=0.03)
    assert play(-0.7, -0.7) == pytest.approx([-2.0, -0.5], rel=0.03)
    # The game alone would leave each its sign: the cycle makes them agree.
    assert np.prod(play(0.7, -0.1)) == pytest.approx(1.0, rel=0.03)


def test_the_identity_loss_takes_the_minus_sign_away():
    assert min(game_of_gaussians(0.2)(-0.7, -0.7)) > 0.5


def test_a_pool_gives_back_what_it_is_offered_while_it_fills_and_counts():
    pool = empty_pool(KEY, 6, (1,))
    for i in range(2):
        rows = jnp.arange(3.0)[:, None] + 3 * i
        pool, given = exchanged(pool, rows)
        same(given, rows, rtol=0)
        assert int(pool["count"]) == 3 * (i + 1)
    same(pool["rows"][:, 0], jnp.arange(6.0), rtol=0)
    nothing, given = exchanged(empty_pool(KEY, 0, (1,)), rows)
    assert given is rows and int(nothing["count"]) == 0


def test_a_full_pool_exchanges_half_of_the_rows_one_after_the_other():
    pool, first = empty_pool(KEY, 5, ()), jnp.arange(5.0)
    pool, _ = exchanged(pool, first)
    step, kept, swaps = jax.jit(exchanged), set(range(5)), 0
    for i in range(200):
        rows = jnp.arange(4.0) + 5 + 4 * i
        pool, given = step(pool, rows)
        for row, one in zip(np.asarray(rows), np.asarray(given), strict=True):
            if one != row:  # an older one, which has left, and the row has come in its place
                swaps += 1
                assert one in kept
                kept = (kept - {one}) | {row}
        assert set(np.asarray(pool["rows"]).tolist()) == kept
    assert swaps == pytest.approx(400, abs=60)  # four deviations
    assert int(pool["count"]) == 5 + 4 * 200


def test_no_gradient_goes_into_a_pool():
    pool = empty_pool(KEY, 2, ())
    assert not jax.grad(lambda a: jnp.sum(exchanged(pool, a * jnp.ones(4))[1]))(2.0)


def test_the_translator_back_has_the_shape_of_the_source():
    spec = {
        "x": feature(8, 8, 3, num_levels=256),
        "source/x": feature(8, 8, 1, num_levels=17),
    }
    small = dict(
        generator=nets.ResNetTranslator((8, 8, 3), channels=2, num_halvings=1, num_blocks=0),
        critic=nets.PatchCritic(channels=2, num_layers=1),
    )
    family = build(families.cycle_gan, spec=spec, **small)
    assert family.networks["inverse"].event_shape == (8, 8, 1)
    data = {
        "x": jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.uint8),
        "source/x": jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.uint8),
    }
    state = jax.eval_shape(family.init, KEY, data)
    back = jax.eval_shape(family.encode, state, data, KEY)
    assert back.shape == (2, 8, 8, 1) and back.dtype == jnp.uint8
    assert jax.eval_shape(family.eval_step, state, data, KEY).keys() == {"cycle", "inverse_cycle"}
    new, _ = jax.eval_shape(family.train_step, state, data, KEY)
    assert new.model_state["pools"]["critic"]["rows"].shape == (50, 8, 8, 3)
    with pytest.raises(ValueError, match="identity_weight compares rows of both sides"):
        build(families.cycle_gan, spec=spec, identity_weight=1.0, **small)
    with pytest.raises(ValueError, match=r"partner is to be the true translation.*\(8, 8, 1\)"):
        build(families.cycle_gan, spec={**spec, "partner": feature(8, 8, 3)}, **small)
    with pytest.raises(ValueError, match="one batch size, got 2 rows of x and 1 of the source"):
        alone = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.uint8)
        jax.eval_shape(family.train_step, state, {**data, "source/x": alone}, KEY)


@pytest.mark.parametrize(
    "make, kwargs, message",
    [
        (families.pix2pix, dict(spec={"x": feature(2)}), "start from source, which the data has"),
        (families.cycle_gan, dict(spec={"x": feature(2)}), "start from source/x"),
        (families.pix2pix, dict(gan_weight=-1.0), "gan_weight must not be negative"),
        (families.pix2pix, dict(gan_weight=0.0, l1_weight=0.0), "nothing is trained"),
        (families.cycle_gan, dict(pool_size=-1), "pool_size must not be negative"),
        (families.cycle_gan, dict(loss="hings"), "loss must be one of"),
        (
            families.pix2pix,
            dict(spec={"x": feature(3), "source": feature(2)}),
            r"make rows of shape \(3,\) of rows of shape \(2,\), but it makes \(2,\)",
        ),
    ],
)
def test_translations_that_cannot_be_are_refused(make, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(make, **kwargs)


@pytest.mark.parametrize("loss", ["relativistic", "wasserstein", "hinge"])
@pytest.mark.parametrize("make", [families.pix2pix, families.cycle_gan])
def test_any_adversarial_loss_may_be_played(make, loss):
    family, data = build(make, loss=loss, rate=0.1), pairs()
    state = family.init(KEY, data)
    new, metrics = jax.jit(family.train_step)(state, data, KEY)
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert np.abs(new.params["critic"]["w"] - state.params["critic"]["w"]).max() > 0
