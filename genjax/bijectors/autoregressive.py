"""Autoregressive maps: of vectors by masked networks, of sequences by causal transformers."""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.bijectors.base import Bijector
from genjax.bijectors.elementwise import Elementwise, at_least_float32, sum_event
from genjax.nets.flow_transformer import CausalTransformer
from genjax.nets.made import MADE
from genjax.nets.transformer import Cache


class MaskedAutoregressive(Bijector):
    """Maps each entry of a vector by parameters computed from the entries before it.

    Forwards in one pass; backwards entry by entry, ``D`` passes in a compiled loop. Inverted
    (:class:`~genjax.bijectors.containers.Invert`) it is an inverse autoregressive map: fast the
    other way round.

    Attributes:
        elementwise: The maps of single entries.
        hidden_size: Width of the :class:`MADE` that gives their parameters.
        num_layers: Number of its hidden layers.

    References:
        Papamakarios et al., Masked Autoregressive Flow, arXiv:1705.07057; inverse: Kingma et al.,
        arXiv:1606.04934.
    """

    elementwise: Elementwise
    hidden_size: int = 64
    num_layers: int = 2

    @nn.compact
    def _raw(
        self, x: Float[Array, "B D"], context: Float[Array, "B C"] | None
    ) -> Float[Array, "B D P"]:
        net = MADE(self.elementwise.num_params, self.hidden_size, self.num_layers, name="made")
        return net(x, context)

    def forward_and_log_det(
        self, x: Float[Array, "B D"], context: Float[Array, "B C"] | None = None
    ) -> tuple[Float[Array, "B D"], Float[Array, " B"]]:
        """Maps all entries at once."""
        y, log_slope = self.elementwise.forward(x, self._raw(x, context))
        return y, sum_event(log_slope)

    def inverse_and_log_det(
        self, y: Float[Array, "B D"], context: Float[Array, "B C"] | None = None
    ) -> tuple[Float[Array, "B D"], Float[Array, " B"]]:
        """Undoes :meth:`forward_and_log_det`, one entry after the other."""
        # Parameters cannot be made inside the loop, nor a bound module be called there: the network
        # is applied as a pure function of its variables.
        if self.is_initializing():
            self._raw(y, context)
        variables = self.variables

        def raw_of(x: Array) -> Array:
            unbound = self.clone(parent=None)
            return cast(
                Array, unbound.apply(variables, x, context, method=MaskedAutoregressive._raw)
            )

        def fill(i: Array, x: Array) -> Array:
            # After pass i the first i + 1 entries are right.
            found, _ = self.elementwise.inverse(y, raw_of(x))
            return found.astype(x.dtype)

        dtype = jnp.promote_types(y.dtype, jnp.float32)
        x = jax.lax.fori_loop(0, y.shape[-1], fill, jnp.zeros(y.shape, dtype))
        # One more pass, with all entries right, for the slopes: the loop carries no sum of them.
        _, log_slope = self.elementwise.inverse(y, raw_of(x))
        return x, sum_event(log_slope)


class TransformerAutoregressive(Bijector):
    """Maps each token of a sequence by parameters computed from the tokens before it.

    Forwards in one pass of a causal transformer; backwards token by token, each pass taking in one
    token with the keys and values of those before it in a cache. The first token stays as it is.

    Attributes:
        elementwise: The maps of the entries of a token.
        num_tokens: Number of tokens of a sequence.
        hidden_size: Width of a token inside the transformer.
        num_blocks: Number of the transformer's blocks.
        num_heads: Number of its attention heads, which must divide ``hidden_size``.
        dtype: The precision of its trunk, ``"bfloat16"`` say; None for that of the rows.

    References:
        Zhai et al., Normalizing Flows are Capable Generative Models, arXiv:2412.06329, section 2.
    """

    elementwise: Elementwise
    num_tokens: int
    hidden_size: int = 128
    num_blocks: int = 4
    num_heads: int = 4
    dtype: Any = None

    @nn.compact
    def _net(self, x: Float[Array, "B T D"]) -> CausalTransformer:
        return CausalTransformer(
            x.shape[-1] * self.elementwise.num_params,
            self.hidden_size,
            self.num_blocks,
            self.num_heads,
            self.num_tokens,
            self.dtype,
            name="transformer",
        )

    def forward_and_log_det(
        self, x: Float[Array, "B T D"], context: Float[Array, "B C"] | None = None
    ) -> tuple[Float[Array, "B T D"], Float[Array, " B"]]:
        """Maps all tokens ``[B, T, D]`` at once."""
        raw = self._net(x)(x, context)
        y, log_slope = self.elementwise.forward(x, self.elementwise.by_entry(raw))
        return y, sum_event(log_slope)

    def inverse_and_log_det(
        self, y: Float[Array, "B T D"], context: Float[Array, "B C"] | None = None
    ) -> tuple[Float[Array, "B T D"], Float[Array, " B"]]:
        """Undoes :meth:`forward_and_log_det`, one token after the other."""
        y = at_least_float32(y)
        net = self._net(y)
        if self.is_initializing():
            net(y, context)
        unbound, variables = net.clone(parent=None), net.variables
        num_raw = y.shape[-1] * self.elementwise.num_params

        # The carry holds the raw parameters of the next token, which the pass over the token before
        # it made, and the cache of all tokens so far.
        def one_token(
            carry: tuple[Array, Cache], token: tuple[Array, Array]
        ) -> tuple[tuple[Array, Cache], tuple[Array, Array]]:
            raw, cache = carry
            index, value = token
            x, log_slope = self.elementwise.inverse(value, self.elementwise.by_entry(raw))
            x = x.astype(y.dtype)
            outputs = unbound.apply(variables, x, index, cache, context, method="step")
            raw, cache = cast(tuple[Array, Cache], outputs)
            return (raw.astype(y.dtype), cache), (x, log_slope)

        # Nothing comes before the first token: its raw parameters are the zeros of the padded pass
        # forwards.
        start = (
            jnp.zeros((y.shape[0], num_raw), y.dtype),
            unbound.empty_cache(y.shape[0], y.dtype),
        )
        tokens = (jnp.arange(y.shape[1]), jnp.swapaxes(y, 0, 1))
        _, (x, log_slope) = jax.lax.scan(one_token, start, tokens)
        return jnp.swapaxes(x, 0, 1), sum_event(jnp.swapaxes(log_slope, 0, 1))
