"""Semi-supervised GANs on the digits of scikit-learn with 30 labels, three of each class.

A small likeness of experiments/semi_supervised/mnist.py, for a CPU in a minute.

Command:  python scripts/run.py --config=experiments/semi_supervised/digits.py \
              --workdir=/tmp/genjax/semi_digits
Expected: 6.9 +- 1.0 % errors over three draws of the labels; 12.7 +- 3.3 % with the lecture's
          losses, 25.4 +- 4.3 % from the labels alone.

After a colon stands what is trained: `feature_matching` (the default), `lecture` (C + 1 explicit
logits, and a generator that wants its rows to be taken for data), or `supervised`, the same
classifier from the 30 labels alone. `--config.data.labelled.seed=1` draws other labels.
"""

from typing import Any

from ml_collections import ConfigDict

_ADAM = dict(name="adam", learning_rate=1e-3, b1=0.5)
_NETWORKS = dict(
    generator=dict(
        name="mlp",
        hidden_size=128,
        num_layers=2,
        activation="softplus",
        norm="affine_batch",
        output="tanh",
    ),
    critic=dict(name="noisy_mlp", hidden_sizes=(256, 128, 128), input_noise=0.3, hidden_noise=0.3),
)
_FAMILY = dict(name="semi_supervised_gan", unlabelled_weight=0.5, latent_size=32)
MODELS: dict[str, dict[str, Any]] = {
    "feature_matching": _FAMILY,
    "lecture": {**_FAMILY, "form": "explicit", "target": "passing"},
    "supervised": dict(name="classifier"),
}


def get_config(model: str = "feature_matching") -> ConfigDict:
    """Returns the config of a model of :data:`MODELS`."""
    if model not in MODELS:
        raise ValueError(f"the model must be one of {', '.join(MODELS)}, got {model!r}")
    alone = model == "supervised"
    unlabelled = dict(unlabelled=dict(batch_size=100))
    streams: dict[str, Any] = {} if alone else dict(streams=unlabelled)
    return ConfigDict(
        dict(
            data=dict(name="digits", batch_size=30, labelled=dict(per_class=3, seed=0), **streams),
            model=_NETWORKS["critic"] if alone else _NETWORKS,
            family=MODELS[model],
            optimizer=_ADAM if alone else dict(generator=_ADAM, critic=_ADAM),
            train=dict(
                num_steps=1000 if alone else 3000,
                log_every=500,
                eval_every=500,
                sample_every=0 if alone else 3000,
                best_metric="eval/error",
            ),
            eval=dict(batch_size=360),
        )
    )
