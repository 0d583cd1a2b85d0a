"""Inception-v3 with the weights that the Fréchet Inception distance is defined by.

The network of TensorFlow's ``inception-2015-12-05`` graph, which differs from later releases of
Inception-v3 in its pooling (averages that leave the padding out, and a maximum in the last block),
its 1,008 logits and its way to resize images.

References:
    Szegedy et al., Rethinking the Inception Architecture, arXiv:1512.00567; Heusel et al.,
    arXiv:1706.08500.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt

from genjax.nets.convolution import Conv

SIDE = 299
Layer: TypeAlias = tuple[int, int | tuple[int, int], int]
"""Channels, taps, stride; padded to keep the size if the stride is 1."""

_SAME, _HALF = 1, 2
# The branches of each kind of block: names are those of the published weights.
_BRANCHES: Mapping[str, Mapping[str, Sequence[Layer]]] = {
    "A": {
        "branch1x1": [(64, 1, _SAME)],
        "branch5x5": [(48, 1, _SAME), (64, 5, _SAME)],
        "branch3x3dbl": [(64, 1, _SAME), (96, 3, _SAME), (96, 3, _SAME)],
    },
    "B": {
        "branch3x3": [(384, 3, _HALF)],
        "branch3x3dbl": [(64, 1, _SAME), (96, 3, _SAME), (96, 3, _HALF)],
    },
    "D": {
        "branch3x3": [(192, 1, _SAME), (320, 3, _HALF)],
        "branch7x7x3": [
            (192, 1, _SAME),
            (192, (1, 7), _SAME),
            (192, (7, 1), _SAME),
            (192, 3, _HALF),
        ],
    },
    "E": {"branch1x1": [(320, 1, _SAME)]},
}


def _seven(channels: int) -> dict[str, list[Layer]]:
    """Branches of the blocks with factorised 7x7 convolutions."""
    wide, tall = (channels, (1, 7), _SAME), (channels, (7, 1), _SAME)
    first = (channels, 1, _SAME)
    return {
        "branch1x1": [(192, 1, _SAME)],
        "branch7x7": [first, wide, (192, (7, 1), _SAME)],
        "branch7x7dbl": [first, tall, wide, tall, (192, (1, 7), _SAME)],
    }


# Name, branches, what the pooling branch does, and channels of its convolution.
_BLOCKS: Sequence[tuple[str, Mapping[str, Sequence[Layer]], str, int | None]] = [
    ("Mixed_5b", _BRANCHES["A"], "average", 32),
    ("Mixed_5c", _BRANCHES["A"], "average", 64),
    ("Mixed_5d", _BRANCHES["A"], "average", 64),
    ("Mixed_6a", _BRANCHES["B"], "halve", None),
    ("Mixed_6b", _seven(128), "average", 192),
    ("Mixed_6c", _seven(160), "average", 192),
    ("Mixed_6d", _seven(160), "average", 192),
    ("Mixed_6e", _seven(192), "average", 192),
    ("Mixed_7a", _BRANCHES["D"], "halve", None),
    ("Mixed_7b", _BRANCHES["E"], "average", 192),
    ("Mixed_7c", _BRANCHES["E"], "maximum", 192),
]


def resize_as_tensorflow_1(
    images: Float[Array, "B H W C"], side: int = SIDE
) -> Float[Array, "B S S C"]:
    """Bilinear resizing without antialiasing, pixel corners at whole numbers.

    What TensorFlow 1's ``resize_bilinear`` does and FID is defined by: output pixel ``i`` is read
    at ``i * H / side``, so the picture is shifted by a fraction of a pixel. Other filters change
    FID by more than published gaps (clean-fid).

    Args:
        images: Images, ``[B, H, W, C]``.
        side: Height and width of the result in pixels.

    Returns:
        Images, ``[B, side, side, C]``.
    """
    for axis in (1, 2):
        size = images.shape[axis]
        # Where each output pixel is read, between which two input pixels, and how near to the
        # second.
        at = jnp.arange(side, dtype=jnp.float32) * jnp.float32(size / side)
        low = jnp.floor(at).astype(jnp.int32)
        high = jnp.minimum(low + 1, size - 1)
        share = (at - low).reshape((1,) * axis + (side,) + (1,) * (3 - axis))
        below, above = jnp.take(images, low, axis=axis), jnp.take(images, high, axis=axis)
        images = below + (above - below) * share
    return images


class _ConvNorm(nn.Module):
    """Convolution without bias, normalisation by fixed statistics, ReLU."""

    features: int
    taps: tuple[int, int]
    stride: int = 1
    same: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B I J D"]:
        x = Conv(
            self.features,
            self.taps,
            (self.stride, self.stride),
            padding="SAME" if self.same and self.stride == 1 else "VALID",
            use_bias=False,
            name="conv",
        )(x)
        norm = {
            name: self.param(name, init, (self.features,))
            for name, init in [
                ("scale", nn.initializers.ones),
                ("bias", nn.initializers.zeros),
                ("mean", nn.initializers.zeros),
                ("var", nn.initializers.ones),
            ]
        }
        # 1e-3 is the epsilon that the weights were trained with.
        gain = norm["scale"] * jax.lax.rsqrt(norm["var"] + 1e-3)
        return nn.relu((x - norm["mean"]) * gain + norm["bias"])


def _layer(layer: Layer, name: str, **options: Any) -> _ConvNorm:
    features, taps, stride = layer
    pair = (taps, taps) if isinstance(taps, int) else taps
    return _ConvNorm(features, pair, stride, name=name, **options)


class _Block(nn.Module):
    """Branches side by side, joined along the channels."""

    branches: Mapping[str, Sequence[Layer]]
    pooling: str
    pool_features: int | None
    splits: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B I J D"]:
        outputs = []
        for branch, layers in self.branches.items():
            h = x
            for i, layer in enumerate(layers):
                name = branch if len(layers) == 1 else f"{branch}_{i + 1}"
                h = _layer(layer, name)(h)
            outputs.append(h)
        if self.splits:
            # The widest blocks end two of their branches in a 1x3 and a 3x1 convolution each.
            h = _layer((384, 1, 1), "branch3x3_1")(x)
            outputs += self._both(h, "branch3x3_2")
            h = _layer((448, 1, 1), "branch3x3dbl_1")(x)
            h = _layer((384, 3, 1), "branch3x3dbl_2")(h)
            outputs += self._both(h, "branch3x3dbl_3")
        if self.pooling == "halve":
            outputs.append(nn.max_pool(x, (3, 3), (2, 2)))
        elif self.pooling == "maximum":
            outputs.append(nn.max_pool(x, (3, 3), padding="SAME"))
        else:
            outputs.append(nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False))
        if self.pool_features is not None:
            outputs[-1] = _layer((self.pool_features, 1, 1), "branch_pool")(outputs[-1])
        return jnp.concatenate(outputs, axis=-1)

    def _both(self, h: Float[Array, "B H W C"], name: str) -> list[Float[Array, "B H W D"]]:
        wide, tall = _layer((384, (1, 3), 1), f"{name}a"), _layer((384, (3, 1), 1), f"{name}b")
        return [wide(h), tall(h)]


class InceptionV3(nn.Module):
    """Inception-v3 as FID uses it."""

    @nn.compact
    def __call__(
        self, images: UInt[Array, "B H W C"]
    ) -> tuple[Float[Array, "B 2048"], Float[Array, "B 1008"], dict[str, Array]]:
        """Computes features of 8-bit images of any size.

        Args:
            images: Images, ``[B, H, W, C]``, uint8, with one channel (shown grey) or three.

        Returns:
            Features ``[B, 2048]`` (of FID, KID, precision and recall); logits without bias
            ``[B, 1008]`` (of the Inception score); and the averages of earlier layers by width:
            ``"64"``, ``"192"``, ``"768"``.

        Raises:
            ValueError: If the images are not of 8 bits or have another number of channels.
        """
        if images.dtype != jnp.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise ValueError(
                f"expected uint8 images [B, H, W, 1 or 3], got {images.dtype} of shape "
                f"{images.shape}"
            )
        x = jnp.broadcast_to(images, (*images.shape[:-1], 3)).astype(jnp.float32)
        x = (resize_as_tensorflow_1(x) - 128.0) / 128.0
        x = _ConvNorm(32, (3, 3), 2, name="Conv2d_1a_3x3")(x)
        x = _ConvNorm(32, (3, 3), same=False, name="Conv2d_2a_3x3")(x)
        x = _ConvNorm(64, (3, 3), name="Conv2d_2b_3x3")(x)
        x = nn.max_pool(x, (3, 3), (2, 2))
        early = {"64": jnp.mean(x, axis=(1, 2))}
        x = _ConvNorm(80, (1, 1), name="Conv2d_3b_1x1")(x)
        x = _ConvNorm(192, (3, 3), same=False, name="Conv2d_4a_3x3")(x)
        x = nn.max_pool(x, (3, 3), (2, 2))
        early["192"] = jnp.mean(x, axis=(1, 2))
        for name, branches, pooling, pool_features in _BLOCKS:
            splits = branches is _BRANCHES["E"]
            x = _Block(branches, pooling, pool_features, splits, name=name)(x)
            if name == "Mixed_6e":
                early["768"] = jnp.mean(x, axis=(1, 2))
        features = jnp.mean(x, axis=(1, 2))
        # The score is defined without the bias, which is in the published weights all the same.
        logits = nn.Dense(1008, use_bias=False, name="fc")(features)
        return features, logits, early


def inception_variables(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Maps the published weights to variables of :class:`InceptionV3`.

    Args:
        weights: Arrays by their names in ``pt_inception-2015-12-05-6726825d.pth`` (pytorch-fid) or
            ``weights-inception-2015-12-05-6726825d.pth`` (torch-fidelity), such as
            ``Mixed_5b.branch1x1.conv.weight``.

    Returns:
        Variables with the one collection ``params``.

    Raises:
        ValueError: If a weight is missing, unknown or of another shape.
    """
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8)
    expected = jax.eval_shape(InceptionV3().init, jax.random.key(0), image)["params"]
    leaves, tree = jax.tree_util.tree_flatten_with_path(expected)
    kinds = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    unused = {name for name in weights if not name.endswith("num_batches_tracked")} - {"fc.bias"}
    values = []
    for path, shape in leaves:
        *parents, leaf = (key.key for key in path)
        name = ".".join(parents)
        name += ".weight" if leaf == "kernel" else f".bn.{kinds[leaf]}"
        if name not in weights:
            raise ValueError(f"the file has no weight {name}: expected Inception-v3 as FID uses it")
        value = jnp.asarray(weights[name], jnp.float32)
        if leaf == "kernel":  # [O, I, H, W] to [H, W, I, O]
            value = value.transpose((2, 3, 1, 0)) if value.ndim == 4 else value.T
        if value.shape != shape.shape:
            raise ValueError(f"weight {name} has shape {value.shape}, expected {shape.shape}")
        values.append(value)
        unused.discard(name)
    if unused:
        raise ValueError(f"the file has weights of another network, such as {min(unused)}")
    return {"params": jax.tree_util.tree_unflatten(tree, values)}
