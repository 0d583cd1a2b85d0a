r"""Control of slopes: penalties on a critic's, clipping of its weights, and a generator's length.

All gradients are those of the sum of the outputs over the batch, which are the gradients of single
rows if and only if row ``i`` of the output depends on row ``i`` of the input alone. Batch
normalisation breaks this. Norms run over all axes but the first. Critics are called on float32 rows
or wider, whatever the rows are given in: slopes of a critic in float16 leave its range early. Of a
patch critic, ``[B, H, W]``, the slope is that of the sum over the places.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.losses.arrays import paired, per_row, sum_event, widened

# Under the root: the slope of sqrt at 0 is infinite, and zero-initialised critics start there.
_TINY = 1e-12


def _squared_slope(
    critic_fn: Callable[[Array], Array], x: Float[Array, "B *event"]
) -> Float[Array, " B"]:
    # Row i of the output depends on row i of the input alone, so that the gradient of the sum holds
    # the gradient of each row.
    slope = jax.grad(lambda x: jnp.sum(critic_fn(x)))(x)
    return sum_event(jnp.square(widened(slope)))


def _norm_gap(squared: Array, target_norm: float, one_sided: bool) -> Array:
    gap = jnp.sqrt(squared + _TINY) - target_norm
    return jnp.square(jax.nn.relu(gap) if one_sided else gap)


def gradient_penalty(
    critic_fn: Callable[[Array], Array],
    real: Float[Array, "B *event"],
    fake: Float[Array, "B *event"],
    mix: Float[Array, " B"],
    *,
    target_norm: float = 1.0,
    one_sided: bool = False,
) -> Float[Array, " B"]:
    r"""WGAN-GP penalty :math:`(\lVert\nabla_x f(x)\rVert_2 - c)^2` per example.

    The gradient is taken at :math:`x = u\,x_{real} + (1 - u)\,x_{fake}`.

    Args:
        critic_fn: Critic of its input alone, ``[B, *event] -> [B]``. Row ``i`` of the output may
            depend on row ``i`` of the input only; batch normalisation breaks this.
        real: Data rows, ``[B, *event]``.
        fake: Generated rows, ``[B, *event]``. Gradients reach them unless the caller stops them.
        mix: Weight ``u`` of ``real`` in [0, 1], ``[B]``: one draw an example.
        target_norm: Norm ``c`` the critic is pulled to; 1 in the paper.
        one_sided: Whether only norms above ``c`` count (WGAN-LP).

    Returns:
        Penalty per example, unweighted (the paper multiplies by 10), not averaged.

    Raises:
        ValueError: If ``mix`` is not one number a row, or ``real`` and ``fake`` differ in shape.

    Example:
        >>> critic_fn = lambda x: x @ jnp.array([3.0, 4.0])
        >>> gradient_penalty(critic_fn, jnp.ones((2, 2)), jnp.zeros((2, 2)), jnp.array([0.2, 0.9]))
        Array([16., 16.], dtype=float32)

    References:
        Gulrajani et al., Improved Training of Wasserstein GANs, arXiv:1704.00028, eq. 3; one-sided:
        Petzka et al., arXiv:1709.08894.
    """
    # A point of the straight line between a data row and a generated one.
    real, fake = paired(real=real, fake=fake)
    u = per_row(widened(mix), real)
    return _norm_gap(_squared_slope(critic_fn, u * real + (1.0 - u) * fake), target_norm, one_sided)


def dragan_penalty(
    critic_fn: Callable[[Array], Array],
    real: Float[Array, "B *event"],
    uniform: Float[Array, "B *event"],
    *,
    target_norm: float = 1.0,
    one_sided: bool = False,
) -> Float[Array, " B"]:
    r"""DRAGAN penalty :math:`(\lVert\nabla_x f(x)\rVert_2 - c)^2` near the data.

    The gradient is taken at :math:`x_{real} + s\,(u - \frac12)` with :math:`s` the standard
    deviation of all entries of the batch.

    Args:
        critic_fn: Critic of its input alone, ``[B, *event] -> [B]``.
        real: Data rows, ``[B, *event]``.
        uniform: Draws ``u`` from [0, 1), one an entry, ``[B, *event]``.
        target_norm: Norm ``c`` the critic is pulled to.
        one_sided: Whether only norms above ``c`` count.

    Returns:
        Penalty per example, unweighted (10 in the paper).

    Raises:
        ValueError: If ``real`` and ``uniform`` differ in shape.

    Example:
        >>> dragan_penalty(lambda x: 3.0 * x[:, 0], jnp.ones((1, 2)), jnp.zeros((1, 2)))
        Array([4.], dtype=float32)

    References:
        Kodali et al., On Convergence and Stability of GANs, arXiv:1705.07215. The authors' noise is
        one-sided; centred as in google/compare_gan.
    """
    real, uniform = paired(real=real, uniform=uniform)
    # One deviation for all entries of the batch.
    near = real + jnp.std(real) * (uniform - 0.5)
    return _norm_gap(_squared_slope(critic_fn, near), target_norm, one_sided)


def r1_penalty(
    critic_fn: Callable[[Array], Array], real: Float[Array, "B *event"]
) -> Float[Array, " B"]:
    r"""R1: :math:`\frac12 \lVert\nabla_x f(x)\rVert_2^2` on data, with the half.

    Args:
        critic_fn: Critic of its input alone, ``[B, *event] -> [B]``.
        real: Data rows, ``[B, *event]``.

    Returns:
        Penalty per example, to be multiplied by the paper's :math:`\gamma`.

    Example:
        >>> r1_penalty(lambda x: 3.0 * x[:, 0], jnp.ones((1, 2)))
        Array([4.5], dtype=float32)

    References:
        Mescheder et al., Which Training Methods for GANs do actually Converge?, arXiv:1801.04406,
        eq. 9.
    """
    return 0.5 * _squared_slope(critic_fn, widened(real))


def r2_penalty(
    critic_fn: Callable[[Array], Array], fake: Float[Array, "B *event"]
) -> Float[Array, " B"]:
    r"""R2: :math:`\frac12 \lVert\nabla_x f(x)\rVert_2^2` on generated rows, with the half.

    Args:
        critic_fn: Critic of its input alone, ``[B, *event] -> [B]``.
        fake: Generated rows, ``[B, *event]``. Gradients reach them unless the caller stops them.

    Returns:
        Penalty per example, to be multiplied by the paper's :math:`\gamma`.

    Example:
        >>> r2_penalty(lambda x: 3.0 * x[:, 0], jnp.ones((1, 2)))
        Array([4.5], dtype=float32)

    References:
        Mescheder et al., arXiv:1801.04406, eq. 10.
    """
    return 0.5 * _squared_slope(critic_fn, widened(fake))


def path_lengths(
    generator_fn: Callable[[Array], Array],
    latents: Float[Array, "B *latent"],
    noise: Float[Array, "B *event"],
) -> Float[Array, " B"]:
    r"""How far generated rows move in a random direction: :math:`\lVert J^\top y\rVert_2`.

    ``J`` is the Jacobian of a row in its latent. Of latents in several parts ``[B, L, D]``, such as
    one style for each layer, it is the root of the mean over parts of the squared norms.

    Args:
        generator_fn: Generator of its latents alone, ``[B, *latent] -> [B, *event]``. Row ``i`` of
            the output may depend on row ``i`` of the input only.
        latents: Where the slope is taken, ``[B, D]`` or ``[B, L, D]``.
        noise: The directions ``y``, ``[B, *event]``: normal draws, for images divided by the root
            of the number of pixels.

    Returns:
        Length per example, ``[B]``.

    Example:
        >>> path_lengths(lambda z: z * jnp.array([3.0, 4.0]), jnp.zeros((1, 2)), jnp.ones((1, 2)))
        Array([5.], dtype=float32)

    References:
        Karras et al., Analyzing and Improving the Image Quality of StyleGAN, arXiv:1912.04958,
        eq. 4, and NVlabs/stylegan2-ada-pytorch.
    """
    latents, noise = widened(latents), widened(noise)
    slope = jax.grad(lambda z: jnp.sum(generator_fn(z) * noise))(latents)
    squares = jnp.sum(jnp.square(slope), axis=-1)
    return jnp.sqrt(jnp.mean(squares.reshape(len(squares), -1), axis=-1) + _TINY)


def clip_weights(params: Any, limit: float) -> Any:
    """Clips every parameter to ``[-limit, limit]``, biases and gains included.

    Args:
        params: Parameters of a critic, any tree.
        limit: Largest absolute value; 0.01 in the paper.

    Returns:
        The clipped tree.

    Raises:
        ValueError: If the limit is not positive.

    Example:
        >>> clip_weights({"kernel": jnp.array([-3.0, 0.005])}, 0.01)
        {'kernel': Array([-0.01 ,  0.005], dtype=float32)}

    References:
        Arjovsky et al., Wasserstein GAN, arXiv:1701.07875, algorithm 1.
    """
    if not limit > 0:
        raise ValueError(f"limit must be positive, got {limit}")
    return jax.tree.map(lambda p: jnp.clip(p, -limit, limit), params)
