"""Towers: what goes in, and what comes out of any of it."""

import jax
import jax.numpy as jnp
import pytest

from genjax import nets


def test_towers_map_images_and_texts_to_vectors_of_one_length():
    image = nets.ImageTower(embedding_size=5, channels=8, num_halvings=1, num_features=8)
    text = nets.TextTower(5, 7, 4, hidden_size=8, num_blocks=1, num_heads=2, dtype=jnp.bfloat16)
    for net, rows in ((image, jnp.ones((2, 4, 6, 3))), (text, jnp.ones((2, 4), jnp.int32))):
        found = jax.eval_shape(net.init_with_output, jax.random.key(0), rows)[0]
        assert found.shape == (2, 5) and found.dtype == jnp.float32


@pytest.mark.parametrize("causal", [True, False])
def test_every_word_changes_the_vector_of_a_text(causal):
    net = nets.TextTower(5, 7, 4, hidden_size=8, num_blocks=1, num_heads=2, causal=causal)
    tokens = jnp.array([[2, 3, 4, 1]])
    variables = jax.jit(net.init)(jax.random.key(0), tokens)
    others = jnp.stack([tokens[0].at[place].set(6) for place in range(4)])
    moved = jax.jit(net.apply)(variables, jnp.concatenate([tokens, others]))
    assert (jnp.abs(moved[1:] - moved[0]).max(axis=1) > 1e-5).all()


def test_states_are_of_each_token_none_of_no_text_and_of_the_same_variables():
    net = nets.TextTower(5, 7, 4, hidden_size=8, num_blocks=1, num_heads=2)
    tokens = jnp.array([[2, 3, 4, 1], [-1, -1, -1, -1]])
    init = jax.eval_shape(net.init, jax.random.key(0), tokens)
    states, variables = jax.jit(lambda key: net.init_with_output(key, tokens, method="states"))(
        jax.random.key(0)
    )
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, init)
    assert states.shape == (2, 4, net.context_size)
    assert not states[1].any() and jnp.abs(states[0]).min() > 0.0
    kernel = variables["params"]["projection"]["kernel"]
    found = jax.jit(net.apply)(variables, tokens[:1])
    assert jnp.allclose(found, states[:1, -1] @ kernel, atol=1e-5)
