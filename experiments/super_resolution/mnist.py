"""MNIST from 7 to 28 pixels: the least error, then content and an adversary (SRGAN, ESRGAN).

The published networks (Ledig et al., arXiv:1609.04802; Wang et al., arXiv:1809.00219) with 6 blocks
of 32 channels in place of 16 of 64, and 3 in place of 23; contents are a layer of the classifier of
MNIST in place of VGG's, whose weights are no part of this repository. The first paper reports, on
photographs enlarged four times, SRResNet above SRGAN in PSNR (28.49 and 26.02 dB on Set14, bicubic
25.99) and below it in what people prefer, for which here the distance of features (FD) stands. The
second of the two runs starts from the first:

          python scripts/run.py --config=experiments/classifier/mnist.py \
              --workdir=/tmp/genjax/classifier_mnist --config.data.data_dir=DIR

Command:  python scripts/run.py --config=experiments/super_resolution/mnist.py \
              --workdir=/tmp/genjax/srresnet_mnist --config.data.data_dir=DIR
          python scripts/run.py --config=experiments/super_resolution/mnist.py:srgan \
              --workdir=/tmp/genjax/srgan_mnist --config.data.data_dir=DIR
          python scripts/translate.py --classifier=/tmp/genjax/classifier_mnist \
              --workdir=/tmp/genjax/srresnet_mnist,/tmp/genjax/srgan_mnist
Expected: PSNR: bicubic < SRGAN < SRResNet; FD: SRGAN < SRResNet < bicubic. experiments/README.md
          has what was measured. ``:rrdb`` and ``:esrgan`` are the pair of the second paper.
"""

from typing import Any

from ml_collections import ConfigDict

NETS = {
    "srresnet": dict(name="srresnet", channels=32, num_blocks=6),
    "rrdb": dict(name="rrdb", channels=32, num_blocks=3, growth=16),
}


def get_config(
    kind: str = "srresnet", classifier: str = "/tmp/genjax/classifier_mnist"
) -> ConfigDict:
    """Returns the config.

    Args:
        kind: ``"srresnet"`` and ``"rrdb"`` have the least error; ``"srgan"`` and ``"esrgan"`` go on
            from a run of theirs, whose workdir may follow after a colon; it is
            ``/tmp/genjax/srresnet_mnist`` or ``rrdb_mnist`` if left out.
        classifier: Workdir of the classifier.

    Raises:
        ValueError: If there is no such kind.
    """
    kind, _, start = kind.partition(":")
    if kind not in (*NETS, "srgan", "esrgan"):
        raise ValueError(f"expected srresnet, rrdb, srgan or esrgan, got {kind!r}")
    shared: dict[str, Any] = dict(
        data=dict(name="mnist", batch_size=32, transforms=(dict(name="shrink"),)),
        eval=dict(
            batch_size=500,
            metrics=("fd",),
            features=dict(name="classifier", workdir=classifier),
        ),
    )
    if kind in NETS:
        return ConfigDict(
            dict(
                shared,
                model=NETS[kind],
                family=dict(
                    name="super_resolution",
                    distance="l2" if kind == "srresnet" else "l1",
                    ema_decay=0.99,
                ),
                optimizer=dict(name="adam", learning_rate=1e-3, decay_steps=2000, clip_norm=1.0),
                train=dict(num_steps=2000, eval_every=500, sample_every=500, checkpoint_every=500),
            )
        )
    before = "srresnet" if kind == "srgan" else "rrdb"
    weights: dict[str, Any] = (
        dict(content_weight=0.05)
        if kind == "srgan"
        else dict(
            loss="relativistic_average",
            distance="l1",
            content_weight=0.2,
            gan_weight=5e-3,
            l1_weight=1e-2,
        )
    )
    adam = dict(name="adam", learning_rate=1e-4, b1=0.9, b2=0.99)
    return ConfigDict(
        dict(
            shared,
            model=dict(
                generator=dict(start=dict(workdir=start or f"/tmp/genjax/{before}_mnist")),
                critic=dict(name="dcgan", channels=128, norm="none", spectral_norm=True),
                features=dict(frozen=dict(workdir=classifier)),
            ),
            family=dict(name="srgan", feature_layer="conv_1_1", ema_half_life_kimg=1.0, **weights),
            optimizer=dict(generator=adam, critic=dict(adam, learning_rate=2e-4)),
            train=dict(num_steps=2000, eval_every=500, sample_every=500, checkpoint_every=500),
        )
    )
