"""StyleGAN2: how it is trained. Its networks are those of ``genjax.nets``."""

import dataclasses
import math
from typing import Any

from genjax.families.base import Family
from genjax.families.gan.family import gan
from genjax.families.gan.path_length import PathLength
from genjax.families.gan.slope_control import SlopeControl


def stylegan2(
    *,
    event_shape: tuple[int, ...],
    batch_size: int,
    penalty_weight: float | None = None,
    penalty_every: int = 16,
    path_weight: float = 2.0,
    slope_control: SlopeControl = SlopeControl(),
    path_length: PathLength = PathLength(),
    **kwargs: Any,
) -> Family:
    r"""StyleGAN2: non-saturating loss, lazy R1, lazy path-length regularisation.

    Mixing of styles and truncation are settings of the generator. Published with Adam at 0.0025 (up
    to 512 pixels) and decay rates 0 and 0.99.

    Args:
        event_shape: Shape of one example.
        batch_size: Examples in a batch.
        penalty_weight: :math:`\gamma` of R1; None for what the authors begin with,
            :math:`0.0002\,H W / B`.
        penalty_every: Steps of the critic between its penalties.
        path_weight: Weight of the path-length penalty; 0 for none, as for CIFAR-10.
        slope_control: Limits on the critic besides R1.
        path_length: How often path lengths are held, and to which mean.
        **kwargs: Further arguments of :func:`gan`.

    Returns:
        The family.

    References:
        Karras et al., arXiv:1912.04958; :math:`\gamma`: NVlabs/stylegan2-ada-pytorch.
    """
    if penalty_weight is None:
        penalty_weight = 0.0002 * math.prod(event_shape[:-1]) / batch_size
    return gan(
        event_shape=event_shape,
        batch_size=batch_size,
        loss="nonsaturating",
        slope_control=dataclasses.replace(
            slope_control, penalties={"r1": penalty_weight}, penalty_every=penalty_every
        ),
        path_length=dataclasses.replace(path_length, path_weight=path_weight),
        **kwargs,
    )
