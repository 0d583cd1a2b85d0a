"""Convolutional networks of hierarchical latents: an encoder up, and a decoder down that draws."""

import math
from collections.abc import Callable, Iterator
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.convolution import Conv
from genjax.nets.embeddings import check_label


class Bottleneck(nn.Module):
    """Four convolutions, the two in the middle 3x3 and of fewer channels.

    Attributes:
        out_channels: Channels of the result.
        middle_channels: Channels in the middle.
        last_init: Initialiser of the last kernel.

    References:
        Child, arXiv:2011.10650, figure 3.
    """

    out_channels: int
    middle_channels: int
    last_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W O"]:
        """Changes features of pixels by those around them."""
        # Of so few pixels a window would look at padding alone.
        taps = (3, 3) if min(x.shape[1:3]) > 2 else (1, 1)
        h = Conv(self.middle_channels, (1, 1), name="conv_0")(nn.gelu(x))
        h = Conv(self.middle_channels, taps, name="conv_1")(nn.gelu(h))
        h = Conv(self.middle_channels, taps, name="conv_2")(nn.gelu(h))
        last = Conv(self.out_channels, (1, 1), kernel_init=self.last_init, name="conv_3")
        return last(nn.gelu(h))


class BottomUpEncoder(nn.Module):
    """Images to activations of every resolution, by residual blocks and means of 2x2 pixels.

    Attributes:
        channels: Channels of all activations.
        num_blocks: Residual blocks at each resolution, from the full one on.
        middle_channels: Channels in the middle of a block.
        num_classes: Number of classes, or None for no labels.
    """

    channels: int = 32
    num_blocks: tuple[int, ...] = (1, 1, 1)
    middle_channels: int = 16
    num_classes: int | None = None

    def __post_init__(self) -> None:
        _check_blocks(self.num_blocks)
        super().__post_init__()

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], label: Int[Array, " B"] | None = None
    ) -> tuple[Float[Array, "B _ _ F"], ...]:
        """Looks at images.

        Args:
            x: Images, ``[B, H, W, C]``.
            label: Class ids, ``[B]``; needed if and only if ``num_classes`` is set.

        Returns:
            Activations ``[B, H / 2^i, W / 2^i, channels]`` for each resolution.

        Raises:
            ValueError: If a side cannot be halved so often, or labels do not fit.
        """
        _sides(x.shape[1:3], len(self.num_blocks))
        h = Conv(self.channels, (3, 3), name="stem")(x)
        h += _of_label(self.num_classes, label, self.channels)
        found = []
        last = _scaled(sum(self.num_blocks))
        for level, count in enumerate(self.num_blocks):
            if level:
                h = nn.avg_pool(h, (2, 2), (2, 2))
            for j in range(count):
                h += Bottleneck(
                    self.channels, self.middle_channels, last, name=f"block_{level}_{j}"
                )(h)
            found.append(h)
        return tuple(found)


class TopDownBlock(nn.Module):
    """A group of latents, drawn from a state of the decoder, which they change.

    Attributes:
        channels: Channels of the state.
        latent_channels: Channels of the latents.
        middle_channels: Channels in the middle of convolutions.
        posterior: Whether the posterior is ``"residual"``, its mean the prior's plus a difference
            and its deviation the prior's times a factor, or ``"absolute"``.
        share: Number of blocks of the decoder, by whose root changes of the state are divided.
    """

    channels: int
    latent_channels: int
    middle_channels: int
    posterior: Literal["residual", "absolute"]
    share: int

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "B H W C"],
        seen: Float[Array, "B H W A"] | None,
        given: Float[Array, "B H W Z"],
        drawn: bool,
    ) -> tuple[Float[Array, "B H W C"], tuple[Float[Array, "B H W Z"], ...]]:
        """One group.

        Args:
            h: The state.
            seen: What the encoder saw at this resolution; None to draw from the prior.
            given: Standard normal noise, or the latents themselves.
            drawn: Whether it is noise, of which latents are made.

        Returns:
            The new state; and latents, mean and log standard deviation of the posterior, and those
            of the prior.
        """
        z_channels, zeros = self.latent_channels, nn.initializers.zeros_init()
        of_prior = Bottleneck(
            2 * z_channels + self.channels, self.middle_channels, zeros, name="prior"
        )(h)
        mean_p, log_p, change = jnp.split(of_prior, [z_channels, 2 * z_channels], axis=-1)
        mean, log_std = mean_p, log_p
        if seen is not None:
            both = jnp.concatenate([h, seen.astype(h.dtype)], axis=-1)
            of_both = Bottleneck(2 * z_channels, self.middle_channels, name="posterior")(both)
            mean, log_std = jnp.split(of_both, 2, axis=-1)
            if self.posterior == "residual":
                mean, log_std = mean_p + mean, log_p + log_std
        z = mean + jnp.exp(log_std) * given if drawn else given
        last = _scaled(self.share)
        h = h + change + Conv(self.channels, (1, 1), kernel_init=last, name="of_latents")(z)
        h += Bottleneck(self.channels, self.middle_channels, last, name="residual")(h)
        return h, (z, mean, log_std, mean_p, log_p)


class TopDownDecoder(nn.Module):
    r"""Groups of latents and what they stand for, from the coarsest resolution to the full one.

    Each block draws latents of :math:`N(\mu_p + \Delta\mu, (\sigma_p \Delta\sigma)^2)`, where the
    prior depends on the blocks before it, and the differences on the encoder's activations, too.

    Attributes:
        event_shape: Shape of the images, ``(H, W, C)``.
        channels: Channels of the state, and of the features.
        num_blocks: Groups of latents at each resolution, from the full one on. At a resolution
            without any, each pixel of the coarser one becomes four by a linear map.
        latent_channels: Channels of the latents of a group.
        middle_channels: Channels in the middle of convolutions.
        posterior: ``"residual"`` as above, or ``"absolute"``.
        num_classes: Number of classes, or None for no labels.

    References:
        Child, Very Deep VAEs, arXiv:2011.10650, figure 3; the residual posterior: Vahdat and Kautz,
        NVAE, arXiv:2007.03898, section 3.2.
    """

    event_shape: tuple[int, ...]
    channels: int = 32
    num_blocks: tuple[int, ...] = (0, 1, 1)
    latent_channels: int = 4
    middle_channels: int = 16
    posterior: Literal["residual", "absolute"] = "residual"
    num_classes: int | None = None

    def __post_init__(self) -> None:
        _check_blocks(self.num_blocks)
        if not any(self.num_blocks):
            raise ValueError("num_blocks are all 0: a decoder needs a group of latents")
        if self.posterior not in ("residual", "absolute"):
            raise ValueError(f"posterior must be 'residual' or 'absolute', got {self.posterior!r}")
        super().__post_init__()

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    def _levels(self) -> Iterator[tuple[int, tuple[int, int], int]]:
        """Resolutions from the coarsest on: number, sides and groups of each."""
        sides = _sides(self.event_shape[:2], len(self.num_blocks))
        for level in reversed(range(len(self.num_blocks))):
            yield level, sides[level], self.num_blocks[level]

    @property
    def group_sizes(self) -> tuple[int, ...]:
        """Entries of each group, from the coarsest on."""
        return tuple(
            math.prod(sides) * self.latent_channels
            for _, sides, count in self._levels()
            for _ in range(count)
        )

    @nn.compact
    def __call__(
        self,
        seen: tuple[Float[Array, "B _ _ F"], ...] | None,
        label: Int[Array, " B"] | None = None,
        *,
        noise: Float[Array, "B Z"] | None = None,
        latents: Float[Array, "B Z"] | None = None,
    ) -> tuple[
        Float[Array, "B H W C"],
        Float[Array, "B Z"],
        tuple[Float[Array, "B Z"], Float[Array, "B Z"]],
        tuple[Float[Array, "B Z"], Float[Array, "B Z"]],
    ]:
        """Draws latents, or takes given ones, on the way down.

        Args:
            seen: The encoder's activations, from the full resolution on; None for the prior.
            label: Class ids, ``[B]``; needed if and only if ``num_classes`` is set.
            noise: Standard normal noise that latents are made of; or
            latents: the latents themselves. ``Z`` is the sum of ``group_sizes``.

        Returns:
            Features ``[B, H, W, channels]``; latents of all groups side by side; mean and log
            standard deviation of the posterior, and of the prior.

        Raises:
            ValueError: If both or none of noise and latents are given, activations are of other
                resolutions, or labels do not fit.
        """
        given = noise if latents is None else latents
        if given is None or (noise is not None and latents is not None):
            raise ValueError("give noise or latents, one of the two")
        if seen is not None and len(seen) != len(self.num_blocks):
            raise ValueError(
                f"the encoder looks at {len(seen)} resolutions, but the decoder has "
                f"{len(self.num_blocks)}: num_blocks of both need as many entries"
            )
        rows, sizes, found = given.shape[0], self.group_sizes, []
        starts = [sum(sizes[:i]) for i in range(1, len(sizes))]
        parts = iter(jnp.split(given, starts, axis=-1))
        zeros = nn.initializers.zeros_init()
        h = _of_label(self.num_classes, label, self.channels)
        for level, sides, count in self._levels():
            if level < len(self.num_blocks) - 1:
                # Without a block of convolutions to tell them apart, four pixels are four things.
                h = _doubled(h) if count else self._unfolded(h, level)
            place = self.param(f"place_{level}", zeros, (*sides, self.channels), jnp.float32)
            h = jnp.broadcast_to(h + place, (rows, *sides, self.channels))
            for j in range(count):
                block = TopDownBlock(
                    self.channels,
                    self.latent_channels,
                    self.middle_channels,
                    self.posterior,
                    len(sizes),
                    name=f"block_{level}_{j}",
                )
                part = next(parts).reshape(rows, *sides, self.latent_channels)
                looked = None if seen is None else seen[level]
                h, group = block(h, looked, part, latents is None)
                found.append([a.reshape(rows, -1) for a in group])
        z, mean, log_std, mean_p, log_p = (
            jnp.concatenate(group, axis=-1) for group in zip(*found, strict=True)
        )
        return nn.gelu(h), z, (mean, log_std), (mean_p, log_p)

    def _unfolded(self, h: Array, level: int) -> Array:
        """Four pixels of each, by a linear map of its features."""
        rows, height, width, channels = h.shape
        four = Conv(4 * channels, (1, 1), name=f"unfold_{level}")(nn.gelu(h))
        four = four.reshape(rows, height, width, 2, 2, channels)
        return four.transpose(0, 1, 3, 2, 4, 5).reshape(rows, 2 * height, 2 * width, channels)


def _doubled(h: Array) -> Array:
    """Twice the resolution, each pixel four times."""
    return jnp.repeat(jnp.repeat(h, 2, axis=1), 2, axis=2)


def _scaled(blocks: int) -> nn.initializers.Initializer:
    """Kernels whose results, of so many blocks together, have the size of those of one."""
    return nn.initializers.variance_scaling(1.0 / max(blocks, 1), "fan_in", "truncated_normal")


def _of_label(num_classes: int | None, label: Array | None, channels: int) -> Array:
    """What a label adds to all pixels, ``[B, 1, 1, channels]``; 0 without labels."""
    check_label(num_classes, label)
    if num_classes is None:
        return jnp.zeros((1, 1, 1, channels))
    told = nn.Dense(channels, name="label")(jax.nn.one_hot(label, num_classes))
    return told[:, None, None]


def _check_blocks(num_blocks: tuple[int, ...]) -> None:
    if not num_blocks or min(num_blocks) < 0:
        raise ValueError(
            f"num_blocks must be one number, at least 0, for each resolution, got {num_blocks}"
        )


def _sides(full: tuple[int, ...], count: int) -> list[tuple[int, int]]:
    """Height and width at each resolution, from the full one on."""
    if any(side % 2 ** (count - 1) for side in full):
        raise ValueError(
            f"images of {full[0]}x{full[1]} cannot be halved {count - 1} times: num_blocks has "
            f"{count} resolutions"
        )
    return [(full[0] >> i, full[1] >> i) for i in range(count)]
