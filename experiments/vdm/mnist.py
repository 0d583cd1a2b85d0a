"""VDM on MNIST, sized for a CPU: a small net and a short run.

Command:  python scripts/run.py --config=experiments/vdm/mnist.py --workdir=/tmp/genjax/mnist \
              --config.data.data_dir=DIR
Expected: experiments/README.md has the measured bits/dim with the time it took on two CPU
          cores. (A per-pixel histogram of MNIST scores 1.69.)
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="mnist", batch_size=32),
            model=dict(
                name="score_resnet",
                channels=32,
                num_layers=4,
                num_groups=8,
                dropout_rate=0.0,
                fourier_exponents=(6, 7),
                dtype="float32",
            ),
            family=dict(
                name="vdm",
                schedule=dict(name="learned_monotone", gamma_0=-13.3, gamma_1=5.0),
                ema_decay=0.998,
            ),
            optimizer=dict(
                name="adamw",
                learning_rate=1e-3,
                warmup_steps=100,
                weight_decay=0.01,
                clip_norm=1.0,
            ),
            parallel=dict(cpu_devices=2),
            train=dict(
                num_steps=4000,
                log_every=50,
                eval_every=2000,
                sample_every=2000,
                checkpoint_every=500,
            ),
            eval=dict(batch_size=100, num_times=4),
            sample=dict(num_steps=250),
        )
    )
