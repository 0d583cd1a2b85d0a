"""Networks that are told an image: a small one to enlarge, with noise of a level they are told."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Shaped

from genjax.nets.embeddings import gamma_embedding

Method = Literal["nearest", "bilinear", "bicubic"]
"""How small images are enlarged."""
Levels = Literal["per_row", "per_batch"]
"""Whether each row has a level of noise of its own in training, or all rows of a batch one."""
_NUM_FEATURES = 128


def noised_image(
    image: Float[Array, "B *event"], noise: Float[Array, "B *event"], level: Float[Array, " B"]
) -> Float[Array, "B *event"]:
    r"""An image with noise of a level, :math:`\cos(\pi u / 2)\,x + \sin(\pi u / 2)\,\epsilon`.

    Args:
        image: Images in [-1, 1].
        noise: Standard normal noise.
        level: Levels ``u`` in [0, 1]: 0 is the image itself, 1 the noise.

    Returns:
        Images whose variance is 1 if that of the images is.

    Example:
        >>> noised_image(jnp.array([[0.5]]), jnp.array([[2.0]]), jnp.array([0.0]))
        Array([[0.5]], dtype=float32)

    References:
        Nichol and Dhariwal, arXiv:2102.09672, section 3.2, for the process, without its offset.
    """
    angle = (0.5 * jnp.pi * level).reshape(-1, *(1,) * (image.ndim - 1))
    return jnp.cos(angle) * image + jnp.sin(angle) * noise


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseAugmentation:
    """A small image as a network is told it: enlarged, and with noise on it.

    A model that enlarges true images sees images of another model when it stands in a cascade, and
    those have faults that true ones have not. With noise on what it is told it learns not to trust
    details, and as it is told the level, one network does so to any degree.

    Attributes:
        num_levels: Grey levels of the images, which are brought to [-1, 1]; of a config that leaves
            it None, the data's. Real numbers, which have none, are taken as they are.
        level: Level of the noise when rows are scored and samples drawn, in [0, 1]. The bound of a
            row is then one given an image with noise, drawn once for each row.
        max_level: In training levels are uniform between 0 and this. With 0 there is no noise.
        levels: ``"per_row"`` for a level of each row in training, ``"per_batch"`` for one of all
            rows of a batch (of all that are on one device, where a step is mapped over devices).
        method: How the image is enlarged: ``"bilinear"``, ``"bicubic"`` or ``"nearest"``.

    References:
        Ho et al., Cascaded Diffusion Models for High Fidelity Image Generation, arXiv:2106.15282,
        section 4.2; Saharia et al., arXiv:2205.11487, section 2.4, for levels that are told.
    """

    num_levels: int | None = None
    level: float = 0.1
    max_level: float = 1.0
    levels: Levels = "per_row"
    method: Method = "bilinear"

    def __post_init__(self) -> None:
        if not 0.0 <= self.level <= self.max_level <= 1.0:
            raise ValueError(
                f"expected 0 <= level <= max_level <= 1, got level {self.level} and max_level "
                f"{self.max_level}"
            )
        for name, valid in (("levels", get_args(Levels)), ("method", get_args(Method))):
            if getattr(self, name) not in valid:
                raise ValueError(f"{name} must be one of {valid}, got {getattr(self, name)!r}")

    def enlarged(
        self, image: Shaped[Array, "B h w C"], size: tuple[int, ...]
    ) -> Float[Array, "B H W C"]:
        """Images in [-1, 1] of a height and width.

        Args:
            image: Grey levels or real numbers.
            size: Height and width.

        Returns:
            The enlarged images, float32.
        """
        x = image.astype(jnp.float32)
        if self.num_levels is not None:
            x = x * (2.0 / (self.num_levels - 1)) - 1.0
        return jax.image.resize(x, (len(x), *size, x.shape[-1]), self.method)

    def augmented(
        self, image: Float[Array, "B H W C"], keys: Key[Array, " B"], *, training: bool
    ) -> tuple[Float[Array, "B H W C"], Float[Array, " B"]]:
        """Images with noise, and its levels.

        Args:
            image: Images in [-1, 1].
            keys: A key for each row.
            training: Whether levels are drawn, or the one of ``level``.

        Returns:
            Images of the same shape, and levels in [0, 1].
        """
        each = jax.vmap(jax.random.split)(keys)
        level = jnp.full(len(image), self.level)
        if training:
            drawn = jax.vmap(jax.random.uniform)(each[:, 0])
            if self.levels == "per_batch":
                drawn = jnp.broadcast_to(drawn[0], drawn.shape)
            level = self.max_level * drawn
        noise = jax.vmap(lambda key: jax.random.normal(key, image.shape[1:]))(each[:, 1])
        return noised_image(image, noise, level), level


class ImageConditioned(nn.Module):
    """A network that denoises images and is told another image of each, such as a small one.

    The other image, enlarged to the size of the latents, is further channels of theirs; the level
    of the noise on it is told beside the time. No guidance ever leaves it out.

    Attributes:
        net: Module ``(z, t, told, ..., features=...) -> output``, whose output has the channels of
            the images that are denoised, or twice as many.
        source: How the other image is made ready.
        event_shape: Height, width and channels of the images that are denoised.
        add_input: Whether the output is a correction that is added to the latents.

    References:
        Saharia et al., Image Super-Resolution via Iterative Refinement, arXiv:2104.07636, section
        2.3, for the channels.
    """

    net: nn.Module
    source: NoiseAugmentation
    event_shape: tuple[int, ...]
    add_input: bool = False

    @property
    def keeps(self) -> tuple[str, ...]:
        """Features of a batch that the network is told in any case."""
        return ("source",)

    @property
    def reads(self) -> tuple[str, ...]:
        """Features of a batch that the network is told."""
        return (*self._of_net, *self.keeps)

    @property
    def _of_net(self) -> tuple[str, ...]:
        own = getattr(self.net, "reads", None)
        if own is not None:
            return tuple(own)
        return () if self.num_classes is None else ("label",)

    @property
    def num_classes(self) -> int | None:
        """Number of classes it is told, besides."""
        return getattr(self.net, "num_classes", None)

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @property
    def bottleneck_shape(self) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
        """That of the network, if it has a middle."""
        found: Callable[[tuple[int, ...]], tuple[int, ...]] = self.net.bottleneck_shape
        return found

    @nn.nowrap
    def prepare(
        self, told: Mapping[str, Array], keys: Key[Array, " B"], *, training: bool
    ) -> dict[str, Array]:
        """What the network is told in all calls that belong together: one draw of the noise.

        Args:
            told: Features of a batch: ``source``, ``[B, h, w, C]``, and what ``net`` is told.
            keys: A key for each row.
            training: Whether the level is drawn, too.

        Returns:
            The features with ``source`` as an image with noise of the size of latents, float32, and
            ``level``, ``[B]``.
        """
        large = self.source.enlarged(told["source"], self.event_shape[:2])
        image, level = self.source.augmented(large, keys, training=training)
        return {**told, "source": image, "level": level}

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "B H W C"],
        t: Float[Array, " B"],
        told: Mapping[str, Array],
        **kwargs: Any,
    ) -> Float[Array, "B H W O"]:
        """What the network says of latents.

        Args:
            z: Latents, ``[B, H, W, C]``.
            t: Their noise, ``[B]``.
            told: As :meth:`prepare` gives it.
            **kwargs: Further arguments of the network.

        Returns:
            The network's output.
        """
        reads = self._of_net
        own: Any = {name: told[name] for name in reads}
        if reads in ((), ("label",)):  # what networks take that know of one label alone
            own = own.get("label")
        features = gamma_embedding(told["level"], 0.0, 1.0, _NUM_FEATURES)
        both = jnp.concatenate([z, told["source"].astype(z.dtype)], axis=-1)
        out = cast(Array, self.net(both, t, own, features=features, **kwargs))
        return z + out if self.add_input else out
