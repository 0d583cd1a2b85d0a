"""Variational autoencoders: exact where the truth is known, refused where they make no sense."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from genjax import families, nets
from genjax.families.imputing import known_nats
from genjax.families.latent_variable import LatentVariableModel
from genjax.families.stochastic_layers import StochasticLayers

KEY = jax.random.key(0)
LINEAR = dict(encoder=nets.MLPEncoder(num_layers=0), decoder=nets.MLPDecoder(num_layers=0))
MLP = dict(
    encoder=nets.MLPEncoder(hidden_size=16, num_layers=1),
    decoder=nets.MLPDecoder(hidden_size=16, num_layers=1),
)


def points(**kwargs):
    given = dict(
        **LINEAR,
        observation=families.Gaussian(variance="shared"),
        optimizer=optax.adam(1e-2),
        event_shape=(5,),
        num_levels=None,
        latent_size=2,
    )
    return families.vae(**{**given, **kwargs})


def binary(**kwargs):
    given = dict(
        **MLP,
        observation=families.Bernoulli(),
        optimizer=optax.adam(1e-2),
        event_shape=(2, 2, 1),
        num_levels=2,
        latent_size=2,
    )
    return families.vae(**{**given, **kwargs})


BITS = {
    "x": jnp.asarray(np.random.default_rng(0).integers(2, size=(6, 2, 2, 1)), jnp.uint8),
    "label": jnp.arange(6, dtype=jnp.int32) % 3,
    "index": jnp.arange(6, dtype=jnp.int32),
}


def moved(family, batch, scale=0.2):
    """A state away from where networks start."""
    state = jax.jit(family.init)(KEY, batch)
    leaves, tree = jax.tree.flatten(state.ema)
    keys = jax.random.split(KEY, len(leaves))
    far = [p + scale * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    far = jax.tree.unflatten(tree, far)
    return state.replace(ema=far, params=far)


def pca_truth():
    """A linear decoder, its noise, and the exact posterior of probabilistic PCA."""
    rng = np.random.default_rng(0)
    weight, offset, std = rng.normal(size=(2, 5)), rng.normal(size=5), 0.6
    precision = np.eye(2) + weight @ weight.T / std**2
    # The posterior of independent entries is exact where the columns are orthogonal.
    basis = np.linalg.svd(weight, full_matrices=False)[2] * np.array([[2.0], [0.7]])
    precision = 1.0 + (basis**2).sum(1) / std**2
    return basis, offset, std, precision


@pytest.mark.parametrize("bound", ["elbo", "importance"])
def test_with_the_exact_posterior_a_linear_model_scores_the_evidence(bound):
    weight, offset, std, precision = pca_truth()
    x = np.random.default_rng(1).normal(size=(7, 5)).astype(np.float32) * 2.0
    batch = {"x": jnp.asarray(x), "index": jnp.arange(7)}
    family = points(
        eval_num_draws=3, objective=families.VariationalObjective(bound=bound, num_draws=3)
    )
    state = jax.jit(family.init)(KEY, batch)
    to_mean = weight.T / std**2 / precision
    posterior = {
        "mean": {
            "kernel": jnp.asarray(to_mean, jnp.float32),
            "bias": jnp.asarray(-offset @ to_mean, jnp.float32),
        },
        "log_std": {
            "kernel": jnp.zeros((5, 2)),
            "bias": jnp.asarray(-0.5 * np.log(precision), jnp.float32),
        },
    }
    params = {
        "encoder": posterior,
        "decoder": {
            "outputs": {
                "kernel": jnp.asarray(weight, jnp.float32),
                "bias": jnp.asarray(offset, jnp.float32),
            },
            "shared": jnp.asarray([np.log(std)], jnp.float32),
        },
    }
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, dict(state.params))
    state = state.replace(params=params, ema=params)
    exact = stats.multivariate_normal(offset, weight.T @ weight + std**2 * np.eye(5)).logpdf(x)
    found = jax.jit(family.eval_step)(state, batch, KEY)
    for name in ("elbo", "nats_importance"):
        np.testing.assert_allclose(found[name], -exact, rtol=1e-5)
    np.testing.assert_allclose(found["effective_sample_size"], 3.0, rtol=1e-4)
    np.testing.assert_allclose(jax.jit(family.log_prob)(state, batch, KEY), exact, rtol=1e-5)
    # As a first stage it says the same, with its own prior in the place of a second model.
    first, variables = family.first_stage, {"ema": state.ema, "model_state": {}}
    z = first.encode(variables, batch, KEY)
    of_latents = stats.norm.logpdf(np.asarray(z)).sum(1)
    np.testing.assert_allclose(first.nats(variables, batch, z) - of_latents, -exact, rtol=1e-5)
    assert np.asarray(z).std(0).min() > 0.2 and first.event_shape == (2,)
    np.testing.assert_allclose(
        first.decode(variables, z, {}), np.asarray(z) @ weight + offset, rtol=1e-3, atol=1e-4
    )
    _, metrics = jax.jit(family.train_step)(state, batch, KEY)
    if bound == "importance":  # with an analytic divergence a draw of the ELBO is not exact
        assert float(metrics["loss"]) == pytest.approx(-exact.mean(), rel=1e-5)


@pytest.mark.slow
def test_training_a_linear_model_finds_probabilistic_pca():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 5)) * np.array([2.0, 1.5, 0.5, 0.4, 0.3])[:, None]
    data = (rng.normal(size=(4096, 5)) @ mixing + 1.0).astype(np.float32)
    family = points(optimizer=optax.adam(optax.cosine_decay_schedule(3e-2, 2000)))
    state = jax.jit(family.init)(KEY, {"x": jnp.asarray(data[:256])})
    step = jax.jit(family.train_step, donate_argnums=0)
    for i in range(2000):
        rows = data[rng.integers(4096, size=256)]
        state, _ = step(state, {"x": jnp.asarray(rows)}, jax.random.fold_in(KEY, i))
    variances = np.linalg.eigvalsh(np.cov(data.T, bias=True))[::-1]
    noise = variances[2:].mean()
    best = 0.5 * (5 * np.log(2 * np.pi) + np.log(variances[:2]).sum() + 3 * np.log(noise) + 5)
    batch = {"x": jnp.asarray(data), "index": jnp.arange(4096)}
    found = jax.jit(family.eval_step)(state, batch, KEY)
    assert float(found["elbo"].mean()) == pytest.approx(best, abs=0.03)
    # The shared variance is the mean of the discarded eigenvalues.
    assert float(jnp.exp(2 * state.ema["decoder"]["shared"][0])) == pytest.approx(noise, rel=0.06)


def test_more_draws_come_closer_to_the_integral_over_the_latents():
    family = binary(eval_num_draws=2000)
    state = moved(family, BITS, scale=1.0)
    # A posterior near the prior, which covers what it is to be a proposal for.
    wide = jax.tree.map(lambda p: 0.02 * p, state.ema["encoder"])
    state = state.replace(ema={**state.ema, "encoder": wide})
    groups = StochasticLayers(**MLP, sizes=(2,), event_shape=(2, 2, 1), num_outputs=1, num_shared=0)
    axis = np.linspace(-7.0, 7.0, 141)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2).astype(np.float32)
    outputs = groups.outputs(state.ema, jnp.asarray(grid), None)
    prior = stats.norm.pdf(grid.astype(float)).prod(1) * (axis[1] - axis[0]) ** 2
    exact = []
    for row in BITS["x"]:
        rows = jnp.broadcast_to(row, (len(grid), *row.shape))
        nats = families.Bernoulli().nats(rows, outputs, families.Entries(1, 2))
        exact.append(-np.log((prior * np.exp(-np.asarray(nats, float))).sum()))
    found = jax.jit(family.eval_step)(state, BITS, KEY)
    size = np.asarray(found["effective_sample_size"])
    assert size.min() > 30
    assert (np.abs(np.asarray(found["nats_importance"]) - exact) < 4.5 / np.sqrt(size)).all()
    assert (found["elbo"] > found["nats_importance"]).all()


def test_parts_of_the_bound_add_up_and_do_not_depend_on_the_batch():
    family = binary(eval_num_draws=4)
    state = moved(family, BITS)
    evaluate = jax.jit(family.eval_step)
    whole = evaluate(state, BITS, KEY)
    np.testing.assert_allclose(whole["kl"] + whole["reconstruction"], whole["elbo"], rtol=1e-6)
    np.testing.assert_allclose(whole["bits_per_dim"], whole["elbo"] / (4 * np.log(2.0)), rtol=1e-6)
    half = evaluate(state, jax.tree.map(lambda a: a[3:], BITS), KEY)
    for name, values in half.items():
        np.testing.assert_allclose(values, whole[name][3:], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_a_sampled_divergence_is_the_analytic_one_on_average(kl):
    family = binary(objective=families.VariationalObjective(kl=kl, num_draws=4000))
    state = moved(family, BITS)
    _, metrics = jax.jit(family.train_step)(state, BITS, KEY)
    assert float(metrics["loss"]) == pytest.approx(float(metrics["elbo"]), abs=0.05)


def loss_of(step=0, **objective):
    family = binary(objective=families.VariationalObjective(**objective))
    state = moved(family, BITS).replace(step=jnp.asarray(step, jnp.int32))
    _, metrics = jax.jit(family.train_step)(state, BITS, KEY)
    return {name: float(value) for name, value in metrics.items()}


@pytest.mark.slow
def test_weights_of_the_divergence_are_what_they_say():
    plain = loss_of()
    kl, data = plain["kl"], plain["reconstruction"]
    assert plain["loss"] == pytest.approx(data + kl, rel=1e-6)
    assert loss_of(beta=3.0)["loss"] == pytest.approx(data + 3.0 * kl, rel=1e-6)
    assert loss_of(beta=3.0)["elbo"] == pytest.approx(plain["elbo"], rel=1e-6)
    warm = loss_of(step=25, beta=2.0, warmup_steps=100)
    assert warm["loss"] == pytest.approx(data + 0.5 * kl, rel=1e-6)
    held = loss_of(step=5, capacity=4.0, capacity_steps=10, capacity_weight=7.0)
    assert held["loss"] - data == pytest.approx(7.0 * expected_distance(2.0), rel=1e-5)
    assert loss_of(free_bits=100.0)["loss"] == pytest.approx(data + 200.0, rel=1e-6)


def expected_distance(capacity):
    family = binary()
    state = moved(family, BITS)
    kl = jax.jit(family.eval_step)(state, BITS, KEY)["kl"]
    return float(jnp.mean(jnp.abs(kl - capacity)))


@pytest.mark.parametrize("gradient", ["plain", "stl", "dreg"])
def test_estimators_of_the_gradient_have_one_value(gradient):
    found = loss_of(bound="importance", num_draws=3, gradient=gradient)
    assert found["loss"] == pytest.approx(
        loss_of(bound="importance", num_draws=3)["loss"], rel=1e-6
    )


def test_labels_reach_encoder_decoder_and_prior():
    told = dict(
        encoder=nets.MLPEncoder(hidden_size=16, num_layers=1, num_classes=3),
        decoder=nets.MLPDecoder(hidden_size=16, num_layers=1, num_classes=3),
        prior="label",
    )
    family = binary(**told)
    assert family.reads == ("label",)
    state = moved(family, BITS)
    other = {**BITS, "label": (BITS["label"] + 1) % 3}
    mine, theirs = (jax.jit(family.eval_step)(state, b, KEY) for b in (BITS, other))
    for name in ("elbo", "kl", "reconstruction"):
        assert (jnp.abs(mine[name] - theirs[name]) > 1e-6).all(), name
    latents = family.encode(state, BITS, KEY)
    assert (family.encode(state, other, KEY) != latents).any()
    # Where the priors of labels are the posterior's mean the divergence is that of the widths.
    drawn = jax.jit(family.sample)(state, KEY, BITS).rows
    assert drawn.shape == (6, 2, 2, 1) and drawn.dtype == jnp.uint8


def test_latents_come_back_as_data_and_samples_are_draws_or_centres():
    family = binary()
    state = moved(family, BITS, scale=2.0)
    rows = jax.jit(family.decode)(state, family.encode(state, BITS, KEY), BITS)
    assert rows.shape == BITS["x"].shape and set(np.unique(rows)) <= {0, 1}
    draw, centre = (
        jax.jit(binary(shown=shown).sample)(state, KEY, BITS).rows for shown in ("draw", "centre")
    )
    assert draw.shape == centre.shape and (draw != centre).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv", "mlp"])
@pytest.mark.parametrize(
    "observation",
    [
        families.DiscretizedLogistic(scale="shared"),
        families.LogisticMixture(num_components=3),
        families.Categorical(),
    ],
)
def test_networks_and_observations_of_images_train(name, observation):
    shape = (8, 8, 3)
    networks = {
        "conv": dict(
            encoder=nets.ConvEncoder(channels=8, num_features=16, num_groups=4),
            decoder=nets.ConvDecoder(event_shape=shape, channels=8, num_groups=4),
        ),
        "mlp": MLP,
    }[name]
    family = families.vae(
        **networks,
        observation=observation,
        optimizer=optax.adam(1e-3),
        event_shape=shape,
        num_levels=5,
        latent_size=4,
    )
    x = jnp.asarray(np.random.default_rng(0).integers(5, size=(4, *shape)), jnp.uint8)
    batch = {"x": x, "index": jnp.arange(4)}
    state = jax.jit(family.init)(KEY, batch)
    state, metrics = jax.jit(family.train_step)(state, batch, KEY)
    assert np.isfinite(float(metrics["loss"])) and float(metrics["grad_norm"]) > 0
    rows = jax.jit(family.sample)(state, KEY, batch).rows
    assert rows.shape == x.shape and rows.dtype == jnp.uint8 and int(rows.max()) < 5


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(bound="tight"), "bound must be"),
        (dict(kl="exact"), "kl must be"),
        (dict(gradient="reinforce"), "gradient must be"),
        (dict(num_draws=0), "num_draws must be"),
        (dict(beta=-1.0), "at least 0"),
        (dict(bound="importance", beta=2.0), "weigh the divergence of bound='elbo'"),
        (dict(gradient="dreg"), "is of bound='importance'"),
        (dict(capacity=5.0, beta=4.0), "takes the place of beta"),
    ],
)
def test_objectives_that_make_no_sense_are_refused(kwargs, message, unchecked):
    with pytest.raises(ValueError, match=message):
        families.VariationalObjective(**kwargs)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(latent_size=0), "latent_size must be"),
        (dict(prior="mixture"), "prior must be"),
        (dict(prior="label"), "needs model.decoder.num_classes"),
        (dict(encoder=nets.MLPEncoder(num_classes=3)), "the encoder is told labels"),
        (dict(observation=families.Gaussian()), "the data has 2 grey levels"),
        (dict(eval_num_draws=0), "eval_num_draws must be"),
        (dict(shown="mean"), "shown must be"),
    ],
)
def test_models_that_make_no_sense_are_refused(kwargs, message, unchecked):
    with pytest.raises(ValueError, match=message):
        binary(**kwargs)


def test_a_decoder_of_other_places_is_refused():
    family = binary(decoder=nets.ConvDecoder(event_shape=(8, 8, 1), channels=8))
    with pytest.raises(ValueError, match=r"describes places \(8, 8\), but examples of shape"):
        jax.eval_shape(family.init, KEY, BITS)


def test_what_is_known_of_an_image_is_scored_alone():
    groups = StochasticLayers(**MLP, sizes=(2,), event_shape=(2, 2, 1), num_outputs=1, num_shared=0)
    model = LatentVariableModel(
        groups=groups, observation=families.Bernoulli(), event_shape=(2, 2, 1), num_levels=2,
        objective=families.VariationalObjective(),
    )  # fmt: skip
    params, _ = model.init(KEY, BITS)
    outputs = groups.outputs(params, jax.random.normal(KEY, (6, 2)), None)
    logits = np.asarray(outputs)[..., 0]
    x = np.asarray(BITS["x"])[..., 0]
    known = np.random.default_rng(1).random((6, 2, 2)) < 0.5
    expected = (known * (np.logaddexp(0.0, logits) - x * logits)).sum((1, 2))
    found = known_nats(
        families.Bernoulli(), model.entries, BITS["x"], outputs, jnp.asarray(known)[..., None]
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
