"""Coloured digits from 14 to 28 pixels by captions: Imagen's upsampler, sized for two CPU cores.

The second stage of a cascade (Saharia et al., arXiv:2205.11487, section 2.4) after
experiments/diffusion/captioned_digits_14.py. It is trained on true small images with noise of
random levels on them, and told the level and the caption. The network is the paper's Efficient
U-Net with 2 resolutions of 1 and 2 blocks in place of 4 of 2, 4, 8 and 8. Samples of a run start
from true small images of the test split; from those of the first stage they are
``run.sample(source=small, tokens=tokens)``.

Command:  python scripts/run.py --config=experiments/cascades/captioned_digits.py \
              --workdir=/tmp/genjax/captioned_digits_cascade --config.data.data_dir=DIR
Expected: sharp images that are the small ones again when they are shrunk.
"""

from ml_collections import ConfigDict


def get_config(words: str = "") -> ConfigDict:
    """Returns the config.

    Args:
        words: Workdir of a language model of the captions, whose vectors the network is told in
            place of those of a text encoder of its own.
    """
    text = dict(frozen=dict(workdir=words)) if words else dict(name="text_encoder", hidden_size=64)
    return ConfigDict(
        dict(
            data=dict(
                name="captioned_digits", batch_size=64, transforms=(dict(name="shrink", factor=2),)
            ),
            model=dict(
                name="efficient_unet",
                channels=24,
                multipliers=(2, 4),
                num_blocks=(1, 2),
                num_heads=4,
                num_groups=8,
                source=dict(name="noise_augmented"),
                text=text,
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
            train=dict(num_steps=5000, log_every=50, eval_every=0, checkpoint_every=500),
            sample=dict(
                num_steps=10,
                sampler=dict(name="dpm_solver", order=2, threshold="dynamic"),
            ),
        )
    )
