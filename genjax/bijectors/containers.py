"""Bijectors made of bijectors."""

from collections.abc import Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.bijectors.base import Bijector, Context, Kept, Latents, Mapped
from genjax.bijectors.coupling import Conditioner
from genjax.bijectors.elementwise import Elementwise, affine, at_least_float32, sum_event
from genjax.nets.remat import Remat, with_remat


class Chain(Bijector):
    """Bijectors one after the other, the first of the sequence first.

    Attributes:
        bijectors: The bijectors in the order in which data go through them.
    """

    bijectors: Sequence[Bijector]

    def forward_and_log_det(
        self, x: Float[Array, "B *event"], context: Context | None = None
    ) -> Mapped:
        """Applies all in order."""
        total = jnp.zeros(x.shape[:1])
        for bijector in self.bijectors:
            x, log_det = bijector.forward_and_log_det(x, context)
            total = total + log_det
        return x, total

    def inverse_and_log_det(self, y: Latents, context: Context | None = None) -> Mapped:
        """Undoes all, the last first."""
        total = jnp.zeros(jax.tree.leaves(y)[0].shape[:1])
        for bijector in reversed(self.bijectors):
            y, log_det = bijector.inverse_and_log_det(cast(Any, y), context)
            total = total + log_det
        return y, total


class Invert(Bijector):
    """A bijector the other way round.

    Attributes:
        bijector: The bijector whose inverse this is.
    """

    bijector: Bijector

    def forward_and_log_det(self, x: Latents, context: Context | None = None) -> Mapped:
        """Maps by the inverse of the bijector."""
        return self.bijector.inverse_and_log_det(cast(Any, x), context)

    def inverse_and_log_det(self, y: Latents, context: Context | None = None) -> Mapped:
        """Maps by the bijector itself."""
        return self.bijector.forward_and_log_det(cast(Any, y), context)


class Repeat(Bijector):
    """A bijector several times over, each time with parameters of its own.

    The parameters are stacked and the layers a ``lax.scan``, backwards for the inverse: as a loop,
    they take no longer to compile than one. The shape of an event may not change.

    Attributes:
        bijector: One layer, which must keep the shape of an event.
        count: Number of layers, at least 1.
        remat: What the backward pass computes again: ``"none"``, ``"dots"`` (all but the results of
            matrix products and convolutions) or ``"full"``.
        unroll: Whether to write the loop out; None for doing so on CPU, where the gradients of
            convolutions are slow in a loop, unless memory is to be saved by ``remat``, which takes
            a loop there. The parameters are the same.
    """

    bijector: Bijector
    count: int
    remat: Remat = "none"
    unroll: bool | None = None

    def _run(self, x: Float[Array, "B *event"], context: Context | None, *, forward: bool) -> Kept:
        if self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")

        def body(
            layer: Bijector, carry: tuple[Array, Array], context: Array | None
        ) -> tuple[tuple[Array, Array], None]:
            value, total = carry
            apply = layer.forward_and_log_det if forward else layer.inverse_and_log_det
            mapped, log_det = apply(value, context)
            if mapped.shape != value.shape:
                raise ValueError(
                    f"a repeated bijector must keep the shape, got {mapped.shape} from "
                    f"{value.shape}"
                )
            # A loop's carry keeps its dtype.
            return (mapped.astype(value.dtype), total + log_det.astype(total.dtype)), None

        unroll = self.unroll
        if unroll is None:
            unroll = jax.default_backend() == "cpu" and self.remat == "none"
        # Parameters and constants get a leading axis of layers, and each layer random numbers of
        # its own; the inverse runs over the same stack from its end.
        scan = nn.scan(
            with_remat(body, self.remat, prevent_cse=False),
            variable_axes={"params": 0, "constants": 0},
            split_rngs={"params": True, "dropout": True, "probe": True},
            in_axes=nn.broadcast,
            length=self.count,
            reverse=not forward,
            unroll=self.count if unroll else 1,
        )
        x = at_least_float32(x)
        start = (x, jnp.zeros(x.shape[:1], x.dtype))
        (x, log_det), _ = scan(self.bijector, start, context)
        return x, log_det

    def forward_and_log_det(
        self, x: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Applies all layers, the first first."""
        return self._run(x, context, forward=True)

    def inverse_and_log_det(
        self, y: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Undoes all layers, the last first."""
        return self._run(y, context, forward=False)


class MultiScale(Bijector):
    r"""Bijectors of images between which half of the channels are put aside as latents.

    What is put aside is first brought to a standard normal by an affine map that sees what goes
    on: so it has the learned prior :math:`N(\mu(h), \sigma(h)^2)` of Glow, while all latents of the
    flow are standard normal. Latents are a tuple, finest scale first, the rest last: together as
    many numbers as the image, so that decoding undoes encoding.

    Attributes:
        scales: The bijector of each scale, the finest first.
        prior: Makes, from a number of outputs, the network that gives a prior's parameters; None
            for standard normal priors.
        elementwise: The maps that bring what is put aside to a standard normal.

    References:
        Dinh et al., Real NVP, arXiv:1605.08803, section 3.6; learned priors: Kingma and Dhariwal,
        Glow, arXiv:1807.03039, released code.
    """

    scales: Sequence[Bijector]
    prior: Conditioner | None = None
    elementwise: Elementwise = affine()

    def setup(self) -> None:
        """Makes the networks of the priors."""
        if self.prior is not None:
            self.priors = [_Prior(self.prior, self.elementwise) for _ in self.scales[:-1]]

    def forward_and_log_det(
        self, x: Float[Array, "B H W C"], context: Context | None = None
    ) -> tuple[tuple[Float[Array, "B ..."], ...], Float[Array, " B"]]:
        """Maps images to latents.

        Returns:
            Latents, one array for each scale, and the log-determinant.

        Raises:
            ValueError: If the number of channels at a split is odd.
        """
        latents, total = [], jnp.zeros(())
        for i, scale in enumerate(self.scales):
            x, log_det = scale.forward_and_log_det(x, context)
            total = total + log_det
            if i < len(self.scales) - 1:
                if x.shape[-1] % 2:
                    raise ValueError(
                        f"a split needs an even number of channels, got shape {x.shape}; "
                        "squeeze before it"
                    )
                # The first half is put aside, the second goes on.
                aside, x = jnp.split(x, 2, axis=-1)
                if self.prior is not None:
                    aside, log_det = self.priors[i](aside, x, context, forward=True)
                    total = total + log_det
                latents.append(aside)
        return (*latents, x), total

    def inverse_and_log_det(
        self, y: Latents, context: Context | None = None
    ) -> tuple[Float[Array, "B H W C"], Float[Array, " B"]]:
        """Maps latents back to images.

        Raises:
            ValueError: If there are not as many latents as scales.
        """
        if len(y) != len(self.scales):
            raise ValueError(f"expected latents of {len(self.scales)} scales, got {len(y)}")
        x, total = y[-1], jnp.zeros(())
        for i in reversed(range(len(self.scales))):
            if i < len(self.scales) - 1:
                aside = y[i]
                # The prior was computed from what went on, which by now is restored.
                if self.prior is not None:
                    aside, log_det = self.priors[i](aside, x, context, forward=False)
                    total = total + log_det
                x = jnp.concatenate([aside, x], axis=-1)
            x, log_det = self.scales[i].inverse_and_log_det(x, context)
            total = total + log_det
        return x, total


class _Prior(nn.Module):
    """Maps what is put aside to a standard normal, given what goes on."""

    conditioner: Conditioner
    elementwise: Elementwise

    @nn.compact
    def __call__(
        self,
        aside: Float[Array, "B H W C"],
        rest: Float[Array, "B H W C"],
        context: Context | None,
        *,
        forward: bool,
    ) -> tuple[Float[Array, "B H W C"], Float[Array, " B"]]:
        net = self.conditioner(aside.shape[-1] * self.elementwise.num_params)
        raw = self.elementwise.by_entry(net(rest, context))
        mapped, log_slope = self.elementwise.towards(forward=forward)(aside, raw)
        return mapped, sum_event(log_slope)
