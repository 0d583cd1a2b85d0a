"""Imagen from texts to 64 and then 256 pixels at a real size, to plan for a pod.

A frozen language model of the captions in place of T5, whose weights genjax cannot read; a U-Net
of 64x64 pixels in the cosine process; an upsampler, the paper's Efficient U-Net, on small images
with noise on them (Saharia et al., arXiv:2205.11487, sections 2.3 and 2.4, appendix B.1). Sizes
other than the Efficient U-Net's are chosen here.

Rows are noise (``data.name="synthetic"``), which tells --mode=plan the shapes and a machine its
speed. For images: ``data=dict(name="images", data_dir=FOLDER, options=dict(size=..., captions=True,
tokenizer=..., caption_length=128))`` in each stage, and of ``words`` ``data.options.of``.

Command:  python scripts/run.py --config=experiments/pipelines/imagen_256.py --mode=plan
Expected: docs/pods.md has what it prints. Not trained.
"""

from typing import Any

from ml_collections import ConfigDict

TEXTS = dict(text_length=128, num_tokens=32_128)


def get_config() -> ConfigDict:
    """Returns the config."""
    words = dict(
        data=dict(
            name="captions",
            batch_size=2048,
            options=dict(of=dict(name="synthetic", size=8, **TEXTS)),
        ),
        model=dict(
            name="transformer",
            hidden_size=1024,
            num_blocks=24,
            num_heads=16,
            dtype="bfloat16",
        ),
        family=dict(name="autoregressive", observation=dict(name="categorical")),
        optimizer=dict(name="adamw", learning_rate=3e-4, warmup_steps=2000, decay_steps=200_000),
        parallel=dict(fsdp=8, plan_devices=64),
        train=dict(num_steps=200_000, log_every=500, eval_every=0, sample_every=0),
    )
    text = dict(frozen=dict(workdir="stage:words"))
    common: dict[str, Any] = dict(
        parallel=dict(fsdp=8, plan_devices=64),
        train=dict(num_steps=1_000_000, log_every=500, eval_every=0, sample_every=0),
    )
    family = dict(
        name="diffusion",
        process=dict(name="cosine"),
        prediction="v",
        label_dropout=0.1,
        ema_decay=0.9999,
        likelihood="none",
    )
    base = dict(
        data=dict(name="synthetic", batch_size=2048, options=dict(size=64, **TEXTS)),
        model=dict(
            name="unet",
            channels=512,
            multipliers=(1, 2, 3, 4),
            num_blocks=3,
            attention_sizes=(8, 16, 32),
            num_heads=8,
            dropout_rate=0.0,
            dtype="bfloat16",
            remat="full",
            text=dict(text),
        ),
        family=dict(family),
        optimizer=dict(name="adam", learning_rate=1e-4, warmup_steps=10_000),
        sample=dict(
            num_steps=50,
            sampler=dict(name="dpm_solver", order=2, threshold="dynamic"),
            guidance=dict(name="classifier_free", scale=5.0),
        ),
        **common,
    )
    upsampler = dict(
        data=dict(
            name="synthetic",
            batch_size=512,
            options=dict(size=256, **TEXTS),
            transforms=(dict(name="shrink", factor=4),),
        ),
        model=dict(
            name="efficient_unet",
            dtype="bfloat16",
            remat="full",
            source=dict(name="noise_augmented"),
            text=dict(text),
        ),
        family=dict(family),
        optimizer=dict(name="adam", learning_rate=1e-4, warmup_steps=10_000),
        sample=dict(num_steps=20, sampler=dict(name="dpm_solver", order=2, threshold="dynamic")),
        **common,
    )
    chain = [
        dict(stage="base"),
        dict(stage="upsampler", reads=dict(source="base", tokens="prompt")),
    ]
    stages = dict(words=words, base=base, upsampler=upsampler)
    return ConfigDict(dict(stages=stages, sample=dict(chain=chain)))
