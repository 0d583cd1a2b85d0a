"""pix2pix on MNIST, for a CPU: digits from their edges, and the paper's ablation.

The file takes the name of an objective: `--config=experiments/translation/edges2digits.py:l1`. The
paper's table 1 (arXiv:1611.07004), labels to photographs of Cityscapes judged by a segmentation
network, has per-pixel accuracies of 0.42 for `l1`, 0.57 for `gan` (conditional), 0.66 for `both`
and 0.80 for true photographs: the distance alone blurs, the game alone invents. Here `l1` and
`psnr` are those to the true digit, and `fd` and `label_accuracy` are in the features of a
classifier, to be trained first:

          python scripts/run.py --config=experiments/classifier/mnist.py \
              --workdir=/tmp/genjax/classifier_mnist --config.data.data_dir=DIR

Command:  python scripts/run.py --config=experiments/translation/edges2digits.py \
              --workdir=/tmp/genjax/edges2digits --config.data.data_dir=DIR
Expected: `both` with the lowest `l1` and `fd`, `l1` with the highest `psnr`; experiments/README.md
          has what was measured, in fewer steps.
"""

from typing import Any

from ml_collections import ConfigDict

OBJECTIVES: dict[str, dict[str, Any]] = {
    "both": {},
    "l1": dict(gan_weight=0.0),
    "gan": dict(l1_weight=0.0),
}


def get_config(objective: str = "both") -> ConfigDict:
    """Returns the config of an objective of :data:`OBJECTIVES`."""
    if objective not in OBJECTIVES:
        raise ValueError(f"the objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
    return ConfigDict(
        dict(
            data=dict(name="mnist", batch_size=16, transforms=[dict(name="edges")]),
            model=dict(
                generator=dict(name="unet_translator", channels=16, num_dropout=2),
                critic=dict(name="patch", channels=16, num_layers=1),
            ),
            family=dict(name="pix2pix", ema_half_life_kimg=0.0, **OBJECTIVES[objective]),
            optimizer=dict(
                generator=dict(name="adam", learning_rate=2e-4, b1=0.5, b2=0.999),
                critic=dict(name="adam", learning_rate=2e-4, b1=0.5, b2=0.999),
            ),
            train=dict(
                num_steps=4000,
                log_every=50,
                eval_every=4000,
                best_metric="eval/l1",
            ),
            eval=dict(
                batch_size=500,
                num_samples=2000,
                metrics=("fd", "label_accuracy"),
                features=dict(name="classifier", workdir="/tmp/genjax/classifier_mnist"),
            ),
            sample=dict(num_samples=100),
        )
    )
