"""A transformer of the codes of a VQ-VAE of MNIST, class-conditional: the second of two stages.

The first is `experiments/vae/vq_mnist.py`, whose workdir stands after a colon; its run is copied
into this one's state. Scores are bounds on the likelihood of the digits: what codes cost, and the
digits given them. Features for FD-mnist are those of `experiments/classifier/mnist.py`.

Command:  python scripts/run.py \
              --config=experiments/autoregressive/mnist_codes.py:/tmp/genjax/vq_mnist \
              --workdir=/tmp/genjax/mnist_codes --config.data.data_dir=DIR \
              --config.eval.features.workdir=/tmp/genjax/classifier_mnist
Expected: 35 minutes of CPU time; FD-mnist 1.72, 92.5 % as labelled, 1.275 bits/dim
          (experiments/README.md).
"""

from ml_collections import ConfigDict


def get_config(first_stage: str = "/tmp/genjax/vq_mnist") -> ConfigDict:
    """Returns the config.

    Args:
        first_stage: Workdir of the first stage.
    """
    return ConfigDict(
        dict(
            data=dict(name="mnist", batch_size=128, first_stage=dict(workdir=first_stage)),
            model=dict(
                name="transformer",
                hidden_size=128,
                num_blocks=4,
                num_heads=4,
                dropout_rate=0.1,
                num_classes=10,
            ),
            family=dict(
                name="autoregressive",
                observation=dict(name="categorical"),
                label_dropout=0.1,
                ema_decay=0.998,
            ),
            optimizer=dict(
                name="adamw",
                learning_rate=1e-3,
                warmup_steps=200,
                decay_steps=5000,
                weight_decay=0.05,
                clip_norm=1.0,
            ),
            parallel=dict(cpu_devices=2),
            train=dict(num_steps=5000, eval_every=2500, checkpoint_every=500),
            eval=dict(
                batch_size=500,
                metrics=("fd", "label_accuracy"),
                features=dict(name="classifier", workdir="/tmp/genjax/classifier_mnist"),
            ),
            sample=dict(num_samples=100, batch_size=500),
        )
    )
