import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nets import DiT, ScoreMLP, ScoreResNet, UNet
from genjax.nets.embeddings import LabelEmbedding

NETS = {
    "dit": (DiT(hidden_size=8, num_layers=1, num_heads=2, num_classes=3), (4, 4, 1)),
    "score_mlp": (ScoreMLP(hidden_size=8, num_layers=1, num_classes=3), (2,)),
    "score_resnet": (
        ScoreResNet(channels=8, num_layers=1, num_groups=4, num_classes=3), (4, 4, 1)
    ),
    "unet": (
        UNet(channels=8, multipliers=(1,), num_blocks=1, num_groups=4, num_classes=3), (4, 4, 1)
    ),
}  # fmt: skip


def noisy(params):
    """Parameters with every zero-initialised layer switched on."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    noise = [p + 0.1 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noise)


def is_table(path, leaf):
    return [getattr(entry, "key", None) for entry in path][-2:] == ["label", "embedding"]


def test_parameters_and_vectors_are_those_of_flax():
    label = jnp.array([2, 0])
    ours, theirs = (
        layer.init_with_output(jax.random.key(3), label)
        for layer in (LabelEmbedding(3, 5), nn.Embed(3, 5))
    )
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[] if name == "score_mlp" else [pytest.mark.slow]) for name in NETS
])  # fmt: skip
def test_no_label_is_the_zero_vector_and_teaches_its_table_nothing(name):
    net, shape = NETS[name]
    z_t = jax.random.normal(jax.random.key(0), (4, *shape))
    gamma_t = jnp.linspace(-5.0, 5.0, 4)
    label = jnp.array([0, 1, 2, 1])
    params = noisy(jax.jit(net.init)(jax.random.key(1), z_t, gamma_t, label))
    without = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.zeros_like(leaf) if is_table(path, leaf) else leaf, params
    )
    apply = jax.jit(net.apply)
    dropped = apply(params, z_t, gamma_t, jnp.full(4, -1))
    np.testing.assert_array_equal(dropped, apply(without, z_t, gamma_t, label))
    assert float(jnp.abs(dropped - apply(params, z_t, gamma_t, label)).max()) > 1e-3

    mixed = jnp.array([0, -1, 2, -1])  # of class 1 no row is left
    grads = jax.grad(lambda p: jnp.sum(jnp.sin(apply(p, z_t, gamma_t, mixed))))(params)
    (table,) = (
        leaf for path, leaf in jax.tree_util.tree_leaves_with_path(grads) if is_table(path, leaf)
    )
    np.testing.assert_array_equal(jnp.any(table != 0, axis=1), [True, False, True])
