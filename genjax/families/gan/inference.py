"""How an encoder takes part in a game of pairs."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inference:
    """How an encoder takes part in a game of pairs.

    Attributes:
        stochastic: Whether the encoder gives Gaussians, of which latents are drawn (ALI), or the
            latents themselves (BiGAN).
        generator_noise: Whether generated rows get Gaussian noise, whose standard deviation is
            learned for each entry.
        encoder_plays: Whether the encoder tries to mislead the critic, as the generator does; else
            it learns from the terms below alone.
        reconstruction_weight: Weight of the squared distance of rows and what is generated from
            their latents, summed over entries (ALICE).
        latent_weight: Weight of the squared distance of latents of the prior and the encoder's of
            the rows that are generated from them, summed over entries (VEEGAN).
        joint_batches: Whether the critic sees both kinds of pairs in one pass, with joint batch
            statistics (ALI), or in two (BiGAN).
    """

    stochastic: bool = False
    generator_noise: bool = False
    encoder_plays: bool = True
    reconstruction_weight: float = 0.0
    latent_weight: float = 0.0
    joint_batches: bool = False

    def __post_init__(self) -> None:
        for name in ("reconstruction_weight", "latent_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not (self.encoder_plays or self.reconstruction_weight or self.latent_weight):
            raise ValueError(
                "the encoder would learn from nothing: set encoder_plays, or give "
                "reconstruction_weight or latent_weight"
            )
