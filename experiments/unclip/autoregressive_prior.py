"""Coloured digits of MNIST from their captions, first half by codes: the autoregressive prior.

The prior of unCLIP that predicts the embedding of an image as a sequence of codes: its principal
components, each in one of a number of buckets (Ramesh et al., arXiv:2204.06125, section 2.2). It
may stand wherever `prior.py` does, on the vectors of the same contrastive model, whose directory
goes after the colon. The paper's token of how near image and text are is left out: of several
draws the nearest may be kept (`scripts/prior_table.py --num_candidates`).

Command:  python scripts/run.py --config=experiments/unclip/autoregressive_prior.py \
              --workdir=/tmp/genjax/unclip_autoregressive_prior --config.data.data_dir=DIR
          python scripts/prior_table.py --workdir=/tmp/genjax/unclip_autoregressive_prior
Expected: 9 minutes of CPU time; embeddings a little less near to images' than those of the
          diffusion prior (experiments/README.md).
"""

from ml_collections import ConfigDict


def get_config(contrastive: str = "/tmp/genjax/contrastive_captioned") -> ConfigDict:
    """Returns the config.

    Args:
        contrastive: Workdir of the contrastive model.
    """
    return ConfigDict(
        dict(
            data=dict(
                name="captioned_digits",
                batch_size=128,
                embeddings=dict(workdir=contrastive, what="x", form=dict(name="principal_codes")),
            ),
            model=dict(name="prompted_transformer", num_blocks=2),
            family=dict(
                name="autoregressive",
                observation=dict(name="categorical"),
                label_dropout=0.1,
                ema_decay=0.995,
            ),
            optimizer=dict(
                name="adamw",
                learning_rate=1e-3,
                warmup_steps=100,
                decay_steps=3000,
                weight_decay=0.01,
                clip_norm=1.0,
            ),
            train=dict(num_steps=3000),
            eval=dict(batch_size=200),
            sample=dict(num_samples=256),
        )
    )
