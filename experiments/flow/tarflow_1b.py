"""A TarFlow of a billion parameters, to plan for a pod: 8 maps of 8 blocks of width 1,152.

Command:  python scripts/run.py --config=experiments/flow/tarflow_1b.py --mode=plan \
              --config.parallel.plan_devices=64
Expected: docs/pods.md has what it prints. Not trained.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="cifar10", batch_size=256),
            model=dict(
                name="tarflow",
                patch_size=2,
                num_layers=8,
                hidden_size=1152,
                num_blocks=8,
                num_heads=18,
                remat="full",
                dtype="bfloat16",
            ),
            family=dict(name="flow", ema_decay=0.999),
            optimizer=dict(
                name="adamw",
                learning_rate=1e-4,
                warmup_steps=1_000,
                b2=0.95,
                weight_decay=1e-4,
                decay_steps=100_000,
            ),
            parallel=dict(fsdp=8),
            train=dict(
                num_steps=100_000,
                eval_every=5_000,
                sample_every=5_000,
            ),
            eval=dict(),
        )
    )
