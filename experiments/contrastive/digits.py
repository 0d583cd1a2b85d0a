"""Images and captions of the 1,797 digits of scikit-learn as vectors, and classes by captions.

Command:  python scripts/run.py --config=experiments/contrastive/digits.py \
              --workdir=/tmp/genjax/contrastive_digits
Expected: 96.7 +- 0.9 % of the 360 test digits by "a photo of the digit seven", of which chance
          finds 10 % (scripts/zero_shot.py); excess_loss 0.22 +- 0.03; in half a
          minute on two CPU cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            # A photo of the digit seven: ten captions, each of which several rows of a batch have.
            data=dict(
                name="captioned_digits",
                batch_size=64,
                options=dict(images="digits", scene="plain", paraphrases=False),
            ),
            model=dict(
                image=dict(
                    name="image_tower",
                    embedding_size=16,
                    channels=16,
                    num_halvings=1,
                    num_features=32,
                ),
                text=dict(
                    name="text_tower", embedding_size=16, hidden_size=32, num_blocks=1, num_heads=2
                ),
            ),
            family=dict(name="clip", ema_decay=0.98),
            optimizer=dict(name="adamw", learning_rate=1e-3, warmup_steps=50, weight_decay=1e-3),
            train=dict(
                num_steps=1000,
                log_every=50,
                eval_every=500,
                sample_every=0,
                checkpoint_every=500,
                best_metric="eval/excess_loss",
            ),
            eval=dict(batch_size=360),
        )
    )
