"""Classifiers of older papers: sizes as published, pooling, batch statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import nets
from genjax.nets.plain_classifier import _pooled


def shapes_of(net, side, channels=1):
    x = jax.ShapeDtypeStruct((2, side, side, channels), jnp.float32)
    variables = jax.eval_shape(net.init, jax.random.key(0), x)
    params = {n: {k: v.shape for k, v in p.items()} for n, p in variables["params"].items()}
    logits, features = jax.eval_shape(net.apply, variables, x)
    return params, logits.shape, features.shape


def test_the_defaults_are_the_network_of_the_paper_on_adaptation():
    params, logits, features = shapes_of(nets.PlainConvClassifier(num_classes=10), 28, 3)
    assert params["conv_0"]["kernel"] == (5, 5, 3, 32)
    assert params["conv_1"]["kernel"] == (5, 5, 32, 48)
    assert params["dense_0"]["kernel"] == (768, 100)
    assert params["logits"]["kernel"] == (100, 10)
    assert logits == (2, 10) and features == (2, 768)


def test_strides_in_place_of_pooling_make_the_network_of_cheap_robust_training():
    net = nets.PlainConvClassifier(
        num_classes=10, channels=(16, 32), kernel_size=4, stride=2, padding="SAME", pool=False,
        hidden_sizes=(100,), features="last",
    )  # fmt: skip
    params, _, features = shapes_of(net, 28)
    assert params["dense_0"]["kernel"] == (7 * 7 * 32, 100) and features == (2, 100)


def test_pooling_takes_the_largest_of_four_and_gives_it_the_gradient():
    x = jnp.asarray(np.random.default_rng(0).permutation(2 * 5 * 4 * 3).reshape(2, 5, 4, 3) * 1.0)
    expected = np.asarray(x)[:, :4].reshape(2, 2, 2, 2, 2, 3).max((2, 4))
    np.testing.assert_array_equal(_pooled(x), expected)
    slope = jax.grad(lambda x: _pooled(x).sum())(x)
    np.testing.assert_array_equal(slope, np.isin(np.asarray(x), expected))


def test_a_domain_has_one_logit():
    net = nets.DomainMLP(hidden_size=3, num_layers=2)
    assert shapes_of_rows(net) == (4,)


def shapes_of_rows(net):
    rows = jax.ShapeDtypeStruct((4, 6), jnp.float32)
    return jax.eval_shape(net.init_with_output, jax.random.key(0), rows)[0].shape


@pytest.mark.parametrize(
    "kwargs, side, message",
    [
        (dict(), 12, "are too small for 2 convolutions"),
        (dict(num_classes=None), 28, "num_classes is None"),
    ],
)
def test_what_does_not_fit_is_refused(kwargs, side, message):
    with pytest.raises(ValueError, match=message):
        shapes_of(nets.PlainConvClassifier(**{"num_classes": 10, **kwargs}), side)
