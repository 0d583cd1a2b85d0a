"""Adversarial inference on a ring of eight narrow Gaussians: modes, and points reconstructed.

After a colon the model: bigan (the default), ali, alice (bigan with a reconstruction term) or
veegan. Srivastava et al., arXiv:1705.07761, table 1, report 1 of 8 modes of a GAN, 2.8 of ALI and 8
of VEEGAN (of a ring of radius 1); Lin et al., arXiv:1712.04086, 6.6 of ALI with the same networks
as their GAN, which has 6.3.

Command:  python scripts/run.py --config=experiments/inference/ring2d.py:veegan \
              --workdir=/tmp/genjax/ring2d_veegan
          python scripts/neighbours.py --workdir=/tmp/genjax/ring2d_veegan
"""

from typing import Any

from ml_collections import ConfigDict

_R1 = dict(r1=0.1)
MODELS: dict[str, dict[str, Any]] = {
    "bigan": dict(name="bigan", penalties=_R1),
    "ali": dict(name="ali", penalties=_R1),
    "alice": dict(name="bigan", reconstruction_weight=1.0, penalties=_R1),
    "veegan": dict(name="veegan", penalties=_R1),
}


def get_config(model: str = "bigan") -> ConfigDict:
    """Returns the config of a model of :data:`MODELS`."""
    if model not in MODELS:
        raise ValueError(f"the model must be one of {', '.join(MODELS)}, got {model!r}")
    optimizer = dict(name="adam", learning_rate=1e-3, b1=0.0, b2=0.9)
    return ConfigDict(
        dict(
            data=dict(name="ring", batch_size=256),
            model=dict(
                encoder=dict(name="mlp", hidden_size=128, norm="none"),
                generator=dict(name="mlp", hidden_size=128, num_layers=2),
                critic=dict(name="mlp", hidden_size=128, norm="none"),
            ),
            family=dict(latent_size=2, ema_half_life_kimg=25.0, **MODELS[model]),
            optimizer=dict(generator=optimizer, critic=optimizer),
            train=dict(
                num_steps=8000,
                steps_per_call=100,
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
