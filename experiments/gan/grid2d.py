"""GANs on a grid of 25 narrow Gaussians, with PacGAN's networks and optimiser, for a CPU.

Means {-4, -2, 0, 2, 4}^2, standard deviation 0.05 (Lin et al., arXiv:1712.04086, section 4.1; code
in fjxmlzn/PacGAN). Published, of 2,500 samples, modes, high quality and mode_kl: GAN 17.3 +- 0.8,
0.948, 0.70; packs of 2, 3 and 4: 23.8, 24.6 and 24.8 modes, mode_kl 0.13, 0.06 and 0.04, after 400
epochs, 400,000 steps; here are 20,000.

Command:  python scripts/run.py --config=experiments/gan/grid2d.py --workdir=/tmp/genjax/grid2d
Expected: 18 modes and 12 % of high quality by `gan`, 13 and 2 % by `pac4`: too few steps to compare
          them (experiments/README.md).

The file takes the name of a game: `--config=experiments/gan/grid2d.py:pac4`; GAMES has them all.
"""

from typing import Any

from ml_collections import ConfigDict

_ADAM = dict(name="adam", learning_rate=1e-4, b1=0.8)
# What differs from one game to the next: of the family, of the critic, of the critic's optimiser.
GAMES: dict[str, dict[str, Any]] = {
    "gan": dict(),
    **{f"pac{size}": dict(family=dict(pack_size=size)) for size in (2, 3, 4)},
    "minibatch": dict(critic=dict(num_minibatch_kernels=20)),
    **{
        f"unrolled{steps}": dict(
            family=dict(unroll_steps=steps), critic_optimizer=dict(eps_root=1e-16)
        )
        for steps in (1, 5)
    },
}


def get_config(game: str = "gan") -> ConfigDict:
    """Returns the config of a game of :data:`GAMES`."""
    if game not in GAMES:
        raise ValueError(f"the game must be one of {', '.join(GAMES)}, got {game!r}")
    chosen = GAMES[game]
    # Packs are of rows of a batch: 100 are no whole number of packs of 3.
    size = 99 if game == "pac3" else 100
    return ConfigDict(
        dict(
            data=dict(name="grid", batch_size=size, standardize=False),
            model=dict(
                generator=dict(name="mlp", hidden_size=400, num_layers=4, norm="affine_batch"),
                critic=dict(
                    name="mlp",
                    hidden_size=200,
                    activation="maxout",
                    **chosen.get("critic", {}),
                ),
            ),
            family=dict(
                name="gan",
                latent_size=2,
                ema_half_life_kimg=0.0,
                **chosen.get("family", {}),
            ),
            optimizer=dict(generator=_ADAM, critic={**_ADAM, **chosen.get("critic_optimizer", {})}),
            train=dict(
                num_steps=20000,
                log_every=500,
                eval_every=4000,
                sample_every=20000,
                checkpoint_every=4000,
                best_metric="eval/mode_kl",
            ),
            eval=dict(
                batch_size=2500, metrics=("modes", "w1"), num_samples=2500, num_reference=2500
            ),
            sample=dict(num_samples=2500),
        )
    )
