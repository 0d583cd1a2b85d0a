"""Coloured digits of 14 pixels from captions: a cascade's first stage, for two CPU cores.

A small U-Net with attention to the vectors of a text encoder, in the manner of Imagen (Saharia et
al., arXiv:2205.11487): one that is trained with it, or, frozen, the language model of the captions
whose workdir stands after a colon (experiments/autoregressive/captions.py; Imagen's T5 is of real
texts). The second stage is experiments/cascades/captioned_digits.py.

Command:  python scripts/run.py --config=experiments/diffusion/captioned_digits_14.py \
              --workdir=/tmp/genjax/captioned_digits_14 --config.data.data_dir=DIR
Expected: pictures of the digits and colours that the captions of the test split say.
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
            # The filter is that of the small images that the second stage is trained on.
            data=dict(
                name="captioned_digits", batch_size=64, transforms=(dict(name="resize", size=14),)
            ),
            model=dict(
                name="unet",
                channels=32,
                multipliers=(1, 2),
                num_blocks=1,
                attention_sizes=(7,),
                num_groups=8,
                dropout_rate=0.0,
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
                decay_steps=15_000,
                decay_shape="cosine",
                clip_norm=1.0,
            ),
            parallel=dict(cpu_devices=2),
            train=dict(num_steps=15_000, log_every=50, eval_every=0, checkpoint_every=500),
            sample=dict(
                num_steps=10,
                sampler=dict(name="dpm_solver", order=2, threshold="dynamic"),
                guidance=dict(name="classifier_free", scale=2.0),
            ),
        )
    )
