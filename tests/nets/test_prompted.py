"""Networks that are told texts and embeddings."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import nets
from genjax.nets.embeddings import NoiseAndLabel

KEY = jax.random.key(0)
TOLD = {"tokens": jnp.arange(400).reshape(200, 2), "embedding": jnp.ones((200, 3))}
Z, TIMES = jnp.zeros((200, 4)), jnp.zeros(200)


class Words(nn.Module):
    """Tokens as vectors of themselves."""

    context_size = 5

    def __call__(self, tokens):
        return jnp.repeat(tokens[..., None].astype(jnp.float32), 5, axis=-1)


class Hearing(nn.Module):
    """What a network is told, as it is."""

    def __call__(self, z, t, label, context, *, vector=None, deterministic=True):
        return {"context": context, "vector": vector}


def heard(text_dropout_rate=0.0, num_tokens=2, text=True, **kwargs):
    net = nets.Prompted(
        net=Hearing(),
        text=Words() if text else None,
        embedding=nets.EmbeddingContext(
            num_tokens=num_tokens, text_dropout_rate=text_dropout_rate, context_size=5
        ),
    )
    # The type of what this network gives is its own.
    return net, net.init_with_output({"params": KEY, **kwargs.pop("rngs", {})}, Z, TIMES, TOLD,
                                     **kwargs)[0]  # fmt: skip


@pytest.mark.usefixtures("unchecked")
def test_embeddings_are_a_vector_and_a_context_beside_the_text():
    net, out = heard()
    assert net.reads == ("tokens", "embedding")
    assert out["context"].shape == (200, 4, 5)
    np.testing.assert_array_equal(out["context"][:, :2, 0], TOLD["tokens"])
    # The mean of a text's vectors, and the embedding.
    np.testing.assert_array_equal(out["vector"][:, :5], out["context"][:, :2].mean(axis=1))
    np.testing.assert_array_equal(out["vector"][:, 5:], TOLD["embedding"])
    net, out = heard(num_tokens=None)
    assert out["context"].shape == (200, 2, 5)
    net, out = heard(num_tokens=None, text=False)
    assert net.reads == ("embedding",) and out["context"] is None
    np.testing.assert_array_equal(out["vector"], TOLD["embedding"])


@pytest.mark.usefixtures("unchecked")
def test_texts_alone_are_left_out_in_training():
    rngs = {"rngs": {"dropout": jax.random.key(1)}}
    _, out = heard(0.4, deterministic=False, **rngs)
    texts = out["context"][:, :2, 0]
    gone = (texts == -1).all(axis=1)
    assert 45 < int(gone.sum()) < 115  # 80 of 200, by five standard deviations
    np.testing.assert_array_equal(texts[~gone], TOLD["tokens"][~gone])
    np.testing.assert_array_equal(out["vector"][:, 0] == -1, gone)
    np.testing.assert_array_equal(out["vector"][:, 5:], TOLD["embedding"])
    _, out = heard(0.4)
    np.testing.assert_array_equal(out["context"][:, :2, 0], TOLD["tokens"])


def test_a_vector_of_zeros_tells_nothing():
    net = NoiseAndLabel(4, 6, 0.0, 1.0, None)
    vector = jnp.ones((1, 3))
    variables = net.init(KEY, jnp.ones(1), None, vector)
    without = {"params": {k: v for k, v in variables["params"].items() if k != "vector"}}
    plain = net.apply(without, jnp.ones(1), None)
    np.testing.assert_array_equal(net.apply(variables, jnp.ones(1), None, 0.0 * vector), plain)
    assert np.abs(net.apply(variables, jnp.ones(1), None, vector) - plain).max() > 1e-3


@pytest.mark.parametrize(
    "net",
    [
        nets.UNet(channels=4, multipliers=(1,), num_blocks=1, num_groups=2, attention_sizes=()),
        nets.DiT(hidden_size=8, num_layers=1, num_heads=1),
        nets.EfficientUNet(
            channels=4, multipliers=(1,), num_blocks=(1,), num_heads=1, num_groups=2
        ),
    ],
)
def test_networks_of_images_take_a_vector(net):
    args = jnp.zeros((1, 4, 4, 1)), jnp.zeros(1)
    shapes = [
        jax.eval_shape(lambda kw=kw: net.init(KEY, *args, **kw)["params"]["condition"])
        for kw in ({}, {"vector": jnp.ones((1, 3))})
    ]
    assert shapes[1].keys() - shapes[0].keys() == {"vector"}
    assert shapes[1]["vector"]["kernel"].shape[0] == 3
