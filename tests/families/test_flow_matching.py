import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats
from scipy.optimize import linear_sum_assignment

from genjax import families, losses, nets
from genjax.families.matched_flow import optimal_pairing

KEY = jax.random.key(0)


class Still(nn.Module):
    """A field without motion."""

    @nn.compact
    def __call__(self, x, t, label=None, *, deterministic=True):
        return x * self.param("zero", nn.initializers.zeros_init(), ())


def build(net=None, *, event_shape=(2,), num_levels=None, **kwargs):
    kwargs.setdefault("optimizer", optax.adam(5e-3))
    net = net or nets.ScoreMLP(hidden_size=32, num_layers=2, gamma_min=0.0, gamma_max=1.0)
    return families.flow_matching(
        velocity_net=net, event_shape=event_shape, num_levels=num_levels, **kwargs
    )


def test_the_straight_path_has_its_velocity_and_its_ends():
    noise, data = jax.random.normal(KEY, (2, 5, 3))
    for sigma in (0.0, 0.1):

        def at(t, sigma=sigma):
            return losses.straight_path(noise, data, jnp.full(5, t), sigma_min=sigma)

        np.testing.assert_allclose(at(0.0)[0], noise, atol=1e-6)
        np.testing.assert_allclose(at(1.0)[0], data + sigma * noise, atol=1e-6)
        slope = (at(0.6)[0] - at(0.4)[0]) / 0.2
        np.testing.assert_allclose(at(0.5)[1], slope, atol=1e-5)
    with pytest.raises(ValueError, match="sigma_min"):
        losses.straight_path(noise, data, jnp.zeros(5), sigma_min=1.0)


def test_pairing_is_the_optimal_assignment():
    noise, data = jax.random.normal(KEY, (2, 40, 3)) * jnp.array([1.0, 2.0, 0.5])
    order = np.asarray(jax.jit(optimal_pairing)(noise, data))
    assert sorted(order) == list(range(40))
    costs = ((np.asarray(data)[:, None] - np.asarray(noise)[None]) ** 2).sum(-1)
    rows, columns = linear_sum_assignment(costs)
    assert costs[np.arange(40), order].sum() == pytest.approx(costs[rows, columns].sum(), rel=1e-5)


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_a_field_without_motion_scores_the_standard_normal(trace):
    family = build(Still(), event_shape=(3, 1), num_levels=5, trace=trace, eval_num_draws=2)
    x = np.random.default_rng(0).integers(5, size=(7, 3, 1)).astype(np.uint8)
    batch = {"x": jnp.asarray(x), "index": jnp.arange(7, dtype=jnp.int32)}
    state = jax.jit(family.init)(KEY, batch)
    found = jax.jit(family.eval_step)(state, batch, KEY)
    # The mean over u of the density at 2 (k + u) / 5 - 1, in bins of 2 / 5.
    u = np.linspace(0.0, 1.0, 2001)
    points = 2.0 * (x.reshape(7, 3, 1) + u) / 5.0 - 1.0
    bits = -(stats.norm.logpdf(points).mean(-1).sum(-1) + 3 * math.log(2 / 5)) / (3 * math.log(2))
    assert float(found["bits_per_dim"].mean()) == pytest.approx(bits.mean(), abs=0.06)
    assert ("bits_per_dim_importance" in found) == (trace == "exact")


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
@pytest.mark.slow
def test_a_row_scores_the_same_in_any_batch(trace):
    family = build(trace=trace, tolerance=1e-6, eval_num_draws=2)
    batch = {"x": jax.random.normal(KEY, (8, 2)), "index": jnp.arange(8, dtype=jnp.int32)}
    state = jax.jit(family.init)(KEY, batch)
    leaves, tree = jax.tree.flatten(state.ema)
    keys = jax.random.split(KEY, len(leaves))
    far = [p + 0.1 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    state = state.replace(ema=jax.tree.unflatten(tree, far))
    evaluate = jax.jit(family.eval_step)
    whole = evaluate(state, batch, KEY)["nats"]
    # One program, other neighbours, which need other steps of the solver: not a bit changes.
    others = {**batch, "x": batch["x"].at[:3].multiply(30.0)}
    assert (evaluate(state, others, KEY)["nats"][3:] == whole[3:]).all()
    # Another size of the batch is another program: its rounding may change which steps the solver
    # takes, and the result by what the solver tolerates.
    half = evaluate(state, jax.tree.map(lambda a: a[3:], batch), KEY)["nats"]
    np.testing.assert_allclose(half, whole[3:], rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("coupling", ["independent", "optimal_transport"])
def test_training_finds_a_correlated_gaussian(coupling):
    covariance = np.array([[1.0, 0.8], [0.8, 1.0]])
    points = np.random.default_rng(0).multivariate_normal([1.0, -1.0], covariance, 4096)
    data = {"x": jnp.asarray(points, jnp.float32), "index": jnp.arange(4096, dtype=jnp.int32)}
    family = build(
        coupling=coupling,
        ema_decay=0.98,
        method="heun",
        sampling=families.Sampling(num_steps=20),
        optimizer=optax.adam(optax.cosine_decay_schedule(5e-3, 800)),
    )
    state, step = jax.jit(family.init)(KEY, data), jax.jit(family.train_step)
    lengths = []
    for i in range(800):
        rows = {"x": data["x"][(np.arange(128) + 128 * i) % 4096]}
        state, metrics = step(state, rows, jax.random.fold_in(KEY, i))
        lengths.append(float(metrics["path_length"]))
    nats = jax.jit(family.eval_step)(state, jax.tree.map(lambda a: a[:1000], data), KEY)["nats"]
    exact = -stats.multivariate_normal([1.0, -1.0], covariance).logpdf(points[:1000])
    assert float(nats.mean()) == pytest.approx(exact.mean(), abs=0.03)
    drawn = jax.jit(family.sample)(state, KEY, {"x": jnp.zeros((4000, 2))})
    np.testing.assert_allclose(np.cov(drawn.rows.T), covariance, atol=0.2)
    assert drawn.density.values.shape == (100, 100)
    # Independent: |m|^2 + tr(C) + 2 = 6. By transport: |m|^2 + the Bures distance, and the batch's.
    assert (np.mean(lengths) > 5) == (coupling == "independent")


def test_samples_of_levels_and_labels():
    net = nets.ScoreMLP(hidden_size=8, num_layers=1, gamma_min=0.0, gamma_max=1.0, num_classes=3)
    family = build(net, num_levels=256, method="euler", sampling=families.Sampling(num_steps=2))
    batch = {"x": jnp.zeros((6, 2), jnp.uint8), "label": jnp.arange(6) % 3}
    state = jax.jit(family.init)(KEY, batch)
    state, metrics = jax.jit(family.train_step)(state, batch, KEY)
    assert np.isfinite(float(metrics["loss"]))
    drawn = jax.jit(family.sample)(state, KEY, batch)
    assert drawn.rows.dtype == jnp.uint8 and drawn.density is None


@pytest.mark.parametrize("kwargs, message", [
    (dict(sigma_min=1.0), "sigma_min"),
    (dict(eval_num_draws=0), "eval_num_draws"),
    (dict(tolerance=0.0), "must be positive"),
    (dict(trace="exakt"), "trace must be"),
    (dict(sampling=families.Sampling(num_steps=0)), "must be positive"),
])  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)
