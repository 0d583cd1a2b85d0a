"""A transformer of the codes of a VQ-VAE of the 8x8 digits: the second of two stages.

The first is `experiments/vae/vq_digits.py`, whose workdir stands after a colon; its run is copied
into this one's state. Scores are bounds on the likelihood of the digits: what codes cost, and the
digits given them.

Command:  python scripts/run.py \
              --config=experiments/autoregressive/digit_codes.py:/tmp/genjax/vq_digits \
              --workdir=/tmp/genjax/digit_codes
"""

from ml_collections import ConfigDict


def get_config(first_stage: str = "/tmp/genjax/vq_digits") -> ConfigDict:
    """Returns the config.

    Args:
        first_stage: Workdir of the first stage.
    """
    return ConfigDict(
        dict(
            data=dict(name="digits", batch_size=64, first_stage=dict(workdir=first_stage)),
            model=dict(
                name="transformer",
                hidden_size=64,
                num_blocks=2,
                num_heads=4,
                dropout_rate=0.2,
                num_classes=10,
            ),
            family=dict(
                name="autoregressive",
                observation=dict(name="categorical"),
                label_dropout=0.1,
                ema_decay=0.995,
            ),
            optimizer=dict(
                name="adamw",
                learning_rate=2e-3,
                warmup_steps=100,
                decay_steps=1500,
                weight_decay=0.01,
                clip_norm=1.0,
            ),
            parallel=dict(cpu_devices=2),
            train=dict(num_steps=1500),
            eval=dict(batch_size=360),
        )
    )
