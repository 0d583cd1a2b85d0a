"""Coloured digits from captions by latent diffusion: EDM of 7x7x4 latents, with attention to words.

The second of two stages, whose first, `experiments/kl_autoencoder/captioned_digits.py`, stands
after a colon. Its run is copied into this one's state, and its latents are divided by their
standard deviation in training rows (Rombach et al., arXiv:2112.10752, appendix G).

Command:  python scripts/run.py \
              --config=experiments/diffusion/captioned_digits_latent.py:/tmp/genjax/kl_autoencoder_captioned \
              --workdir=/tmp/genjax/captioned_digits_latent --config.data.data_dir=DIR
Expected: 56 minutes of CPU time. `experiments/pipelines/latent_diffusion.py` is both stages in one
          command; experiments/README.md compares with a model of pixels.
"""  # noqa: E501

from ml_collections import ConfigDict


def get_config(first_stage: str = "/tmp/genjax/kl_autoencoder_captioned") -> ConfigDict:
    """Returns the config.

    Args:
        first_stage: Workdir of the first stage.
    """
    return ConfigDict(
        dict(
            data=dict(
                name="captioned_digits",
                options=dict(images="mnist", scene="colour"),
                batch_size=64,
                first_stage=dict(workdir=first_stage),
            ),
            model=dict(
                name="unet",
                channels=64,
                multipliers=(1,),
                num_blocks=3,
                attention_sizes=(7,),
                num_heads=4,
                num_groups=8,
                dropout_rate=0.0,
                text=dict(name="text_encoder", hidden_size=64),
            ),
            family=dict(
                name="edm",
                process=dict(name="ve", sigma_min=0.002, sigma_max=80.0),
                # Latents have twice the deviation of pixels, for which -1.2 was published, and what
                # decides the digit is at still larger noise.
                times_mean=0.0,
                times_std=1.3,
                label_dropout=0.1,
                ema_decay=0.999,
                likelihood="none",
            ),
            optimizer=dict(
                name="adam",
                learning_rate=1e-3,
                b1=0.9,
                warmup_steps=100,
                decay_steps=12_000,
                decay_shape="cosine",
                clip_norm=1.0,
            ),
            parallel=dict(cpu_devices=2),
            train=dict(num_steps=12_000, log_every=50, eval_every=0, checkpoint_every=500),
            eval=dict(batch_size=250),
            sample=dict(
                num_steps=10,
                sampler=dict(name="dpm_solver", order=2),
                guidance=dict(name="classifier_free", scale=2.0),
            ),
        )
    )
