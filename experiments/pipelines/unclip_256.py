"""unCLIP from texts to 64 and then 256 pixels at a real size, to plan for a pod.

Contrastive towers of images of 64 pixels and texts, a transformer that makes the embedding of an
image from a text, a decoder that makes the image, told embedding and text, and an upsampler that
is told neither (Ramesh et al., arXiv:2204.06125, section 2 and appendix C). Sizes are chosen here;
the tower of images is of convolutions and sees what the decoder makes, where the paper's CLIP is a
transformer of larger images.

Rows are noise (``data.name="synthetic"``), which tells --mode=plan the shapes and a machine its
speed. For images: ``data=dict(name="images", data_dir=FOLDER, options=dict(size=..., captions=True,
tokenizer=..., caption_length=77))`` in each stage.

Command:  python scripts/run.py --config=experiments/pipelines/unclip_256.py --mode=plan
Expected: docs/pods.md has what it prints. Not trained.
"""

from typing import Any

from ml_collections import ConfigDict

TEXTS = dict(text_length=77, num_tokens=49_408)


def get_config() -> ConfigDict:
    """Returns the config."""

    def stage(steps: int, **sections: Any) -> dict[str, Any]:
        train = dict(num_steps=steps, log_every=500, eval_every=0, sample_every=0)
        return dict(parallel=dict(fsdp=8, plan_devices=64), train=train, **sections)

    small = dict(name="synthetic", options=dict(size=64, **TEXTS))
    towers = stage(
        200_000,
        data=dict(small, batch_size=8192),
        model=dict(
            image=dict(
                name="image_tower",
                embedding_size=768,
                channels=256,
                num_halvings=3,
                num_features=2048,
            ),
            text=dict(
                name="text_tower",
                embedding_size=768,
                hidden_size=1024,
                num_blocks=24,
                num_heads=16,
                causal=True,
                dtype="bfloat16",
            ),
        ),
        family=dict(name="clip"),
        optimizer=dict(name="adamw", learning_rate=5e-4, warmup_steps=2000, decay_steps=200_000),
    )
    prior = stage(
        1_000_000,
        data=dict(small, batch_size=4096, embeddings=dict(workdir="stage:towers", what="x")),
        model=dict(
            name="prior_transformer",
            hidden_size=2048,
            num_blocks=24,
            num_heads=32,
            dtype="bfloat16",
        ),
        family=dict(
            name="diffusion",
            process=dict(name="cosine"),
            prediction="data",
            weighting="data",
            label_dropout=0.1,
            ema_decay=0.9999,
            likelihood="none",
        ),
        optimizer=dict(name="adamw", learning_rate=1.1e-4, warmup_steps=5000, weight_decay=0.06),
        sample=dict(num_steps=64, sampler=dict(name="ddim")),
    )
    decoder = stage(
        800_000,
        data=dict(small, batch_size=2048, embeddings=dict(workdir="stage:towers")),
        model=dict(
            name="unet",
            channels=512,
            multipliers=(1, 2, 3, 4),
            num_blocks=3,
            attention_sizes=(8, 16, 32),
            num_heads=8,
            dropout_rate=0.0,
            out_channels=6,
            dtype="bfloat16",
            remat="full",
            text=dict(
                name="text_encoder",
                hidden_size=1024,
                num_blocks=12,
                num_heads=16,
                dtype="bfloat16",
            ),
            embedding=dict(name="projection", text_dropout_rate=0.5),
        ),
        family=dict(
            name="ddpm",
            process=dict(name="chain", betas="cosine"),
            variance="learned",
            loss="hybrid",
            label_dropout=0.1,
            ema_decay=0.9999,
        ),
        optimizer=dict(name="adam", learning_rate=1.2e-4, warmup_steps=5000),
        sample=dict(
            num_steps=50,
            sampler=dict(name="ddim"),
            guidance=dict(name="classifier_free", scale=3.0),
        ),
    )
    upsampler = stage(
        1_000_000,
        data=dict(
            name="synthetic",
            batch_size=512,
            options=dict(size=256),
            transforms=(dict(name="shrink", factor=4),),
        ),
        model=dict(
            name="efficient_unet",
            channels=192,
            dtype="bfloat16",
            remat="full",
            source=dict(name="noise_augmented"),
        ),
        family=dict(
            name="diffusion",
            process=dict(name="cosine"),
            prediction="v",
            ema_decay=0.9999,
            likelihood="none",
        ),
        optimizer=dict(name="adam", learning_rate=1.2e-4, warmup_steps=5000),
        sample=dict(num_steps=20, sampler=dict(name="dpm_solver", order=2)),
    )
    chain = [
        dict(stage="prior"),
        dict(stage="decoder", reads=dict(embedding="prior", tokens="prompt")),
        dict(stage="upsampler", reads=dict(source="decoder")),
    ]
    stages = dict(towers=towers, prior=prior, decoder=decoder, upsampler=upsampler)
    return ConfigDict(dict(stages=stages, sample=dict(chain=chain)))
