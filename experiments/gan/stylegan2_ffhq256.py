"""StyleGAN2 of faces of 256 pixels, or of any folder of pictures, for a GPU.

Published settings (Karras et al., arXiv:1912.04958; at this size NVlabs/stylegan2-ada-pytorch's
configuration of the paper): half the channels of configuration F, batches of 64, Adam at 0.0025, R1
of weight 1, the deviation of 8 rows, path-length penalty 2, mixing 0.9, an average of 20 thousand
images without ramp, horizontal flips, 25 million images. The authors' code takes 12.5 s of one A100
for 1,000 images of this size.
FID and the rest need the weights of the standard FID Inception (eval.features.weights).

Command:  python scripts/run.py --config=experiments/gan/stylegan2_ffhq256.py \
              --workdir=/tmp/genjax/stylegan2_ffhq256 --config.data.data_dir=DIR
Expected: not yet trained here.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    adam = dict(name="adam", learning_rate=2.5e-3, b1=0.0, b2=0.99)
    return ConfigDict(
        dict(
            data=dict(
                name="images",
                batch_size=64,
                options=dict(size=256),
                transforms=(dict(name="horizontal_flip"),),
            ),
            model=dict(
                generator=dict(name="stylegan2", base_channels=16_384, dtype="bfloat16"),
                critic=dict(name="stylegan2", base_channels=16_384, group_size=8, dtype="bfloat16"),
            ),
            family=dict(
                name="stylegan2",
                latent_size=512,
                penalty_weight=1.0,
                ema_half_life_kimg=20.0,
                ema_rampup=0.0,
            ),
            optimizer=dict(generator=dict(adam), critic=dict(adam)),
            train=dict(
                num_steps=390_625,
                log_every=500,
                eval_every=10_000,
                sample_every=10_000,
                checkpoint_every=10_000,
                best_metric="eval/fid",
            ),
            eval=dict(
                batch_size=500,
                metrics=("fd", "kid", "precision_recall"),
                num_samples=50_000,
                reference="train",
                features=dict(name="inception", weights="/tmp/genjax/pt_inception-2015-12-05.pth"),
            ),
            sample=dict(num_samples=100),
        )
    )
