"""Grey levels as bins of logistic distributions, one or mixtures of them."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax import losses
from genjax.families.levels import Ends
from genjax.families.observations import Entries, check_levels


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscretizedLogistic:
    """Grey levels as bins of a logistic: a mean a channel, and a scale.

    Attributes:
        scale: One that all entries ``"shared"``, or one ``"learned"`` for each entry.
        least_log_scale: Logs of scales, in units of [-1, 1], are at least this.
    """

    scale: Literal["shared", "learned"] = "learned"
    least_log_scale: float = -7.0
    gives_logits = False

    def __post_init__(self) -> None:
        if self.scale not in ("shared", "learned"):
            raise ValueError(f"scale must be 'shared' or 'learned', got {self.scale!r}")

    @property
    def num_shared(self) -> int:
        """The shared log scale, if it is so."""
        return int(self.scale == "shared")

    def check(self, num_levels: int | None) -> None:
        """Refuses real numbers.

        Raises:
            ValueError: If the data is real-valued.
        """
        check_levels("discretized_logistic", num_levels)

    def num_outputs(self, of: Entries) -> int:
        """A mean a channel, and its log scale if it is learned."""
        return of.channels * (2 if self.scale == "learned" else 1)

    def nats(self, x: Array, outputs: Array, of: Entries) -> Array:
        """Negative log-probability: see :func:`genjax.losses.discretized_logistic_loss`."""
        mean, log_scale = self._split(outputs)
        log_scale = jnp.broadcast_to(log_scale, mean.shape)
        return losses.discretized_logistic_loss(x, mean, log_scale, num_levels=of.levels)

    def centre(self, outputs: Array, of: Entries) -> Array:
        """The level nearest to the mean."""
        return Ends(of.levels).decode(self._split(outputs)[0])

    def expected(self, outputs: Array, of: Entries) -> Array:
        """The mean in [-1, 1], differentiable."""
        return self._split(outputs)[0]

    def draw(self, key: PRNGKeyArray, outputs: Array, of: Entries) -> Array:
        """The level nearest to a draw of the logistic, whose bins are just that."""
        mean, log_scale = self._split(outputs)
        noise = jax.random.logistic(key, mean.shape)
        return Ends(of.levels).decode(mean + jnp.exp(log_scale) * noise)

    def _split(self, outputs: Array) -> tuple[Array, Array]:
        if self.scale == "shared":
            mean, log_scale = outputs[..., :-1], outputs[..., -1:]
        else:
            mean, log_scale = jnp.split(outputs, 2, axis=-1)
        # Scales begin near a tenth of the range, as those of grey levels are.
        return mean, jnp.maximum(log_scale - 2.0, self.least_log_scale)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogisticMixture:
    """Grey levels as bins of mixtures of logistics, whose component all channels share.

    Attributes:
        num_components: Components of the mixture.
        coupled: Whether the mean of a channel moves with the channels before it.
        least_log_scale: Logs of scales, in units of [-1, 1], are at least this.

    References:
        Salimans et al., PixelCNN++, arXiv:1701.05517, section 2.1 and 2.2.
    """

    num_components: int = 10
    coupled: bool = True
    least_log_scale: float = -7.0
    num_shared = 0
    gives_logits = False

    def __post_init__(self) -> None:
        if self.num_components < 1:
            raise ValueError(f"num_components must be at least 1, got {self.num_components}")

    def check(self, num_levels: int | None) -> None:
        """Refuses real numbers.

        Raises:
            ValueError: If the data is real-valued.
        """
        check_levels("logistic_mixture", num_levels)

    def num_outputs(self, of: Entries) -> int:
        """Of each component a logit, and of each channel of it a mean, a log scale, and shares."""
        pairs = of.channels * (of.channels - 1) // 2 if self.coupled else 0
        return self.num_components * (1 + 2 * of.channels + pairs)

    def nats(self, x: Array, outputs: Array, of: Entries) -> Array:
        """Negative log-probability: see :func:`genjax.losses.logistic_mixture_loss`."""
        return losses.logistic_mixture_loss(
            x, *self._split(outputs, of.channels), num_levels=of.levels
        )

    def centre(self, outputs: Array, of: Entries) -> Array:
        """The level nearest to the mean of the most probable component."""
        return self._rows(outputs, of, lambda logits: jnp.argmax(logits, axis=-1), None)

    def draw(self, key: PRNGKeyArray, outputs: Array, of: Entries) -> Array:
        """A component for each place, and its channels one after the other."""
        which, noise = jax.random.split(key)
        return self._rows(outputs, of, lambda logits: jax.random.categorical(which, logits), noise)

    def _split(self, outputs: Array, channels: int) -> tuple[Array, Array, Array, Array | None]:
        k = self.num_components
        logits, rest = outputs[..., :k], outputs[..., k:]
        by_component = rest.reshape(*rest.shape[:-1], -1, k)
        means = by_component[..., :channels, :]
        log_scales = by_component[..., channels : 2 * channels, :] - 2.0
        log_scales = jnp.maximum(log_scales, self.least_log_scale)
        coefficients = None
        if self.coupled and channels > 1:
            coefficients = jnp.tanh(by_component[..., 2 * channels :, :])
        return logits, means, log_scales, coefficients

    def _rows(
        self,
        outputs: Array,
        of: Entries,
        choose: Callable[[Array], Array],
        noise: PRNGKeyArray | None,
    ) -> Array:
        channels, ends = of.channels, Ends(of.levels)
        logits, means, log_scales, coefficients = self._split(outputs, channels)
        index = choose(logits)[..., None, None]

        def chosen(values: Array) -> Array:
            shape = (*values.shape[:-1], 1)
            return jnp.take_along_axis(values, jnp.broadcast_to(index, shape), axis=-1)[..., 0]

        means, log_scales = chosen(means), chosen(log_scales)
        shares = None if coefficients is None else chosen(coefficients)
        levels: list[Array] = []
        number = 0
        for channel in range(channels):
            mean = means[..., channel]
            if shares is not None:
                for earlier in range(channel):
                    mean += shares[..., number] * ends.encode(levels[earlier])
                    number += 1
            if noise is not None:
                own = jax.random.logistic(jax.random.fold_in(noise, channel), mean.shape)
                mean += jnp.exp(log_scales[..., channel]) * own
            levels.append(ends.decode(mean))
        return jnp.stack(levels, axis=-1)
