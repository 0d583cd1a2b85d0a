"""Class-conditional latent diffusion of MNIST: EDM of the 7x7x4 latents of an autoencoder.

The second of two stages. The first is `experiments/kl_autoencoder/mnist.py`, whose workdir stands
after a colon; its run is copied into this one's state, and its latents are divided by their
standard deviation in training rows, as in the paper (Rombach et al., arXiv:2112.10752). Beside the
FD-mnist of samples stands that of reconstructions, `rfd_mnist`, its floor.

Command:  python scripts/run.py \
              --config=experiments/diffusion/mnist_latent.py:/tmp/genjax/kl_autoencoder_mnist \
              --workdir=/tmp/genjax/mnist_latent --config.data.data_dir=DIR
Expected: about ten minutes on two CPU cores; not yet measured to the end.
          `experiments/diffusion/mnist.py` is the model of pixels to compare with.
"""

from ml_collections import ConfigDict


def get_config(first_stage: str = "/tmp/genjax/kl_autoencoder_mnist") -> ConfigDict:
    """Returns the config.

    Args:
        first_stage: Workdir of the first stage.
    """
    return ConfigDict(
        dict(
            data=dict(name="mnist", batch_size=64, first_stage=dict(workdir=first_stage)),
            model=dict(
                name="unet",
                channels=64,
                multipliers=(1,),
                num_blocks=3,
                attention_sizes=(7,),
                num_groups=8,
                dropout_rate=0.0,
                num_classes=10,
            ),
            family=dict(
                name="edm",
                process=dict(name="ve", sigma_min=0.002, sigma_max=80.0),
                label_dropout=0.1,
                ema_decay=0.999,
                likelihood="none",
            ),
            optimizer=dict(
                name="adam",
                learning_rate=1e-3,
                b1=0.9,
                warmup_steps=100,
                decay_steps=6000,
                decay_shape="cosine",
                clip_norm=1.0,
            ),
            parallel=dict(cpu_devices=2),
            train=dict(
                num_steps=6000,
                eval_every=6000,
                best_metric="eval/fd_mnist",
                checkpoint_every=500,
            ),
            eval=dict(
                batch_size=500,
                metrics=("fd", "label_accuracy", "rfd", "psnr"),
                features=dict(name="classifier", workdir="/tmp/genjax/classifier_mnist"),
            ),
            sample=dict(
                num_samples=100,
                num_steps=10,
                sampler=dict(name="dpm_solver", order=2),
                batch_size=500,
            ),
        )
    )
