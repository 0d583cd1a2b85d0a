"""Every experiment file is built, shrunk and stepped once."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

import genjax
from genjax import config as configs
from genjax import data
from genjax.config import tables
from genjax.config.arguments import arguments
from genjax.config.defaults import SETTINGS
from genjax.config.frozen import build_network
from genjax.pipeline import plan_stages
from genjax.training import mesh
from genjax.training import step as stepping
from genjax.training.quality import METRICS
from genjax.training.workdir import WorkdirError

REPO = pathlib.Path(__file__).resolve().parents[1]
EVERY = sorted(str(p.relative_to(REPO)) for p in (REPO / "experiments").rglob("*.py"))
PIPELINES = [path for path in EVERY if "/pipelines/" in path]
FILES = [path for path in EVERY if path not in PIPELINES]

# What makes each model small; the rest of the config stays as it is.
SMALL = {
    "score_resnet": dict(channels=8, num_layers=1, num_groups=4),
    "score_mlp": dict(hidden_size=16, num_layers=1),
    "unet": dict(channels=8, multipliers=(1, 2), num_blocks=1, num_groups=4),
    "efficient_unet": dict(
        channels=4, multipliers=(1,), num_blocks=(1,), num_heads=1, num_groups=2
    ),
    "text_encoder": dict(hidden_size=4, num_blocks=1, num_heads=1),
    "conv_classifier": dict(channels=8, num_features=8),
    "linear": dict(),
    "noisy_mlp": dict(hidden_sizes=(8, 8)),
    "plain_conv": dict(channels=(4, 4), hidden_sizes=(8,)),
    "domain_mlp": dict(hidden_size=8),
    "prior_transformer": dict(hidden_size=8, num_blocks=1, num_heads=2),
    "prompted_transformer": dict(hidden_size=8, num_blocks=1, num_heads=2),
    "image_tower": dict(embedding_size=4, channels=8, num_features=8),
    "text_tower": dict(embedding_size=4, hidden_size=8, num_blocks=1, num_heads=2),
    "gated_pixelcnn": dict(channels=4, num_layers=1),
    "made": dict(hidden_size=8),
    "pixelcnn": dict(channels=4, num_blocks=1),
    "pixelcnn_plus": dict(channels=4, num_blocks=1),
    "transformer": dict(hidden_size=8, num_heads=2, num_blocks=1),
    "grid": dict(channels=8, num_blocks=1, residual_channels=4),
    "dcgan": dict(channels=8, min_channels=4),
    "r3gan": dict(channels=8, min_channels=8, num_blocks=1, group_size=8),
    "conv": dict(channels=8),
    "mlp": dict(hidden_size=8, num_layers=1),
    "mlp_layers": dict(num_layers=1),
    "bottom_up": dict(channels=8, middle_channels=4),
    "top_down": dict(channels=8, middle_channels=4),
    "resnet": dict(channels=8),
    "rrdb": dict(channels=8, num_blocks=1, growth=4),
    "srresnet": dict(channels=8, num_blocks=1),
    "patch": dict(channels=2),
    "resnet_translator": dict(channels=2, num_blocks=1),
    "unet_translator": dict(channels=2),
    "stylegan2": dict(base_channels=32, max_channels=8, num_mapping_layers=1),
    "autoregressive_flow": dict(hidden_size=8, num_layers=1),
    "continuous_flow": dict(hidden_size=8, num_layers=1),
    "coupling_flow": dict(hidden_size=8, num_layers=1),
    "glow": dict(hidden_size=8, num_steps=1),
    "jet": dict(hidden_size=8, num_heads=2, num_blocks=1, num_couplings=2),
    "real_nvp": dict(hidden_size=4, num_blocks=1),
    "tarflow": dict(hidden_size=8, num_heads=2, num_blocks=1, num_layers=1),
}


def shrink(config):
    """Makes every network of a config small; GANs have two."""
    nets = [config.model] if "name" in config.model else [config.model[k] for k in config.model]
    for net in nets:
        if "frozen" in net:
            continue
        small = dict(SMALL[net.name])
        if len(net.get("multipliers", (1, 2))) == 1:  # of latents that cannot be halved
            small["multipliers"] = (1,)
        net.update(small)
        if "text" in net:
            net.text.update(SMALL[net.text.name])
    if "critic_steps" in tables.look_up_family(config.family.name).keys():
        config.family.critic_steps = 1  # written out one by one, five take as long to compile


def load(path):
    spec = importlib.util.spec_from_file_location("experiment", REPO / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def first_stage_of(config, folder):
    """A run of the first of two stages, which has taken one step."""
    kind = {
        "captioned_digits": "contrastive/captioned_digits",
        "digits": "vae/vq_digits",
        "mnist": "vae/vq_mnist",
    }[config.data.name]
    if config.data.get("first_stage") and config.family.name != "autoregressive":  # real numbers
        kind = f"kl_autoencoder/{config.data.name}"
    first = configs.load_config(str(REPO / "experiments" / f"{kind}.py"))
    alike = ("data_dir", "train_split", "test_split", "options")
    first.data.update({k: config.data[k] for k in alike})
    shrink(first)
    first.data.batch_size = 8
    first.train.update(num_steps=1, eval_every=0, sample_every=0)
    first.eval.metrics = ()
    genjax.Run(configs.build(first), folder / "first").train()
    return str(folder / "first")


def marked(path):
    """One experiment of each kind is quick; those of images take longest to compile."""
    quick = any(
        name in path
        for name in (
            "vdm/toy2d",
            "diffusion/toy2d",
            "flow/toy2d",
            "gan/ring2d",
            "classifier/digits",
            "classics/",
        )
    )
    return pytest.param(path, marks=[] if quick else [pytest.mark.slow])


@pytest.fixture(autouse=True)
def compiled_in_a_short_time():
    """Every program here runs once."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.parametrize("path", [marked(path) for path in FILES])
def test_experiment_builds_and_steps(path, request, tmp_path):
    config = configs.load_config(str(REPO / path))
    if config.data.name == "npy":
        for split in ("train", "test"):
            rows = np.random.default_rng(0).normal(size=(20, *config.data.event_shape))
            np.save(tmp_path / f"{split}.npy", rows)
        config.data.data_dir = str(tmp_path)
    streams = (config.data.streams or {}).values()
    prepared = {"mnist", "cifar10", "stacked_mnist", "mnist_on_cifar", "captioned_digits"}
    if {config.data.name, *(stream.get("name") for stream in streams)} & prepared:
        config.data.data_dir = request.getfixturevalue("tfds_dir")
        config.data.train_split = config.data.test_split = "test[:50]"
        for stream in (config.data.streams or {}).values():
            stream.train_split = stream.test_split = "test[50:100]"
    if config.data.name == "captioned_digits":
        config.data.options = dict(images="digits")
    if config.data.labelled is not None:
        config.data.labelled.per_class = 1
    if config.data.name == "images":
        for i in range(20):
            Image.new("RGB", (40, 40), (i, 2 * i, 3 * i)).save(tmp_path / f"{i}.png")
        config.data.update(data_dir=str(tmp_path), options=dict(size=32))
    shrink(config)
    config.data.batch_size = 8
    if config.data.first_stage is not None:
        config.data.first_stage.workdir = first_stage_of(config, tmp_path)
    if config.data.embeddings is not None:
        config.data.embeddings.workdir = first_stage_of(config, tmp_path)
        if "form" in config.data.embeddings and config.data.embeddings.form.name != "scaled":
            config.data.embeddings.form.num_components = 4  # as many as the small tower's vectors
    config.parallel.fsdp = 1  # there is one device
    if "metrics" in config.eval and config.eval.get("features"):
        config.eval.metrics = ()  # no trained classifier, no Inception weights at hand
        config.train.eval_every = 0
    experiment = configs.build(config)
    count = experiment.family.batches_per_step
    batch = {
        data.stream_name(name, feature): rows
        for name, batches in experiment.train_batches().items()
        for feature, rows in batches[0].items()
    }
    devices, key = mesh.make_mesh(), jax.random.key(0)
    state = stepping.init_state(experiment.family, key, batch, devices)
    step = stepping.compile_train_step(experiment.family, state, batch, key, devices)
    state, metrics = step(state, mesh.global_batch(devices, batch, count), key)
    assert int(state.step) == 1
    assert all(np.isfinite(float(value)) for value in metrics.values())


@pytest.mark.parametrize("path", FILES)
def test_an_experiment_says_what_differs_and_any_default_can_be_overridden(path):
    assert load(path).__doc__.count("Command:") == 1
    own = configs.as_dict(load(path).get_config())
    for name, settings in SETTINGS.items():
        defaults = {key: argument.default for key, argument in arguments(settings).items()}
        same = [key for key, value in own.get(name, {}).items() if value == defaults[key]]
        assert not same, f"{name}: {same} are defaults"
    # Metrics that need a trained classifier are left out where an experiment is built here.
    assert set(own.get("eval", {}).get("metrics", ())) <= set(METRICS)
    overrides = ["--config.data.data_dir=/data", "--config.train.keep_checkpoints=5",
                 "--config.sample.batch_size=7", "--config.eval.num_reference=100"]  # fmt: skip
    config = configs.load_config(str(REPO / path), overrides)
    assert config.data.data_dir == "/data" and config.train.keep_checkpoints == 5
    assert (config.sample.batch_size, config.eval.num_reference) == (7, 100)


def test_official_cifar10_model_has_its_published_size():
    config = load("experiments/vdm/cifar10.py").get_config()
    section = configs.as_dict(config)["model"]
    net = build_network(tables.FAMILIES["vdm"].networks["score_net"], section, "model", (32, 32, 3))
    args = jax.numpy.zeros((1, 32, 32, 3)), jax.numpy.zeros(1)
    shapes = jax.eval_shape(net.init, jax.random.key(0), *args)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    # 30.6 M; the official network has one more conditioning input of 512 weights.
    assert count == pytest.approx(30.6e6, rel=2e-3)


def test_published_ddpm_has_its_published_size():
    config = configs.as_dict(load("experiments/diffusion/cifar10_ddpm.py").get_config())
    net = build_network(
        tables.FAMILIES["ddpm"].networks["net"], config["model"], "model", (32, 32, 3)
    )
    args = jax.numpy.zeros((1, 32, 32, 3)), jax.numpy.zeros(1)
    shapes = jax.eval_shape(net.init, jax.random.key(0), *args)
    # Of the UNet2DModel of google/ddpm-cifar10-32; 35.7 M in the paper.
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 35_746_307


FLOW_FILES = {name: load(f"experiments/flow/{name}.py") for name in ("cifar10", "mnist", "toy2d")}
FLOWS = [
    (file, flow)
    for file, module in FLOW_FILES.items()
    for flow in [*module.FLOWS, *getattr(module, "LARGE", ())]
]


@pytest.mark.parametrize("file, flow", FLOWS)
@pytest.mark.slow
def test_every_flow_builds_at_its_full_size(file, flow, request):
    config = configs.load_config(f"{REPO}/experiments/flow/{file}.py:{flow}")
    if config.data.name != "eight_gaussians":
        config.data.data_dir = request.getfixturevalue("tfds_dir")
        config.data.train_split = config.data.test_split = "test[:50]"
    experiment = configs.build(config)
    assert experiment.family.sample is not None
    with pytest.raises(ValueError, match="the flow must be one of"):
        FLOW_FILES[file].get_config("glwo")


CLASSICS = {name: load(f"experiments/classics/{name}.py") for name in ("digits", "toy2d")}


@pytest.mark.parametrize("file, model", [(f, m) for f in CLASSICS for m in CLASSICS[f].MODELS])
def test_every_classic_model_builds(file, model):
    experiment = configs.build(CLASSICS[file].get_config(model))
    assert (experiment.family.sample is None) == (model == "logistic")
    with pytest.raises(ValueError, match="the model must be one of"):
        CLASSICS[file].get_config("ldaa")


RING = load("experiments/gan/ring2d.py")


@pytest.mark.parametrize("game", RING.GAMES)
def test_every_game_on_the_ring_builds(game):
    experiment = configs.build(RING.get_config(game))
    assert experiment.quality().names == ["modes_covered", "high_quality", "mode_kl", "w1"]
    assert "generator" in experiment.state_shapes.ema


INFERENCE = load("experiments/inference/ring2d.py")


@pytest.mark.parametrize("model", INFERENCE.MODELS)
def test_every_model_of_inference_on_the_ring_builds(model):
    experiment = configs.build(INFERENCE.get_config(model))
    assert {"generator", "encoder"} <= set(experiment.state_shapes.ema)
    with pytest.raises(ValueError, match="the model must be one of"):
        INFERENCE.get_config("veagen")


def test_the_ring_plays_every_divergence_and_every_loss():
    from genjax import losses

    played = " ".join(RING.GAMES)
    assert all(f"fgan_{name}" in RING.GAMES for name in losses.F_DIVERGENCES)
    for name in set(losses.ADVERSARIAL_LOSSES) - {"wasserstein"}:
        assert name in played
    with pytest.raises(ValueError, match="the game must be one of"):
        RING.get_config("wagn")


GRID = load("experiments/gan/grid2d.py")


@pytest.mark.parametrize("game", GRID.GAMES)
def test_every_game_on_the_grid_builds(game):
    experiment = configs.build(GRID.get_config(game))
    assert experiment.quality().names == ["modes_covered", "high_quality", "mode_kl", "w1"]
    with pytest.raises(ValueError, match="the game must be one of"):
        GRID.get_config("pac5")


STACKED = load("experiments/gan/stacked_mnist.py")


@pytest.mark.slow
def test_stacked_digits_are_played_for_by_networks_of_the_published_size(tfds_dir):
    for game in STACKED.GAMES:
        config = STACKED.get_config(game)
        config.data.data_dir = tfds_dir
        config.eval.metrics, config.train.eval_every = (), 0
        experiment = configs.build(config)
    params = experiment.state_shapes.params
    widths = [params["generator"][f"conv_{i}"]["kernel"].shape[-1] for i in range(3)]
    assert widths == [32, 16, 8]
    widths = [params["critic"][f"conv_{i}"]["kernel"].shape[-1] for i in range(3)]
    assert widths == [2, 4, 8]
    assert STACKED.get_config("pac2_half").model.critic.channels == 16
    with pytest.raises(ValueError, match="the game must be one of"):
        STACKED.get_config("pac5")


SEMI = load("experiments/semi_supervised/mnist.py")


@pytest.mark.parametrize("model", SEMI.MODELS)
def test_every_semi_supervised_model_builds_with_its_hundred_labels(model, tfds_dir):
    config = SEMI.get_config(model)
    config.data.data_dir = tfds_dir
    experiment = configs.build(config)
    counts = {name: len(stream.train.source) for name, stream in experiment.streams.items()}
    assert counts == {"": 100} | ({} if model == "supervised" else {"unlabelled": 60_000})
    labels = experiment.train_data.source.arrays["label"]
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 10))
    assert len(experiment.test_data.source) == 10_000
    with pytest.raises(ValueError, match="the model must be one of"):
        SEMI.get_config("unsupervised")


TRANSLATIONS = [load(path) for path in FILES if "/translation/" in path]


@pytest.mark.parametrize(
    "file, objective", [(file, name) for file in TRANSLATIONS for name in file.OBJECTIVES]
)
def test_every_objective_of_translation_is_built_from_its_weights(file, objective, tfds_dir):
    config = file.get_config(objective)
    shrink(config)
    if config.data.name == "mnist":
        config.data.data_dir = tfds_dir
        config.data.test_split = config.data.train_split = "test[:50]"
        if "streams" in config.data:  # photographs take a while to read
            config.data.streams.source = dict(name="mnist")
    config.eval.metrics, config.train.eval_every = (), 0
    assert configs.build(config).family.sample is not None
    with pytest.raises(ValueError, match="the objective must be one of"):
        file.get_config("cycl")


BENCHMARKS = load("experiments/benchmarks.py")


@pytest.mark.parametrize("name", BENCHMARKS.NAMES)
def test_every_benchmark_builds(name, tmp_path):
    config = configs.load_config(f"{REPO}/experiments/benchmarks.py:{name}")
    for split in ("train", "test"):
        shape = (4, *config.data.event_shape)
        np.save(tmp_path / f"{split}.npy", np.zeros(shape, np.uint8 if len(shape) > 2 else float))
    config.data.data_dir = str(tmp_path)
    experiment = configs.build(config)
    if name == "dcgan64":  # as in pytorch/examples, but for biases
        counts = {k: sum(leaf.size for leaf in jax.tree.leaves(v))
                  for k, v in experiment.state_shapes.params.items()}  # fmt: skip
        assert counts["generator"] == pytest.approx(3_576_704, rel=3e-3)
        assert counts["critic"] == pytest.approx(2_765_568, rel=1e-3)


STYLES = load("experiments/gan/stylegan2_mnist.py")


@pytest.mark.parametrize("model", STYLES.MODELS)
def test_every_ablation_of_stylegan2_builds(model, request):
    config = STYLES.get_config(model)
    config.data.data_dir = request.getfixturevalue("tfds_dir")
    config.data.train_split = config.data.test_split = "test[:50]"
    config.train.eval_every = 0
    assert "generator" in configs.build(config).state_shapes.ema
    with pytest.raises(ValueError, match="expected one of"):
        STYLES.get_config("no_pth")


ADAPTED = load("experiments/adaptation/mnist_on_cifar.py")
BETWEEN_DIGITS = load("experiments/adaptation/digits_mnist.py")
ROBUST = load("experiments/classifier/mnist_robust.py")


@pytest.mark.slow
@pytest.mark.parametrize("method", ADAPTED.METHODS)
def test_every_method_of_adaptation_builds(method, tfds_dir):
    config = ADAPTED.get_config(method)
    config.data.data_dir = tfds_dir
    config.data.train_split = config.data.test_split = "test[:50]"
    experiment = configs.build(config)
    assert set(experiment.streams) == ({""} if method == "target_only" else {"", "target"})
    assert experiment.spec["x"].shape == (28, 28, 3)
    assert experiment.eval.streams == (() if method == "target_only" else ("target",))


def test_what_experiments_of_classifiers_do_not_know_is_refused():
    for module, word in ((ADAPTED, "dan"), (BETWEEN_DIGITS, "to_usps,dann"), (ROBUST, "fgms")):
        with pytest.raises(ValueError, match="must be one of"):
            module.get_config(word)


@pytest.mark.parametrize("path", [
    pytest.param(path, marks=[] if "digit_codes" in path else pytest.mark.slow)
    for path in PIPELINES
])  # fmt: skip
def test_every_stage_of_a_pipeline_builds(path, request):
    assert load(path).__doc__.count("Command:") == 1
    overrides = {}
    if "_256" in path:  # of noise, for many devices
        names = configs.read_pipeline(str(REPO / path)).stages
        overrides = {f"stages.{name}.parallel.fsdp": 1 for name in names}
    elif "digit_codes" not in path:
        folder = request.getfixturevalue("tfds_dir")
        for name in configs.read_pipeline(str(REPO / path)).stages:
            if name == "words":
                continue
            few = dict(data_dir=folder, train_split="test[:50]", test_split="test[:50]")
            overrides |= {f"stages.{name}.data.{key}": value for key, value in few.items()}
    pipeline = configs.read_pipeline(str(REPO / path), overrides)
    built = dict(plan_stages(pipeline))
    assert list(built) == list(pipeline.stages)
    # The first stage is a part of the others, from which samples come.
    assert next(iter(built)) not in {link.stage for link in pipeline.chain}
    assert all(built[link.stage].family.sample is not None for link in pipeline.chain)


@pytest.mark.slow
def test_latent_diffusion_of_real_size_has_published_latents_and_autoencoders():
    made = load("experiments/pipelines/latent_diffusion_256.py")
    for factor, shape in (("f8", (32, 32, 4)), ("f4", (64, 64, 3))):
        config = made.get_config(factor).stages.autoencoder.copy_and_resolve_references()
        del config.model.critic, config.optimizer.critic, config.parallel
        with config.unlocked():
            for key in ("critic_start", "critic_weight"):
                del config.family[key]
        experiment = configs.build(config, mode="plan")
        assert experiment.family.first_stage.event_shape == shape
        if factor == "f8":  # that of Stable Diffusion, in diffusers: 83,653,863
            count = sum(leaf.size for leaf in jax.tree.leaves(experiment.state_shapes.params))
            # Its last layers are 3x3 where ours are 1x1, it has two 1x1 layers more, and no scale.
            wider, layers = 8 * (512 * 8 + 128 * 3), (8 * 8 + 8) + (4 * 4 + 4)
            assert count == 83_653_863 - wider - layers + 1
    with pytest.raises(ValueError, match="expected f4 or f8 after the colon, got 'f16'"):
        made.get_config("f16")


@pytest.mark.slow
def test_a_pipeline_of_codes_trains_goes_on_and_is_sampled(tmp_path):
    path = "experiments/pipelines/digit_codes.py"
    few = dict(channels=8, num_blocks=1, residual_channels=4)
    small = {f"stages.images.model.{net}.{key}": value for net in ("encoder", "decoder")
             for key, value in few.items()}  # fmt: skip
    small |= {f"stages.codes.model.{key}": v for key, v in SMALL["transformer"].items()}
    for name in ("images", "codes"):
        train = dict(num_steps=2, eval_every=0, sample_every=0, checkpoint_every=1)
        small |= {f"stages.{name}.train.{key}": value for key, value in train.items()}
        small[f"stages.{name}.parallel.cpu_devices"] = 1
    pipeline = genjax.Pipeline(str(REPO / path), tmp_path, small, quiet=True)
    pipeline.train()
    assert pipeline.sample(3, label=[1, 2, 3]).shape == (3, 8, 8, 1)
    with pytest.raises(WorkdirError, match="stage 'codes' has copied stage 'images' at step 2"):
        longer = small | {"stages.images.train.num_steps": 3}
        genjax.Pipeline(str(REPO / path), tmp_path, longer, quiet=True).train()
