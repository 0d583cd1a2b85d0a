"""The first stage of latent diffusion of coloured digits with captions: 28x28x3 to 7x7x4.

As `experiments/kl_autoencoder/mnist.py`, of the scenes `colour` of `captioned_digits`, whose
captions it does not read.

Command:  python scripts/run.py --config=experiments/kl_autoencoder/captioned_digits.py \
              --workdir=/tmp/genjax/kl_autoencoder_captioned --config.data.data_dir=DIR
Expected: 7 minutes of CPU time; reconstructions are at 25.8 dB.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    net = dict(channels=64, num_blocks=2, residual_channels=32)
    return ConfigDict(
        dict(
            data=dict(
                name="captioned_digits",
                options=dict(images="mnist", scene="colour"),
                batch_size=128,
            ),
            model=dict(
                encoder=dict(name="grid", num_halvings=2, **net),
                decoder=dict(name="grid", num_doublings=2, **net),
            ),
            family=dict(
                name="kl_autoencoder",
                # A tenth of what the bound weighs it by: with less, latents hold 12 bits each, and
                # a model of them spends itself on what nobody sees.
                kl_weight=0.1,
                observation=dict(name="laplace", scale=0.1),
            ),
            optimizer=dict(
                autoencoder=dict(
                    name="adam", learning_rate=1e-3, warmup_steps=100, decay_steps=3000
                )
            ),
            parallel=dict(cpu_devices=2),
            train=dict(num_steps=3000, eval_every=1500, sample_every=0, checkpoint_every=500),
            eval=dict(batch_size=500, metrics=("psnr",)),
        )
    )
