"""CIFAR-10 from 8 to 32 pixels: the least error, then content and an adversary (SRGAN).

As ``experiments/super_resolution/mnist.py``, in colours, with mirrored images. At this size most of
what was lost cannot be known: the least error is a blur, and an adversary has much to make up. On
photographs the papers report a PSNR of SRGAN near that of bicubic enlargement, and 2.5 dB below
SRResNet. Contents are a layer of the classifier of CIFAR-10, to be trained first:

          python scripts/run.py --config=experiments/classifier/cifar10.py \
              --workdir=/tmp/genjax/classifier_cifar10 --config.data.data_dir=DIR

Command:  python scripts/run.py --config=experiments/super_resolution/cifar10.py \
              --workdir=/tmp/genjax/srresnet_cifar10 --config.data.data_dir=DIR
          python scripts/run.py --config=experiments/super_resolution/cifar10.py:srgan \
              --workdir=/tmp/genjax/srgan_cifar10 --config.data.data_dir=DIR
          python scripts/translate.py --classifier=/tmp/genjax/classifier_cifar10 \
              --workdir=/tmp/genjax/srresnet_cifar10,/tmp/genjax/srgan_cifar10
Expected: has not been trained to the end here yet. PSNR of the brightness: bicubic and SRGAN below
          SRResNet; FD and chroma: SRGAN the least.
"""

from typing import Any

from ml_collections import ConfigDict


def get_config(
    kind: str = "srresnet", classifier: str = "/tmp/genjax/classifier_cifar10"
) -> ConfigDict:
    """Returns the config.

    Args:
        kind: ``"srresnet"`` has the least error; ``"srgan"`` goes on from a run of it, whose
            workdir may follow after a colon; ``/tmp/genjax/srresnet_cifar10`` if left out.
        classifier: Workdir of the classifier.

    Raises:
        ValueError: If there is no such kind.
    """
    kind, _, start = kind.partition(":")
    if kind not in ("srresnet", "srgan"):
        raise ValueError(f"expected srresnet or srgan, got {kind!r}")
    shared: dict[str, Any] = dict(
        data=dict(
            name="cifar10",
            batch_size=32,
            transforms=(dict(name="shrink"), dict(name="horizontal_flip")),
        ),
        train=dict(num_steps=5000, checkpoint_every=500),
        eval=dict(
            batch_size=500, metrics=("fd",), features=dict(name="classifier", workdir=classifier)
        ),
    )
    if kind == "srresnet":
        return ConfigDict(
            dict(
                shared,
                model=dict(name="srresnet", channels=32, num_blocks=6),
                family=dict(name="super_resolution", ema_decay=0.99),
                optimizer=dict(name="adam", learning_rate=1e-3, decay_steps=5000, clip_norm=1.0),
            )
        )
    adam = dict(name="adam", learning_rate=1e-4, b1=0.9, b2=0.99)
    return ConfigDict(
        dict(
            shared,
            model=dict(
                generator=dict(start=dict(workdir=start or "/tmp/genjax/srresnet_cifar10")),
                critic=dict(name="dcgan", channels=256, norm="none", spectral_norm=True),
                features=dict(frozen=dict(workdir=classifier)),
            ),
            family=dict(
                name="srgan",
                feature_layer="conv_1_1",
                content_weight=0.05,
                ema_half_life_kimg=1.0,
            ),
            optimizer=dict(generator=adam, critic=dict(adam, learning_rate=2e-4)),
        )
    )
