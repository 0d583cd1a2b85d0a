"""Hidden Markov models against the enumeration of all paths of states."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import families

KEY = jax.random.key(0)
GENERATOR = np.random.default_rng(0)
SYMBOLS = GENERATOR.integers(4, size=(20, 5)).astype(np.uint8)
VECTORS = (GENERATOR.normal(size=(20, 5, 2)) + 3.0 * (np.arange(5) % 2)[:, None]).astype("f4")
CASES = {
    "symbols": (families.CategoricalComponent(smoothing=1e-3), SYMBOLS, 4),
    "vectors": (families.GaussianComponent(floor=0.0), VECTORS, None),
}


def rows(x):
    return {"x": jnp.asarray(x), "index": jnp.arange(len(x))}


def fitted(name, steps, **kwargs):
    component, x, num_levels = CASES[name]
    family = families.hidden_markov(
        component=component, event_shape=x.shape[1:], num_levels=num_levels, num_states=3, **kwargs
    )
    state = jax.jit(family.init)(KEY, rows(x))
    losses, step = [], jax.jit(family.train_step)
    for _ in range(steps):
        state, metrics = step(state, rows(x), KEY)
        losses.append(float(metrics["loss"]))
    return family, state, np.array(losses)


def emitted(name, parameters, x):
    """Log-probability of each place in each state, in NumPy, ``[N, T, K]``."""
    if name == "symbols":
        return parameters["log_probs"][0][x]
    found = []
    for mean, factor in zip(parameters["mean"], parameters["factor"], strict=True):
        z = (x - mean) @ np.linalg.inv(factor).T
        log_det = np.log(np.diag(factor)).sum()
        found.append(-0.5 * (z**2).sum(-1) - log_det - np.log(2 * np.pi))
    return np.stack(found, -1)


def enumerated(name, state):
    """Log-joint of all paths ``[N, P]``, and the paths ``[P, T]``."""
    parameters = {k: np.asarray(v, float) for k, v in state.params["chain"].items()}
    local = emitted(name, parameters, CASES[name][1])
    paths = np.array(list(itertools.product(range(3), repeat=5)))
    prior = parameters["log_initial"][paths[:, 0]] + sum(
        parameters["log_transition"][paths[:, t], paths[:, t + 1]] for t in range(4)
    )
    return prior + sum(local[:, t, paths[:, t]] for t in range(5)), paths


@pytest.mark.parametrize("name", CASES)
def test_scores_states_paths_and_steps_are_those_of_all_paths(name):
    family, state, _ = fitted(name, 2)
    x = CASES[name][1]
    joint, paths = enumerated(name, state)
    evidence = np.log(np.exp(joint).sum(1))
    found = jax.jit(family.eval_step)(state, rows(x), KEY)
    np.testing.assert_allclose(-found["nats"], evidence, rtol=1e-5)
    weights = np.exp(joint - evidence[:, None])
    hidden = np.eye(3)[paths]
    states = np.einsum("np,ptk->ntk", weights, hidden)
    latents = jax.jit(family.encode)(state, rows(x), KEY)
    np.testing.assert_allclose(latents["posterior"], states, atol=1e-5)
    np.testing.assert_array_equal(latents["path"], paths[joint.argmax(1)])
    # One step of expectation maximisation from the expected numbers.
    after, _ = jax.jit(family.train_step)(state, rows(x), KEY)
    made = after.params["chain"]
    pairs = np.einsum("np,pti,ptj->ij", weights, hidden[:, :-1], hidden[:, 1:])
    transition = pairs / pairs.sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(made["log_transition"]), transition, atol=1e-5)
    np.testing.assert_allclose(np.exp(made["log_initial"]), states[:, 0].mean(0), atol=1e-5)
    weight = states.sum((0, 1))
    if name == "symbols":
        counts = np.einsum("ntk,ntv->vk", states, np.eye(4)[x]) + 1e-3
        np.testing.assert_allclose(np.exp(made["log_probs"][0]), counts / counts.sum(0), rtol=1e-4)
    else:
        mean = np.einsum("ntk,ntd->kd", states, x) / weight[:, None]
        np.testing.assert_allclose(made["mean"], mean, rtol=1e-4, atol=1e-5)
        offset = x[:, :, None] - mean
        spread = np.einsum("ntk,ntkd,ntke->kde", states, offset, offset) / weight[:, None, None]
        factor = np.asarray(made["factor"])
        np.testing.assert_allclose(factor @ factor.transpose(0, 2, 1), spread, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_likelihood_never_falls(name):
    _, _, losses = fitted(name, 25)
    assert (np.diff(losses) < 1e-4).all() and losses[-1] < losses[0] - 0.01


@pytest.mark.slow
def test_samples_follow_the_chain_and_training_finds_it():
    family, state, _ = fitted("symbols", 0)
    log_initial = jnp.log(jnp.array([0.8, 0.1, 0.1]))
    transition = jnp.array([[0.1, 0.9, 0.0], [0.0, 0.1, 0.9], [0.9, 0.0, 0.1]])
    probs = jnp.eye(4)[jnp.array([0, 2, 3])].T[None]
    truth = {
        "log_initial": log_initial,
        "log_transition": jnp.log(transition + 1e-6),
        "log_probs": jnp.log(probs + 1e-6),
    }
    state = state.replace(params={"chain": truth})
    request = {"x": jnp.zeros((20_000, 5), jnp.uint8)}
    x = np.asarray(jax.jit(family.sample)(state, KEY, request).rows)
    assert x.dtype == np.uint8 and x.shape == (20_000, 5)
    of_state = {0: 0, 2: 1, 3: 2}
    states = np.vectorize(of_state.get)(x)
    np.testing.assert_allclose(np.bincount(states[:, 0]) / 20_000, [0.8, 0.1, 0.1], atol=0.015)
    pairs = np.zeros((3, 3))
    np.add.at(pairs, (states[:, :-1].ravel(), states[:, 1:].ravel()), 1)
    np.testing.assert_allclose(pairs / pairs.sum(1, keepdims=True), transition, atol=0.015)
    step, some = jax.jit(family.train_step), rows(x[:400])
    entropy = float(step(state, some, KEY)[1]["loss"])
    learned = jax.jit(family.init)(KEY, some)
    for _ in range(40):
        learned, metrics = step(learned, some, KEY)
    assert float(metrics["loss"]) == pytest.approx(entropy, abs=0.05)


@pytest.mark.slow
def test_a_sequence_of_one_place_is_a_mixture():
    x = VECTORS[:, :1]
    chain = families.hidden_markov(
        component=families.GaussianComponent(), event_shape=(1, 2), num_levels=None, num_states=2
    )
    flat = families.mixture(
        component=families.GaussianComponent(), event_shape=(1, 2), num_levels=None,
        num_components=2,
    )  # fmt: skip
    state = jax.jit(chain.init)(KEY, rows(x))
    parts = {k: v for k, v in state.params["chain"].items() if k in ("mean", "factor")}
    other = jax.jit(flat.init)(KEY, rows(x)).replace(
        params={"mixture": {"log_weights": state.params["chain"]["log_initial"], **parts}}
    )
    a, b = (
        jax.jit(chain.train_step)(state, rows(x), KEY),
        jax.jit(flat.train_step)(other, rows(x), KEY),
    )
    assert float(a[1]["loss"]) == pytest.approx(float(b[1]["loss"]), rel=1e-5)
    for name in parts:
        np.testing.assert_allclose(
            a[0].params["chain"][name], b[0].params["mixture"][name], rtol=1e-4, atol=1e-5
        )


def test_what_makes_no_sense_is_refused(unchecked):
    with pytest.raises(ValueError, match="num_states must be at least 1, got 0"):
        families.hidden_markov(
            component=families.GaussianComponent(), event_shape=(3,), num_levels=None, num_states=0
        )
    with pytest.raises(ValueError, match="real-valued: take 'gaussian'"):
        families.hidden_markov(
            component=families.CategoricalComponent(), event_shape=(3,), num_levels=None
        )


def test_missing_symbols_are_drawn_given_all_known_ones():
    family, state, _ = fitted("symbols", 3)
    known, count = np.array([True, False, True, False, True]), 20_000
    row = np.where(known, SYMBOLS[2], 0)
    batch = {"x": jnp.tile(row, (count, 1)), "known": jnp.tile(jnp.array(known), (count, 1))}
    drawn = np.asarray(jax.jit(family.impute, static_argnums=3)(state, batch, KEY, 1))
    assert (drawn[:, known] == row[known]).all()
    ways = np.array(list(itertools.product(range(4), repeat=2)), np.uint8)
    every = np.tile(row, (16, 1)).astype(np.uint8)
    every[:, ~known] = ways
    log_prob = jax.jit(family.log_prob)(state, rows(every), KEY)
    share = np.exp(np.asarray(log_prob, float))
    found = np.bincount(4 * drawn[:, 1] + drawn[:, 3], minlength=16) / count
    # Five standard errors.
    np.testing.assert_allclose(found, share / share.sum(), atol=0.018)
