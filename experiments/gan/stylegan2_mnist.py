"""StyleGAN2 on MNIST, sized for a CPU, and what each of its parts does.

Published settings (Karras et al., arXiv:1912.04958): see stylegan2_ffhq256.py. Here with at most 64
channels, two mapping layers and batches of 32. R1 weighs 10: with the 0.005 that the authors' code
begins with for such images and batches, the critic is right of 95 % of rows and samples are all
alike after 3,000 steps. After a colon the ablation:

* ``full`` (the default);
* ``no_path``: path lengths are measured, and next to nothing holds them;
* ``no_mixing``: all layers see one style in training, too;
* ``no_r1``: next to nothing controls the critic;
* ``adain``: the generator of the first StyleGAN (arXiv:1812.04948) and a critic without residuals;
* ``large_rate``: mapping layers learn as fast as all others.

``train/path_length`` and ``train/path_penalty`` are logged. Truncation is read when samples are
drawn: ``--mode=eval --config.model.generator.truncation=0.7`` gives precision for recall.
It is measured with the features of a classifier, to be trained first:

          python scripts/run.py --config=experiments/classifier/mnist.py \
              --workdir=/tmp/genjax/classifier_mnist --config.data.data_dir=DIR

Command:  python scripts/run.py --config=experiments/gan/stylegan2_mnist.py:full \
              --workdir=/tmp/genjax/stylegan2_mnist --config.data.data_dir=DIR
Expected: FD-mnist 34 after 4,000 steps and 7.3 after 8,000, in 12.4 minutes of CPU time; the
          SNGAN has 12.9 by then (experiments/README.md).
"""

from typing import Any

from ml_collections import ConfigDict

_SMALL = dict(base_channels=512, max_channels=64)
# What differs from the full model.
MODELS: dict[str, dict[str, Any]] = {
    "full": {},
    "no_path": dict(family=dict(path_weight=1e-6)),
    "no_mixing": dict(generator=dict(mixing_probability=0.0)),
    "no_r1": dict(family=dict(penalty_weight=1e-6)),
    "adain": dict(generator=dict(name="stylegan"), critic=dict(residual=False, taps=(1, 2, 1))),
    "large_rate": dict(generator=dict(mapping_multiplier=1.0)),
}


def get_config(model: str = "full") -> ConfigDict:
    """Returns the config.

    Args:
        model: A key of :data:`MODELS`.
    """
    if model not in MODELS:
        raise ValueError(f"expected one of {', '.join(MODELS)} after the colon, got {model!r}")
    one = MODELS[model]
    generator = dict(name="stylegan2", style_size=128, num_mapping_layers=2, **_SMALL)
    adam = dict(name="adam", learning_rate=2.5e-3, b1=0.0, b2=0.99)
    return ConfigDict(
        dict(
            data=dict(name="mnist", batch_size=32),
            model=dict(
                generator=generator | one.get("generator", {}),
                critic=dict(name="stylegan2", **_SMALL) | one.get("critic", {}),
            ),
            family=dict(name="stylegan2", latent_size=128, penalty_weight=10.0)
            | one.get("family", {}),
            optimizer=dict(generator=dict(adam), critic=dict(adam)),
            train=dict(
                num_steps=8000,
                log_every=50,
                sample_every=500,
                checkpoint_every=500,
                best_metric="eval/fd_mnist",
            ),
            eval=dict(
                batch_size=500,
                metrics=("fd", "kid", "precision_recall", "density_coverage"),
                features=dict(name="classifier", workdir="/tmp/genjax/classifier_mnist"),
            ),
            sample=dict(num_samples=100),
        )
    )
