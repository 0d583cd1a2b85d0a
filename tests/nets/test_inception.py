import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import nets
from genjax.nets.inception import resize_as_tensorflow_1

# torch-fidelity 0.4.0 (torch 2.13.0, CPU) on the weights and images below: the first values of the
# second image in each layer it offers.
REFERENCE = {
    "64": [0.607366, 0.276801, 0.622905, 0.489712],
    "192": [0.0, 0.234019, 0.00968629, 0.983738],
    "768": [0.0729967, 0.636648, 0.0, 0.00329917],
    "2048": [0.0274531, 0.00719491, 1.2149, 0.0446616],
    "logits_unbiased": [0.029133, -0.134433, -0.325281, -0.831119],
}


def weights():
    """Random weights by their published names, in the order of the names."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8)
    shapes = jax.eval_shape(nets.InceptionV3().init, jax.random.key(0), image)["params"]
    kinds = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    named = {"fc.bias": (1008,)}
    for path, leaf in jax.tree.leaves_with_path(shapes):
        *parents, kind = (key.key for key in path)
        if kind == "kernel":
            shape = (
                leaf.shape[::-1] if leaf.ndim == 2 else tuple(leaf.shape[i] for i in (3, 2, 0, 1))
            )
            named[".".join(parents) + ".weight"] = shape
        else:
            named[".".join(parents) + f".bn.{kinds[kind]}"] = leaf.shape
    rng = np.random.Generator(np.random.Philox(7))
    out = {}
    for name in sorted(named):
        x = rng.standard_normal(named[name]).astype(np.float32)
        if name.endswith("running_var"):
            x = 0.5 + np.abs(x)
        elif name.endswith("bn.weight"):
            x = 1 + 0.1 * x
        elif name.endswith(("bias", "running_mean")):
            x = 0.1 * x
        else:
            x = x * np.float32(np.sqrt(2 / np.prod(named[name][1:])))
        out[name] = x.astype(np.float32)
    return out


@pytest.mark.slow
def test_every_layer_agrees_with_torch_fidelity():
    images = np.random.Generator(np.random.Philox(8)).integers(0, 256, size=(2, 32, 40, 3))
    variables = nets.inception_variables(weights())
    features, logits, early = jax.jit(nets.InceptionV3().apply)(variables, images.astype(np.uint8))
    layers = {**early, "2048": features, "logits_unbiased": logits}
    for name, expected in REFERENCE.items():
        np.testing.assert_allclose(layers[name][1, :4], expected, atol=1e-5, err_msg=name)
    assert features.shape == (2, 2048) and logits.shape == (2, 1008)


@pytest.mark.slow
def test_weights_of_another_network_are_refused():
    own = weights()
    missing = {name: value for name, value in own.items() if name != "Mixed_7c.branch1x1.bn.bias"}
    with pytest.raises(ValueError, match="no weight Mixed_7c.branch1x1.bn.bias"):
        nets.inception_variables(missing)
    with pytest.raises(ValueError, match="another network, such as AuxLogits"):
        nets.inception_variables({**own, "AuxLogits.conv0.conv.weight": np.ones(1)})
    with pytest.raises(ValueError, match=r"fc.weight has shape \(2048, 1000\)"):
        nets.inception_variables({**own, "fc.weight": np.ones((1000, 2048), np.float32)})


def test_resizing_reads_at_corners_without_antialiasing():
    row = jnp.array([0.0, 10.0, 20.0, 30.0])[None, :, None, None] * jnp.ones((1, 4, 4, 1))
    # Output pixel i is read at 4 i / 8; past the last pixel it stays.
    expected = [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 30.0]
    np.testing.assert_allclose(resize_as_tensorflow_1(row, 8)[0, :, 0, 0], expected)
    np.testing.assert_allclose(resize_as_tensorflow_1(row, 2)[0, :, 0, 0], [0.0, 20.0])


@pytest.mark.usefixtures("unchecked")
def test_only_8_bit_images_are_taken():
    for images in (np.ones((1, 32, 32, 3), np.float32), np.ones((1, 32, 32, 4), np.uint8)):
        with pytest.raises(ValueError, match="expected uint8 images"):
            nets.InceptionV3().init(jax.random.key(0), images)
