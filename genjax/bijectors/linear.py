"""Linear maps along the last axis: permutations, per-channel affine maps, invertible matrices."""

from collections.abc import Sequence
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from genjax.bijectors.base import Bijector, Context, Kept
from genjax.bijectors.elementwise import at_least_float32
from genjax.nets.normalization import first_deviation

# Matrix products of invertible maps in full precision: TPUs would otherwise round to bfloat16, and
# the inverse would not be one.
_HIGHEST = jax.lax.Precision.HIGHEST


def _num_positions(x: Float[Array, "B *place C"]) -> int:
    """Positions that share a map along the last axis: height times width of an image."""
    return int(np.prod(x.shape[1:-1]))


def _constant(x: Float[Array, "B ..."], value: Float[Array, ""]) -> Float[Array, " B"]:
    """One log-determinant for all rows, ``[B]``."""
    return jnp.broadcast_to(value, x.shape[:1])


class Permutation(Bijector):
    """A fixed permutation of one axis.

    Attributes:
        order: ``y[..., i] = x[..., order[i]]``; None for a random one, drawn at initialisation and
            kept in the collection ``constants``.
        axis: The axis that is permuted: -1 for channels, 1 for tokens ``[B, T, C]``.
    """

    order: Sequence[int] | None = None
    axis: int = -1

    @nn.compact
    def _order(self, x: Float[Array, "B ..."]) -> Int[Array, " D"] | Int[np.ndarray, " D"]:
        size = x.shape[self.axis]
        if self.order is None:

            def draw() -> Array:
                return jax.random.permutation(self.make_rng("params"), size)

            return cast(Array, self.variable("constants", "order", draw).value)
        order = np.asarray(self.order)
        if sorted(order.tolist()) != list(range(size)):
            raise ValueError(f"expected a permutation of {size} entries, got {tuple(self.order)}")
        return order

    def forward_and_log_det(
        self, x: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Permutes."""
        return jnp.take(x, self._order(x), axis=self.axis), _constant(x, jnp.zeros(()))

    def inverse_and_log_det(
        self, y: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Permutes back."""
        back = jnp.argsort(jnp.asarray(self._order(y)))
        return jnp.take(y, back, axis=self.axis), _constant(y, jnp.zeros(()))


class ActNorm(Bijector):
    """A scale and a shift for each entry of the last axis, set by the data at first.

    Initialised forwards, the outputs of the rows of ``init`` have mean 0 and standard deviation 1
    in each channel; over the whole global batch, if the rows are spread over a mesh. A channel that
    is the same in all of them, as any is in a batch of one vector, starts with scale 1. Initialised
    by ``inverse_and_log_det``, it starts as the identity.

    Attributes:
        epsilon: The number that is added to the standard deviation, which is taken to be at least a
            thousandth of the median over the channels that vary.

    References:
        Kingma and Dhariwal, Glow, arXiv:1807.03039, section 3.1.
    """

    epsilon: float = 1e-6

    @nn.compact
    def _parameters(
        self, x: Float[Array, "B *place C"], *, from_data: bool
    ) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
        # Initialisers read the batch at hand: Flax calls them once, when the parameters are made.
        axes = tuple(range(x.ndim - 1))
        data = at_least_float32(x)

        def log_scale(_: Array) -> Array:
            if not from_data:
                return jnp.zeros(x.shape[-1], data.dtype)
            std, varies = first_deviation(data)
            # What hardly varies in the first batch may vary in the next. Those that do not vary at
            # all say nothing about it: most of a sparse table may be such.
            least = 1e-3 * jnp.nanmedian(jnp.where(varies, std, jnp.nan))
            return jnp.where(varies, -jnp.log(jnp.maximum(std, least) + self.epsilon), 0.0)

        def mean(_: Array) -> Array:
            return jnp.mean(data, axis=axes) if from_data else jnp.zeros(x.shape[-1], data.dtype)

        return self.param("log_scale", log_scale), self.param("mean", mean)

    def forward_and_log_det(
        self, x: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Maps to ``(x - mean) exp(log_scale)``."""
        log_scale, mean = self._parameters(x, from_data=True)
        log_det = _num_positions(x) * jnp.sum(log_scale)
        return (x - mean) * jnp.exp(log_scale), _constant(x, log_det)

    def inverse_and_log_det(
        self, y: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Undoes :meth:`forward_and_log_det`."""
        log_scale, mean = self._parameters(y, from_data=False)
        log_det = -_num_positions(y) * jnp.sum(log_scale)
        return y * jnp.exp(-log_scale) + mean, _constant(y, log_det)


class LULinear(Bijector):
    """An invertible matrix along the last axis as a product of triangular ones.

    Of a table it is the linear layer of neural spline flows, of an image an invertible 1x1
    convolution. The log-determinant is a sum, the inverse two triangular solves.

    Attributes:
        use_bias: Whether to add a bias.
        identity: Whether to start as the identity, else as a random rotation, whose permutation and
            signs stay fixed in the collection ``constants``.

    References:
        Kingma and Dhariwal, arXiv:1807.03039, section 3.2; Durkan et al., arXiv:1906.04032,
        section 3.2.
    """

    use_bias: bool = True
    identity: bool = True

    @nn.compact
    def _parameters(
        self, x: Float[Array, "B *place C"]
    ) -> tuple[
        Int[Array, " C"] | None,
        Float[Array, "C C"],
        Float[Array, "C C"],
        Float[Array, " C"],
        Float[Array, " C"],
    ]:
        """Order of the rows, both triangular factors, log of the diagonal and bias."""
        size = x.shape[-1]
        # W = P L U with unit diagonal in L; the diagonal of U is sign * exp(log_diagonal), so that
        # log|det W| is the sum of log_diagonal and no entry can become 0 (Glow, section 3.2).
        order, sign = None, jnp.ones(size)
        lower = upper = jnp.eye(size)
        if not self.identity:
            # Order and signs are whole numbers, so that nobody takes them for parameters.
            fixed: dict[str, Array] = {}
            if self.is_initializing():
                normal = jax.random.normal(self.make_rng("params"), (size, size))
                rows, lower, upper = jax.scipy.linalg.lu(jnp.linalg.qr(normal)[0])
                signs = jnp.sign(jnp.diag(upper)).astype(jnp.int32)
                fixed = {"order": jnp.argmax(rows, axis=1).astype(jnp.int32), "sign": signs}
            order = self.variable("constants", "order", lambda: fixed["order"]).value
            sign = self.variable("constants", "sign", lambda: fixed["sign"]).value

        def start(_: Array) -> dict[str, Array]:
            return {
                "lower": jnp.tril(lower, -1),
                "upper": jnp.triu(upper, 1),
                "log_diagonal": jnp.log(jnp.abs(jnp.diag(upper))),
            }

        factors = self.param("factors", start)
        lower = jnp.tril(factors["lower"], -1) + jnp.eye(size)
        upper = jnp.triu(factors["upper"], 1) + jnp.diag(sign * jnp.exp(factors["log_diagonal"]))
        bias = jnp.zeros(size)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (size,))
        return order, lower, upper, factors["log_diagonal"], bias

    def forward_and_log_det(
        self, x: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Maps each vector ``v`` along the last axis to ``P L U v + b``."""
        order, lower, upper, log_diagonal, bias = self._parameters(x)
        x = at_least_float32(x)
        # P L U is formed once for all positions, which are many in an image.
        matrix = jnp.matmul(lower, upper, precision=_HIGHEST).astype(x.dtype)
        if order is not None:
            matrix = matrix[order]
        y = jnp.matmul(x, matrix.T, precision=_HIGHEST) + bias.astype(x.dtype)
        return y, _constant(x, _num_positions(x) * jnp.sum(log_diagonal))

    def inverse_and_log_det(
        self, y: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Undoes :meth:`forward_and_log_det`."""
        order, lower, upper, log_diagonal, bias = self._parameters(y)
        y = at_least_float32(y)
        dtype = y.dtype
        rows = (y - bias.astype(dtype)).reshape(-1, y.shape[-1]).T
        if order is not None:
            rows = rows[jnp.argsort(order)]
        # The bias and the permutation are undone above; L and U follow from the left.
        rows = jax.scipy.linalg.solve_triangular(
            lower.astype(dtype), rows, lower=True, unit_diagonal=True
        )
        x = jax.scipy.linalg.solve_triangular(upper.astype(dtype), rows).T.reshape(y.shape)
        return x, _constant(y, -_num_positions(y) * jnp.sum(log_diagonal))


class Convolution1x1(Bijector):
    """An invertible matrix along the last axis, as it is: the 1x1 convolution of Glow's code.

    Starts as a random rotation. The inverse solves a linear system and the log-determinant takes a
    decomposition, both in float32 or wider; :class:`LULinear` needs neither.

    References:
        Kingma and Dhariwal, Glow, arXiv:1807.03039, section 3.2.
    """

    @nn.compact
    def _matrix(self, x: Float[Array, "B *place C"]) -> Float[Array, "C C"]:
        start = nn.initializers.orthogonal()
        matrix = self.param("matrix", start, (x.shape[-1], x.shape[-1]))
        return cast(Array, matrix).astype(jnp.promote_types(x.dtype, jnp.float32))

    def forward_and_log_det(
        self, x: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Maps each vector ``v`` along the last axis to ``W v``."""
        # Each position has the same Jacobian W: the log-determinant is H W log|det W|.
        matrix = self._matrix(x)
        log_det = _num_positions(x) * jnp.linalg.slogdet(matrix)[1]
        y = jnp.matmul(at_least_float32(x), matrix.T, precision=_HIGHEST)
        return y, _constant(x, log_det)

    def inverse_and_log_det(
        self, y: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Undoes :meth:`forward_and_log_det`."""
        matrix = self._matrix(y)
        log_det = -_num_positions(y) * jnp.linalg.slogdet(matrix)[1]
        rows = at_least_float32(y).reshape(-1, y.shape[-1]).T
        return jnp.linalg.solve(matrix, rows).T.reshape(y.shape), _constant(y, log_det)
