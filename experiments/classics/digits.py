"""Classic generative models of the 8x8 handwritten digits, fitted in closed form: seconds on a CPU.

After a colon the model; MODELS has them all. Those of known labels are fitted in one step, those
with a hidden component or hidden states by expectation maximisation, whose batch is the whole set.

Command:  python scripts/run.py --config=experiments/classics/digits.py:lda \
              --workdir=/tmp/genjax/classics_lda
Expected: experiments/README.md has the table over models.
"""

from typing import Any

from ml_collections import ConfigDict

MODELS: dict[str, dict[str, Any]] = {
    "gaussian_nb": dict(labels=True, component=dict(name="gaussian", covariance="diagonal")),
    "bernoulli_nb": dict(labels=True, component=dict(name="bernoulli")),
    "categorical_nb": dict(labels=True, component=dict(name="categorical")),
    "multinomial_nb": dict(labels=True, component=dict(name="multinomial")),
    "lda": dict(labels=True, component=dict(name="gaussian", shared=True)),
    "qda": dict(labels=True, component=dict(name="gaussian", shrinkage=0.1)),
    "mda": dict(labels=True, num_components=4, component=dict(name="gaussian", shared=True)),
    "gmm": dict(num_components=20, component=dict(name="gaussian", shrinkage=0.1)),
    "diagonal_gmm": dict(num_components=50, component=dict(name="gaussian", covariance="diagonal")),
    "bernoulli_mixture": dict(num_components=30, component=dict(name="bernoulli", smoothing=0.1)),
    "categorical_mixture": dict(
        num_components=20, component=dict(name="categorical", smoothing=0.1)
    ),
    "logistic": dict(name="classifier", ema_decay=0.0),
    "hidden_markov": dict(
        name="hidden_markov", num_states=32, component=dict(name="categorical", smoothing=0.1)
    ),
    "gaussian_hidden_markov": dict(
        name="hidden_markov", num_states=32, component=dict(name="gaussian", shrinkage=0.05)
    ),
}
_BITS = {"binarize": "threshold"}


def get_config(model: str = "lda") -> ConfigDict:
    """Returns the config of a model of :data:`MODELS`."""
    if model not in MODELS:
        raise ValueError(f"the model must be one of {', '.join(MODELS)}, got {model!r}")
    if model == "logistic":
        return _logistic()
    # With labels each step fits the same rows anew: one would be enough.
    known = MODELS[model].get("labels", False)
    num_steps = 2 if known and "num_components" not in MODELS[model] else 50
    bits = MODELS[model]["component"]["name"] == "bernoulli"
    return ConfigDict(
        dict(
            data=dict(name="digits", batch_size=1437, **(_BITS if bits else {})),
            family=dict(dict(name="mixture") | MODELS[model]),
            train=dict(
                num_steps=num_steps, log_every=1, eval_every=num_steps, sample_every=num_steps
            ),
            eval=dict(batch_size=360),
            sample=dict(num_samples=100),
        )
    )


def _logistic() -> ConfigDict:
    """The discriminative counterpart, whose posterior has the form of that of ``lda``."""
    return ConfigDict(
        dict(
            data=dict(name="digits", batch_size=128),
            model=dict(name="linear"),
            family=dict(MODELS["logistic"]),
            optimizer=dict(name="adamw", learning_rate=1e-2, weight_decay=0.01, decay_steps=1000),
            train=dict(
                num_steps=1000,
                steps_per_call=100,
                sample_every=0,
                best_metric="eval/error",
            ),
            eval=dict(batch_size=360),
        )
    )
