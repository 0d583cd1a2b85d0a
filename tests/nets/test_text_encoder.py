"""Texts as vectors."""

import jax
import jax.numpy as jnp
import pytest

from genjax.nets import TextEncoder

TOKENS = jnp.array([[1, 2, 0, 3], [4, 4, 0, 0]])


def vectors(net, tokens):
    variables = net.init(jax.random.key(0), tokens)
    return net.apply(variables, tokens)


def test_a_token_changes_all_vectors_or_those_from_it_on():
    other = TOKENS.at[:, 2].set(5)
    for causal in (False, True):
        net = TextEncoder(6, 4, hidden_size=8, num_blocks=1, num_heads=2, causal=causal)
        moved = jnp.abs(vectors(net, TOKENS) - vectors(net, other)).max(axis=-1) > 1e-6
        assert (moved.all(axis=0) == jnp.array([not causal] * 2 + [True] * 2)).all()


def test_no_text_is_a_vector_of_its_own_whose_number_does_not_matter():
    net = TextEncoder(6, 4, hidden_size=8, num_blocks=1, num_heads=2)
    none = vectors(net, jnp.full((1, 4), -1))
    assert (none == vectors(net, jnp.full((1, 4), -7))).all()
    assert all(jnp.abs(none - vectors(net, jnp.full((1, 4), i))).max() > 1e-3 for i in range(6))


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match=r"texts of 3 tokens, got shape \(2, 4\)"):
        vectors(TextEncoder(6, 3), TOKENS)
    with pytest.raises(ValueError, match="needs num_tokens and text_length"):
        vectors(TextEncoder(), TOKENS)
    with pytest.raises(ValueError, match="num_heads 3 does not divide hidden_size 8"):
        vectors(TextEncoder(6, 4, hidden_size=8, num_heads=3), TOKENS)
