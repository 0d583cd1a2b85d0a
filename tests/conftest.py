"""Shared by all tests: checked shapes, a compile cache, and the real data where it is at hand."""

import gc
import json
import os
import pathlib
import subprocess
import sys

import pytest

REPO = pathlib.Path(__file__).resolve().parents[1]
# Before jax is imported; the commands that tests start inherit it.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPO / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jaxtyping  # noqa: E402

# Shapes in signatures are checked on every call. (The convolution layers inherit fields from Flax
# whose types cannot be checked. The recipes of flows have no shapes in their signatures, and say
# themselves what names they know.)
CHECKED = """
    losses diffusion families.minimizing families.vdm families.variational_diffusion
    families.players families.dequantized_flow
    families.adversarial families.gan families.classified families.flow families.levels
    families.draws families.likelihood families.denoising families.denoising_answers
    families.denoiser families.diffusion
    families.objective families.sampling families.probability_flow families.matched_flow
    families.flow_matching families.standardized families.averages families.ddpm
    families.gaussian_chain families.chain_objective ode
    families.vae families.latent_variable families.observations families.heads
    families.logistic_observations families.variational_objective
    families.autoregressive families.autoregressive_model families.choosing families.langevin
    families.autoregressive_imputing
    families.quantizers families.vq_vae families.latents nets.grid_autoencoder
    families.code_model families.gaussian_grid families.laplace_observation
    families.components families.gaussian_component families.gaussian_conditioning
    families.discrete_components families.multinomial_component families.seeding families.mixture
    families.linear_algebra families.hidden_markov families.markov_chain
    families.expectation_maximization
    families.latent_groups families.latent_family families.stochastic_layers families.top_down
    families.hierarchical_vae families.latent_imputing
    nets.top_down
    families.super_resolution
    families.contrastive families.pairs nets.towers families.embedded nets.prior_transformer
    families.embedding_forms
    families.adaptation families.adversaries nets.plain_classifier nets.text_encoder nets.prompted
    nets.image_conditioned nets.efficient_unet
    families.told families.views families.binarized families.imputing nets.autoencoder
    nets.attention nets.dropout nets.embeddings nets.score_mlp nets.score_resnet nets.unet nets.dit
    nets.unet_classifier
    nets.conditioning nets.dense nets.flow_mlp nets.flow_conv nets.flow_transformer
    nets.causal nets.made nets.pixelcnn nets.pixelcnn_plus nets.causal_transformer nets.transformer
    nets.normalization nets.inception
    nets.gan_mlp nets.dcgan nets.gan_resnet nets.classifier nets.super_resolution nets.translation
    nets.minibatch nets.noise nets.weight_norm nets.joint nets.r3gan
    nets.equalized nets.resampling nets.styles nets.stylegan nets.stylegan2 nets.stylegan2_critic
    bijectors.autoregressive bijectors.base bijectors.containers bijectors.continuous
    bijectors.coupling bijectors.dequantization bijectors.elementwise bijectors.flow
    bijectors.linear bijectors.marginal bijectors.shapes
    evaluation.critic evaluation.divergence
""".split()
jaxtyping.install_import_hook([f"genjax.{name}" for name in CHECKED], "beartype.beartype")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from genjax.training.allocator import keep_freed_memory  # noqa: E402

keep_freed_memory()
# Tracing makes many objects that stay: looking through them for garbage took a tenth of the time.
gc.set_threshold(50_000, 10, 10)


def pytest_configure(config):
    """Compiles for a short time: most programs of tests run once or a few times.

    Commands that tests start compile for the shortest time, among long tests, too, so that they
    find in the cache what those of quick tests compiled. Whoever sets ``XLA_FLAGS`` compiles as
    users do.
    """
    level = {"not slow": 0, "slow": 1}.get(config.option.markexpr)
    divides = not hasattr(config, "workerinput") and getattr(config.option, "numprocesses", None)
    if level is None or "XLA_FLAGS" in os.environ or divides:
        return
    flags = [
        f"--xla_backend_optimization_level={level}",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
    # The older code generator takes half as long; later versions, which abort at flags that they
    # do not know, have it no more.
    if jax.__version_info__ < (0, 11, 1):
        flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join(flags)
    if level:
        jax.devices()  # the flags of this process are read; what follows is for those it starts
        os.environ["XLA_FLAGS"] = os.environ["XLA_FLAGS"].replace(f"level={level}", "level=0")


RUN_ONCE = [REPO / "tests" / name for name in ("bijectors", "config", "data", "losses", "nets")]
"""Where long tests compile long programs and run each once or a few times."""


@pytest.fixture(autouse=True)
def compiled_for_as_long_as_it_runs(request):
    """The shortest way of compiling, also in long tests, where programs run for a short time."""
    short = any(place in request.path.parents for place in RUN_ONCE)
    if not short or request.node.get_closest_marker("slow") is None:
        yield
        return
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(autouse=True)
def doctest_names(doctest_namespace):
    """What examples in docstrings may use without importing it."""
    import numpy as np

    import genjax.bijectors.coupling
    import genjax.bijectors.elementwise
    import genjax.diffusion
    import genjax.evaluation
    import genjax.losses
    import genjax.nets.dcgan
    import genjax.nets.dit
    import genjax.nets.embeddings
    import genjax.nets.resampling
    import genjax.nets.styles
    import genjax.nets.unet

    doctest_namespace.update(jax=jax, jnp=jnp, np=np)
    for module in (
        genjax.losses,
        genjax.diffusion,
        genjax.evaluation,
        genjax.nets.embeddings,
        genjax.nets.dcgan,
        genjax.nets.resampling,
        genjax.nets.styles,
        genjax.nets.dit,
        genjax.nets.unet,
        genjax.bijectors.elementwise,
        genjax.bijectors.coupling,
    ):
        doctest_namespace.update(
            {name: value for name, value in vars(module).items() if not name.startswith("_")}
        )


@pytest.fixture
def unchecked():
    """No checks of signatures: for what functions themselves say of arguments of a wrong type."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def strict():
    """Strict dtype promotion: a silent upcast is an error."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def golden():
    """Reference values computed with google-research/vdm."""
    import numpy as np

    path = REPO.parent / "shared" / "golden" / "vdm_official_linear_schedule.npz"
    if not path.exists():
        pytest.skip(f"needs the reference values at {path}")
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(scope="session")
def tfds_dir():
    """Where real MNIST and CIFAR-10 are prepared."""
    place = pathlib.Path(
        os.environ.get("TFDS_DATA_DIR", REPO.parent / "shared" / "tensorflow_datasets")
    )
    if not (place / "mnist").exists():
        pytest.skip(f"needs MNIST and CIFAR-10 prepared in {place} (set TFDS_DATA_DIR)")
    return str(place)


@pytest.fixture(scope="session")
def in_a_process():
    """Runs a program on its own, with devices of its own; gives the JSON of its last line."""

    def run(program, devices):
        flags = os.environ.get("XLA_FLAGS", "")
        flags += f" --xla_force_host_platform_device_count={devices}"
        env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
        out = subprocess.run(
            [sys.executable, "-c", program], text=True, env=env, capture_output=True, check=False
        )
        assert not out.returncode, out.stderr[-3000:]
        return json.loads(out.stdout.splitlines()[-1])

    return run
