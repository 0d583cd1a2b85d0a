"""How training draws the times t of a batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


def stratified_times(
    key: PRNGKeyArray, num_times: int, *, axis_name: str | tuple[str, ...] | None = None
) -> Float[Array, " B"]:
    r"""Low-discrepancy times :math:`t_i = (u_0 + i/B) \bmod 1` from one uniform draw.

    Each time is uniform on [0, 1), and each of the B equal strata holds exactly one of them, which
    lowers the variance of a batch's loss. ``num_times`` is the global batch: under ``jax.jit`` the
    result does not depend on how the batch is spread over devices.

    Args:
        key: Random key.
        num_times: Number of times ``B``.
        axis_name: Axes that the calling function is mapped over (``jax.pmap``, ``jax.shard_map``),
            if it is. ``num_times`` and the result are then those of one device, the strata those of
            all devices together, and the key must be the same on all.

    Returns:
        Times in [0, 1), ``[B]``, in the cyclic order of their strata.

    Example:
        >>> times = stratified_times(jax.random.key(0), 4)
        >>> jnp.sort(jnp.floor(times * 4))
        Array([0., 1., 2., 3.], dtype=float32)

    References:
        Kingma et al., Variational Diffusion Models, arXiv:2107.00630, appendix I.1.
    """
    # One draw moves all strata by the same amount: each holds one time, and each time is uniform.
    offset = jax.random.uniform(key)
    index, total = jnp.arange(num_times), num_times
    if axis_name:
        index += jax.lax.axis_index(axis_name) * num_times
        total *= jax.lax.axis_size(axis_name)
    # One division of small whole numbers plus u: an arange with a float step may miscount.
    return stratify(offset, index, total)


def stratify(
    offset: Float[Array, "..."], index: Int[Array, "..."], num_times: int
) -> Float[Array, "..."]:
    r"""The ``index``-th of ``num_times`` stratified times, :math:`(u_0 + i/B) \bmod 1`.

    Args:
        offset: The uniform draw :math:`u_0` in [0, 1) of the batch.
        index: The number ``i`` of the stratum, in ``[0, num_times)``.
        num_times: The number of strata ``B``.

    Returns:
        Times in [0, 1), float32.
    """
    times = jnp.mod(offset + index.astype(jnp.float32) / num_times, 1.0)
    # A remainder just below 1 may round to 1, which no longer is in [0, 1).
    return jnp.where(times < 1.0, times, 0.0)


def independent_times(key: PRNGKeyArray, num_times: int) -> Float[Array, " B"]:
    """Independent uniform times, for comparison with :func:`stratified_times`.

    Args:
        key: Random key.
        num_times: Number of times ``B``.

    Returns:
        Times in [0, 1), ``[B]``.

    Example:
        >>> independent_times(jax.random.key(0), 3).shape
        (3,)
    """
    return jax.random.uniform(key, (num_times,))
