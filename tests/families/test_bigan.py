"""Adversarial inference: the linear-Gaussian truth, explicit losses, and what an encoder is for."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import families, losses, nets

KEY = jax.random.key(0)
S = 2.0  # standard deviation of the data of the linear model


class Slope(nn.Module):
    """Rows that are latents times a number."""

    @nn.compact
    def __call__(self, z, *, train=False):
        return self.param("a", nn.initializers.ones, (1,)) * z


class Same(nn.Module):
    """Features that are the rows."""

    @nn.compact
    def __call__(self, x, *, train=False):
        return x


class Quadratic(nn.Module):
    """The critic that is optimal for Gaussians."""

    @nn.compact
    def __call__(self, x, z, *, train=False):
        rows = jnp.concatenate([x, z, jnp.ones_like(x)], 1)
        q = self.param("q", nn.initializers.zeros, (3, 3))
        return jnp.einsum("bi,ij,bj->b", rows, q, rows)


def build(make=families.bigan, *, latent_size=1, lr=1e-2, **kwargs):
    given = dict(
        encoder=Same(), generator=Slope(), critic=Quadratic(), event_shape=(1,), num_levels=None,
        batch_size=256, latents=families.Latent(latent_size=latent_size),
        generator_optimizer=optax.sgd(lr), critic_optimizer=optax.sgd(lr),
    )  # fmt: skip
    return make(**{**given, **kwargs})


def placed(state, *, a, e, encoder_var=None, noise_var=None):
    """The state with a linear generator and encoder of known numbers."""
    params = dict(state.params)
    params["generator"] = {"a": jnp.array([a])}
    params["encoder"] = {
        **params["encoder"],
        "mean": {"kernel": jnp.array([[e]]), "bias": jnp.zeros(1)},
    }
    if encoder_var is not None:
        half = jnp.array([0.5 * np.log(encoder_var)])
        params["encoder"]["log_std"] = {"kernel": jnp.zeros((1, 1)), "bias": half}
    if noise_var is not None:
        params["noise"] = {"log_std": jnp.array([0.5 * np.log(noise_var)])}
    return state.replace(params=params, ema={n: params[n] for n in state.ema})


@pytest.mark.parametrize(
    "a, e, equal",
    [(S, 1 / S, True), (-S, -1 / S, True), (S, -1 / S, False), (S, 0.7 / S, False),
     (0.7 * S, 1 / (0.7 * S), False)],
)  # fmt: skip
def test_joints_are_equal_only_for_inverses_of_the_right_scale(a, e, equal):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import PolynomialFeatures

    family = build()
    state = placed(family.init(KEY, {"x": jnp.zeros((2, 1))}), a=a, e=e)
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(2, 2000, 1)).astype(np.float32) * [[[S]], [[1.0]]]
    of_rows = family.encode(state, {"x": jnp.asarray(x)}, KEY)
    of_latents = family.decode(state, jnp.asarray(z), {"x": jnp.asarray(x)})
    pairs = np.concatenate([np.hstack([x, of_rows]), np.hstack([of_latents, z])])
    features = PolynomialFeatures(2).fit_transform(pairs)
    which = np.repeat([1, 0], 2000)
    best = LogisticRegression(C=1e4, max_iter=2000).fit(features, which)
    v = jnp.asarray(best.decision_function(features))
    loss = float(losses.logistic_critic_loss(v[:2000], v[2000:]).mean())
    assert (loss > np.log(4) - 0.01) == equal
    assert loss <= np.log(4) + 1e-3


@pytest.fixture(scope="module")
def played():
    """Where adversarially learned inference goes from a place where both joints are equal."""

    def play(a, weight, steps=1500):
        family = build(
            families.ali,
            loss="nonsaturating",
            generator_optimizer=optax.adam(4e-3, b1=0.5),
            critic_optimizer=optax.adam(1e-2, b1=0.5),
            inference=families.Inference(generator_noise=True, reconstruction_weight=weight),
            slope_control=families.SlopeControl(penalties={"r1": 0.02}),
            average=families.HalfLife(ema_half_life_kimg=25.0),
        )
        state = placed(
            family.init(KEY, {"x": jnp.zeros((2, 1))}),
            a=a, e=a / S**2, encoder_var=1 - a**2 / S**2, noise_var=S**2 - a**2,
        )  # fmt: skip

        def step(state, key):
            key_x, key = jax.random.split(key)
            rows = {"x": S * jax.random.normal(key_x, (256, 1))}
            state, metrics = family.train_step(state, rows, key)
            return state, metrics["critic_loss"]

        keys = jax.random.split(jax.random.key(1), steps)
        state, critic = jax.jit(lambda s: jax.lax.scan(step, s, keys))(state)
        own = state.ema
        return {
            "a": float(own["generator"]["a"][0]),
            "e": float(own["encoder"]["mean"]["kernel"][0, 0]),
            "encoder_var": float(jnp.exp(2 * own["encoder"]["log_std"]["bias"][0])),
            "noise_var": float(jnp.exp(2 * own["noise"]["log_std"][0])),
            "critic": float(critic[-200:].mean()),
        }

    return play


@pytest.mark.parametrize("a", [0.6, pytest.param(1.5, marks=pytest.mark.slow)])
def test_stochastic_pairs_stay_anywhere_on_a_continuum_of_optima(played, a):
    end = played(a, 0.0)
    assert end["a"] == pytest.approx(a, abs=0.2)
    assert end["e"] == pytest.approx(end["a"] / S**2, abs=0.05)
    assert end["encoder_var"] == pytest.approx(1 - end["a"] ** 2 / S**2, abs=0.1)
    assert end["noise_var"] == pytest.approx(S**2 - end["a"] ** 2, abs=0.3)
    assert end["critic"] == pytest.approx(np.log(4), abs=0.02)


def test_reconstruction_picks_the_end_of_the_continuum(played):
    end = played(0.6, 0.2)
    assert end["a"] == pytest.approx(S, abs=0.2) and end["e"] == pytest.approx(1 / S, abs=0.05)
    assert end["encoder_var"] < 0.1 and end["noise_var"] < 0.2


# Losses.


def small(**kwargs):
    size = dict(hidden_size=8, norm="none")
    return build(
        kwargs.pop("make", families.bigan),
        **{"latents": families.Latent(latent_size=2), **kwargs},
        event_shape=(3,),
        encoder=nets.JointMLPEncoder(**size),
        generator=nets.MLPGenerator((3,), hidden_size=8, num_layers=2, repeats_latent=True),
        critic=nets.JointMLPCritic(**size),
        lr=1.0,
    )


def wider(state):
    """Weights of a size at which the networks matter to each other."""
    return state.replace(params=jax.tree.map(lambda w: 2 * w, state.params))


def rows(size=16):
    return {"x": jnp.asarray(np.random.default_rng(0).normal(size=(size, 3)), jnp.float32)}


def softplus(v):
    return jnp.logaddexp(0.0, v)


OPPOSITE = {
    "nonsaturating": lambda real, fake: softplus(-fake) + softplus(real),
    "minimax": lambda real, fake: -softplus(fake) - softplus(-real),
    "least_squares": lambda real, fake: 0.5 * (fake - 1) ** 2 + 0.5 * real**2,
    "hinge": lambda real, fake: real - fake,
    "wasserstein": lambda real, fake: real - fake,
    "relativistic": lambda real, fake: softplus(real - fake),
    "relativistic_average": lambda real, fake: (
        softplus(real - fake.mean()) + softplus(real.mean() - fake)
    ),
    "brier": lambda real, fake: (
        0.5 * (1 - jax.nn.sigmoid(fake)) ** 2 + 0.5 * jax.nn.sigmoid(real) ** 2
    ),
}


@pytest.mark.parametrize("name", OPPOSITE)
def test_the_encoder_wants_of_its_pairs_the_opposite(name):
    """Generator and encoder share a loss that changes its sign, or its code, with the roles."""
    from genjax.families.gan.bigan import opposite_of

    real, fake = jnp.array([0.3, -0.8, 1.4]), jnp.array([-0.2, 0.5, 0.9])
    loss = losses.ADVERSARIAL_LOSSES[name]
    value = loss.generator(real, fake)
    if not loss.uses_real:
        mirrored = opposite_of(name)
        value = value + loss.generator(mirrored(fake), mirrored(real))
    expected = OPPOSITE[name](real, fake)
    difference = value - expected
    # Up to a constant, which has no gradient.
    np.testing.assert_allclose(difference, jnp.full(3, difference[0]), atol=1e-5)


def test_the_table_has_every_loss():
    assert set(OPPOSITE) == set(losses.ADVERSARIAL_LOSSES)


@pytest.mark.parametrize(
    "make, settings",
    [
        (families.bigan, {}),
        pytest.param(families.bigan, dict(loss="least_squares"), marks=pytest.mark.slow),
        (families.ali, dict(latent="uniform", latent_weight=0.2)),
        (families.ali, dict(reconstruction_weight=0.3, latent_weight=0.2, joint_batches=True)),
        (families.veegan, dict(latent_weight=0.5)),
    ],
)
def test_all_networks_move_by_explicit_losses_of_one_pass(make, settings):
    settings = dict(settings)
    loss = {"loss": settings.pop("loss")} if "loss" in settings else {}
    prior = settings.pop("latent", "normal")
    latents = families.Latent(latent_size=2, latent=prior)
    if make is families.veegan:
        family = small(make=make, latents=latents, **settings)
    else:
        family = small(make=make, latents=latents, inference=families.Inference(**settings), **loss)
    batch = rows()
    state = wider(family.init(KEY, batch))
    new, metrics = jax.jit(family.train_step)(state, batch, KEY)

    encoder, p = family.networks["encoder"], state.params
    generator = nets.MLPGenerator((3,), hidden_size=8, num_layers=2, repeats_latent=True)
    critic = nets.JointMLPCritic(hidden_size=8, norm="none")
    key_z, _, key_e = jax.random.split(KEY, 3)
    x, z = batch["x"], jax.random.normal(key_z, (16, 2))
    if prior == "uniform":
        z = jax.random.uniform(key_z, (16, 2), minval=-1.0, maxval=1.0)

    def within(v):
        return 2.0 * jax.nn.sigmoid(v) - 1.0 if prior == "uniform" else v

    def forward(own):
        q = {**p, **own}
        mean, log_std = encoder.apply({"params": q["encoder"]}, x)
        inferred = mean
        if log_std is not None:
            inferred = mean + jnp.exp(log_std) * jax.random.normal(key_e, mean.shape)
        inferred = within(inferred)
        made = generator.apply({"params": q["generator"]}, z)
        real = critic.apply({"params": q["critic"]}, x, inferred)
        fake = critic.apply({"params": q["critic"]}, made, z)
        again = generator.apply({"params": q["generator"]}, inferred)
        z_again, _ = encoder.apply({"params": q["encoder"]}, made)
        apart = jnp.sum((z - within(z_again)) ** 2, 1)
        return real, fake, jnp.sum((x - again) ** 2, 1), apart

    def of_critic(own):
        real, fake, _, _ = forward(own)
        if loss:
            return jnp.mean(0.5 * (real - 1) ** 2 + 0.5 * fake**2)
        return jnp.mean(softplus(-real) + softplus(fake))

    def of_makers(own):
        real, fake, of_rows, of_latents = forward(own)
        if make is families.veegan:
            return jnp.mean(-fake + 0.5 * of_latents)
        value = jnp.mean(OPPOSITE[loss.get("loss", "nonsaturating")](real, fake))
        value += settings.get("reconstruction_weight", 0.0) * jnp.mean(of_rows)
        return value + settings.get("latent_weight", 0.0) * jnp.mean(of_latents)

    for names, function in ((("critic",), of_critic), (("generator", "encoder"), of_makers)):
        own = {n: p[n] for n in names}
        if make is families.veegan and "encoder" in names:
            # The critic's word of the encoder's pairs does not move the encoder.
            assert float(metrics["latent_loss"]) > 0
        value, grads = jax.value_and_grad(function)(own)
        jax.tree.map(
            lambda a, b, g: np.testing.assert_allclose(a - b, -g, rtol=2e-3, atol=2e-4),
            {n: new.params[n] for n in names}, own, grads,
        )  # fmt: skip
        player = "critic" if names == ("critic",) else "generator"
        assert float(metrics[f"{player}_loss"]) == pytest.approx(float(value), rel=1e-4)


@pytest.mark.parametrize("std, expected, use_bias", [(0.02, 0.02, False), (None, 0.125, True)])
def test_the_layer_of_the_latents_is_made_as_the_encoders_layers_are(std, expected, use_bias):
    encoder = nets.JointMLPEncoder(64, kernel_std=std, use_bias=use_bias)
    family = build(
        event_shape=(3,), latent_size=50, encoder=encoder, generator=nets.MLPGenerator((3,)),
        critic=nets.JointMLPCritic(8), lr=1.0,
    )  # fmt: skip
    mean = family.init(KEY, rows()).params["encoder"]["mean"]
    assert float(mean["kernel"].std()) == pytest.approx(expected, rel=0.1)
    assert ("bias" in mean) == use_bias


def test_the_encoder_is_trained_in_the_right_sign():
    family = small()
    batch = rows(64)
    state = wider(family.init(KEY, batch))
    params = {**state.params, "critic": state.params["critic"]}
    score = nets.JointMLPCritic(hidden_size=8, norm="none").apply
    small_step = small(generator_optimizer=optax.sgd(1e-2), critic_optimizer=optax.set_to_zero())
    new, _ = jax.jit(small_step.train_step)(state, batch, KEY)

    def said(state):
        z = family.encode(state, batch, KEY)
        return float(jnp.mean(score({"params": params["critic"]}, batch["x"], z)))

    changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), new.params, state.params)
    moved = {name for name, leaves in changed.items() if any(jax.tree.leaves(leaves))}
    assert moved == {"encoder", "generator"}
    assert said(new.replace(ema=new.params)) < said(state.replace(ema=state.params))


# What was trained.


def test_latents_of_rows_are_in_the_range_of_the_prior():
    latents = families.Latent(latent_size=2, latent="uniform")
    numbers = jnp.array([[-np.inf, -1.0], [0.0, np.inf]])
    inside = latents.within(numbers)
    expected = [[-1.0, 2 / (1 + np.e) - 1], [0.0, 1.0]]
    np.testing.assert_allclose(inside, expected, rtol=1e-6)
    np.testing.assert_array_equal(families.Latent().within(numbers), numbers)

    family = small(latents=latents)
    batch = {"x": 100.0 * rows()["x"], "index": jnp.arange(16)}
    state = family.init(KEY, batch)
    z = family.encode(state, batch, KEY)
    assert 0.9 < float(jnp.abs(z).max()) <= 1.0
    # Latents that were edited may leave it.
    beyond = family.decode(state, jnp.array([[3.0, -0.5]]), batch)
    np.testing.assert_array_equal(beyond, family.decode(state, jnp.array([[1.0, -0.5]]), batch))
    assert not np.array_equal(beyond, family.decode(state, jnp.array([[0.9, -0.5]]), batch))


@pytest.mark.parametrize("prior", ["normal", "uniform"])
def test_latent_regression_compares_latents_in_the_range_of_the_prior(prior):
    class Doubled(nn.Module):
        """A trained generator: rows are twice the latents."""

        @nn.compact
        def __call__(self, z, *, train=False):
            return 2.0 * z

    latents = families.Latent(latent_size=2, latent=prior)
    family = families.latent_regression(
        encoder=Same(), generator=Doubled(), optimizer=optax.sgd(0.1), event_shape=(2,),
        num_levels=None, latents=latents,
    )  # fmt: skip
    batch = {"x": jnp.zeros((64, 2))}
    state = family.init(KEY, batch)
    # The encoder halves rows, so that nothing is left to explain without a bound.
    half = {"mean": {"kernel": 0.5 * jnp.eye(2), "bias": jnp.zeros(2)}}
    state = state.replace(params={**state.params, "encoder": half})
    _, metrics = jax.jit(family.train_step)(state, batch, KEY)
    if prior == "normal":
        assert float(metrics["unexplained"]) < 1e-10
    else:
        z = np.random.default_rng(0).uniform(-1, 1, 100_000)
        left = np.mean((z - np.tanh(z / 2)) ** 2) / np.mean(z**2)
        assert float(metrics["unexplained"]) == pytest.approx(left, rel=0.1)


def test_scores_of_examples_do_not_depend_on_the_batch_and_say_what_they_should():
    family = small()
    state = wider(family.init(KEY, rows()))
    state = state.replace(ema={n: state.params[n] for n in state.ema})
    batch = {**rows(), "index": jnp.arange(16)}
    whole = family.eval_step(state, batch, KEY)
    half = family.eval_step(state, {n: a[8:] for n, a in batch.items()}, KEY)
    for name, values in whole.items():
        np.testing.assert_allclose(values[8:], half[name], rtol=1e-4, atol=1e-5)
    z = family.encode(state, batch, KEY)
    squared = jnp.sum((batch["x"] - family.decode(state, z, batch)) ** 2, 1)
    np.testing.assert_allclose(whole["reconstruction_mse"], squared / 3, rtol=1e-4)
    np.testing.assert_allclose(whole["reconstruction_distance"], jnp.sqrt(squared), rtol=1e-4)
    assert set(whole) >= {"random_distance", "feature_distance", "real_output"}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param(dict(joint_batches=True), marks=pytest.mark.slow),
    ],
)
def test_images_keep_the_running_statistics_of_their_pairs(settings):
    family = build(
        event_shape=(8, 8, 1), num_levels=17, batch_size=4, latent_size=3,
        encoder=nets.JointConvEncoder(channels=4, num_features=4),
        generator=nets.DCGANGenerator((8, 8, 1), channels=4, min_channels=4),
        critic=nets.JointConvCritic(channels=4, num_features=4),
        inference=families.Inference(**settings),
    )  # fmt: skip
    batch = {"x": jnp.asarray(np.random.default_rng(0).integers(17, size=(4, 8, 8, 1)), jnp.uint8)}
    state = family.init(KEY, batch)
    new, metrics = jax.jit(family.train_step)(state, batch, KEY)
    assert all(bool(jnp.isfinite(value)) for value in metrics.values())
    for name in ("encoder", "generator", "critic"):
        pairs = zip(
            jax.tree.leaves(new.model_state[name]), jax.tree.leaves(state.model_state[name]),
            strict=True,
        )  # fmt: skip
        assert all(bool(jnp.any(a != b)) for a, b in pairs), name
    z = family.encode(new, batch, KEY)
    assert z.shape == (4, 3) and family.decode(new, z, batch).dtype == jnp.uint8
    asked = family.generating(new, batch)
    assert asked.features(asked.encode(batch["x"])).shape == (4, 4)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(loss="wasserstien"), "loss must be one of"),
        (dict(generator=nets.MLPGenerator((2,))), "rows of the data's shape"),
        (dict(generator=nets.MLPGenerator((1,), num_classes=3)), "without labels"),
        (dict(critic=nets.JointMLPCritic(4),
              slope_control=families.SlopeControl(penalties={"r1": 1.0})), "batch normalisation"),
        (dict(loss="relativistic", inference=families.Inference(
            encoder_plays=False, latent_weight=1.0)), "compares both"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_one_line(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_an_encoder_that_learns_from_nothing_is_refused():
    with pytest.raises(ValueError, match="learn from nothing"):
        families.Inference(encoder_plays=False)
    with pytest.raises(ValueError, match="must not be negative"):
        families.Inference(latent_weight=-1.0)
    with pytest.raises(ValueError, match="trained generator"):
        families.latent_regression(
            encoder=Same(), generator=Slope(), optimizer=optax.sgd(1.0), event_shape=(1,),
            num_levels=None, latents=families.Latent(latent_size=1),
        )  # fmt: skip


def test_no_word_of_the_protocol_stands_in_the_place_of_a_metric():
    family = small()
    state = family.init(KEY, rows())
    found = jax.eval_shape(family.eval_step, state, {**rows(), "index": jnp.arange(16)}, KEY)
    assert not set(found) & set(family.eval_protocol)
