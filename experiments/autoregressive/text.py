"""A character transformer of the prose that Python's documentation ships with: no download.

With `--config.data.data_dir=FILE.txt` (or a folder of such files) it is of other text. Samples are
text, in `samples/` of the workdir.

Command:  python scripts/run.py --config=experiments/autoregressive/text.py \
              --workdir=/tmp/genjax/text
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="text", batch_size=32, options=dict(tokens="character", length=128)),
            model=dict(
                name="transformer",
                hidden_size=128,
                num_blocks=4,
                num_heads=4,
                dropout_rate=0.1,
            ),
            family=dict(
                name="autoregressive",
                observation=dict(name="categorical"),
                temperature=1.0,
                ema_decay=0.998,
            ),
            optimizer=dict(
                name="adamw",
                learning_rate=2e-3,
                warmup_steps=100,
                decay_steps=3000,
                weight_decay=0.1,
                clip_norm=1.0,
            ),
            parallel=dict(cpu_devices=2),
            train=dict(num_steps=3000, checkpoint_every=500),
            eval=dict(batch_size=64),
            sample=dict(num_samples=8),
        )
    )
