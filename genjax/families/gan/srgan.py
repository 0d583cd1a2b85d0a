"""Super-resolution by content and an adversary: SRGAN and ESRGAN."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, PRNGKeyArray

from genjax.families.adversarial import Adversarial
from genjax.families.averages import HalfLife
from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    ModelState,
    Optimizer,
    Params,
)
from genjax.families.gan.content import HINT, Content, Distance, distance_between
from genjax.families.gan.family import diagnose
from genjax.families.gan.pix2pix import Pix2Pix
from genjax.families.gan.translation import (
    Side,
    check_translator,
    check_weights,
    feature_of,
    loss_of_outputs,
)
from genjax.families.players import Player, Turn
from genjax.losses import AdversarialLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContentGame:
    """A game of pairs, and the distance of features in the generator's loss.

    Attributes:
        pairs: The adversarial loss and that of pixels.
        content: The distance of features.
        content_weight: Its weight.
    """

    pairs: Pix2Pix
    content: Content
    content_weight: float

    def init_networks(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters and state of the networks; the features' variables are all state."""
        key_pairs, key_features = jax.random.split(key)
        params, state = self.pairs.init_networks(key_pairs, batch)
        return params, {**state, "features": self.content.init(key_features, self.pairs.target)}

    def generator_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: Array,
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What the generator minimises. The critic's state stands still."""
        value, (metrics, state) = self.pairs.generator_loss(params, state, batch, fake, key, turn)
        if not self.content_weight:
            return value, (metrics, state)
        truth = self.pairs.target.units.encode(batch["x"])
        content = self.content.loss(state["features"], fake, truth)
        return value + self.content_weight * content, ({**metrics, "content": content}, state)


def srgan(
    *,
    generator: nn.Module,
    critic: nn.Module,
    features: nn.Module,
    generator_optimizer: Optimizer,
    critic_optimizer: Optimizer,
    spec: Mapping[str, Any],
    batch_size: int,
    loss: AdversarialLoss | str = "nonsaturating",
    gan_weight: float = 1e-3,
    content_weight: float = 1.0,
    l1_weight: float = 0.0,
    distance: Distance = "l2",
    feature_layer: str | None = None,
    average: HalfLife = HalfLife(),
) -> Family:
    r"""Images of a high resolution that look true, from images of a low one.

    .. math::
        w_{content} \mathbb{E}\, |\phi(G(source)) - \phi(x)|^p + w_{gan} L_{gan}(G)
            + w_{L1} \mathbb{E}\, |G(source) - x|

    The generator is meant to start from a run of :func:`~genjax.families.super_resolution`, without
    which the adversary is of little use. Each step moves the critic first, then the generator on
    the same images, through the critic as it is then. The critic sees images of the high resolution
    alone. Grey levels are scaled to [-1, 1].

    Args:
        generator: Module ``(source, train=...) -> rows``.
        critic: Module ``(rows, train=...) -> [B]``, or ``[B, H, W]`` of patches.
        features: Module ``x -> (logits, features)`` of images in [-1, 1], without parameters: a
            frozen classifier. The papers take VGG's, of a network of photographs; what a classifier
            of the same data sees is another content.
        generator_optimizer: Optimiser of the generator. Published with Adam at 1e-4, lowered to a
            tenth halfway through 2 10^5 steps of 16 crops.
        critic_optimizer: Optimiser of the critic, alike.
        spec: Features of the data; ``x`` and ``source`` are read.
        batch_size: Examples in a batch.
        loss: Losses of both players, or a key of
            :data:`~genjax.losses.adversarial.ADVERSARIAL_LOSSES`: ``"nonsaturating"`` for SRGAN,
            ``"relativistic_average"`` for ESRGAN.
        gan_weight: Weight of the adversarial loss: 1e-3, and 5e-3 in ESRGAN, beside VGG's features.
        content_weight: Weight of the distance of features.
        l1_weight: Weight of the distance of pixels: 0, and 1e-2 in ESRGAN.
        distance: ``"l2"`` for squared errors of features, ``"l1"``, as ESRGAN's, for absolute ones.
        feature_layer: Layer of the network whose output is compared in place of its features: of a
            convolution it has places, and is taken before the activation, as ESRGAN's. For
            ``conv_classifier`` ``"conv_1_1"``, say.
        average: Moving average of the generator that samples come from.

    Returns:
        The family. ``eval_step`` gives errors of enlarged images to the truth.

    Raises:
        ValueError: If arguments are out of range, or networks and data do not fit each other.

    References:
        Ledig et al., arXiv:1609.04802, eq. 3 to 6; Wang et al., arXiv:1809.00219, eq. 3.
    """
    check_weights(gan_weight=gan_weight, content_weight=content_weight, l1_weight=l1_weight)
    distance_between(distance)
    pairs = Pix2Pix(
        generator=generator,
        critic=critic,
        source=Side.of(feature_of(spec, "source", HINT)),
        target=Side.of(spec["x"]),
        loss=loss_of_outputs(loss),
        gan_weight=gan_weight,
        l1_weight=l1_weight,
        conditional=False,
        as_in_training=False,
    )
    content = Content(net=features, layer=feature_layer, distance=distance)
    game = ContentGame(pairs=pairs, content=content, content_weight=content_weight)
    check_translator(generator, pairs.source, pairs.target, "generator")
    # The names of layers are looked at now, on shapes alone.
    jax.eval_shape(
        lambda key, x: content.features(content.init(key, pairs.target), x),
        jax.random.key(0),
        pairs.target.example(),
    )
    step = Adversarial(
        init_networks=game.init_networks,
        generate=pairs.generate,
        critic=Player(networks=("critic",), loss_fn=pairs.critic_loss, optimizer=critic_optimizer),
        generator=Player(
            networks=("generator",), loss_fn=game.generator_loss, optimizer=generator_optimizer
        ),
        batch_size=batch_size,
        share_fakes=True,
        average=average,
    )
    return Family(
        init=step.init,
        train_step=step.train_step,
        eval_step=pairs.eval_step,
        sample=pairs.sample,
        eval_protocol={"parameters": "moving average" if average.ema_half_life_kimg else "current"},
        reads=("source",),
        batches_per_step=step.batches_per_step,
        diagnose=diagnose,
    )
