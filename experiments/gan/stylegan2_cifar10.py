"""StyleGAN2 on CIFAR-10, with the settings of its authors; after a colon, ``conditional``.

Published settings (Karras et al., arXiv:2006.06676, and NVlabs/stylegan2-ada-pytorch): batches of
64, Adam at 0.0025, R1 of weight 0.01, the deviation of 32 rows, two mapping layers, a critic
without residuals, no path-length penalty and no mixing, an average of 500 thousand images.
POSTECH-CVLab/PyTorch-StudioGAN reports FID 6.96 (3.78 against the training images) for the
conditional model without augmentation after 200,000 steps, 4.5 s of one GPU for 1,000 images.
FID and the rest need the weights of the standard FID Inception (eval.features.weights).

Command:  python scripts/run.py --config=experiments/gan/stylegan2_cifar10.py:conditional \
              --workdir=/tmp/genjax/stylegan2_cifar10 --config.data.data_dir=DIR
Expected: not yet trained to the end here. Aim: FID below 3.8 against the training images.
"""

from ml_collections import ConfigDict


def get_config(model: str = "unconditional") -> ConfigDict:
    """Returns the config.

    Args:
        model: ``"unconditional"`` or ``"conditional"``.
    """
    if model not in ("unconditional", "conditional"):
        raise ValueError(f"expected unconditional or conditional after the colon, got {model!r}")
    classes = dict(num_classes=10) if model == "conditional" else {}
    adam = dict(name="adam", learning_rate=2.5e-3, b1=0.0, b2=0.99)
    return ConfigDict(
        dict(
            data=dict(name="cifar10", batch_size=64),
            model=dict(
                generator=dict(
                    name="stylegan2", num_mapping_layers=2, mixing_probability=0.0, **classes
                ),
                critic=dict(name="stylegan2", residual=False, group_size=32, **classes),
            ),
            family=dict(
                name="stylegan2",
                latent_size=512,
                penalty_weight=0.01,
                path_weight=0.0,
                ema_half_life_kimg=500.0,
            ),
            optimizer=dict(generator=dict(adam), critic=dict(adam)),
            train=dict(
                num_steps=200_000,
                log_every=500,
                eval_every=10_000,
                sample_every=10_000,
                checkpoint_every=10_000,
                best_metric="eval/fid",
            ),
            eval=dict(
                batch_size=500,
                metrics=("fd", "kid", "inception_score", "precision_recall"),
                num_samples=50_000,
                reference="train",
                features=dict(name="inception", weights="/tmp/genjax/pt_inception-2015-12-05.pth"),
            ),
            sample=dict(num_samples=100),
        )
    )
