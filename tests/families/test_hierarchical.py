"""Latents in layers and within decoders: probabilities add up, bounds are exact where known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from genjax import families, nets
from genjax.families.latent_groups import sum_groups
from genjax.families.latent_variable import LatentVariableModel, divergence
from genjax.families.stochastic_layers import StochasticLayers
from genjax.families.top_down import TopDown

KEY = jax.random.key(0)
ALL = np.array(list(itertools.product([0, 1], repeat=4))).reshape(16, 2, 2, 1)
BITS = {
    "x": jnp.asarray(ALL, jnp.uint8),
    "label": jnp.arange(16, dtype=jnp.int32) % 3,
    "index": jnp.arange(16, dtype=jnp.int32),
}
GIVEN = dict(
    observation=families.Bernoulli(),
    optimizer=optax.adam(1e-2),
    event_shape=(2, 2, 1),
    num_levels=2,
)
SMALL = dict(channels=4, middle_channels=4)


def layers(sizes=(8, 4), latent_size=(3, 2), num_classes=None, **kwargs):
    net = nets.MLPLayers(hidden_sizes=sizes, num_layers=1, num_classes=num_classes)
    return families.vae(encoder=net, decoder=net, latent_size=latent_size, **{**GIVEN, **kwargs})


def down_nets(posterior="residual", num_classes=None):
    return dict(
        encoder=nets.BottomUpEncoder(num_blocks=(1, 0), num_classes=num_classes, **SMALL),
        decoder=nets.TopDownDecoder(
            event_shape=(2, 2, 1),
            num_blocks=(1, 2),
            latent_channels=1,
            posterior=posterior,
            num_classes=num_classes,
            **SMALL,
        ),
    )


def top_down(posterior="residual", num_classes=None, **kwargs):
    made = down_nets(posterior, num_classes)
    return families.hierarchical_vae(**made, **{**GIVEN, **kwargs})


def moved(family, batch=BITS, scale=0.3):
    """A state away from where networks start."""
    state = jax.jit(family.init)(KEY, batch)
    leaves, tree = jax.tree.flatten(state.ema)
    keys = jax.random.split(KEY, len(leaves))
    far = [p + scale * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    far = jax.tree.unflatten(tree, far)
    return state.replace(ema=far, params=jax.tree.map(jnp.copy, far))


def model_of(groups, **objective):
    return LatentVariableModel(
        groups=groups,
        observation=families.Bernoulli(),
        objective=families.VariationalObjective(**objective),
        event_shape=(2, 2, 1),
        num_levels=2,
    )


@pytest.mark.parametrize("make", [layers, pytest.param(top_down, marks=pytest.mark.slow)])
def test_importance_weighted_probabilities_of_all_images_add_up_to_one(make):
    family = make(eval_num_draws=2000)
    state = moved(family, scale=0.05 if make is layers else 0.2)
    # Posteriors near the priors, which cover what they are to be proposals for.
    wide = {
        name: jax.tree.map(lambda p: 0.1 * p, net) if name.startswith("encoder") else net
        for name, net in state.ema.items()
    }
    state = state.replace(ema=wide)
    found = jax.jit(family.eval_step)(state, BITS, KEY)
    probability = np.exp(-np.asarray(found["nats_importance"], float))
    size = np.asarray(found["effective_sample_size"])
    assert size.min() > 100
    # Each is a mean of weights, whose spread the effective sample size says.
    spread = np.sqrt(np.sum(probability**2 * (1.0 / size - 1.0 / 2000)))
    assert probability.sum() == pytest.approx(1.0, abs=4.0 * spread) and spread < 0.02
    assert (found["elbo"] > found["nats_importance"]).all()
    groups = [name for name in found if name.startswith("kl_")]
    assert len(groups) == (2 if make is layers else 3)
    np.testing.assert_allclose(sum(found[g] for g in groups), found["kl"], rtol=1e-5)
    np.testing.assert_allclose(found["kl"] + found["reconstruction"], found["elbo"], rtol=1e-5)


SLOPES, STDS = (0.8, -1.3), (0.5, 0.7)
OFFSET, WEIGHT, STD = np.linspace(-1, 1, 5), np.array([1.0, -0.5, 2.0, 0.3, -1.0]), 0.6


def exact_chain():
    """Three layers of one number each, and the exact posteriors, which are Gaussians."""
    # z3 ~ N(0, 1), z_i | z_{i+1} ~ N(slope z_{i+1}, std^2), x | z1 ~ N(weight z1 + offset, STD^2).
    variances = [1.0]
    for slope, std in zip(reversed(SLOPES), reversed(STDS), strict=True):
        variances.insert(0, slope**2 * variances[0] + std**2)

    def dense(kernel, bias, log_std):
        kernel, bias = np.atleast_2d(kernel), np.atleast_1d(bias)
        one = {"mean": {"kernel": kernel, "bias": bias}}
        one["log_std"] = {"kernel": np.zeros((len(kernel), 1)), "bias": np.atleast_1d(log_std)}
        return one

    precision = 1.0 / variances[0] + (WEIGHT**2).sum() / STD**2
    to_mean = WEIGHT[:, None] / STD**2 / precision
    params = {
        "encoder": dense(to_mean, -OFFSET @ to_mean, -0.5 * np.log(precision)),
        "decoder": {
            "outputs": {"kernel": WEIGHT[None], "bias": OFFSET},
            "shared": np.array([np.log(STD)]),
        },
    }
    for i, (slope, std) in enumerate(zip(SLOPES, STDS, strict=True)):
        precision = 1.0 / variances[i + 1] + slope**2 / std**2
        params[f"encoder_{i + 2}"] = dense(
            slope / std**2 / precision, 0.0, -0.5 * np.log(precision)
        )
        params[f"decoder_{i + 2}"] = dense(slope, 0.0, np.log(std))
    covariance = variances[0] * np.outer(WEIGHT, WEIGHT) + STD**2 * np.eye(5)
    to_float32 = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
    return to_float32, stats.multivariate_normal(OFFSET, covariance)


@pytest.mark.parametrize("gradient", ["plain", "stl", "dreg"])
def test_with_exact_posteriors_three_linear_layers_score_the_evidence(gradient):
    net = nets.MLPLayers(hidden_sizes=(1, 1, 1), num_layers=0)
    family = families.vae(
        encoder=net,
        decoder=net,
        latent_size=(1, 1, 1),
        observation=families.Gaussian(variance="shared"),
        optimizer=optax.sgd(1.0),
        event_shape=(5,),
        num_levels=None,
        eval_num_draws=2,
        objective=families.VariationalObjective(bound="importance", num_draws=3, gradient=gradient),
    )
    x = np.random.default_rng(1).normal(size=(7, 5)).astype(np.float32) * 2.0
    batch = {"x": jnp.asarray(x), "index": jnp.arange(7)}
    params, truth = exact_chain()
    state = jax.jit(family.init)(KEY, batch)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, dict(state.params))
    state = state.replace(params=params, ema=params)
    exact = truth.logpdf(x)
    found = jax.jit(family.eval_step)(state, batch, KEY)
    for name in ("elbo", "nats_importance"):
        np.testing.assert_allclose(found[name], -exact, rtol=1e-5)
    new, metrics = jax.jit(family.train_step)(state, batch, KEY)
    assert float(metrics["loss"]) == pytest.approx(-exact.mean(), rel=1e-5)
    # Descent at a rate of 1 moves by the gradient, which is noise, or not even that.
    moves = [
        float(jnp.abs(a - b).max())
        for name in ("encoder", "encoder_2", "encoder_3")
        for a, b in zip(
            jax.tree.leaves(new.params[name]), jax.tree.leaves(params[name]), strict=True
        )
    ]
    assert max(moves) > 0.01 if gradient == "plain" else max(moves) < 1e-4


def test_one_layer_is_the_model_without_layers_bit_for_bit():
    one = layers((8,), (2,))
    net = nets.MLPEncoder(8, 1, "tanh")
    plain = families.vae(encoder=net, decoder=net, latent_size=2, **GIVEN)
    states = [
        jax.jit(f.train_step)(jax.jit(f.init)(KEY, BITS), BITS, KEY)[0].params for f in (one, plain)
    ]
    jax.tree.map(np.testing.assert_array_equal, *states)


@pytest.mark.slow
@pytest.mark.parametrize("posterior", ["residual", "absolute"])
def test_divergences_have_the_closed_form_of_residual_posteriors_and_the_mean_of_draws(posterior):
    groups = TopDown(**down_nets(posterior), event_shape=(2, 2, 1), num_outputs=1, num_shared=0)
    model, batch = model_of(groups), {n: a[:2] for n, a in BITS.items()}
    params = moved(top_down(posterior), scale=0.2).params
    noise = jax.random.normal(KEY, (2000, 2, model.latent_size))
    found = jax.jit(
        lambda params: model.explain(params, batch, model.look(params, batch), noise=noise)
    )(params)
    kl = np.asarray(divergence(found))
    mean, log_std = (np.asarray(a, float) for a in found.posterior)
    mean_p, log_p = (np.asarray(a, float) for a in found.prior)
    factor = np.exp(2.0 * (log_std - log_p))
    nvae = 0.5 * ((mean - mean_p) ** 2 / np.exp(2.0 * log_p) + factor - 1.0 - np.log(factor))
    np.testing.assert_allclose(kl, nvae, rtol=1e-3, atol=1e-5)
    z = np.asarray(found.latents, float)
    ratio = stats.norm.logpdf(z, mean, np.exp(log_std)) - stats.norm.logpdf(
        z, mean_p, np.exp(log_p)
    )
    differences = (ratio - kl).sum(-1)
    error = differences.std(0) / np.sqrt(len(z))
    assert (np.abs(differences.mean(0)) < 4.0 * error).all()
    assert kl.mean() > 0.01


def test_residual_posteriors_start_at_the_prior_where_their_differences_are_zero():
    family = top_down()
    state = jax.jit(family.init)(KEY, BITS)
    decoder = state.params["decoder"]["trunk"]
    blocks = [name for name in decoder if name.startswith("block")]
    assert len(blocks) == 3
    for name in blocks:
        last = decoder[name]["posterior"]["conv_3"]
        decoder[name]["posterior"]["conv_3"] = jax.tree.map(jnp.zeros_like, last)
        assert not decoder[name]["prior"]["conv_3"]["kernel"].any()
    _, metrics = jax.jit(family.train_step)(state, BITS, KEY)
    assert float(metrics["kl"]) == 0.0 and float(metrics["grad_norm"]) > 0.0


def test_free_bits_are_those_of_groups():
    params = moved(layers(), scale=0.1).params
    amounts = (0.0, 1e-4, 0.5, 100.0)

    @jax.jit
    def scored(params):
        found = {}
        for free in amounts:
            model = model_of(groups_of("layers"), free_bits=free, free_bits_of="group")
            loss, (metrics, _) = model.loss(params, {}, BITS, KEY, jnp.int32(0))
            found[free] = {**metrics, "loss": loss}
        return found

    losses = scored(params)
    plain = losses[0.0]
    kls = [float(plain[f"kl_{g}"]) for g in (1, 2)]
    assert sum(kls) == pytest.approx(float(plain["kl"]), rel=1e-5)
    assert min(kls) < 0.5 < max(kls), "one of them is below"
    for free in amounts:
        expected = float(plain["reconstruction"]) + sum(max(free, kl) for kl in kls)
        assert float(losses[free]["loss"]) == pytest.approx(expected, rel=1e-5)
        assert float(losses[free]["elbo"]) == pytest.approx(float(plain["elbo"]), rel=1e-5)


@pytest.mark.parametrize("make", [layers, pytest.param(top_down, marks=pytest.mark.slow)])
def test_latents_of_all_groups_are_one_array_which_is_drawn_encoded_and_decoded(make):
    family = make(num_classes=3)
    assert family.reads == ("label",)
    state = moved(family, scale=0.6)
    latents = jax.jit(family.encode)(state, BITS, KEY)
    assert latents.shape == (16, 5 if make is layers else 4 + 2)
    rows = jax.jit(family.decode)(state, latents, BITS)
    assert rows.shape == (16, 2, 2, 1) and rows.dtype == jnp.uint8
    other = {**BITS, "label": (BITS["label"] + 1) % 3}
    assert (jax.jit(family.encode)(state, other, KEY) != latents).any()
    drawn = jax.jit(family.sample)(state, KEY, BITS).rows
    assert drawn.shape == (16, 2, 2, 1) and set(np.unique(drawn)) == {0, 1}


def groups_of(name):
    if name == "layers":
        net = nets.MLPLayers(hidden_sizes=(8, 4), num_layers=1)
        given = dict(encoder=net, decoder=net, sizes=(3, 2))
        return StochasticLayers(**given, event_shape=(2, 2, 1), num_outputs=1, num_shared=0)
    return TopDown(**down_nets(), event_shape=(2, 2, 1), num_outputs=1, num_shared=0)


@pytest.mark.parametrize("name", ["layers", pytest.param("top_down", marks=pytest.mark.slow)])
def test_samples_are_of_the_density_that_is_scored_and_cold_ones_of_the_prior_without_noise(name):
    groups = groups_of(name)
    params = moved(layers() if name == "layers" else top_down()).params
    noise = jax.random.normal(KEY, (20, sum(groups.sizes)))
    # The latents that were drawn have, as noise of the prior that scores them, that noise.
    batch = {n: jnp.repeat(a[:1], 20, 0) for n, a in BITS.items()}
    model = model_of(groups)

    @jax.jit
    def both(params):
        seen = model.look(params, batch)
        z = jnp.zeros((1, *noise.shape))
        for _ in range(len(groups.sizes)):  # each group's prior needs the ones before
            mean, log_std = model.explain(params, batch, seen, latents=z).prior
            z = mean + jnp.exp(log_std) * noise
        still = groups.imagine(params, None, jnp.zeros_like(noise))
        cold = model.sample(params, KEY, None, 20, temperature=1e-6)
        return groups.imagine(params, None, noise), groups.outputs(params, z[0], None), cold, still

    drawn, scored, cold, still = both(params)
    np.testing.assert_allclose(scored, drawn, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(cold, still, atol=1e-4)


def test_sums_over_groups():
    a = jnp.arange(12.0).reshape(2, 6)
    np.testing.assert_array_equal(sum_groups(a, (1, 2, 3)), [[0, 3, 12], [6, 15, 30]])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: layers(latent_size=(3,)), "1 layers of latents, but model.encoder 2 networks"),
        (lambda: layers(latent_size=(3, 0)), "latent_size must be at least 1"),
        (lambda: nets.MLPLayers(hidden_sizes=()), "hidden_sizes must be at least 1"),
        (lambda: layers(temperature=0.0), "temperature must be positive"),
        (lambda: top_down(temperature=-1.0), "temperature must be positive"),
        (lambda: top_down("exact"), "posterior must be"),
        (lambda: nets.TopDownDecoder(event_shape=(2, 2, 1), num_blocks=(0, 0)), "are all 0"),
        (lambda: nets.BottomUpEncoder(num_blocks=(1, -1)), "num_blocks must be"),
        (
            lambda: families.hierarchical_vae(
                **{**down_nets(), "encoder": nets.BottomUpEncoder(num_classes=3)}, **GIVEN
            ),
            "the encoder is told labels",
        ),
        (lambda: families.VariationalObjective(free_bits_of="pixel"), "free_bits_of must be"),
    ],
)
def test_hierarchies_that_make_no_sense_are_refused(make, message, unchecked):
    with pytest.raises(ValueError, match=message):
        make()


def test_networks_of_different_resolutions_are_refused():
    made = {**down_nets(), "encoder": nets.BottomUpEncoder(num_blocks=(1,), **SMALL)}
    family = families.hierarchical_vae(**made, **GIVEN)
    with pytest.raises(ValueError, match="looks at 1 resolutions, but the decoder has 2"):
        jax.eval_shape(family.init, KEY, BITS)
    made["encoder"] = nets.BottomUpEncoder(num_blocks=(1, 1, 1), **SMALL)
    family = families.hierarchical_vae(**made, **GIVEN)
    with pytest.raises(ValueError, match="images of 2x2 cannot be halved 2 times"):
        jax.eval_shape(family.init, KEY, BITS)
