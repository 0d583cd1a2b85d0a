"""StyleGAN2 of letters and digits in 21 fonts, sized for a CPU: no download.

The networks and settings of stylegan2_mnist.py. 5,860 pictures are few for a GAN: what its critic
learns by heart is a matter of adaptive augmentation.

Command:  python scripts/run.py --config=experiments/gan/stylegan2_glyphs.py \
              --workdir=/tmp/genjax/stylegan2_glyphs
Expected: not yet trained to the end here.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    small = dict(base_channels=512, max_channels=64)
    adam = dict(name="adam", learning_rate=2.5e-3, b1=0.0, b2=0.99)
    return ConfigDict(
        dict(
            data=dict(name="glyphs", batch_size=32),
            model=dict(
                generator=dict(name="stylegan2", style_size=128, num_mapping_layers=2, **small),
                critic=dict(name="stylegan2", **small),
            ),
            family=dict(name="stylegan2", latent_size=128, penalty_weight=10.0),
            optimizer=dict(generator=dict(adam), critic=dict(adam)),
            train=dict(
                num_steps=4000, log_every=50, eval_every=0, sample_every=500, checkpoint_every=500
            ),
            sample=dict(num_samples=100),
        )
    )
