"""Stable Diffusion in miniature: an autoencoder of coloured digits, and diffusion of its latents.

The stages are `experiments/kl_autoencoder/captioned_digits.py`, then
`experiments/diffusion/captioned_digits_latent.py` with a text encoder of its own (Rombach et al.,
arXiv:2112.10752, section 4.3.1).

Command:  python scripts/run.py --config=experiments/pipelines/latent_diffusion.py \
              --workdir=/tmp/genjax/latent_diffusion
Then:     ... --mode=sample --prompt="a red seven on green" --guidance=2
Expected: 63 minutes of CPU time; 97.3 % of seen captions are met in all parts, and 97.1 % of
          combinations never seen (experiments/README.md).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            stages=dict(
                autoencoder="../kl_autoencoder/captioned_digits.py",
                diffusion="../diffusion/captioned_digits_latent.py:stage:autoencoder",
            )
        )
    )
