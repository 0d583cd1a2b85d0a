"""CycleGAN from letters without serifs to letters with them, for a CPU: no pairs, no download.

The faces are those that matplotlib ships. One stream has letters without serifs, the other letters
with them, each in its own order. What a letter would be with serifs, in the face of the same
design, is known and withheld from training: of a test letter it may be among the letters with
serifs that are trained on, but nothing says which it is. `l1`, `mse` and `psnr` are those of
translations to it; `label_accuracy` is the share of translations that a classifier of letters with
serifs takes for the character that they were made from. It is to be trained first:

          python scripts/run.py \
              --config=experiments/classifier/of.py:experiments/translation/sans_to_serif.py \
              --workdir=/tmp/genjax/classifier_serif

The file takes the name of an objective: `--config=experiments/translation/sans_to_serif.py:gan`.
The paper's table 4 (arXiv:1703.10593), labels to photographs of Cityscapes, has per-pixel
accuracies of 0.22 for `cycle` alone, 0.51 for `gan` alone and 0.52 for `both`.

Command:  python scripts/run.py --config=experiments/translation/sans_to_serif.py \
              --workdir=/tmp/genjax/sans_to_serif
Expected: L1 0.051 and 89 % as labelled by `both`, 0.055 and 77 % by `gan`, 0.13 and 5 % by `cycle`,
          in 3 to 5 minutes of CPU time; letters as they were have 0.058 and 89 %.
"""

from typing import Any

from ml_collections import ConfigDict

OBJECTIVES: dict[str, dict[str, Any]] = {
    "both": {},
    "gan": dict(cycle_weight=0.0),
    "cycle": dict(gan_weight=0.0),
}


def get_config(objective: str = "both") -> ConfigDict:
    """Returns the config of an objective of :data:`OBJECTIVES`."""
    if objective not in OBJECTIVES:
        raise ValueError(f"the objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
    sans = dict(only=dict(serif="sans"), partner=dict(serif="serif"))
    return ConfigDict(
        dict(
            data=dict(
                name="glyphs",
                batch_size=16,
                options=dict(only=dict(serif="serif")),
                streams=dict(source=dict(name="glyphs", options=sans)),
            ),
            model=dict(
                generator=dict(name="resnet_translator", channels=16, num_blocks=2),
                critic=dict(name="patch", channels=32, num_layers=1),
            ),
            family=dict(name="cycle_gan", ema_half_life_kimg=1.0, **OBJECTIVES[objective]),
            optimizer=dict(
                generator=dict(name="adam", learning_rate=2e-4, b1=0.5, b2=0.999),
                critic=dict(name="adam", learning_rate=2e-4, b1=0.5, b2=0.999),
            ),
            train=dict(
                num_steps=3000,
                log_every=50,
                best_metric="eval/l1",
            ),
            eval=dict(
                metrics=("fd", "label_accuracy"),
                features=dict(name="classifier", workdir="/tmp/genjax/classifier_serif"),
            ),
            sample=dict(num_samples=100),
        )
    )
