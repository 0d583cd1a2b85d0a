"""Which rows the players of a GAN see together, and how often before the generator moves."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array

from genjax.losses import AdversarialLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """Which rows the players see together, and how often.

    Attributes:
        generator_batch_factor: Samples in a generator step, as a multiple of the batch size.
        share_fakes: Whether to generate less: one pass of the generator makes the rows of all
            critic steps but the last, another those of the last, and the generator's own step goes
            back through the latter, with the last critic step's data (as the DCGAN of
            pytorch/examples). Batch normalisation then sees the rows of a pass together.
        joint_batches: Whether the critic sees real and generated rows in one pass, with joint batch
            statistics, or in two. In one pass the generator's step takes real rows, too.
        pack_size: Rows of one origin that the critic sees as one, joined along the last axis
            (PacGAN, arXiv:1712.04086).
        unroll_steps: Steps of the critic's optimiser, on the rows of the generator's own step, that
            the generator looks ahead: its loss is that after them, and its gradient goes back
            through them, the optimiser's moments included (unrolled GAN, arXiv:1611.02163). The
            critic itself moves by its own steps alone. 0 for none.
        accumulate_batches: Batches whose gradients are averaged for each step of a player, in the
            memory of one.
        dequantize: Whether whole grey levels are spread over their bins with uniform noise.
    """

    generator_batch_factor: int = 1
    share_fakes: bool = False
    joint_batches: bool = False
    pack_size: int = 1
    unroll_steps: int = 0
    accumulate_batches: int = 1
    dequantize: bool = False

    def check(self, game: AdversarialLoss, *, batch_size: int, conditional: bool) -> None:
        """Whether the arguments fit each other, a loss and a batch.

        Raises:
            ValueError: If they do not.
        """
        for name in ("generator_batch_factor", "pack_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if batch_size % self.pack_size:
            raise ValueError(
                f"pack_size ({self.pack_size}) must divide the batch size ({batch_size})"
            )
        if self.unroll_steps < 0:
            raise ValueError(f"unroll_steps must not be negative, got {self.unroll_steps}")
        if self.pack_size > 1 and conditional:
            raise ValueError("pack_size above 1 needs an unconditional model: packs mix labels")
        if self.generator_batch_factor == 1:
            return
        if self.takes_real(game):
            raise ValueError(
                "generator_batch_factor above 1 does not fit a generator's step that sees as many "
                "real rows as generated ones (joint_batches, unroll_steps, or a loss that compares "
                "the two)"
            )
        if self.share_fakes:
            raise ValueError(
                "share_fakes gives the generator's step the critic's rows, of which there are not "
                f"{self.generator_batch_factor} times as many: set generator_batch_factor to 1"
            )

    def takes_real(self, game: AdversarialLoss) -> bool:
        """Whether the generator's step looks at real rows."""
        return game.uses_real or self.joint_batches or self.unroll_steps > 0

    def pack(self, x: Array) -> Array:
        """Joins each ``pack_size`` consecutive rows along the last axis."""
        if self.pack_size == 1:
            return x
        if x.shape[0] % self.pack_size:
            raise ValueError(
                f"family.pack_size ({self.pack_size}) must divide the {x.shape[0]} rows that a "
                "device sees"
            )
        rows = x.reshape(-1, self.pack_size, *x.shape[1:])
        return jnp.concatenate([rows[:, i] for i in range(self.pack_size)], axis=-1)
