"""VDM on MNIST with a U-Net, sized for a CPU: for likelihood and samples alike.

As `experiments/vdm/mnist.py`, but the network sees the image at 28, 14 and 7 pixels, so that it has
a notion of a digit and not of strokes alone, and samples are drawn by a solver of the probability
flow.

Command:  python scripts/run.py --config=experiments/vdm/mnist_unet.py \
              --workdir=/tmp/genjax/mnist_unet --config.data.data_dir=DIR
Expected: experiments/README.md has the measured bits/dim with the time it took on two CPU cores,
          beside those of the network that never changes resolution.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="mnist", batch_size=64),
            model=dict(
                name="unet",
                channels=24,
                multipliers=(1, 2, 3),
                num_blocks=1,
                attention_sizes=(7,),
                num_groups=8,
                dropout_rate=0.0,
                fourier_exponents=(6, 7),
            ),
            family=dict(
                name="vdm",
                schedule=dict(name="learned_monotone", gamma_0=-13.3, gamma_1=5.0),
                ema_decay=0.998,
            ),
            optimizer=dict(
                name="adamw",
                learning_rate=2e-3,
                warmup_steps=100,
                decay_steps=3000,
                weight_decay=0.01,
                clip_norm=1.0,
            ),
            parallel=dict(cpu_devices=2),
            train=dict(
                num_steps=3000,
                log_every=50,
                eval_every=3000,
                sample_every=1500,
                checkpoint_every=500,
            ),
            eval=dict(batch_size=100, num_times=4),
            sample=dict(num_steps=50, sampler=dict(name="dpm_solver", order=2, times="log_snr")),
        )
    )
