"""Digits from captions, pixel by pixel: EDM with a small U-Net that attends to the words.

``captioned_digits.py`` is of MNIST in 28x28 pixels, ``captioned_digits.py:digits`` of the embedded
8x8 digits, for a trial of minutes. Some combinations of digit and colour are in no caption of the
training split: scripts/caption_accuracy.py says how many of the digits asked for come out, of those
that were seen and of those that were not.

Command:  python scripts/run.py --config=experiments/diffusion/captioned_digits.py:digits \
              --workdir=/tmp/genjax/captioned_digits_8
"""

from ml_collections import ConfigDict


def get_config(images: str = "mnist") -> ConfigDict:
    """Returns the config of ``"mnist"`` or ``"digits"``."""
    if images not in ("mnist", "digits"):
        raise ValueError(f"the images must be 'mnist' or 'digits', got {images!r}")
    small = images == "digits"
    return ConfigDict(
        dict(
            data=dict(name="captioned_digits", options=dict(images=images), batch_size=64),
            model=dict(
                name="unet",
                channels=32 if small else 24,
                multipliers=(1, 2) if small else (1, 2, 3),
                num_blocks=1,
                attention_sizes=(4, 8) if small else (7,),
                num_groups=8,
                dropout_rate=0.0,
                text=dict(name="text_encoder", hidden_size=64),
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
                decay_steps=6000,
                decay_shape="cosine",
                clip_norm=1.0,
            ),
            parallel=dict(cpu_devices=2),
            train=dict(num_steps=6000, log_every=50, eval_every=0, checkpoint_every=500),
            eval=dict(batch_size=250),
            sample=dict(
                num_steps=10,
                sampler=dict(name="dpm_solver", order=2),
                guidance=dict(name="classifier_free", scale=2.0),
            ),
        )
    )
