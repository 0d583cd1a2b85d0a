"""DALL-E 2 in miniature: contrastive towers, a prior of image embeddings, and a decoder of them.

The stages are `experiments/contrastive/captioned_digits.py`, `experiments/unclip/prior.py` and
`experiments/unclip/decoder.py` (Ramesh et al., arXiv:2204.06125, section 2). After a colon the
prior: diffusion (the default) or autoregressive.

Command:  python scripts/run.py --config=experiments/pipelines/unclip.py \
              --workdir=/tmp/genjax/unclip
Then:     ... --mode=sample --prompt="a red seven on green" --guidance=2
Expected: 40 minutes of CPU time; 98.3 % of seen captions are met in all parts, and 93.4 % of
          combinations never seen (experiments/README.md).
"""

from ml_collections import ConfigDict

_PRIORS = {
    "diffusion": "../unclip/prior.py",
    "autoregressive": "../unclip/autoregressive_prior.py",
}


def get_config(prior: str = "diffusion") -> ConfigDict:
    """Returns the config.

    Args:
        prior: What makes embeddings of texts.
    """
    if prior not in _PRIORS:
        raise ValueError(f"expected one of {', '.join(_PRIORS)} after the colon, got {prior!r}")
    return ConfigDict(
        dict(
            stages=dict(
                towers="../contrastive/captioned_digits.py",
                prior=f"{_PRIORS[prior]}:stage:towers",
                decoder="../unclip/decoder.py:stage:towers",
            ),
            sample=dict(
                chain=[
                    dict(stage="prior"),
                    dict(stage="decoder", reads=dict(embedding="prior", tokens="prompt")),
                ]
            ),
        )
    )
