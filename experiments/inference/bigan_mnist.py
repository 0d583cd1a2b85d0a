"""BiGAN on MNIST: what an encoder learns from a critic of images together with latents.

The perceptrons and settings of Donahue et al., arXiv:1605.09782, but for the length. They report
(github.com/jeffdonahue/bigan), after 25 of 400 epochs, that the nearest of the training images in
the encoder's last hidden layer has the label of a test image in 96.3 % of cases (97.35 % in the
end), and a distance of image and reconstruction of 7.3 in [0, 1], beside 9.5 for a random pair:
0.77 of it. A random encoder has 96.8 % and a ratio of 1, so both are to be read together. Here
12,000 steps are 25.6 epochs.

Published losses are halves of those here, so that the penalty is twice theirs.

Command:  python scripts/run.py --config=experiments/inference/bigan_mnist.py \
              --workdir=/tmp/genjax/bigan_mnist --config.data.data_dir=DIR
          python scripts/neighbours.py --workdir=/tmp/genjax/bigan_mnist
          python scripts/invert.py --workdir=/tmp/genjax/bigan_mnist
Expected: 96.0 % and a ratio of 0.70 in 10 minutes of CPU time (experiments/README.md).
"""

from typing import Any

from ml_collections import ConfigDict

_ADAM: dict[str, Any] = dict(
    name="adam",
    learning_rate=2e-4,
    b1=0.5,
    b2=0.999,
    l2=5e-5,
)
# As published: images in [0, 1], no biases, and weights that start with a deviation of 0.02.
_LOOK: dict[str, Any] = dict(name="mlp", unit_interval=True, kernel_std=0.02, use_bias=False)


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="mnist", batch_size=128),
            model=dict(
                encoder=_LOOK,
                generator=dict(
                    name="mlp",
                    hidden_size=1024,
                    num_layers=2,
                    norm="batch",
                    repeats_latent=True,
                    output="sigmoid",
                    output_bias=False,
                    kernel_std=0.02,
                ),
                critic=dict(_LOOK, latent_from=1, zero_output=True),
            ),
            family=dict(name="bigan", latent_size=50, latent="uniform"),
            optimizer=dict(generator=_ADAM, critic=_ADAM),
            train=dict(
                num_steps=12_000,
                eval_every=2000,
                sample_every=2000,
                best_metric="eval/reconstruction_distance",
            ),
            sample=dict(num_samples=100),
        )
    )
