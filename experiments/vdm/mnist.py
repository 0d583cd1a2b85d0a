"""VDM on MNIST, sized for a CPU: a small net and a short run.

Command:  python scripts/run.py --config=experiments/vdm/mnist.py --workdir=/tmp/genjax/mnist \
              --config.data.data_dir=DIR
Expected: the README has the measured bits/dim with the time it took on two CPU cores. (A per-pixel
          histogram of MNIST scores 1.69.)
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="mnist", data_dir=placeholder(str), batch_size=32),
            model=dict(
                name="score_resnet",
                channels=32,
                num_layers=4,
                num_groups=8,
                dropout_rate=0.0,
                fourier_exponents=(6, 7),
                num_classes=placeholder(int),
                dtype="float32",
            ),
            family=dict(
                name="vdm",
                schedule=dict(name="learned_monotone", gamma_0=-13.3, gamma_1=5.0),
                time_sampling="stratified",
                num_timesteps=0,
                ema_decay=0.998,
                accumulate_steps=1,
            ),
            optimizer=dict(
                name="adamw",
                learning_rate=1e-3,
                warmup_steps=100,
                weight_decay=0.01,
                clip_norm=1.0,
            ),
            parallel=dict(strategy="jit", fsdp=1, cpu_devices=2, plan_devices=0),
            train=dict(
                num_steps=4000,
                seed=0,
                steps_per_call=1,
                log_every=50,
                eval_every=2000,
                sample_every=2000,
                checkpoint_every=500,
            ),
            eval=dict(batch_size=100, num_times=4, seed=0),
            sample=dict(num_samples=64, num_steps=250, seed=0),
        )
    )
