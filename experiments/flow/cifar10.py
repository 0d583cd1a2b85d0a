"""Normalizing flows on CIFAR-10, close to the settings they were published with.

Command:  python scripts/run.py --config=experiments/flow/cifar10.py:glow \
              --workdir=/tmp/genjax/flow_cifar10_glow
Expected: not run yet: no accelerator was at hand.

The file takes the name of a flow; FLOWS has them all. They are for accelerators. Batches are over
all devices.

- real_nvp: arXiv:1605.08803, section 4.1: 8 residual blocks of 64 maps, batches of 64; actnorm in
  place of batch normalisation, and decoupled weight decay in place of an L2 penalty on the scales
  of weight normalisation.
- glow: arXiv:1807.03039 and its code: 3 scales of 32 steps, 512 channels, Adamax with 10 epochs of
  warm-up, 64 examples on each of 8 workers (512 here). 1x1 convolutions as they are, which was the
  code's default. Without its learned top prior, its scales exp(3 r) and its channel that marks the
  border.
- spline: arXiv:1906.04032, released config: 3 scales of 7 steps without split, 4 bins on [-3, 3],
  residual networks of 3 blocks of 96 channels, dropout 0.2, batches of 512, cosine over 200,000
  steps; normalisation over channels in place of batch normalisation.
- jet: arXiv:2412.15129, settings of the released ImageNet-64 config: 32 couplings of 2 blocks,
  width 512, batches of 1024, 200 epochs. A cycle has 10 couplings here, and patches are split by
  checkerboards only.
- tarflow: arXiv:2412.06329, the ImageNet-64 likelihood model: patches of 2, width 768, 8 maps of 8
  blocks, 100 epochs of batches of 256.
- flow_matching: batches of 128, 400,000 steps at 2e-4, average 0.9999 (arXiv:2302.00482, code), on
  the network of the VDM instead of a U-Net.
"""

from typing import Any

from ml_collections import ConfigDict

FLOWS: dict[str, Any] = {
    "real_nvp": dict(
        model=dict(name="real_nvp", num_scales=2, hidden_size=64, num_blocks=8),
        optimizer=dict(name="adamw", learning_rate=1e-3, b2=0.999, weight_decay=5e-5),
        batch_size=64,
        num_steps=400_000,
    ),
    "glow": dict(
        model=dict(
            name="glow", num_scales=3, num_steps=32, hidden_size=512, linear="direct", remat="full"
        ),
        optimizer=dict(name="adamax", learning_rate=1e-3, warmup_steps=980),
        batch_size=512,
        num_steps=100_000,
        ema_decay=0.99,
    ),
    "spline": dict(
        model=dict(
            name="glow",
            elementwise="spline",
            num_scales=3,
            num_steps=7,
            net="residual",
            hidden_size=96,
            num_blocks=3,
            dropout_rate=0.2,
            num_bins=4,
            bound=3.0,
            split=False,
        ),
        optimizer=dict(
            name="adamw",
            learning_rate=5e-4,
            warmup_steps=0,
            b2=0.999,
            weight_decay=0.0,
            decay_steps=200_000,
        ),
        batch_size=512,
        num_steps=200_000,
    ),
    "jet": dict(
        model=dict(name="jet", patch_size=4, num_couplings=32, hidden_size=512, num_blocks=2),
        optimizer=dict(
            name="adamw",
            learning_rate=3e-4,
            warmup_steps=1_000,
            b2=0.95,
            weight_decay=1e-5,
            decay_steps=9_800,
            clip_norm=1.0,
        ),
        batch_size=1024,
        num_steps=9_800,
        ema_decay=0.99,
    ),
    "tarflow": dict(
        model=dict(
            name="tarflow", patch_size=2, num_layers=8, hidden_size=768, num_blocks=8, num_heads=12
        ),
        optimizer=dict(
            name="adamw",
            learning_rate=1e-4,
            warmup_steps=200,
            b2=0.95,
            weight_decay=1e-4,
            decay_steps=19_500,
        ),
        batch_size=256,
        num_steps=19_500,
        ema_decay=0.999,
    ),
    "flow_matching": dict(
        model=dict(
            name="score_resnet",
            channels=128,
            num_layers=8,
            num_groups=32,
            dropout_rate=0.1,
            fourier_exponents=(),
        ),
        family=dict(name="flow_matching", tolerance=1e-5),
        optimizer=dict(
            name="adamw",
            learning_rate=2e-4,
            warmup_steps=5_000,
            b2=0.999,
            weight_decay=0.0,
            clip_norm=1.0,
        ),
        batch_size=128,
        num_steps=400_000,
    ),
}


def get_config(flow: str = "glow") -> ConfigDict:
    """Returns the config of a flow of :data:`FLOWS`."""
    if flow not in FLOWS:
        raise ValueError(f"the flow must be one of {', '.join(FLOWS)}, got {flow!r}")
    chosen = FLOWS[flow]
    return ConfigDict(
        dict(
            data=dict(name="cifar10", batch_size=chosen["batch_size"]),
            model=chosen["model"],
            family=dict(
                ema_decay=chosen.get("ema_decay", 0.9999), **chosen.get("family", dict(name="flow"))
            ),
            optimizer=chosen["optimizer"],
            train=dict(
                num_steps=chosen["num_steps"],
                eval_every=5_000,
                sample_every=5_000,
            ),
            eval=dict(batch_size=200),
        )
    )
