"""Adversarial inference on scikit-learn's digits: seconds to minutes on a CPU.

After a colon the model: bigan (the default), ali, alice (bigan with a reconstruction term) or
veegan, with the perceptrons of Donahue et al., arXiv:1605.09782, a quarter as wide.

Command:  python scripts/run.py --config=experiments/inference/digits.py:alice \
              --workdir=/tmp/genjax/digits_alice
          python scripts/neighbours.py --workdir=/tmp/genjax/digits_alice
          python scripts/invert.py --workdir=/tmp/genjax/digits_alice
          python scripts/outliers.py --workdir=/tmp/genjax/digits_alice
"""

from typing import Any

from ml_collections import ConfigDict

MODELS: dict[str, dict[str, Any]] = {
    "bigan": dict(name="bigan"),
    "ali": dict(name="ali"),
    "alice": dict(name="bigan", reconstruction_weight=0.05),
    "veegan": dict(name="veegan"),
}


def get_config(model: str = "bigan") -> ConfigDict:
    """Returns the config of a model of :data:`MODELS`."""
    if model not in MODELS:
        raise ValueError(f"the model must be one of {', '.join(MODELS)}, got {model!r}")
    adam = dict(name="adam", learning_rate=2e-4, b1=0.5, b2=0.999)
    return ConfigDict(
        dict(
            data=dict(name="digits", batch_size=64),
            model=dict(
                encoder=dict(name="mlp", hidden_size=256),
                generator=dict(
                    name="mlp",
                    hidden_size=256,
                    num_layers=2,
                    norm="batch",
                    repeats_latent=True,
                    output="tanh",
                ),
                critic=dict(name="mlp", hidden_size=256),
            ),
            family=dict(latent_size=16, **MODELS[model]),
            optimizer=dict(generator=adam, critic=adam),
            train=dict(
                num_steps=10_000,
                steps_per_call=100,
                log_every=500,
                eval_every=2500,
                sample_every=2500,
                checkpoint_every=2500,
                best_metric="eval/reconstruction_distance",
            ),
            sample=dict(num_samples=100),
        )
    )
