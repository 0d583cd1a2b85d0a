"""Class-conditional diffusion on MNIST, sized for two CPU cores: EDM with a small U-Net.

FD-mnist and the share of samples as labelled are measured with the features of a classifier, to be
trained first:

          python scripts/run.py --config=experiments/classifier/mnist.py \
              --workdir=/tmp/genjax/classifier_mnist --config.data.data_dir=DIR

Command:  python scripts/run.py --config=experiments/diffusion/mnist.py \
              --workdir=/tmp/genjax/diffusion_mnist --config.data.data_dir=DIR
Expected: experiments/README.md has the measured numbers, with the time they took on two CPU cores,
          and those of other samplers and scales of guidance on the same network.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="mnist", batch_size=64),
            model=dict(
                name="unet",
                channels=16,
                multipliers=(1, 2, 3),
                num_blocks=1,
                attention_sizes=(7,),
                num_groups=8,
                dropout_rate=0.0,
                num_classes=10,
            ),
            family=dict(
                name="edm",
                process=dict(name="ve", sigma_min=0.02, sigma_max=60.0),
                times_mean=-0.5,
                times_std=1.3,
                label_dropout=0.1,
                ema_decay=0.999,
                # Noise of 0.02 is more than that between 8-bit grey levels: no bound of interest.
                likelihood="none",
            ),
            optimizer=dict(
                name="adam",
                learning_rate=2e-3,
                b1=0.9,
                warmup_steps=100,
                decay_steps=5000,
                decay_shape="cosine",
                clip_norm=1.0,
            ),
            parallel=dict(cpu_devices=2),
            train=dict(
                num_steps=5000,
                log_every=50,
                eval_every=5000,
                best_metric="eval/fd_mnist",
                checkpoint_every=500,
            ),
            eval=dict(
                batch_size=500,
                metrics=("fd", "kid", "precision_recall", "density_coverage", "label_accuracy"),
                features=dict(name="classifier", workdir="/tmp/genjax/classifier_mnist"),
            ),
            sample=dict(
                num_samples=100,
                # Two of the eight steps are guided, where the class is decided: ten network calls.
                num_steps=8,
                sampler=dict(name="dpm_solver", order=2),
                guidance=dict(name="classifier_free", scale=1.5, start=0.8, stop=0.55),
                batch_size=500,
            ),
        )
    )
