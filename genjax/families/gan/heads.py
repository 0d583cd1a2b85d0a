"""The layer after an encoder that plays against a critic of pairs."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class LatentHead(nn.Module):
    """An encoder, and a layer that makes the latent of an example of its features.

    The mean is made as the layers of an encoder that says how: its weights start with the encoder's
    ``kernel_std``, if any, and it has a bias unless ``use_bias`` says that there are none. (A
    critic with batch normalisation, of each kind of pairs alone, takes that bias away: it moves by
    rounding then.)

    Attributes:
        trunk: Module ``(x, train=...) -> features [B, F]``.
        latent_size: Entries of the latent.
        stochastic: Whether the latent is Gaussian.
    """

    trunk: nn.Module
    latent_size: int
    stochastic: bool = False

    def setup(self) -> None:
        """Makes the layers."""
        use_bias = getattr(self.trunk, "use_bias", True)
        std = getattr(self.trunk, "kernel_std", None)
        init = nn.initializers.lecun_normal() if std is None else nn.initializers.normal(std)
        self.mean = nn.Dense(self.latent_size, use_bias=use_bias, kernel_init=init)
        if self.stochastic:
            # All begin with a width of 1: an exponential of random sums may be anything.
            self.log_std = nn.Dense(self.latent_size, kernel_init=nn.initializers.zeros_init())

    def __call__(
        self, x: Float[Array, "B *event"], *, train: bool = False
    ) -> tuple[Float[Array, "B Z"], Float[Array, "B Z"] | None]:
        """The latent of each example, or its mean and the log of its standard deviation.

        Both are as they come: :meth:`genjax.families.Latent.within` brings them to the prior.
        """
        features = self.trunk(x, train=train).astype(jnp.float32)  # type: ignore[operator]
        return self.mean(features), self.log_std(features) if self.stochastic else None
