"""Scores of outliers by latents: against closed forms of linear Gaussian models."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy import stats

import genjax
from genjax import evaluation, families, nets
from genjax.families.latent_groups import Explanation
from genjax.families.latent_outliers import hierarchy_ratio, likelihood_regret
from genjax.families.latent_variable import LatentVariableModel
from genjax.families.top_down import TopDown

KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Chain:
    """z_2 ~ N(0, 1), z_1 ~ N(a z_2, s1²), x ~ N(b z_1, sx²), and guesses the other way."""

    a: float = 0.8
    s1: float = 0.5
    b: float = 1.3
    c: float = 0.6  # q(z_1 | x) = N(c x, t1²)
    t1: float = 0.3
    d: float = 0.9  # q(z_2 | z_1) = N(d z_1, t2²)
    t2: float = 0.4
    sizes = (1, 1)
    generated = (1, 0)
    conditional = False
    networks = {}

    def init(self, key, x, label):
        return {}

    def imagine(self, params, label, noise):
        raise NotImplementedError

    outputs = imagine

    def look(self, params, x, label):
        return x

    def explain(self, params, seen, label, *, noise=None, latents=None):
        if latents is None:
            z1 = self.c * seen + self.t1 * noise[:, :1]
            z2 = self.d * z1 + self.t2 * noise[:, 1:]
        else:
            z1, z2 = latents[:, :1], latents[:, 1:]
        stds = jnp.log(jnp.array([self.t1, self.t2])) + 0.0 * seen
        posterior = jnp.concatenate([self.c * seen, self.d * z1], 1), stds
        of_prior = jnp.log(jnp.array([self.s1, 1.0])) + 0.0 * seen
        prior = jnp.concatenate([self.a * z2, 0.0 * z2], 1), of_prior
        return Explanation(jnp.concatenate([z1, z2], 1), posterior, prior, self.b * z1)


def model_of(groups, size=1):
    return LatentVariableModel(
        groups=groups,
        observation=families.Gaussian(variance="fixed"),
        objective=families.VariationalObjective(),
        event_shape=(size,),
        num_levels=None,
    )


def log_normal(second_moment, std):
    """Expected log-density, by the expected square of the distance from the mean."""
    return -0.5 * second_moment / std**2 - np.log(std) - 0.5 * np.log(2 * np.pi)


def chain_bounds(chain, x, std):
    """Both bounds in closed form: with z_1 of the encoder, and drawn anew given z_2."""
    m1, v1 = chain.c * x, chain.t1**2  # of q(z_1)
    m2, v2 = chain.d * m1, chain.d**2 * v1 + chain.t2**2
    top = log_normal(m2**2 + v2, 1.0) - log_normal(chain.t2**2, chain.t2)
    # z_1 - a z_2 = (1 - a d) z_1 - a t2 noise
    apart = ((1 - chain.a * chain.d) * m1) ** 2
    apart = apart + (1 - chain.a * chain.d) ** 2 * v1 + (chain.a * chain.t2) ** 2
    below = log_normal(apart, chain.s1) - log_normal(v1, chain.t1)
    data = log_normal((x - chain.b * m1) ** 2 + chain.b**2 * v1, std)
    again_mean, again_var = chain.a * m2, chain.a**2 * v2 + chain.s1**2
    anew = log_normal((x - chain.b * again_mean) ** 2 + chain.b**2 * again_var, std)
    return data + below + top, anew + top


def test_what_fine_latents_are_worth_is_what_the_closed_form_says():
    chain = Chain()
    x = np.linspace(-3.0, 3.0, 7)
    batch = {"x": jnp.asarray(x, jnp.float32)[:, None], "index": jnp.arange(7)}
    model = model_of(chain)
    found = jax.jit(lambda b: hierarchy_ratio(model, {}, b, KEY, 1, 20_000))(batch)
    whole, above = chain_bounds(chain, x, 1.0)
    # Squares of a few units: the deviation of a mean of 20,000 is below 0.1 far out.
    np.testing.assert_allclose(found, whole - above, rtol=0.02, atol=0.05)
    assert found[0] > 2.0 * found[3]  # far out the fine ones are worth most


def linear_model(mean_off=0.0, log_std_off=0.0):
    """One latent, x ~ N(b z, 1) in two dimensions, and an encoder that may be wrong."""
    b = jnp.array([[1.5, -0.5]])
    precision = 1.0 + float(jnp.sum(b**2))

    class Linear(Chain):
        sizes = (1,)
        generated = (0,)

        def explain(self, params, seen, label, *, noise=None, latents=None):
            mean = seen @ b.T / precision + mean_off
            log_std = jnp.full_like(mean, -0.5 * np.log(precision) + log_std_off)
            z = mean + jnp.exp(log_std) * noise if latents is None else latents
            zeros = jnp.zeros_like(z)
            return Explanation(z, (mean, log_std), (zeros, zeros), z @ b)

    return model_of(Linear(), 2), precision


@pytest.mark.parametrize("off", [(0.0, 0.0), (0.7, 0.0), (0.0, 0.8), (-0.5, -0.6)])
def test_regret_is_the_divergence_of_the_encoder_from_the_posterior(off):
    model, precision = linear_model(*off)
    batch = {"x": jax.random.normal(KEY, (64, 2)), "index": jnp.arange(64)}
    found = jax.jit(lambda b: likelihood_regret(model, {}, b, KEY, num_draws=500))(batch)
    # KL of N(m + o, (s e^l)²) from N(m, s²).
    exact = 0.5 * (np.exp(2 * off[1]) + off[0] ** 2 * precision - 1.0) - off[1]
    error = np.std(found) / 8.0
    assert exact - 0.02 - 4.0 * error < np.mean(found) < exact + 4.0 * error


def test_regret_begins_at_the_encoder_whatever_groups_depend_on():
    model = model_of(Chain())
    batch = {"x": jax.random.normal(KEY, (5, 1)), "index": jnp.arange(5)}

    def regret(**kwargs):
        return jax.jit(lambda b: likelihood_regret(model, {}, b, KEY, **kwargs))(batch)

    np.testing.assert_allclose(regret(num_steps=1, learning_rate=1e-9), 0.0, atol=1e-5)
    # What is fitted is the encoder's own bound, and no worse than that.
    assert (regret(num_draws=500) > -0.05).all()


def test_scores_of_a_row_do_not_depend_on_the_batch():
    model, _ = linear_model(0.3, 0.2)
    chain = model_of(Chain())
    x = jax.random.normal(KEY, (6, 2))
    whole = {"x": x, "index": jnp.arange(6)}
    half = {"x": x[3:], "index": jnp.arange(3, 6)}
    for score in (
        lambda b: likelihood_regret(model, {}, b, KEY, num_steps=5),
        lambda b: hierarchy_ratio(chain, {}, {**b, "x": b["x"][:, :1]}, KEY, 1),
    ):
        np.testing.assert_allclose(score(whole)[3:], score(half), rtol=1e-4, atol=1e-5)


def test_fine_groups_of_a_top_down_model_are_drawn_in_turn():
    groups = TopDown(
        encoder=nets.BottomUpEncoder(channels=4, num_blocks=(0, 1)),
        decoder=nets.TopDownDecoder(
            event_shape=(4, 4, 1), channels=4, num_blocks=(1, 2), latent_channels=1
        ),
        event_shape=(4, 4, 1),
        num_outputs=1,
        num_shared=0,
    )
    model = LatentVariableModel(
        groups=groups,
        observation=families.Bernoulli(),
        objective=families.VariationalObjective(),
        event_shape=(4, 4, 1),
        num_levels=2,
    )
    assert len(groups.sizes) == 3 and groups.generated == (0, 1, 2)
    batch = {
        "x": jax.random.bernoulli(KEY, 0.5, (3, 4, 4, 1)).astype(jnp.uint8),
        "index": jnp.arange(3),
    }
    params, _ = model.init(KEY, batch)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(KEY, len(leaves))
    leaves = [a + 0.1 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    params = jax.tree.unflatten(tree, leaves)
    seen = model.look(params, batch)
    sizes, count = groups.sizes, 400
    edges = np.cumsum((0, *sizes))

    def by_hand(key, number):
        """One draw of both bounds: latents of the posterior, the finest drawn in turn."""
        of_posterior, of_prior = jax.random.split(key)
        noise = jax.random.normal(of_posterior, (1, 3, model.latent_size))
        first = model.explain(params, batch, seen, noise=noise)
        z = first.latents
        for group in range(3 - number, 3):
            own = slice(edges[group], edges[group + 1])
            mean, log_std = model.explain(params, batch, seen, latents=z).prior
            fresh = jax.random.normal(jax.random.fold_in(of_prior, group), z[..., own].shape)
            z = z.at[..., own].set(mean[..., own] + jnp.exp(log_std[..., own]) * fresh)
        kept = slice(0, edges[3 - number])
        logs = [
            stats.norm.logpdf(first.latents[..., kept], g[0][..., kept], jnp.exp(g[1][..., kept]))
            for g in (first.prior, first.posterior)
        ]
        nats = model.data_nats(batch, model.explain(params, batch, seen, latents=z))
        above = jnp.sum(logs[0] - logs[1], axis=-1) - nats
        return (model.log_weights(batch, first) - above)[0]

    keys = jax.random.split(jax.random.key(5), count)
    for number in (1, 2):
        draws = jax.jit(jax.vmap(lambda k, n=number: by_hand(k, n)))(keys)
        found = jax.jit(lambda b, n=number: hierarchy_ratio(model, params, b, KEY, n, count))(batch)
        error = np.sqrt(2.0 / count) * np.std(draws, axis=0)
        assert (np.abs(found - np.mean(draws, axis=0)) < 4.0 * error).all(), number
        assert (np.abs(found) > error).any()


@pytest.mark.slow
def test_scores_through_configs_tell_shuffled_pixels_from_digits(tmp_path):
    config = dict(
        data=dict(name="digits", batch_size=64),
        model=dict(
            encoder=dict(name="mlp_layers", hidden_sizes=(32, 16)),
            decoder=dict(name="mlp_layers", hidden_sizes=(32, 16)),
        ),
        family=dict(
            name="vae", latent_size=(8, 4), observation=dict(name="categorical"), ema_decay=0.9
        ),
        optimizer=dict(name="adam", learning_rate=3e-3),
        train=dict(num_steps=300, log_every=100, eval_every=0, sample_every=0),
        eval=dict(batch_size=120, num_times=4),
    )
    run = genjax.Run(genjax.build(config), tmp_path, quiet=True)
    run.train()
    x = run.experiment.test_data.source.rows(np.arange(120))["x"]
    inside = run.outlier_scores(x)
    outside = run.outlier_scores(evaluation.outlier_sets(x, 17, 0)["shuffled"])
    assert set(inside) == {"likelihood_regret", "hierarchy_ratio_1"}
    for name in inside:
        assert evaluation.auroc(inside[name], outside[name]) > 0.7, name
    only = run.outlier_scores(x, names=["hierarchy_ratio_1"])
    np.testing.assert_allclose(only["hierarchy_ratio_1"], inside["hierarchy_ratio_1"], rtol=1e-4)
    with pytest.raises(ValueError, match="has no score 'regret'; it has likelihood_regret, hier"):
        run.outlier_scores(x, names=["regret"])
