"""Coloured digits of MNIST from their captions, second half: images from embeddings.

The decoder of unCLIP, told the vectors of a contrastive model, to be trained first, whose directory
goes after the colon, and the texts. Its samples are variations of test images, beside which the
pictures show them; told the embeddings that prior.py makes, they are images of texts.

          python scripts/run.py --config=experiments/contrastive/captioned_digits.py \
              --workdir=/tmp/genjax/contrastive_captioned --config.data.data_dir=DIR

Command:  python scripts/run.py --config=experiments/unclip/decoder.py \
              --workdir=/tmp/genjax/unclip_decoder --config.data.data_dir=DIR
Expected: 26 minutes of CPU time; experiments/README.md says how well the whole system does.
"""

from ml_collections import ConfigDict


def get_config(contrastive: str = "/tmp/genjax/contrastive_captioned") -> ConfigDict:
    """Returns the config.

    Args:
        contrastive: Workdir of the contrastive model.
    """
    return ConfigDict(
        dict(
            data=dict(
                name="captioned_digits",
                batch_size=64,
                embeddings=dict(workdir=contrastive),
            ),
            model=dict(
                name="unet",
                channels=16,
                multipliers=(1, 2, 3),
                num_blocks=1,
                attention_sizes=(7,),
                num_groups=8,
                dropout_rate=0.0,
                text=dict(name="text_encoder", hidden_size=32, num_blocks=1),
                embedding=dict(name="projection", num_tokens=4, text_dropout_rate=0.45),
            ),
            family=dict(
                name="edm",
                process=dict(name="ve", sigma_min=0.02, sigma_max=60.0),
                times_mean=-0.5,
                times_std=1.3,
                label_dropout=0.1,
                ema_decay=0.999,
                # Noise of 0.02 is more than that between 8-bit grey levels: no bound of interest.
                likelihood="none",
            ),
            optimizer=dict(
                name="adam",
                learning_rate=2e-3,
                b1=0.9,
                warmup_steps=100,
                decay_steps=5000,
                decay_shape="cosine",
                clip_norm=1.0,
            ),
            parallel=dict(cpu_devices=2),
            train=dict(num_steps=5000, log_every=50, eval_every=0),
            sample=dict(
                num_steps=10,
                sampler=dict(name="dpm_solver", order=2),
                guidance=dict(name="classifier_free", scale=2.0),
            ),
        )
    )
