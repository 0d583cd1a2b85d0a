"""Mode coverage on MNIST stacked in three channels, with the smallest critics of Metz et al.

A thousand modes, counted by a classifier of MNIST on each channel of 26,000 samples: a mode counts
with one sample, and mode_kl is that of the decisions from equal shares. Networks: Metz et al.,
arXiv:1611.02163, appendix D, critics of a quarter or a half of the channels 8, 16 and 32.

Published modes and mode_kl (Lin et al., PacGAN, arXiv:1712.04086, table 3), a quarter: DCGAN 30.6,
5.99 (PacGAN's own 78.5, 5.21), unrolled by 1, 5 and 10 steps 65.4, 5.91; 236, 4.67; 327, 4.66,
packs of 2, 3 and 4 485, 2.61; 601, 2.00; 667, 1.81. A half: DCGAN 628, 2.58 (488, 2.24), unrolled
by 10 817, 1.43, packs of 3 867, 0.90.

Samples are measured by a classifier, to be trained first:

          python scripts/run.py --config=experiments/classifier/mnist.py \
              --workdir=/tmp/genjax/classifier_mnist --config.data.data_dir=DIR

Command:  python scripts/run.py --config=experiments/gan/stacked_mnist.py:pac4 \
              --workdir=/tmp/genjax/stacked_mnist --config.data.data_dir=DIR
Expected: no collapse: 761 modes and KL 1.26 by `dcgan`, 743 and 1.43 by `pac3`, 18 minutes of CPU
          time each (experiments/README.md).

After the colon stands a game of GAMES; critics have a quarter of the channels, or a half with
`_half` after the game's name.
"""

from typing import Any

from ml_collections import ConfigDict

GAMES: dict[str, dict[str, Any]] = {
    "dcgan": dict(),
    **{f"pac{size}": dict(pack_size=size) for size in (2, 3, 4)},
    **{f"unrolled{steps}": dict(unroll_steps=steps) for steps in (1, 5, 10)},
}


def get_config(game: str = "dcgan") -> ConfigDict:
    """Returns the config of a game of :data:`GAMES`, after which `_half` may stand."""
    name = game.removesuffix("_half")
    if name not in GAMES:
        raise ValueError(
            f"the game must be one of {', '.join(GAMES)} (with _half after it for a wider critic), "
            f"got {game!r}"
        )
    channels = 32 // (2 if game.endswith("_half") else 4)
    ahead = dict(eps_root=1e-16) if "unroll_steps" in GAMES[name] else {}
    return ConfigDict(
        dict(
            # Packs are of rows of a batch: 128 are no whole number of packs of 3.
            data=dict(name="stacked_mnist", batch_size=129 if name == "pac3" else 128),
            model=dict(
                generator=dict(
                    name="dcgan", channels=64, min_channels=8, kernel_size=3, num_doublings=3
                ),
                critic=dict(
                    name="dcgan",
                    channels=channels,
                    min_channels=channels // 4,
                    kernel_size=3,
                    num_halvings=3,
                ),
            ),
            family=dict(name="gan", latent_size=256, ema_half_life_kimg=0.0, **GAMES[name]),
            optimizer=dict(
                generator=dict(name="adam", learning_rate=1e-4),
                critic=dict(name="adam", **ahead),
            ),
            train=dict(
                num_steps=25000,
                log_every=250,
                eval_every=5000,
                sample_every=5000,
                checkpoint_every=5000,
                best_metric="eval/mode_kl_stacked_mnist",
            ),
            eval=dict(
                batch_size=500,
                metrics=("class_modes",),
                features=dict(name="channels", workdir="/tmp/genjax/classifier_mnist"),
                num_samples=26000,
            ),
            sample=dict(num_samples=100),
        )
    )
