r"""Losses of the two players of a generative adversarial network.

Outputs of the critic are raw and grow with "more real". (Papers call it the discriminator where its
output is a logit; here it is the critic in every game.) Its loss takes its outputs on as many real
rows as generated ones and returns one number for each pair of rows, which the critic minimises.
Outputs are ``[B]``, or ``[B, H, W]`` of a patch critic, which judges places of an image: each place
of a real row is paired with the same place of the generated row, the loss has the shape of the
outputs, and its mean over all axes is what the player minimises. Outputs of different shapes are
refused, as ``[B]`` beside ``[B, 1]``. Numbers and lists are taken as arrays, and all is computed in
float32 or wider.

For the optimal critic and equal distributions the loss is, per pair, ``2 log 2`` (logistic), 1/4
(least squares on 0 and 1, Brier), 2 (hinge), 0 (Wasserstein) and ``log 2`` (relativistic).

References:
    Goodfellow et al., Generative Adversarial Networks, arXiv:1406.2661.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.losses.arrays import paired, widened


class AdversarialLoss(NamedTuple):
    """What two players minimise, as functions of the critic's outputs.

    Attributes:
        critic: ``(real_outputs, fake_outputs)`` to the critic's loss, of their shape, ``[B]`` or
            ``[B, H, W]`` (or a scalar, for losses of whole batches).
        generator: ``(real_outputs, fake_outputs)`` to the generator's loss, of the same shape; its
            gradient flows through both arguments.
        correct: ``(real_outputs, fake_outputs)`` to the share of each pair that the critic gets
            right, in [0, 1], at the loss's own threshold; None where it has none, as a Wasserstein
            critic, whose outputs mean nothing but their differences.
        uses_real: Whether the generator's loss depends on real rows.
        witness: ``(outputs, real_outputs, fake_outputs)`` to the scalar function of a row whose
            slope penalties look at, ``[B]``. None if that is the output itself.
        threshold: Output above which a row is called real; None where single outputs say nothing.
    """

    critic: Callable[[Array, Array], Array]
    generator: Callable[[Array, Array], Array]
    correct: Callable[[Array, Array], Array] | None = None
    uses_real: bool = False
    witness: Callable[[Array, Array, Array], Array] | None = None
    threshold: float | None = None


def logistic_critic_loss(
    real_logits: Float[Array, "B *places"], fake_logits: Float[Array, "B *places"]
) -> Float[Array, "B *places"]:
    r"""Binary cross-entropy of telling real from generated rows.

    Args:
        real_logits: The critic's outputs on data, any real numbers, ``[B]``: :math:`v` with
            :math:`D = \mathrm{sigmoid}(v)`.
        fake_logits: The critic's outputs on generated rows, any real numbers, ``[B]``.

    Returns:
        :math:`-\log D(x) - \log(1 - D(\tilde x))` for each pair.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> logistic_critic_loss(jnp.zeros(1), jnp.zeros(1))
        Array([1.3862944], dtype=float32)

    References:
        Goodfellow et al., arXiv:1406.2661, eq. 1.
    """
    real, fake = paired(real_logits=real_logits, fake_logits=fake_logits)
    # -log sigmoid(v) = softplus(-v) and -log(1 - sigmoid(v)) = softplus(v): no log meets a 0.
    return jax.nn.softplus(-real) + jax.nn.softplus(fake)


def minimax_generator_loss(fake_logits: Float[Array, "B *places"]) -> Float[Array, "B *places"]:
    r"""The zero-sum generator loss, whose gradient vanishes where the critic is sure.

    Args:
        fake_logits: The critic's outputs on generated rows, any real numbers, ``[B]``.

    Returns:
        :math:`\log(1 - D(\tilde x))`.

    Example:
        >>> minimax_generator_loss(jnp.zeros(1))
        Array([-0.6931472], dtype=float32)

    References:
        Goodfellow et al., arXiv:1406.2661, eq. 1.
    """
    # The slope is -sigmoid(v), which is close to 0 where the critic is sure of a generated row.
    return -jax.nn.softplus(widened(fake_logits))


def nonsaturating_generator_loss(
    fake_logits: Float[Array, "B *places"],
) -> Float[Array, "B *places"]:
    r"""The generator loss with the same fixed point as minimax and a gradient that does not vanish.

    Args:
        fake_logits: The critic's outputs on generated rows, any real numbers, ``[B]``.

    Returns:
        :math:`-\log D(\tilde x)`.

    Example:
        >>> nonsaturating_generator_loss(jnp.array([-100.0]))
        Array([100.], dtype=float32)

    References:
        Goodfellow et al., arXiv:1406.2661, section 3.
    """
    # The slope is -sigmoid(-v), which is close to -1 where the critic is sure of a generated row.
    return jax.nn.softplus(-widened(fake_logits))


def least_squares_critic_loss(
    real_outputs: Float[Array, "B *places"],
    fake_outputs: Float[Array, "B *places"],
    *,
    real_code: float = 1.0,
    fake_code: float = 0.0,
) -> Float[Array, "B *places"]:
    r"""Squared error of linear outputs against one code for data and another for generated rows.

    The optimum is :math:`(b\,p + a\,q)/(p + q)`.

    Args:
        real_outputs: The critic's outputs on data, not squashed, ``[B]``.
        fake_outputs: The critic's outputs on generated rows, any real numbers, ``[B]``.
        real_code: The output ``b`` that the critic is to give to data.
        fake_code: The output ``a`` that it is to give to generated rows.

    Returns:
        :math:`\frac12 (v(x) - b)^2 + \frac12 (v(\tilde x) - a)^2` for each pair.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> least_squares_critic_loss(jnp.array([0.5]), jnp.array([0.5]))
        Array([0.25], dtype=float32)

    References:
        Mao et al., Least Squares Generative Adversarial Networks, arXiv:1611.04076, eq. 2.
    """
    real, fake = paired(real_outputs=real_outputs, fake_outputs=fake_outputs)
    return 0.5 * jnp.square(real - real_code) + 0.5 * jnp.square(fake - fake_code)


def least_squares_generator_loss(
    fake_outputs: Float[Array, "B *places"], *, target: float = 1.0
) -> Float[Array, "B *places"]:
    r"""Squared error of linear outputs on generated rows against the generator's target.

    With codes a = -1, b = 1 and target 0 the game minimises Pearson's
    :math:`\chi^2(p + q \,\|\, 2q)`; with a = 0 and b = 1 the target is 1.

    Args:
        fake_outputs: The critic's outputs on generated rows, any real numbers, ``[B]``.
        target: The output ``c`` that the generator wants the critic to give to its rows.

    Returns:
        :math:`\frac12 (v(\tilde x) - c)^2`.

    Example:
        >>> least_squares_generator_loss(jnp.array([0.5]))
        Array([0.125], dtype=float32)

    References:
        Mao et al., arXiv:1611.04076, eq. 2 and 9.
    """
    return 0.5 * jnp.square(widened(fake_outputs) - target)


def brier_critic_loss(
    real_logits: Float[Array, "B *places"], fake_logits: Float[Array, "B *places"]
) -> Float[Array, "B *places"]:
    r"""Least squares on probabilities: the Brier score of the critic.

    Some libraries call this, too, "least-squares GAN"; with linear outputs it is
    :func:`least_squares_critic_loss`.

    Args:
        real_logits: The critic's outputs on data, before the sigmoid, ``[B]``.
        fake_logits: The critic's outputs on generated rows, any real numbers, ``[B]``.

    Returns:
        :math:`\frac12 (D(x) - 1)^2 + \frac12 D(\tilde x)^2` for each pair.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> brier_critic_loss(jnp.zeros(1), jnp.zeros(1))
        Array([0.25], dtype=float32)
    """
    real, fake = paired(real_logits=real_logits, fake_logits=fake_logits)
    # 1 - sigmoid(v) is taken as sigmoid(-v), which keeps its digits where D is close to 1.
    return 0.5 * jnp.square(jax.nn.sigmoid(-real)) + 0.5 * jnp.square(jax.nn.sigmoid(fake))


def brier_generator_loss(fake_logits: Float[Array, "B *places"]) -> Float[Array, "B *places"]:
    r"""Squared error of probabilities on generated rows, :math:`\frac12 (D(\tilde x) - 1)^2`.

    Args:
        fake_logits: The critic's outputs on generated rows, before the sigmoid, ``[B]``.

    Returns:
        The loss of each row.

    Example:
        >>> brier_generator_loss(jnp.zeros(1))
        Array([0.125], dtype=float32)
    """
    return 0.5 * jnp.square(jax.nn.sigmoid(-widened(fake_logits)))


def hinge_critic_loss(
    real_outputs: Float[Array, "B *places"], fake_outputs: Float[Array, "B *places"]
) -> Float[Array, "B *places"]:
    r"""Hinge loss: outputs beyond the margins +1 and -1 are not pushed further.

    Its minimum over all critics is ``2 (1 - TV(p, q))``, TV the total variation in [0, 1].

    Args:
        real_outputs: The critic's outputs on data, any real numbers, ``[B]``.
        fake_outputs: The critic's outputs on generated rows, any real numbers, ``[B]``.

    Returns:
        :math:`\max(0, 1 - v(x)) + \max(0, 1 + v(\tilde x))` for each pair.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> hinge_critic_loss(jnp.array([3.0]), jnp.array([0.0]))
        Array([1.], dtype=float32)

    References:
        Lim and Ye, Geometric GAN, arXiv:1705.02894, section 3; Miyato et al., arXiv:1802.05957,
        eq. 16.
    """
    real, fake = paired(real_outputs=real_outputs, fake_outputs=fake_outputs)
    return jax.nn.relu(1.0 - real) + jax.nn.relu(1.0 + fake)


def hinge_generator_loss(fake_outputs: Float[Array, "B *places"]) -> Float[Array, "B *places"]:
    r"""The generator's side of the hinge loss, :math:`-v(\tilde x)`.

    Args:
        fake_outputs: The critic's outputs on generated rows, any real numbers, ``[B]``.

    Returns:
        The loss of each row.

    Example:
        >>> hinge_generator_loss(jnp.array([2.0]))
        Array([-2.], dtype=float32)

    References:
        Miyato et al., arXiv:1802.05957, eq. 17.
    """
    return -widened(fake_outputs)


def wasserstein_critic_loss(
    real_scores: Float[Array, "B *places"], fake_scores: Float[Array, "B *places"]
) -> Float[Array, "B *places"]:
    r"""Minus the difference that a 1-Lipschitz critic makes as large as the Wasserstein-1 distance.

    Args:
        real_scores: The critic's outputs on data, any real numbers, ``[B]``.
        fake_scores: The critic's outputs on generated rows, any real numbers, ``[B]``.

    Returns:
        :math:`f(\tilde x) - f(x)` for each pair. If the critic is 1-Lipschitz, its negative mean
        estimates the distance from below.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> wasserstein_critic_loss(jnp.array([3.0]), jnp.array([1.0]))
        Array([-2.], dtype=float32)

    References:
        Arjovsky et al., Wasserstein GAN, arXiv:1701.07875, eq. 2.
    """
    real, fake = paired(real_scores=real_scores, fake_scores=fake_scores)
    return fake - real


def wasserstein_generator_loss(fake_scores: Float[Array, "B *places"]) -> Float[Array, "B *places"]:
    r"""The generator's side of the Wasserstein loss, :math:`-f(\tilde x)`.

    Args:
        fake_scores: The critic's outputs on generated rows, any real numbers, ``[B]``.

    Returns:
        The loss of each row.

    Example:
        >>> wasserstein_generator_loss(jnp.array([2.0]))
        Array([-2.], dtype=float32)

    References:
        Arjovsky et al., arXiv:1701.07875, eq. 3.
    """
    return -widened(fake_scores)


def relativistic_critic_loss(
    real_logits: Float[Array, "B *places"], fake_logits: Float[Array, "B *places"]
) -> Float[Array, "B *places"]:
    r"""Relativistic pairing loss: each real row is compared with one generated row.

    Args:
        real_logits: The critic's outputs on data, any real numbers, ``[B]``.
        fake_logits: The critic's outputs on as many generated rows, ``[B]``; row ``i`` is paired
            with row ``i``.

    Returns:
        :math:`\log(1 + e^{-(v(x) - v(\tilde x))})` for each pair.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> relativistic_critic_loss(jnp.array([5.0]), jnp.array([5.0]))
        Array([0.6931472], dtype=float32)

    References:
        Jolicoeur-Martineau, arXiv:1807.00734; Huang et al., The GAN is dead; long live the GAN!,
        arXiv:2501.05441, eq. 2.
    """
    real, fake = paired(real_logits=real_logits, fake_logits=fake_logits)
    return jax.nn.softplus(fake - real)


def relativistic_generator_loss(
    real_logits: Float[Array, "B *places"], fake_logits: Float[Array, "B *places"]
) -> Float[Array, "B *places"]:
    r"""The generator's side of relativistic pairing.

    Args:
        real_logits: The critic's outputs on data, any real numbers, ``[B]``.
        fake_logits: The critic's outputs on as many generated rows, ``[B]``; row ``i`` is paired
            with row ``i``.

    Returns:
        :math:`\log(1 + e^{-(v(\tilde x) - v(x))})` for each pair.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> relativistic_generator_loss(jnp.array([5.0]), jnp.array([5.0]))
        Array([0.6931472], dtype=float32)

    References:
        Huang et al., arXiv:2501.05441, eq. 2.
    """
    real, fake = paired(real_logits=real_logits, fake_logits=fake_logits)
    return jax.nn.softplus(real - fake)


def relativistic_average_critic_loss(
    real_logits: Float[Array, "B *places"], fake_logits: Float[Array, "B *places"]
) -> Float[Array, "B *places"]:
    r"""Each row is compared with the mean of the rows of the other kind.

    Args:
        real_logits: The critic's outputs on data, any real numbers, ``[B]``.
        fake_logits: The critic's outputs on as many generated rows, ``[B]``.

    Returns:
        :math:`\log(1 + e^{-(v(x) - \bar v(\tilde x))}) + \log(1 + e^{v(\tilde x) - \bar v(x)})`
        for each pair, where a bar is the mean over all rows given: of one device, where a step is
        mapped over several.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> relativistic_average_critic_loss(jnp.array([1.0, -1.0]), jnp.zeros(2)).mean().round(4)
        Array(1.5064, dtype=float32)

    References:
        Jolicoeur-Martineau, arXiv:1807.00734, section 4.2; Wang et al., arXiv:1809.00219, eq. 1,
        without their mean of the two parts.
    """
    real, fake = paired(real_logits=real_logits, fake_logits=fake_logits)
    return jax.nn.softplus(jnp.mean(fake) - real) + jax.nn.softplus(fake - jnp.mean(real))


def relativistic_average_generator_loss(
    real_logits: Float[Array, "B *places"], fake_logits: Float[Array, "B *places"]
) -> Float[Array, "B *places"]:
    r"""The generator's side of relativistic averages: the critic's with the kinds exchanged.

    Args:
        real_logits: The critic's outputs on data, any real numbers, ``[B]``.
        fake_logits: The critic's outputs on as many generated rows, ``[B]``.

    Returns:
        :math:`\log(1 + e^{v(x) - \bar v(\tilde x)}) + \log(1 + e^{-(v(\tilde x) - \bar v(x))})`
        for each pair.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> relativistic_average_generator_loss(jnp.zeros(1), jnp.zeros(1)).round(4)
        Array([1.3863], dtype=float32)

    References:
        Wang et al., arXiv:1809.00219, eq. 2.
    """
    return relativistic_average_critic_loss(fake_logits, real_logits)


def correct_at(threshold: float) -> Callable[[Array, Array], Array]:
    """Share of a pair on the right side of a threshold, for :class:`AdversarialLoss`.

    Args:
        threshold: Output above which a row is called real.

    Returns:
        ``(real_outputs, fake_outputs)`` to 0, 1/2 or 1 for each pair.

    Example:
        >>> correct_at(0.0)(jnp.array([1.0, -1.0]), jnp.array([-1.0, -1.0]))
        Array([1. , 0.5], dtype=float32)
    """

    def correct(real_outputs: Array, fake_outputs: Array) -> Array:
        real, fake = paired(real_outputs=real_outputs, fake_outputs=fake_outputs)
        # An output at the threshold itself is right on neither side.
        right_real, right_fake = real > threshold, fake < threshold
        return 0.5 * (right_real.astype(jnp.float32) + right_fake.astype(jnp.float32))

    return correct


def least_squares_loss(
    *, real_code: float = 1.0, fake_code: float = 0.0, target: float = 1.0
) -> AdversarialLoss:
    """The least-squares game with codes ``b``, ``a`` and the generator's target ``c``.

    Args:
        real_code: The output ``b`` that the critic is to give to data, above ``fake_code``.
        fake_code: The output ``a`` that it is to give to generated rows.
        target: The output ``c`` that the generator wants the critic to give to its rows.

    Returns:
        Both players' losses.

    Raises:
        ValueError: If the codes are not in order.

    Example:
        >>> least_squares_loss(real_code=1.0, fake_code=-1.0, target=0.0).generator(
        ...     jnp.ones(1), jnp.ones(1))
        Array([0.5], dtype=float32)
    """
    if not real_code > fake_code:
        raise ValueError(
            f"real_code must be above fake_code, as outputs grow with 'more real'; got {real_code} "
            f"and {fake_code}"
        )
    # The optimal output (b p + a q) / (p + q) is halfway between the codes where p = q.
    halfway = 0.5 * (real_code + fake_code)
    return AdversarialLoss(
        lambda real, fake: least_squares_critic_loss(
            real, fake, real_code=real_code, fake_code=fake_code
        ),
        lambda real, fake: least_squares_generator_loss(fake, target=target),
        correct_at(halfway),
        threshold=halfway,
    )


def _real_above_fake(real_outputs: Array, fake_outputs: Array) -> Array:
    """Whether the critic orders each pair right."""
    real, fake = paired(real_outputs=real_outputs, fake_outputs=fake_outputs)
    return (real > fake).astype(jnp.float32)


ADVERSARIAL_LOSSES: Mapping[str, AdversarialLoss] = {
    "minimax": AdversarialLoss(
        logistic_critic_loss,
        lambda real, fake: minimax_generator_loss(fake),
        correct_at(0.0),
        threshold=0.0,
    ),
    "nonsaturating": AdversarialLoss(
        logistic_critic_loss,
        lambda real, fake: nonsaturating_generator_loss(fake),
        correct_at(0.0),
        threshold=0.0,
    ),
    "least_squares": least_squares_loss(),
    "brier": AdversarialLoss(
        brier_critic_loss,
        lambda real, fake: brier_generator_loss(fake),
        correct_at(0.0),
        threshold=0.0,
    ),
    "hinge": AdversarialLoss(
        hinge_critic_loss,
        lambda real, fake: hinge_generator_loss(fake),
        correct_at(0.0),
        threshold=0.0,
    ),
    "wasserstein": AdversarialLoss(
        wasserstein_critic_loss, lambda real, fake: wasserstein_generator_loss(fake)
    ),
    "relativistic": AdversarialLoss(
        relativistic_critic_loss,
        relativistic_generator_loss,
        _real_above_fake,
        uses_real=True,
    ),
    "relativistic_average": AdversarialLoss(
        relativistic_average_critic_loss,
        relativistic_average_generator_loss,
        _real_above_fake,
        uses_real=True,
    ),
}
"""Games by name. ``nonsaturating`` is what most libraries call "vanilla"."""
