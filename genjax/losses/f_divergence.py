r"""f-divergences and their variational bounds, trained by f-GANs.

For a convex :math:`f` with :math:`f(1) = 0` (up to a constant),

.. math::
    D_f(P \,\|\, Q) = \int q\, f(p/q)
        \;\ge\; E_P[T] - E_Q[f^*(T)], \qquad\text{with equality at } T = f'(p/q).

``P`` is the data and ``Q`` the model. The output :math:`v` of a network becomes :math:`T` in two
ways: by the paper's output activation :math:`T = g(v)`, or in *ratio form*, where :math:`v`
estimates :math:`\log p/q` and :math:`T = f'(e^v)`. The ratio form needs no domain of :math:`f^*` to
be respected and makes the outputs of all divergences mean the same. Both are fused here with the
conjugate, so that neither meets the edge of a domain in floating point. What grows exponentially
still does: outputs of several divergences are to be limited.

References:
    Nowozin et al., f-GAN, arXiv:1606.00709, tables 1, 2 and 6.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.losses.adversarial import AdversarialLoss, correct_at
from genjax.losses.arrays import paired, widened

_Function: TypeAlias = Callable[[Array], Array]
LOG2 = math.log(2.0)


class CriticForm(NamedTuple):
    r"""How a network's output ``v`` becomes a critic.

    Attributes:
        critic: :math:`T(v)`.
        conjugate: :math:`f^*(T(v))`.
        log_ratio: The estimate of :math:`\log p/q` that ``v`` stands for, the inverse of
            :math:`v \mapsto T`; None where the optimal critic only says which side of 1 it is on.
        threshold: The ``v`` at which :math:`T = f'(1)`: where both classes are equally likely.
    """

    critic: _Function
    conjugate: _Function
    log_ratio: _Function | None
    threshold: float = 0.0


class FDivergence(NamedTuple):
    r"""An f-divergence.

    Attributes:
        f: The generator function of the density ratio ``u > 0``.
        critic: The optimal critic :math:`f'(u)`.
        conjugate: :math:`f^*(t)` on its domain.
        paper: The paper's output activation.
        ratio: The ratio form.
    """

    f: _Function
    critic: _Function
    conjugate: _Function
    paper: CriticForm
    ratio: CriticForm


@jax.custom_jvp
def _log_lambert_w_exp(y: Array) -> Array:
    """Log of the principal branch of Lambert's W at ``exp(y)``: the ``s`` with ``exp(s) + s = y``.

    Neither ``exp(y)`` nor W is formed, which leave the range of float32 long before ``s`` does.
    """
    # For large y the exponential makes up most of the sum, for small y the s itself; both starts
    # are exact at y = 1. The inner maximum keeps the branch that is not taken from a log of 0.
    s = jnp.where(y > 1.0, jnp.log(jnp.maximum(y, 1.0)), y - 1.0)
    for _ in range(6):  # Newton's method, quadratic from these starts
        w = jnp.exp(s)
        s = s - (w + s - y) / (w + 1.0)
    return s


@_log_lambert_w_exp.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # The equation differentiated: (exp(s) + 1) ds = dy. Nothing goes back through the iteration.
    s = _log_lambert_w_exp(primals[0])
    return s, tangents[0] / (1.0 + jnp.exp(s))


def _jeffreys_conjugate(t: Array) -> Array:
    # f*(t) = u t - f(u) where f'(u) = t. With u = exp(-s) the condition is exp(s) + s = 1 - t, and
    # the conjugate becomes exp(s) + exp(-s) + t - 2.
    s = _log_lambert_w_exp(1.0 - t)
    return jnp.exp(s) + jnp.exp(-s) + t - 2.0


def _x_log_x(u: Array) -> Array:
    return u * jnp.log(u)


_sp = jax.nn.softplus
_exp = jnp.exp

# The second entry of each form is f*(T(v)) worked out by hand. To compute f* of T in two steps
# would round T onto the edge of the domain of f* where outputs are large.
F_DIVERGENCES: Mapping[str, FDivergence] = {
    # The bounded critic has no gradient off the threshold: tanh only approaches the bound.
    "total_variation": FDivergence(
        f=lambda u: 0.5 * jnp.abs(u - 1.0),
        critic=lambda u: 0.5 * jnp.sign(u - 1.0),
        conjugate=lambda t: t,
        paper=CriticForm(lambda v: 0.5 * jnp.tanh(v), lambda v: 0.5 * jnp.tanh(v), None),
        ratio=CriticForm(lambda v: 0.5 * jnp.tanh(v / 2), lambda v: 0.5 * jnp.tanh(v / 2), None),
    ),
    "kl": FDivergence(
        f=_x_log_x,
        critic=lambda u: 1.0 + jnp.log(u),
        conjugate=lambda t: _exp(t - 1.0),
        paper=CriticForm(lambda v: v, lambda v: _exp(v - 1.0), lambda v: v - 1.0, threshold=1.0),
        ratio=CriticForm(lambda v: 1.0 + v, _exp, lambda v: v),
    ),
    "reverse_kl": FDivergence(
        f=lambda u: -jnp.log(u),
        critic=lambda u: -1.0 / u,
        conjugate=lambda t: -1.0 - jnp.log(-t),
        paper=CriticForm(lambda v: -_exp(-v), lambda v: v - 1.0, lambda v: v),
        ratio=CriticForm(lambda v: -_exp(-v), lambda v: v - 1.0, lambda v: v),
    ),
    "pearson": FDivergence(
        f=lambda u: jnp.square(u - 1.0),
        critic=lambda u: 2.0 * (u - 1.0),
        conjugate=lambda t: 0.25 * jnp.square(t) + t,
        # A critic below -2 is no density ratio: the log is taken at the edge.
        paper=CriticForm(
            lambda v: v,
            lambda v: 0.25 * jnp.square(v) + v,
            lambda v: jnp.log(jnp.maximum(1.0 + 0.5 * v, jnp.finfo(v.dtype).tiny)),
        ),
        ratio=CriticForm(lambda v: 2.0 * jnp.expm1(v), lambda v: jnp.expm1(2.0 * v), lambda v: v),
    ),
    # 1 - T is an exponential, so that its root is one.
    "neyman": FDivergence(
        f=lambda u: jnp.square(1.0 - u) / u,
        critic=lambda u: 1.0 - u**-2,
        conjugate=lambda t: 2.0 - 2.0 * jnp.sqrt(1.0 - t),
        paper=CriticForm(
            lambda v: -jnp.expm1(-v), lambda v: -2.0 * jnp.expm1(-0.5 * v), lambda v: 0.5 * v
        ),
        ratio=CriticForm(
            lambda v: -jnp.expm1(-2.0 * v), lambda v: -2.0 * jnp.expm1(-v), lambda v: v
        ),
    ),
    "squared_hellinger": FDivergence(
        f=lambda u: jnp.square(jnp.sqrt(u) - 1.0),
        critic=lambda u: 1.0 - u**-0.5,
        conjugate=lambda t: t / (1.0 - t),
        paper=CriticForm(lambda v: -jnp.expm1(-v), jnp.expm1, lambda v: 2.0 * v),
        ratio=CriticForm(lambda v: -jnp.expm1(-0.5 * v), lambda v: jnp.expm1(0.5 * v), lambda v: v),
    ),
    # Twice the Jensen-Shannon divergence: the paper's table puts 1/2 before it, its f does not.
    "jensen_shannon": FDivergence(
        f=lambda u: _x_log_x(u) - (u + 1.0) * jnp.log(0.5 * (1.0 + u)),
        critic=lambda u: jnp.log(2.0 * u / (1.0 + u)),
        conjugate=lambda t: -jnp.log(2.0 - _exp(t)),
        paper=CriticForm(lambda v: LOG2 - _sp(-v), lambda v: _sp(v) - LOG2, lambda v: v),
        ratio=CriticForm(lambda v: LOG2 - _sp(-v), lambda v: _sp(v) - LOG2, lambda v: v),
    ),
    # T = log sigmoid(v), and -log(1 - sigmoid(v)) = softplus(v).
    "gan": FDivergence(
        f=lambda u: _x_log_x(u) - (u + 1.0) * jnp.log(u + 1.0),
        critic=lambda u: jnp.log(u / (1.0 + u)),
        conjugate=lambda t: -jnp.log1p(-_exp(t)),
        paper=CriticForm(lambda v: -_sp(-v), _sp, lambda v: v),
        ratio=CriticForm(lambda v: -_sp(-v), _sp, lambda v: v),
    ),
    "jeffreys": FDivergence(
        f=lambda u: (u - 1.0) * jnp.log(u),
        critic=lambda u: 1.0 + jnp.log(u) - 1.0 / u,
        conjugate=_jeffreys_conjugate,
        # 1/u = W(e^(1-t)).
        paper=CriticForm(lambda v: v, _jeffreys_conjugate, lambda v: -_log_lambert_w_exp(1.0 - v)),
        ratio=CriticForm(lambda v: v + 1.0 - _exp(-v), lambda v: _exp(v) + v - 1.0, lambda v: v),
    ),
    # Of 1 minus the coefficient; the distance -log(coefficient) is no f-divergence.
    "bhattacharyya": FDivergence(
        f=lambda u: 1.0 - jnp.sqrt(u),
        critic=lambda u: -0.5 * u**-0.5,
        conjugate=lambda t: -1.0 - 0.25 / t,
        paper=CriticForm(
            lambda v: -0.5 * _exp(-0.5 * v), lambda v: 0.5 * _exp(0.5 * v) - 1.0, lambda v: v
        ),
        ratio=CriticForm(
            lambda v: -0.5 * _exp(-0.5 * v), lambda v: 0.5 * _exp(0.5 * v) - 1.0, lambda v: v
        ),
    ),
}
r"""f-divergences by name. Values for densities p (data) and q (model): ``total_variation`` in
[0, 1]; ``kl`` KL(P||Q); ``reverse_kl`` KL(Q||P); ``pearson`` :math:`\int (p-q)^2/q`; ``neyman``
:math:`\int (p-q)^2/p`; ``squared_hellinger`` :math:`\int(\sqrt p-\sqrt q)^2` in [0, 2];
``jensen_shannon`` *twice* the Jensen-Shannon divergence, at most 2 log 2; ``gan`` the same minus
log 4; ``jeffreys`` KL(P||Q) + KL(Q||P); ``bhattacharyya`` :math:`1 - \int\sqrt{pq}`."""


def _limited(v: Array, form: str, max_log_ratio: float | None) -> Array:
    """Keeps outputs in ratio form within a limit, smoothly."""
    if max_log_ratio is None:
        return v
    if form == "paper" or not max_log_ratio > 0:
        raise ValueError(
            f"max_log_ratio must be positive, and only limits the ratio form; got {max_log_ratio} "
            f"in form {form!r}"
        )
    return max_log_ratio * jnp.tanh(v / max_log_ratio)


def _form(divergence: str, form: str) -> CriticForm:
    if divergence not in F_DIVERGENCES:
        raise ValueError(f"divergence must be one of {sorted(F_DIVERGENCES)}, got {divergence!r}")
    if form not in ("paper", "ratio"):
        raise ValueError(f"form must be 'paper' or 'ratio', got {form!r}")
    record = F_DIVERGENCES[divergence]
    return record.paper if form == "paper" else record.ratio


def f_divergence_bound(
    real_outputs: Float[Array, "B *places"],
    fake_outputs: Float[Array, "B *places"],
    *,
    divergence: str,
    form: Literal["paper", "ratio"] = "ratio",
    max_log_ratio: float | None = None,
) -> Float[Array, "B *places"]:
    r"""Terms of the lower bound on an f-divergence whose mean a critic maximises.

    In ratio form one network's outputs give the bounds on all divergences.

    Args:
        real_outputs: The network's outputs on data, ``[B]``, or ``[B, H, W]`` of a patch critic.
        fake_outputs: Its outputs on as many rows of the model, of the same shape.
        divergence: A key of :data:`F_DIVERGENCES`.
        form: ``"ratio"`` if outputs estimate :math:`\log p/q`, ``"paper"`` for the output
            activation of the paper.
        max_log_ratio: The limit of outputs that the network was trained with, see
            :func:`f_gan_loss`; None for no limit.

    Returns:
        :math:`T(v(x)) - f^*(T(v(\tilde x)))` for each pair.

    Raises:
        ValueError: If the divergence or the form is not known, or shapes differ.

    Example:
        >>> f_divergence_bound(jnp.zeros(1), jnp.zeros(1), divergence="kl")
        Array([0.], dtype=float32)

    References:
        Nowozin et al., arXiv:1606.00709, eq. 4.
    """
    chosen = _form(divergence, form)
    pair = paired(real_outputs=real_outputs, fake_outputs=fake_outputs)
    real, fake = (_limited(v, form, max_log_ratio) for v in pair)
    return chosen.critic(real) - chosen.conjugate(fake)


def f_divergence_log_ratio(
    outputs: Float[Array, "*shape"],
    *,
    divergence: str,
    form: Literal["paper", "ratio"] = "ratio",
    max_log_ratio: float | None = None,
) -> Float[Array, "*shape"]:
    r"""The log density ratio :math:`\log p/q` that a trained critic stands for.

    Args:
        outputs: The network's outputs, of any shape.
        divergence: A key of :data:`F_DIVERGENCES`.
        form: The form that the network was trained in.
        max_log_ratio: The limit that it was trained with, see :func:`f_gan_loss`; None for no
            limit.

    Returns:
        The estimate for each output, in nats.

    Raises:
        ValueError: For total variation, whose optimal critic only tells which density is larger.

    Example:
        >>> f_divergence_log_ratio(jnp.array([1.0]), divergence="kl", form="paper")
        Array([0.], dtype=float32)

    References:
        Nowozin et al., arXiv:1606.00709, eq. 5.
    """
    log_ratio = _form(divergence, form).log_ratio
    if log_ratio is None:
        raise ValueError(
            f"the optimal critic of {divergence} only tells which density is larger; train another "
            "divergence to estimate the ratio"
        )
    return log_ratio(_limited(widened(outputs), form, max_log_ratio))


def f_gan_loss(
    divergence: str,
    *,
    form: Literal["paper", "ratio"] = "ratio",
    generator: Literal["alternative", "bound"] = "alternative",
    max_log_ratio: float | None = None,
) -> AdversarialLoss:
    r"""The game of an f-GAN.

    Args:
        divergence: A key of :data:`F_DIVERGENCES`.
        form: How outputs become critics: ``"ratio"`` if they estimate :math:`\log p/q`,
            ``"paper"`` for the output activation of the paper.
        generator: ``"bound"``: the generator minimises the bound itself, :math:`-f^*(T(\tilde x))`;
            ``"alternative"``: it maximises :math:`E[T(\tilde x)]`, which does not saturate early.
        max_log_ratio: Limit of outputs in ratio form, approached smoothly (``c tanh(v/c)``).
            Several divergences exponentiate the output; any limit leaves the bound a bound.

    Returns:
        Both players' losses; the critic's is minus the bound.

    Raises:
        ValueError: If an argument is not one of those named, or a limit is given for the paper's
            form.

    Example:
        >>> f_gan_loss("gan").critic(jnp.zeros(1), jnp.zeros(1))
        Array([1.3862944], dtype=float32)

    References:
        Nowozin et al., arXiv:1606.00709, eq. 6 and section 3.2.
    """
    chosen = _form(divergence, form)
    if generator not in ("alternative", "bound"):
        raise ValueError(f"generator must be 'alternative' or 'bound', got {generator!r}")
    _limited(jnp.zeros(()), form, max_log_ratio)  # refuses a wrong limit here already

    def limit(v: Array) -> Array:
        return _limited(v, form, max_log_ratio)

    def critic_loss(real: Array, fake: Array) -> Array:
        real, fake = paired(real_outputs=real, fake_outputs=fake)
        return chosen.conjugate(limit(fake)) - chosen.critic(limit(real))

    def generator_loss(real: Array, fake: Array) -> Array:
        # Section 3.2: of the GAN's divergence f*(T) is flat where the critic is sure of a generated
        # row, T is not.
        return -(chosen.critic if generator == "alternative" else chosen.conjugate)(
            limit(widened(fake))
        )

    correct = correct_at(chosen.threshold)
    return AdversarialLoss(critic_loss, generator_loss, correct, threshold=chosen.threshold)
