"""The transformer that makes embeddings of images from texts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import nets

NET = nets.PriorTransformer(
    num_tokens=5, text_length=3, hidden_size=8, num_blocks=2, num_heads=2, gamma_min=0.0,
    gamma_max=1.0,
)  # fmt: skip
Z = jax.random.normal(jax.random.key(1), (2, 4))
TOLD = {
    "tokens": jnp.array([[1, 2, 3], [4, 0, 0]]),
    "text_embedding": jax.random.normal(jax.random.key(2), (2, 6)),
}
TIMES = jnp.array([0.3, 0.6])
VARIABLES = NET.init(jax.random.key(0), Z, TIMES, TOLD)
# The text, its embedding, the time, the noisy embedding, the query.
PLACES = ["text"] * 3 + ["text_embedding", "time", "z", "query"]


def states(z=Z, times=TIMES, **told):
    """What the blocks make of each place, ``[blocks, B, places, W]``."""
    _, kept = NET.apply(
        VARIABLES, z, times, {**TOLD, **told}, capture_intermediates=True, mutable="intermediates"
    )
    kept = kept["intermediates"]
    return np.stack([kept[f"block_{i}"]["__call__"][0] for i in range(2)])


@pytest.mark.parametrize(
    "changed, first",
    [
        (dict(tokens=TOLD["tokens"].at[:, 1].set(1)), 1),
        (dict(text_embedding=-TOLD["text_embedding"]), 3),
        (dict(times=TIMES + 0.1), 4),
        (dict(z=-Z), 5),
    ],
)
def test_a_place_sees_those_before_it_and_the_query_sees_all(changed, first):
    before, after = states(), states(**changed)
    moved = np.abs(after - before).max(axis=(0, 1, 3))
    assert (moved[:first] == 0).all() and (moved[first] > 1e-4) and moved[-1] > 1e-4
    assert len(moved) == len(PLACES)


def test_gradients_reach_all_parameters_but_those_of_what_is_not_said():
    def loss(params):
        return jnp.sum(jnp.square(NET.apply({"params": params}, Z, TIMES, TOLD)))

    slopes = jax.grad(loss)(VARIABLES["params"])
    assert all(jnp.abs(slope).max() > 0 for slope in jax.tree.leaves(slopes))
    np.testing.assert_array_equal(slopes["token"][-1], 0.0)  # what stands for no text


def test_what_is_not_told_has_vectors_of_its_own():
    nothing = {"tokens": jnp.full((2, 3), -1), "text_embedding": jnp.zeros((2, 6))}
    out = NET.apply(VARIABLES, Z, TIMES, nothing)
    assert out.shape == (2, 4) and out.dtype == jnp.float32 and np.isfinite(out).all()
    for name, value in nothing.items():
        other = NET.apply(VARIABLES, Z, TIMES, {**TOLD, name: value})
        assert np.abs(other - out).max() > 1e-4


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match="needs num_tokens and text_length"):
        nets.PriorTransformer().init(jax.random.key(0), Z, TIMES, TOLD)
    with pytest.raises(ValueError, match="texts of 3 tokens"):
        NET.apply(VARIABLES, Z, TIMES, {**TOLD, "tokens": TOLD["tokens"][:, :2]})
    with pytest.raises(ValueError, match="num_heads 3 does not divide hidden_size 8"):
        NET.clone(num_heads=3).init(jax.random.key(0), Z, TIMES, TOLD)
