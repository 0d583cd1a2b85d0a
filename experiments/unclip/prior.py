"""Coloured digits of MNIST from their captions, first half: embeddings of images from texts.

The prior of unCLIP on the vectors of a contrastive model, to be trained first, whose directory goes
after the colon; decoder.py makes images of what it gives.

          python scripts/run.py --config=experiments/contrastive/captioned_digits.py \
              --workdir=/tmp/genjax/contrastive_captioned --config.data.data_dir=DIR

Command:  python scripts/run.py --config=experiments/unclip/prior.py \
              --workdir=/tmp/genjax/unclip_prior --config.data.data_dir=DIR
Expected: 3 minutes of CPU time; embeddings are nearly as near to images' as the means of training
          images of a caption are (scripts/prior_table.py; experiments/README.md).
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
                embeddings=dict(workdir=contrastive, what="x"),
            ),
            model=dict(name="prior_transformer", num_blocks=2),
            family=dict(
                name="diffusion",
                process=dict(name="cosine"),
                prediction="data",
                weighting="data",
                label_dropout=0.1,
                ema_decay=0.995,
                # Judged by what is near, not by a density of embeddings.
                likelihood="none",
            ),
            optimizer=dict(
                name="adamw",
                learning_rate=1e-3,
                warmup_steps=100,
                decay_steps=3000,
                weight_decay=0.01,
                clip_norm=1.0,
            ),
            train=dict(num_steps=3000, eval_every=0),
            sample=dict(num_samples=256, num_steps=25, sampler=dict(name="ddim")),
        )
    )
