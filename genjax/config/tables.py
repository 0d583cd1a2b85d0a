"""What names in configs stand for. One row makes a thing of this package known to configs.

Other packages need no row: a name with a colon is an import path, such as
``galaxies.nets:UNet``.
"""

import dataclasses
import importlib
import importlib.util
import re
import types
from collections.abc import Callable, Mapping
from typing import Any

from genjax import bijectors, data, diffusion, families, nets
from genjax.config.arguments import arguments, call
from genjax.config.errors import ConfigError, nearest, shown
from genjax.config.recipes import Recipe, Slot, Table
from genjax.diffusion import schedules
from genjax.training import edits, latent_edits, loggers, optimizers

SCORE_NETS: Table = {
    "dit": nets.DiT,
    "efficient_unet": nets.EfficientUNet,
    "prior_transformer": nets.PriorTransformer,
    "score_mlp": nets.ScoreMLP,
    "score_resnet": nets.ScoreResNet,
    "unet": nets.UNet,
}
GENERATORS: Table = {
    "dcgan": nets.DCGANGenerator,
    "mlp": nets.MLPGenerator,
    "r3gan": nets.R3GANGenerator,
    "resnet": nets.ResNetGenerator,
    "stylegan": nets.StyleGANGenerator,
    "stylegan2": nets.StyleGAN2Generator,
}
CRITICS: Table = {
    "dcgan": nets.DCGANCritic,
    "mlp": nets.MLPCritic,
    "r3gan": nets.R3GANCritic,
    "resnet": nets.ResNetCritic,
    "stylegan2": nets.StyleGAN2Critic,
}
TRANSLATORS: Table = {
    "mlp": nets.MLPGenerator,
    "resnet_translator": nets.ResNetTranslator,
    "unet_translator": nets.UNetTranslator,
}
PATCH_CRITICS: Table = {"mlp": nets.MLPCritic, "patch": nets.PatchCritic}
ENLARGERS: Table = {"rrdb": nets.RRDBNet, "srresnet": nets.SRResNet}
JOINT_ENCODERS: Table = {"dcgan": nets.JointConvEncoder, "mlp": nets.JointMLPEncoder}
JOINT_CRITICS: Table = {"dcgan": nets.JointConvCritic, "mlp": nets.JointMLPCritic}
CLASSIFIERS: Table = {
    "conv_classifier": nets.ConvClassifier,
    "linear": nets.LinearClassifier,
    "noisy_mlp": nets.NoisyMLPClassifier,
    "plain_conv": nets.PlainConvClassifier,
    "unet_classifier": nets.UNetClassifier,
}
IMAGE_TOWERS: Table = {"image_tower": nets.ImageTower}
EMBEDDING_CONTEXTS: Table = {"projection": nets.EmbeddingContext}
TEXT_TOWERS: Table = {"text_tower": nets.TextTower}
TEXT_ENCODERS: Table = {"text_encoder": nets.TextEncoder}
SOURCES: Table = {"noise_augmented": nets.NoiseAugmentation}
"""How networks are told the image ``source``."""
DOMAIN_NETS: Table = {"domain_mlp": nets.DomainMLP}
ADVERSARIES: Table = {"fgsm": families.FGSM, "pgd": families.PGD}
AUTOREGRESSIVE_NETS: Table = {
    "gated_pixelcnn": nets.GatedPixelCNN,
    "made": nets.MaskedMLP,
    "pixelcnn": nets.PixelCNN,
    "pixelcnn_plus": nets.PixelCNNPlus,
    "prompted_transformer": nets.PromptedTransformer,
    "transformer": nets.AutoregressiveTransformer,
}
GRID_ENCODERS: Table = {"grid": nets.GridEncoder, "residual": nets.ResidualEncoder}
GRID_DECODERS: Table = {"grid": nets.GridDecoder, "residual": nets.ResidualDecoder}
EMBEDDING_FORMS: Table = {
    "principal_codes": families.PrincipalCodes,
    "scaled": families.Scaled,
    "standardized": families.Standardized,
}
"""How a model of embeddings sees them."""
QUANTIZERS: Table = {
    "fsq": families.FiniteScalarQuantizer,
    "vq": families.VectorQuantizer,
}
ENCODERS: Table = {
    "conv": nets.ConvEncoder,
    "mlp": nets.MLPEncoder,
    "mlp_layers": nets.MLPLayers,
}
DECODERS: Table = {
    "conv": nets.ConvDecoder,
    "mlp": nets.MLPDecoder,
    "mlp_layers": nets.MLPLayers,
}
BOTTOM_UP: Table = {"bottom_up": nets.BottomUpEncoder}
TOP_DOWN: Table = {"top_down": nets.TopDownDecoder}
OBSERVATIONS: Table = {
    "bernoulli": families.Bernoulli,
    "categorical": families.Categorical,
    "continuous_bernoulli": families.ContinuousBernoulli,
    "discretized_logistic": families.DiscretizedLogistic,
    "gaussian": families.Gaussian,
    "laplace": families.Laplace,
    "logistic_mixture": families.LogisticMixture,
}
COMPONENTS: Table = {
    "bernoulli": families.BernoulliComponent,
    "categorical": families.CategoricalComponent,
    "gaussian": families.GaussianComponent,
    "multinomial": families.MultinomialComponent,
}
SCHEDULES: Table = {
    "fixed_linear": schedules.FixedLinearSchedule,
    "learned_linear": schedules.LearnedLinearSchedule,
    "learned_monotone": schedules.LearnedMonotoneSchedule,
}
PROCESSES: Table = {
    "chain": diffusion.Chain,
    "cosine": diffusion.Cosine,
    "straight": diffusion.Straight,
    "sub_vp": diffusion.SubVariancePreserving,
    "ve": diffusion.VarianceExploding,
    "vp": diffusion.VariancePreserving,
}
SAMPLERS: Table = {
    "adaptive_ode": diffusion.AdaptiveODE,
    "ancestral": diffusion.Ancestral,
    "ddim": diffusion.DDIM,
    "dpm_solver": diffusion.DPMSolver,
    "euler": diffusion.Euler,
    "heun": diffusion.Heun,
    "predictor_corrector": diffusion.PredictorCorrector,
    "unipc": diffusion.UniPC,
}
GUIDANCE: Table = {"classifier_free": diffusion.ClassifierFree}
"""What needs no trained network; :mod:`genjax.config.guidance` has the rest."""
FLOWS: Table = {
    "autoregressive_flow": bijectors.autoregressive_flow,
    "continuous_flow": bijectors.continuous_flow,
    "coupling_flow": bijectors.coupling_flow,
    "glow": bijectors.glow,
    "jet": bijectors.jet,
    "real_nvp": bijectors.real_nvp,
    "tarflow": bijectors.tarflow,
}
DEQUANTIZERS: Table = {
    "uniform": bijectors.UniformDequantizer,
    "variational": bijectors.VariationalDequantizer,
}
OPTIMIZERS: Table = {
    "adam": optimizers.adam,
    "adamax": optimizers.adamax,
    "adamw": optimizers.adamw,
    "optax": optimizers.any_of_optax,
    "rmsprop": optimizers.rmsprop,
}
TRANSFORMS: Table = {
    "center_crop": data.CenterCrop,
    "edges": data.Edges,
    "grey": data.Grey,
    "horizontal_flip": data.HorizontalFlip,
    "random_crop": data.RandomCrop,
    "random_levels": data.RandomLevels,
    "resize": data.Resize,
    "shrink": data.Shrink,
    "to_rgb": data.ToRGB,
}
EDITS: Table = {
    "attribute": latent_edits.Attribute,
    "class_direction": edits.ClassDirection,
    "components": edits.Components,
    "inpaint": edits.Inpaint,
    "interpolate": edits.Interpolate,
    "latent_map": latent_edits.LatentMap,
    "vary": edits.Vary,
}
LOGGERS: Table = {"mlflow": loggers.MlflowLogger, "wandb": loggers.WandbLogger}

AUGMENTS: Table = {
    "adaptive": families.AdaptiveAugment,
    "fixed": families.FixedAugment,
}

_GAN = Recipe(
    make=families.gan,
    networks={"generator": Slot(table=GENERATORS), "critic": Slot(table=CRITICS)},
    optimizers=("generator_optimizer", "critic_optimizer"),
    parts={"augment": AUGMENTS},
    groups={
        "latents": families.Latent,
        "slope_control": families.SlopeControl,
        "path_length": families.PathLength,
        "rows": families.Rows,
        "average": families.HalfLife,
    },
)


def _game(make: Callable[..., families.Family], *fixes: str) -> Recipe:
    return dataclasses.replace(_GAN, make=make, extends=families.gan, fixes=("loss", *fixes))


def _translation(make: Callable[..., families.Family]) -> Recipe:
    return Recipe(
        make=make,
        networks={"generator": Slot(table=TRANSLATORS), "critic": Slot(table=PATCH_CRITICS)},
        optimizers=_GAN.optimizers,
        groups={"average": families.HalfLife},
    )


_SRGAN = Recipe(
    make=families.srgan,
    networks={
        "generator": Slot(table=ENLARGERS),
        "critic": Slot(table={**CRITICS, **PATCH_CRITICS}),
        "features": Slot(table=CLASSIFIERS),
    },
    optimizers=_GAN.optimizers,
    groups={"average": families.HalfLife},
)
_KL_AUTOENCODER = Recipe(
    make=families.kl_autoencoder,
    networks={
        "encoder": Slot(table=GRID_ENCODERS),
        "decoder": Slot(table=GRID_DECODERS),
        "critic": Slot(table={**CRITICS, **PATCH_CRITICS}),
        "features": Slot(table=CLASSIFIERS),
    },
    optimizers=("autoencoder_optimizer", "critic_optimizer"),
    parts={"observation": OBSERVATIONS},
    groups={"judges": families.Judges, "average": families.HalfLife},
)
_BIGAN = Recipe(
    make=families.bigan,
    networks={
        "encoder": Slot(table=JOINT_ENCODERS),
        "generator": Slot(table=GENERATORS),
        "critic": Slot(table=JOINT_CRITICS),
    },
    optimizers=("generator_optimizer", "critic_optimizer"),
    groups={
        "latents": families.Latent,
        "slope_control": families.SlopeControl,
        "inference": families.Inference,
        "average": families.HalfLife,
    },
)


def _inferring(make: Callable[..., families.Family], *fixes: str) -> Recipe:
    return dataclasses.replace(_BIGAN, make=make, extends=families.bigan, fixes=fixes)


_BESIDE = {
    "embedding": Slot(table=EMBEDDING_CONTEXTS),
    "source": Slot(table=SOURCES),
    "text": Slot(table=TEXT_ENCODERS, method="states"),
}
"""What networks may be told, each by a section of theirs."""
_OF_TIME = Slot(table=SCORE_NETS, given={"gamma_min": 0.0, "gamma_max": 1.0}, beside=_BESIDE)
"""A score network that is told the time in place of gamma."""
_SCORED = {"scored": families.Likelihood, "trajectory": families.Trajectory}


def _denoising(
    objective: Callable[..., families.Objective],
    make: Callable[..., families.Family] = families.diffusion,
) -> Recipe:
    return Recipe(
        make=make,
        networks={"net": _OF_TIME},
        parts={"process": PROCESSES},
        groups={**_SCORED, "average": families.Average, "objective": objective},
        extends=None if make is families.diffusion else families.diffusion,
    )


def _latent(make: Callable[..., families.Family], encoders: Table, decoders: Table) -> Recipe:
    return Recipe(
        make=make,
        networks={"encoder": Slot(table=encoders), "decoder": Slot(table=decoders)},
        parts={"observation": OBSERVATIONS},
        groups={"objective": families.VariationalObjective},
    )


def _adapting(make: Callable[..., families.Family]) -> Recipe:
    return Recipe(
        make=make,
        networks={
            "net": Slot(table=CLASSIFIERS, classes_of_data=True),
            "domain_net": Slot(table=DOMAIN_NETS),
        },
    )


_CONTRASTIVE = Recipe(
    make=families.contrastive,
    networks={"image": Slot(table=IMAGE_TOWERS), "text": Slot(table=TEXT_TOWERS)},
)


def _contrasting(make: Callable[..., families.Family]) -> Recipe:
    return dataclasses.replace(
        _CONTRASTIVE, make=make, extends=families.contrastive, fixes=("loss",)
    )


FAMILIES: Mapping[str, Recipe] = {
    "autoregressive": Recipe(
        make=families.autoregressive,
        networks={
            "net": Slot(
                table=AUTOREGRESSIVE_NETS,
                # The family sets them when it knows the data and the observation.
                given={"num_levels": None, "num_outputs": 1},
            )
        },
        parts={"observation": OBSERVATIONS},
        groups={"choosing": families.Choosing},
    ),
    "classifier": Recipe(
        make=families.classifier,
        networks={"net": Slot(table=CLASSIFIERS, classes_of_data=True)},
        parts={"process": PROCESSES, "adversary": ADVERSARIES},
    ),
    "cdan": _adapting(families.cdan),
    "clip": _contrasting(families.clip),
    "contrastive": _CONTRASTIVE,
    "dann": _adapting(families.dann),
    "flow": Recipe(
        make=families.flow,
        networks={"model": Slot(table=FLOWS, key="flow", classes="context_size")},
        parts={"dequantizer": DEQUANTIZERS},
    ),
    "flow_matching": Recipe(
        make=families.flow_matching,
        networks={"velocity_net": _OF_TIME},
    ),
    "hidden_markov": Recipe(
        make=families.hidden_markov, optimizers=(), parts={"component": COMPONENTS}
    ),
    "mixture": Recipe(make=families.mixture, optimizers=(), parts={"component": COMPONENTS}),
    "vdm": Recipe(
        make=families.vdm,
        # Its estimate of the noise is a correction of the latent.
        networks={"score_net": Slot(table=SCORE_NETS, given={"add_input": True}, beside=_BESIDE)},
        parts={"schedule": SCHEDULES},
        groups=_SCORED,
    ),
    "ddpm": Recipe(
        make=families.ddpm,
        networks={"net": _OF_TIME},
        parts={"process": {"chain": diffusion.Chain}},
        groups={
            **_SCORED,
            "average": families.Average,
            "objective": families.ChainObjective,
        },
    ),
    "diffusion": _denoising(families.Objective),
    "edm": _denoising(families.EDMObjective, families.edm),
    "rectified_flow": _denoising(families.RectifiedFlowObjective, families.rectified_flow),
    "score_sde": _denoising(families.ScoreObjective, families.score_sde),
    "vq_vae": Recipe(
        make=families.vq_vae,
        networks={"encoder": Slot(table=GRID_ENCODERS), "decoder": Slot(table=GRID_DECODERS)},
        parts={"quantizer": QUANTIZERS, "observation": OBSERVATIONS},
    ),
    "kl_autoencoder": _KL_AUTOENCODER,
    "vq_gan": dataclasses.replace(
        _KL_AUTOENCODER,
        make=families.vq_gan,
        parts={"quantizer": QUANTIZERS, "observation": OBSERVATIONS},
    ),
    "vae": _latent(families.vae, ENCODERS, DECODERS),
    "hierarchical_vae": _latent(families.hierarchical_vae, BOTTOM_UP, TOP_DOWN),
    "cycle_gan": _translation(families.cycle_gan),
    "ali": _inferring(families.ali, "stochastic"),
    "bigan": _BIGAN,
    "latent_regression": Recipe(
        make=families.latent_regression,
        networks={"encoder": Slot(table=JOINT_ENCODERS), "generator": Slot(table=GENERATORS)},
        groups={"latents": families.Latent},
    ),
    "veegan": _inferring(families.veegan, "loss", "encoder_plays"),
    "fgan": _game(families.fgan),
    "gan": _GAN,
    "hinge_gan": _game(families.hinge_gan),
    "lsgan": _game(families.lsgan),
    "mmd_gan": _game(families.mmd_gan),
    "pix2pix": _translation(families.pix2pix),
    "r3gan": _game(families.r3gan, "penalties"),
    "semi_supervised_gan": dataclasses.replace(
        _GAN,
        make=families.semi_supervised_gan,
        networks={
            "generator": Slot(table=GENERATORS),
            "critic": Slot(table=CLASSIFIERS, classes_of_data=True),
        },
        parts={},
        groups={"latents": families.Latent, "average": families.HalfLife},
    ),
    "siglip": _contrasting(families.siglip),
    "sngan": _game(families.sngan),
    "srgan": _SRGAN,
    "super_resolution": Recipe(
        make=families.super_resolution, networks={"net": Slot(table=ENLARGERS)}
    ),
    "stylegan2": _game(families.stylegan2, "penalties"),
    "wgan": _game(families.wgan),
    "wgan_gp": _game(families.wgan_gp, "penalties"),
}


def look_up(table: Mapping[str, Any], name: Any, where: str) -> Any:
    """What a name stands for: an entry of a table, or an import path.

    Args:
        table: Names of this package.
        name: Name in a config.
        where: Section it stands in, for messages.

    Returns:
        The entry, or what the import path leads to.

    Raises:
        ConfigError: If it leads nowhere.
    """
    if name is None:
        raise ConfigError(f"{where} has no name; valid: {', '.join(sorted(table))}")
    if not isinstance(name, str):
        raise ConfigError(f"{where}.name must be str, got {shown(name)}")
    if ":" in name:
        return imported(name, f"{where}.name")
    if name not in table:
        dotted = re.fullmatch(r"[A-Za-z_]\w*(?:\.\w+)*\.([A-Za-z_]\w*)", name)
        colon = f"{name[: dotted.start(1) - 1]}:{dotted[1]}" if dotted else "package.module:NAME"
        known = f"; valid: {', '.join(sorted(table))}" if dotted else nearest(name, table)
        raise ConfigError(
            f"unknown {where}.name {name!r}{known}; or an import path, which has a colon: {colon}"
        )
    return table[name]


def look_up_function(table: Mapping[str, Any], name: Any, where: str) -> Any:
    """What a name stands for where it is to be called.

    Args:
        table: Names of this package.
        name: Name in a config.
        where: Section it stands in, for messages.

    Returns:
        A function or a class that says which arguments it has.

    Raises:
        ConfigError: If it is something else, or leads nowhere.
    """
    made = look_up(table, name, where)
    try:
        arguments(made)
    except ConfigError as error:
        raise ConfigError(f"{where}.name {name!r}: {error}") from error
    return made


def imported(path: str, key: str) -> Any:
    """What ``package.module:NAME`` leads to.

    Args:
        path: The import path.
        key: Key that it is the value of, for messages.

    Returns:
        What has the name there.

    Raises:
        ConfigError: If it leads nowhere.
    """
    module_name, _, attribute = path.partition(":")
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", module_name) or not attribute.isidentifier():
        raise ConfigError(
            f"{key} {path!r} is no import path: expected package.module:NAME, with one colon"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{key} {path!r} cannot be imported: {error}; is the package installed in this "
            "environment (and on every worker)?"
        ) from error
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a module may raise anything
        raise ConfigError(
            f"{key} {path!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, attribute):
        # What the module itself defines, not what it imports.
        names = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and not isinstance(value, types.ModuleType)
            and not (
                isinstance(value, type | types.FunctionType) and value.__module__ != module_name
            )
        ]
        raise ConfigError(
            f"{key} {path!r}: {module_name} has no {attribute!r}{nearest(attribute, names)}"
        )
    return getattr(module, attribute)


def build_named(table: Table, section: Mapping[str, Any], where: str, **given: Any) -> Any:
    """What a section describes: its ``name``, called with the rest of it.

    Args:
        table: Names of this package.
        section: The section.
        where: Name of the section, for messages.
        **given: Further arguments, as of :func:`~genjax.config.arguments.call`.

    Returns:
        What was built.

    Raises:
        ConfigError: If the name leads nowhere, or the section does not fit.
    """
    kwargs = dict(section)
    made = look_up_function(table, kwargs.pop("name", None), where)
    return call(made, kwargs, where, **given)


def look_up_logger(name: Any) -> Any:
    """What makes a logger.

    Raises:
        ConfigError: If there is none of this name, or the package that it needs is not installed.
    """
    made = look_up(LOGGERS, name, "train.loggers")
    if not callable(made):
        raise ConfigError(f"train.loggers {name!r} must make a logger, got {type(made).__name__}")
    if name in LOGGERS:
        found = importlib.util.find_spec(name)
        # Without an origin it is a folder of this name, such as W&B's own in the current directory.
        if found is None or found.origin is None:
            raise ConfigError(
                f"train.loggers: {name!r} needs the package {name}: pip install -e '.[{name}]'"
            )
    return made


def look_up_family(name: Any) -> Recipe:
    """The recipe of a family.

    Raises:
        ConfigError: If there is none of this name.
    """
    recipe = look_up(FAMILIES, name, "family")
    if not isinstance(recipe, Recipe):
        raise ConfigError(
            f"family.name {name!r} must lead to a genjax.config.Recipe, got {type(recipe).__name__}"
        )
    return recipe
