"""Autoregressive maps: of vectors by masked networks, of sequences by causal transformers."""

from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax.bijectors.base import Bijector
from genjax.bijectors.elementwise import Elementwise, at_least_float32, by_entry, sum_event
from genjax.nets.dense import Dense, columns_are_faster, dense
from genjax.nets.flow_transformer import Cache, CausalTransformer


class MaskedDense(nn.Module):
    """A dense layer whose outputs see only inputs of a lower or equal degree.

    Attributes:
        degrees_in: The degree of each input: the last entry of the event that it has seen.
        degrees_out: The degree of each output.
        columns: Whether input and output are columns, ``[I, B]``, instead of rows.
        strict: Whether the degree of an input must be lower than that of the output.
        kernel_init: Initialiser of the weights.
    """

    degrees_in: tuple[int, ...]
    degrees_out: tuple[int, ...]
    columns: bool
    strict: bool = False
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps ``[..., inputs]`` to ``[..., outputs]``, or columns to columns."""
        before, after = np.asarray(self.degrees_in)[:, None], np.asarray(self.degrees_out)
        mask = after > before if self.strict else after >= before
        kernel = self.param("kernel", self.kernel_init, mask.shape)
        bias = self.param("bias", nn.initializers.zeros_init(), mask.shape[1:])
        # The mask is applied in each pass, not once at initialisation: an optimiser would move
        # weights that are merely 0.
        return dense(x, jnp.where(mask, kernel, 0.0), bias, columns=self.columns)


class MADE(nn.Module):
    """A network whose outputs for entry ``i`` depend on entries before ``i`` only.

    Attributes:
        num_outputs: Number of outputs for each entry.
        hidden_size: Width of every layer.
        num_layers: Number of hidden layers; from the second on they are residual.

    References:
        Germain et al., MADE, arXiv:1502.03509; residual: Nash and Durkan, arXiv:1904.05626.
    """

    num_outputs: int
    hidden_size: int = 64
    num_layers: int = 2

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch D"], context: Float[Array, "*rows C"] | None = None
    ) -> Float[Array, "... D P"]:
        """Maps ``[B, D]`` to ``[B, D, num_outputs]``; zero at initialisation.

        Args:
            x: The entries in their order, ``[B, D]``.
            context: What all outputs may depend on, ``[B, C]``, or None.
        """
        size = x.shape[-1]
        entries = tuple(range(1, size + 1))
        # Degree of a hidden unit: the last entry it has seen. With one entry it may see none. All
        # degrees in turn, or, where there are fewer units, spread over the entries.
        units = np.arange(self.hidden_size)
        degrees = units % max(1, size - 1) + min(1, size - 1)
        if self.hidden_size < size - 1:
            degrees = size - 1 - units * (size - 1) // self.hidden_size
        hidden = tuple(degrees.tolist())
        outputs = tuple(np.repeat(entries, self.num_outputs).tolist())

        columns = columns_are_faster(self.hidden_size, x, context)
        zeros = nn.initializers.zeros_init()

        def with_context(h: Array, name: str, **options: Any) -> Array:
            # Without a mask: a context comes before all entries.
            if context is None:
                return h
            width = h.shape[0 if columns else -1]
            layer = Dense(width, columns, use_bias=False, name=name, **options)
            return h + layer(context.T if columns else context)

        h = MaskedDense(entries, hidden, columns, name="dense_in")(x.T if columns else x)
        h = with_context(h, "context_in")
        for i in range(self.num_layers - 1):
            r = MaskedDense(hidden, hidden, columns, name=f"dense_{i}")(nn.relu(h))
            h += with_context(r, f"context_{i}")
        # Strictly lower here alone: an output must not see its own entry, a hidden unit of the same
        # degree may.
        last = MaskedDense(
            hidden, outputs, columns, strict=True, kernel_init=zeros, name="dense_out"
        )
        y = with_context(last(nn.relu(h)), "context_out", kernel_init=zeros)
        return by_entry(y.T if columns else y, self.num_outputs)


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
