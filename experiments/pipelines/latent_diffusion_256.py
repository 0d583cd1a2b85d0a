"""Latent diffusion from texts to images of 256 pixels at its real size, to plan for a pod.

After the colon the factor between pixels and latents: ``f8``, 32x32x4 latents, or ``f4``, 64x64x3.
The autoencoders are those of Rombach et al., arXiv:2112.10752 (128 channels times 1, 2, 4, and 4
for f8; divergence of weight 1e-6, a critic of patches from step 50,001 on of weight 0.5, Adam at
4.5e-6 an image), without the perceptual distance, whose weights genjax cannot read. The second
stage is a U-Net that attends to the words of a text encoder trained with it.

Rows are noise (``data.name="synthetic"``), which tells --mode=plan the shapes and a machine its
speed. For images: ``data=dict(name="images", data_dir=FOLDER, options=dict(size=256,
captions=True, tokenizer=..., caption_length=77))``.

Command:  python scripts/run.py --config=experiments/pipelines/latent_diffusion_256.py:f8 \
              --mode=plan
Expected: docs/pods.md has what it prints. Not trained.
"""

from ml_collections import ConfigDict

FACTORS = {"f4": (1, 2, 4), "f8": (1, 2, 4, 4)}


def get_config(factor: str = "f8") -> ConfigDict:
    """Returns the config of ``"f4"`` or ``"f8"``."""
    if factor not in FACTORS:
        raise ValueError(f"expected f4 or f8 after the colon, got {factor!r}")
    net = dict(
        name="residual", multipliers=FACTORS[factor], num_blocks=2, dtype="bfloat16", remat="full"
    )
    data = dict(
        name="synthetic",
        batch_size=256,
        options=dict(size=256, text_length=77, num_tokens=30_522),
    )
    adam = dict(name="adam", learning_rate=4.5e-6 * 256, b1=0.5, b2=0.9)
    autoencoder = dict(
        data=dict(data),
        model=dict(
            encoder=dict(net),
            decoder=dict(net, num_blocks=3),
            critic=dict(name="patch", channels=64, num_layers=3),
        ),
        family=dict(
            name="kl_autoencoder",
            latent_channels=4 if factor == "f8" else 3,
            kl_weight=1e-6,
            critic_start=50_001,
            critic_weight=0.5,
        ),
        optimizer=dict(autoencoder=dict(adam), critic=dict(adam)),
        parallel=dict(fsdp=8, plan_devices=64),
        train=dict(num_steps=200_000, log_every=500, eval_every=0, sample_every=0),
    )
    diffusion = dict(
        data=dict(data, first_stage=dict(workdir="stage:autoencoder")),
        model=dict(
            name="unet",
            channels=320,
            multipliers=(1, 2, 4, 4),
            attention_sizes=(8, 16, 32),
            num_heads=8,
            dropout_rate=0.0,
            dtype="bfloat16",
            remat="full",
            text=dict(
                name="text_encoder",
                hidden_size=1280,
                num_blocks=32,
                num_heads=16,
                dtype="bfloat16",
            ),
        ),
        family=dict(
            name="ddpm",
            process=dict(name="chain", betas="scaled_linear", beta_min=0.0015, beta_max=0.0195),
            label_dropout=0.1,
            ema_decay=0.9999,
        ),
        optimizer=dict(name="adamw", learning_rate=1e-4, warmup_steps=10_000),
        parallel=dict(fsdp=8, plan_devices=64),
        train=dict(num_steps=400_000, log_every=500, eval_every=0, sample_every=0),
        sample=dict(
            num_steps=50,
            sampler=dict(name="ddim"),
            guidance=dict(name="classifier_free", scale=5.0),
        ),
    )
    return ConfigDict(dict(stages=dict(autoencoder=autoencoder, diffusion=diffusion)))
