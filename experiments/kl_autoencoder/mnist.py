"""The first stage of latent diffusion of MNIST: 28x28 pixels to 7x7 places of 4 numbers.

The KL-regularised autoencoder of latent diffusion (Rombach et al., arXiv:2112.10752) with 0.25
million parameters; `experiments/diffusion/mnist_latent.py` is the second stage. After a colon:
plain (the default; absolute errors alone), or critic, in which a critic of patches and the features
of a classifier judge, too. The classifier, whose features also measure reconstructions
(`rfd_mnist`, the least FD-mnist that a second stage can be expected to have), is to be trained
first:

          python scripts/run.py --config=experiments/classifier/mnist.py \
              --workdir=/tmp/genjax/classifier_mnist --config.data.data_dir=DIR

Command:  python scripts/run.py --config=experiments/kl_autoencoder/mnist.py \
              --workdir=/tmp/genjax/kl_autoencoder_mnist --config.data.data_dir=DIR
Expected: about ten minutes on two CPU cores; not yet measured to the end. On photographs and with
          as many pixels a place (f4) the paper reports 27.5 dB.
"""

from typing import Any

from ml_collections import ConfigDict


def get_config(kind: str = "plain", classifier: str = "/tmp/genjax/classifier_mnist") -> ConfigDict:
    """Returns the config.

    Args:
        kind: Who judges.
        classifier: Workdir of the classifier.
    """
    if kind not in ("plain", "critic"):
        raise ValueError(f"expected plain or critic after the colon, got {kind!r}")
    net = dict(channels=64, num_blocks=2, residual_channels=32)
    adam = dict(name="adam", learning_rate=1e-3, warmup_steps=100, decay_steps=3000)
    judges: dict[str, Any] = {}
    optimizers: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    if kind == "critic":
        judges = dict(
            critic=dict(name="patch", channels=32, num_layers=2),
            features=dict(frozen=dict(workdir=classifier)),
        )
        optimizers = dict(critic=dict(name="adam", learning_rate=5e-4, b1=0.5))
        weights = dict(critic_start=1500, content_weight=0.01)
    return ConfigDict(
        dict(
            data=dict(name="mnist", batch_size=128),
            model=dict(
                encoder=dict(name="grid", num_halvings=2, **net),
                decoder=dict(name="grid", num_doublings=2, **net),
                **judges,
            ),
            family=dict(
                name="kl_autoencoder",
                # A learned scale of a hundredth weighs errors up a hundredfold: so is the
                # divergence, of the paper's 1e-6.
                kl_weight=1e-4,
                observation=dict(name="laplace", scale=0.1),
                **weights,
            ),
            optimizer=dict(autoencoder=adam, **optimizers),
            parallel=dict(cpu_devices=2),
            train=dict(num_steps=3000, eval_every=1500, sample_every=0, checkpoint_every=500),
            eval=dict(
                batch_size=500,
                metrics=("rfd", "psnr"),
                features=dict(name="classifier", workdir=classifier),
            ),
        )
    )
