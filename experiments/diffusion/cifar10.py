"""Score SDEs and EDM on CIFAR-10, with the published settings where the network here fits them.

After a colon the model: vp (the default), sub_vp, ve or edm.

Aims at:  Song et al., arXiv:2011.13456, DDPM++ (FID and bits/dim): VP 2.55 and 3.16, sub-VP 2.61
          and 3.02, as the authors' repository has them; Karras et al., arXiv:2206.00364: FID 1.79
          with labels in 35 network calls.
Command:  python scripts/run.py --config=experiments/diffusion/cifar10.py:edm \
              --workdir=DIR --config.data.data_dir=DIR
Needs:    accelerators: 1.3 million steps of batch 128, EDM 390,000 of 512. Not yet run here.
Departs:  the networks of both papers resample with filters and scale residual sums by 1/sqrt(2),
          which this U-Net does not; EDM's augmentation is a horizontal flip alone; FID is not among
          the metrics, as it needs Inception's weights: see experiments/gan/dcgan_cifar10.py.
"""

from typing import Any

from ml_collections import ConfigDict

_SCORE = dict(
    optimizer=dict(learning_rate=2e-4, warmup_steps=5000),
    num_steps=1_300_000,
    batch_size=128,
    sample=dict(),
)
_MODELS: dict[str, dict[str, Any]] = {
    "vp": dict(
        _SCORE,
        family=dict(name="score_sde", process=dict(name="vp"), ema_decay=0.9999, likelihood="ode"),
    ),
    "sub_vp": dict(
        _SCORE,
        family=dict(
            name="score_sde", process=dict(name="sub_vp"), ema_decay=0.9999, likelihood="ode"
        ),
    ),
    "ve": dict(
        _SCORE,
        # Noise from 0.01 to 50 on pixels in [0, 1] is twice that on [-1, 1].
        family=dict(
            name="score_sde",
            process=dict(name="ve", sigma_min=0.02, sigma_max=100.0),
            ema_decay=0.999,
        ),
        sample=dict(sampler=dict(name="predictor_corrector", snr=0.16)),
    ),
    "edm": dict(
        family=dict(
            name="edm",
            sigma_data=0.5,
            ema_half_life_kimg=500.0,
            ema_rampup=0.05,
            label_dropout=0.0,
        ),
        # The learning rate rises over the first 10 million images.
        optimizer=dict(learning_rate=1e-3, warmup_steps=19_531),
        num_steps=390_625,
        batch_size=512,
        sample=dict(num_steps=18, sampler=dict(name="heun")),
        num_classes=10,
    ),
}


def get_config(model: str = "vp") -> ConfigDict:
    """Returns the config.

    Args:
        model: Which model.
    """
    if model not in _MODELS:
        raise ValueError(f"expected one of {', '.join(_MODELS)} after the colon, got {model!r}")
    own = _MODELS[model]
    edm = model == "edm"
    return ConfigDict(
        dict(
            data=dict(
                name="cifar10",
                batch_size=own["batch_size"],
                transforms=(dict(name="horizontal_flip"),),
            ),
            model=dict(
                name="unet",
                channels=128,
                multipliers=(2, 2, 2) if edm else (1, 2, 2, 2),
                num_blocks=4,
                attention_sizes=(16,),
                num_heads=1,
                num_groups=32,
                dropout_rate=0.13 if edm else 0.1,
                num_classes=own.get("num_classes"),
            ),
            family=own["family"],
            optimizer=dict(name="adam", b1=0.9, clip_norm=1.0, **own["optimizer"]),
            train=dict(
                num_steps=own["num_steps"],
                log_every=1000,
                eval_every=50_000,
                sample_every=50_000,
                checkpoint_every=10_000,
            ),
            eval=dict(batch_size=100),
            sample=own["sample"],
        )
    )
