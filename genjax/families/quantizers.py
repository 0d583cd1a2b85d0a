"""Vectors to codes and back: a codebook that follows the vectors, or rounding."""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer, PRNGKeyArray

from genjax.devices import mapped_axes

Codebook = Mapping[str, Array]
"""What a quantizer keeps: ``usage`` ``[K]``, the running share of each code, and its own."""


class Quantized(NamedTuple):
    """What a quantizer makes of vectors.

    Attributes:
        vectors: What the decoder sees, ``[N, D]``; gradients go on to the encoder as they come.
        codes: Code of each vector, ``[N]``.
        commitment: What holds each vector to its code, ``[N]``; 0 where nothing has to.
    """

    vectors: Array
    codes: Array
    commitment: Array


@runtime_checkable
class Quantizer(Protocol):
    """A finite set of vectors, and how others are mapped to it."""

    @property
    def num_codes(self) -> int:
        """Size of the set."""
        ...

    @property
    def code_size(self) -> int:
        """Length of a vector."""
        ...

    def init(self, key: PRNGKeyArray, vectors: Array) -> Codebook:
        """What is kept before the first step; ``vectors`` ``[N, D]`` are those of the encoder."""
        ...

    def quantize(self, codebook: Codebook, vectors: Array) -> Quantized:
        """Maps vectors ``[N, D]``."""
        ...

    def update(
        self, codebook: Codebook, vectors: Array, codes: Array, key: PRNGKeyArray
    ) -> Codebook:
        """What is kept after a step with vectors of such codes."""
        ...

    def look_up(self, codebook: Codebook, codes: Array) -> Array:
        """Vectors ``[..., D]`` of codes ``[...]``."""
        ...


def _shares(codes: Int[Array, " N"], num_codes: int) -> Float[Array, " K"]:
    """Share of the codes of this device's rows."""
    counts = jnp.zeros(num_codes, jnp.float32).at[codes].add(1.0)
    return counts / codes.shape[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VectorQuantizer:
    r"""The nearest vector of a codebook whose vectors follow the means of what they stand for.

    Running sums of each code, :math:`N_k` of vectors and :math:`m_k` of their values, decay in
    each step whether or not a code is used, and the code is :math:`m_k / N_k`. Rows are quantised
    with the codebook as it was before they are counted. A code whose share has fallen below
    ``restart_below`` of what it would be if all were used alike begins anew at a vector of the
    batch.

    Attributes:
        num_codes: Number of codes.
        code_size: Length of a vector.
        commitment: Weight of the squared distance of vectors from their codes, in the loss.
        decay: Decay of the running sums a step, in [0, 1).
        restart_below: See above; 0 for never.

    References:
        van den Oord et al., Neural Discrete Representation Learning, arXiv:1711.00937, eq. 3 and
        appendix A.1; restarts: Dhariwal et al., Jukebox, arXiv:2005.00341, section 3.1.
    """

    num_codes: int = 512
    code_size: int = 64
    commitment: float = 0.25
    decay: float = 0.99
    restart_below: float = 0.03

    def __post_init__(self) -> None:
        if self.num_codes < 2 or self.code_size < 1:
            raise ValueError(
                f"expected num_codes of at least 2 and code_size of at least 1, got "
                f"{self.num_codes} and {self.code_size}"
            )
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {self.decay}")
        if not 0.0 <= self.restart_below < 1.0:
            raise ValueError(f"restart_below must be in [0, 1), got {self.restart_below}")

    def init(self, key: PRNGKeyArray, vectors: Float[Array, "N D"]) -> Codebook:
        """Codes at random vectors of the first batch, each with the share of one of them."""
        chosen = vectors[jax.random.randint(key, (self.num_codes,), 0, vectors.shape[0])]
        # A batch may have fewer vectors than there are codes: no two shall be the same.
        spread = jnp.std(vectors) + 1e-6
        noise = jax.random.normal(jax.random.fold_in(key, 1), chosen.shape)
        chosen = chosen.astype(jnp.float32) + 0.01 * spread * noise
        usage = jnp.full(self.num_codes, 1.0 / self.num_codes)
        kept = {"usage": usage, "mass": jnp.copy(usage), "vectors": chosen}
        return {**kept, "sums": chosen * usage[:, None]}

    def quantize(self, codebook: Codebook, vectors: Float[Array, "N D"]) -> Quantized:
        """Maps vectors ``[N, D]`` to the nearest ones of the codebook."""
        book = codebook["vectors"]
        vectors = vectors.astype(jnp.float32)
        # The vectors' own squares are the same for all codes.
        distances = jnp.sum(jnp.square(book), axis=1) - 2.0 * vectors @ book.T
        codes = jnp.argmin(jax.lax.stop_gradient(distances), axis=1)
        nearest = book[codes]
        commitment = self.commitment * jnp.sum(jnp.square(vectors - nearest), axis=1)
        passed = vectors + jax.lax.stop_gradient(nearest - vectors)
        return Quantized(passed, codes, commitment)

    def update(
        self,
        codebook: Codebook,
        vectors: Float[Array, "N D"],
        codes: Int[Array, " N"],
        key: PRNGKeyArray,
    ) -> Codebook:
        """The running sums and the codes after a step; means over devices are those of all rows."""
        vectors = jax.lax.stop_gradient(vectors).astype(jnp.float32)
        keep, share = self.decay, _shares(codes, self.num_codes)
        batch = jnp.zeros_like(codebook["sums"]).at[codes].add(vectors) / vectors.shape[0]
        if axes := mapped_axes():
            share, batch = jax.lax.pmean((share, batch), axes)
            vectors = jax.lax.all_gather(vectors, axes, tiled=True)
        usage, mass, sums = (
            keep * codebook[name] + (1.0 - keep) * new
            for name, new in (("usage", share), ("mass", share), ("sums", batch))
        )
        # What is hardly used is not divided by next to nothing: it stays where it is.
        used = mass > 1e-6 / self.num_codes
        book = sums / jnp.maximum(mass, 1e-20)[:, None]
        book = jnp.where(used[:, None], book, codebook["vectors"])
        if self.restart_below:
            dead = mass * self.num_codes < self.restart_below
            chosen = vectors[jax.random.randint(key, (self.num_codes,), 0, vectors.shape[0])]
            book = jnp.where(dead[:, None], chosen, book)
            # As if it had been used like all others; what is said of usage stays the truth.
            mass = jnp.where(dead, 1.0 / self.num_codes, mass)
            sums = jnp.where(dead[:, None], chosen / self.num_codes, sums)
        return {"usage": usage, "mass": mass, "sums": sums, "vectors": book}

    def look_up(
        self, codebook: Codebook, codes: Integer[Array, "*shape"]
    ) -> Float[Array, "*shape D"]:
        """Vectors of codes."""
        return codebook["vectors"][codes.astype(jnp.int32)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FiniteScalarQuantizer:
    r"""Rounding of each entry to one of a few levels: no codebook, and no loss of its own.

    An entry is bounded by :math:`\tanh(z + s) h - o` with half the number of levels (a thousandth
    more, so that the ends are reached) for ``h``, an offset of a half for even numbers, and the
    shift that maps 0 to 0; then it is rounded and divided by half the number of levels.

    Attributes:
        levels: Number of levels of each entry, at least 3.
        decay: Decay of the running share of each code a step, which is only looked at.

    References:
        Mentzer et al., Finite Scalar Quantization, arXiv:2309.15505, section 3.1 and appendix A.1,
        where the inverse of the hyperbolic tangent is meant for the shift.
    """

    levels: tuple[int, ...] = (8, 6, 5)
    decay: float = 0.99

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 3:
            raise ValueError(f"levels must be numbers of at least 3, got {self.levels}")
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {self.decay}")

    @property
    def num_codes(self) -> int:
        """Product of the numbers of levels."""
        return math.prod(self.levels)

    @property
    def code_size(self) -> int:
        """Number of entries."""
        return len(self.levels)

    def init(self, key: PRNGKeyArray, vectors: Float[Array, "N D"]) -> Codebook:
        """All codes alike."""
        del key, vectors
        return {"usage": jnp.full(self.num_codes, 1.0 / self.num_codes)}

    def quantize(self, codebook: Codebook, vectors: Float[Array, "N D"]) -> Quantized:
        """Rounds vectors ``[N, D]``."""
        del codebook
        levels = jnp.asarray(self.levels, jnp.float32)
        reach = 0.5 * (levels - 1.0) * (1.0 + 1e-3)
        offset = jnp.where(levels % 2 == 0, 0.5, 0.0)
        shift = jnp.arctanh(offset / reach)
        bounded = jnp.tanh(vectors.astype(jnp.float32) + shift) * reach - offset
        rounded = bounded + jax.lax.stop_gradient(jnp.round(bounded) - bounded)
        half = levels // 2
        digits = (jax.lax.stop_gradient(rounded) + half).astype(jnp.int32)
        codes = jnp.sum(digits * jnp.asarray(self._basis()), axis=1)
        return Quantized(rounded / half, codes, jnp.zeros(vectors.shape[0]))

    def _basis(self) -> list[int]:
        """What each entry's level counts in the number of a code: the first counts 1."""
        return [math.prod(self.levels[:i]) for i in range(len(self.levels))]

    def update(
        self,
        codebook: Codebook,
        vectors: Float[Array, "N D"],
        codes: Int[Array, " N"],
        key: PRNGKeyArray,
    ) -> Codebook:
        """The running share of each code."""
        del vectors, key
        share = _shares(codes, self.num_codes)
        if axes := mapped_axes():
            share = jax.lax.pmean(share, axes)
        return {"usage": self.decay * codebook["usage"] + (1.0 - self.decay) * share}

    def look_up(
        self, codebook: Codebook, codes: Integer[Array, "*shape"]
    ) -> Float[Array, "*shape D"]:
        """Vectors of codes."""
        del codebook
        levels = jnp.asarray(self.levels)
        digits = codes.astype(jnp.int32)[..., None] // jnp.asarray(self._basis()) % levels
        half = levels // 2
        return (digits - half).astype(jnp.float32) / half
