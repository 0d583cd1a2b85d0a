"""GANs on a ring of eight narrow Gaussians (radius 2, standard deviation 0.02), for a CPU.

The test of mode collapse of Metz et al., arXiv:1611.02163, with eight distinct modes.

Command:  python scripts/run.py --config=experiments/gan/ring2d.py --workdir=/tmp/genjax/ring2d
Expected: all 8 modes covered; experiments/README.md has the table over games and seeds,
          with its times.

The file takes the name of a game: `--config=experiments/gan/ring2d.py:wgan_gp`; GAMES has them all.
"""

from typing import Any

from ml_collections import ConfigDict

_R1 = dict(r1=0.1)
# What differs from one game to the next: the family, the critic, the critic's optimiser.
GAMES: dict[str, dict[str, Any]] = {
    "minimax": dict(family=dict(name="gan", loss="minimax", penalties=_R1)),
    "nonsaturating": dict(family=dict(name="gan", loss="nonsaturating", penalties=_R1)),
    "nonsaturating_plain": dict(family=dict(name="gan", loss="nonsaturating")),
    "least_squares": dict(family=dict(name="lsgan", penalties=_R1)),
    "brier": dict(family=dict(name="gan", loss="brier", penalties=_R1)),
    "hinge": dict(family=dict(name="hinge_gan", penalties=_R1)),
    "relativistic": dict(family=dict(name="r3gan", penalty_weight=0.1)),
    "relativistic_average": dict(
        family=dict(name="gan", loss="relativistic_average", penalties=_R1)
    ),
    "dragan": dict(family=dict(name="gan", loss="nonsaturating", penalties=dict(dragan=1.0))),
    "wgan": dict(
        family=dict(name="wgan", clip_limit=0.1),
        critic_optimizer=dict(name="rmsprop", learning_rate=5e-4),
        generator_optimizer=dict(name="rmsprop", learning_rate=5e-4),
    ),
    "wgan_gp": dict(family=dict(name="wgan_gp", penalty_weight=0.1)),
    "sngan": dict(family=dict(name="sngan"), critic=dict(spectral_norm=True)),
    "mmd_gan": dict(
        family=dict(name="mmd_gan", penalties=dict(gradient_penalty=1.0), critic_steps=2),
        critic=dict(num_outputs=16),
    ),
    "pacgan": dict(family=dict(name="gan", loss="nonsaturating", pack_size=2, penalties=_R1)),
    **{
        f"fgan_{name}": dict(
            family=dict(name="fgan", divergence=name, max_log_ratio=1.5, penalties=_R1)
        )
        for name in (
            "total_variation",
            "kl",
            "reverse_kl",
            "pearson",
            "neyman",
            "squared_hellinger",
            "jensen_shannon",
            "gan",
            "jeffreys",
            "bhattacharyya",
        )
    },
}


def get_config(game: str = "nonsaturating") -> ConfigDict:
    """Returns the config of a game of :data:`GAMES`."""
    if game not in GAMES:
        raise ValueError(f"the game must be one of {', '.join(GAMES)}, got {game!r}")
    chosen = GAMES[game]
    optimizer = dict(name="adam", learning_rate=1e-3, b1=0.0, b2=0.9)
    return ConfigDict(
        dict(
            data=dict(name="ring", batch_size=256),
            model=dict(
                generator=dict(name="mlp", hidden_size=128, num_layers=2),
                critic=dict(name="mlp", hidden_size=128, num_layers=2, **chosen.get("critic", {})),
            ),
            family=dict(latent_size=16, ema_half_life_kimg=25.0, **chosen["family"]),
            optimizer=dict(
                generator=chosen.get("generator_optimizer", optimizer),
                critic=chosen.get("critic_optimizer", optimizer),
            ),
            train=dict(
                num_steps=8000,
                log_every=500,
                eval_every=8000,
                sample_every=8000,
                checkpoint_every=4000,
                best_metric="eval/w1",
            ),
            eval=dict(
                batch_size=2000,
                metrics=("modes", "w1"),
                num_samples=2000,
                num_reference=2000,
            ),
            sample=dict(num_samples=2000),
        )
    )
