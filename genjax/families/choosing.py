"""How values are chosen by logits: temperature, the likeliest few, guidance."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array

from genjax.families.observations import Entries, Observation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choosing:
    """How entries are drawn from what the model says of them: keys of the family.

    Attributes:
        temperature: What logits are divided by; below 1 likely values become likelier.
        top_k: Only the likeliest so many values are drawn; None for all.
        guidance_scale: Classifier-free guidance of logits, ``l_0 + w (l_c - l_0)``: 1 is none. The
            model must have been trained with labels left out (``label_dropout``).

    References:
        Guidance: Ho and Salimans, arXiv:2207.12598, applied to logits as in Gafni et al.,
        Make-A-Scene, arXiv:2203.13131, section 3.4.
    """

    temperature: float = 1.0
    top_k: int | None = None
    guidance_scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")

    @property
    def plain(self) -> bool:
        """Whether samples are those of the model whose likelihood is evaluated."""
        return self == Choosing()

    def check(self, observation: Observation, *, conditional: bool, drops_labels: bool) -> None:
        """Refuses what does not fit a model.

        Args:
            observation: Its distribution of an entry.
            conditional: Whether it takes labels.
            drops_labels: Whether it is trained without labels, too.

        Raises:
            ValueError: If logits are asked for that there are not, or labels.
        """
        if not self.plain and not observation.gives_logits:
            raise ValueError(
                "temperature, top_k and guidance_scale act on logits, which "
                f"{type(observation).__name__} has not: take 'categorical' or 'bernoulli'"
            )
        if self.guidance_scale != 1.0 and not (conditional and drops_labels):
            raise ValueError(
                "guidance_scale needs a model that is trained with and without labels: set "
                "model.num_classes (or take a network that is told texts) and family.label_dropout"
            )

    def logits(self, outputs: Array, of: Entries) -> Array:
        """Outputs of an observation, changed."""
        outputs = outputs / self.temperature
        if self.top_k is None or self.top_k >= of.levels:
            return outputs
        if outputs.shape[-1] == of.channels:  # one logit of two values
            return jnp.where(outputs > 0.0, jnp.inf, -jnp.inf)
        by_level = outputs.reshape(*outputs.shape[:-1], of.channels, of.levels)
        least = jax.lax.top_k(by_level, self.top_k)[0][..., -1:]
        return jnp.where(by_level < least, -jnp.inf, by_level).reshape(outputs.shape)

    def in_words(self) -> str:
        """What protocols say of it, and of what it means."""
        if self.plain:
            return ""
        parts = [f"temperature {self.temperature:g}"] if self.temperature != 1.0 else []
        parts += [f"the likeliest {self.top_k}"] if self.top_k is not None else []
        parts += [f"guidance {self.guidance_scale:g}"] if self.guidance_scale != 1.0 else []
        return f", {', '.join(parts)} (not the distribution whose likelihood is evaluated)"
