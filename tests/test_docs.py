"""What the documentation shows is run as it stands there."""

import doctest
import importlib
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import genjax
from genjax import config as configs
from genjax.config import tables
from genjax.config.arguments import arguments
from genjax.config.defaults import SETTINGS

REPO = pathlib.Path(__file__).resolve().parents[1]
FILES = [REPO / "README.md", REPO / "experiments" / "README.md", *sorted(REPO.glob("docs/*.md"))]
TEXTS = {str(path.relative_to(REPO)): path.read_text() for path in FILES}
BLOCK = re.compile(r"(?:^`([\w./]+)`:\n\n)?^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
SMALL = {
    "score_resnet": dict(channels=8, num_layers=1, num_groups=4),
    "dcgan": dict(channels=8, min_channels=4),
    "glow": dict(hidden_size=8, num_steps=1),
}
"""What makes each network of a config small."""
QUICK = '{"train.num_steps": 2, "model.channels": 8, "eval.num_times": 1, "sample.num_steps": 2}'
"""What makes a run of the digits short."""


def blocks(page):
    """Blocks of Python of a page, with the file each of them is, if it says so."""
    return [(match[1], match[2]) for match in BLOCK.finditer(TEXTS[page])]


def block(page, containing):
    (found,) = [code for _, code in blocks(page) if containing in code]
    return found


def commands(page):
    """Commands in the blocks of a page without a language, one a line."""
    fenced = re.findall(r"^```(\S*)\n(.*?)^```$", TEXTS[page], re.DOTALL | re.MULTILINE)
    found = [text for language, text in fenced if language in ("", "bash")]
    lines = "".join(found).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("python ")]


def run(code, names=None):
    names = {} if names is None else names
    exec(compile(code, "docs", "exec"), names)
    return names


@pytest.fixture
def in_repo(monkeypatch, tmp_path):
    """Runs in the repository, with what is written elsewhere; on the devices there are."""
    jax.devices()
    monkeypatch.chdir(REPO)
    return lambda code: code.replace("/tmp/genjax", str(tmp_path)).replace(
        '{"train.num_steps": 500}', QUICK
    )


def test_every_block_of_python_is_run_by_a_test():
    ways = {
        "README.md": ["genjax.build(", "losses.diffusion_loss"],
        "docs/index.md": ["genjax.build("],
        "docs/running.md": ["genjax.build(", "genjax.load(", "genjax.Pipeline(", "stage:images"],
        "docs/diffusion.md": ["genjax.build(", "image_grid("],
        "docs/configs.md": ["def get_config", "genjax.build(config"],
        "docs/densities.md": ["run"],
        "docs/editing.md": ["run", "Resampling("],
        "docs/families.md": ["StyleGAN2Generator("],
        "docs/extending.md": ["losses.gradient_penalty", "import coupling_flow"],
    }
    for page in TEXTS:
        for name, code in blocks(page):
            assert name or any(word in code for word in ways.get(page, [])), f"{page}: {code}"


# Front page, guides.


def test_set_up_commands_are_one_line_each_and_name_real_files():
    found = re.findall(r"```bash\n(.*?)```", TEXTS["README.md"], re.DOTALL)
    train, test = [c.strip() for c in found if "venv" in c]
    assert "\n" not in train + test
    assert "scripts/run.py --config=experiments/vdm/digits.py" in train and "pytest" in test
    assert TEXTS["README.md"].count("\n") <= 160


def test_diffusion_loss_example_runs(capsys):
    run(block("README.md", "losses.diffusion_loss"))
    assert float(capsys.readouterr().out) > 0


@pytest.mark.slow
def test_notebooks_train_evaluate_sample_score_and_open_a_run_again(in_repo, capsys):
    first = block("README.md", "genjax.build(")
    assert first.replace("  # goes on with what is there", "") == block("docs/index.md", "build(")
    run(in_repo(first))
    assert capsys.readouterr().out.endswith("(16, 8, 8, 1)\n")
    trained, opened, *_ = [code for _, code in blocks("docs/running.md")]
    nats = run(in_repo(trained))["nats"]  # in the same workdir, where nothing is left to train
    assert nats.shape == (16,) and np.isfinite(nats).all()
    run(in_repo(opened))
    assert capsys.readouterr().out.endswith("2 (4, 8, 8, 1)\n")


def test_the_pipeline_of_the_guide_is_read(in_repo):
    pipeline = configs.read_pipeline(run(block("docs/running.md", "stage:images"))["get_config"]())
    assert list(pipeline.stages) == ["images", "codes"] and pipeline.chain[0].stage == "codes"


@pytest.mark.slow
def test_the_pipeline_of_the_guide_trains_and_is_scored(in_repo):
    small = {"model.encoder.channels": 8, "model.encoder.residual_channels": 4,
             "model.decoder.channels": 8, "model.decoder.residual_channels": 4}  # fmt: skip
    small = {f"stages.images.{key}": value for key, value in small.items()}
    small |= {f"stages.codes.model.{key}": 1 for key in ("num_blocks", "num_heads")}
    for name in ("images", "codes"):
        few = dict(num_steps=2, eval_every=0, sample_every=0)
        small |= {f"stages.{name}.train.{key}": value for key, value in few.items()}
    code = block("docs/running.md", "genjax.Pipeline(")
    code = code.replace('digit_pipeline")', f'digit_pipeline", {small})')
    nats = run(in_repo(code))["nats"]
    assert nats.shape == (10,) and np.isfinite(nats).all()


@pytest.mark.slow
def test_styles_of_two_samples_are_mixed():
    made = run(block("docs/families.md", "StyleGAN2Generator("))
    assert made["styles"].shape == (2, 4, 16) and made["image"].shape == (1, 8, 8, 1)


@pytest.mark.slow
def test_samplers_labels_and_scales_are_chosen_at_sampling(in_repo):
    first, second = [code for _, code in blocks("docs/diffusion.md")]
    small = '"train.num_steps": 2, "model.channels": 8, "sample.num_steps": 2'
    made = run(in_repo(first.replace('"train.num_steps": 2000', small)))
    assert made["quick"].shape == made["free"].shape == (10, 8, 8, 1)
    picture = run(in_repo(second).replace("num_steps=25", "num_steps=2"))["picture"]
    # Four rows of ten digits of 8 pixels, each four times as large, with lines between them.
    assert np.asarray(picture).shape == (4 * 33 + 1, 10 * 33 + 1, 3)


@pytest.mark.slow
def test_the_page_on_editing_edits(in_repo, capsys):
    *trained, alone = [code for _, code in blocks("docs/editing.md")]
    names = {}
    for code in trained:
        code = code.replace("num_steps=2000, eval", "num_steps=5, sample_every=0, eval")
        code = code.replace("channels=16,", "channels=8, num_blocks=1,")
        run(in_repo(code.replace("num_steps=25", "num_steps=5")), names)
    shown = capsys.readouterr().out.splitlines()
    assert shown[-2] == "(4, 8, 8, 8, 1) (8, 8, 8, 1) (8, 8, 8, 1)"
    assert shown[-1].startswith("(100, 5, 4, 4, 16) [") and shown[-1].endswith("(5, 8, 8, 8, 1)")
    run(alone)
    assert capsys.readouterr().out.startswith("[[ 1.5 ")


@pytest.mark.slow
def test_the_page_on_densities_scores_classifies_and_fills_in(in_repo, capsys):
    names = {}
    small = (
        ("num_steps=500", "num_steps=20"),
        ("num_steps=100", "num_steps=4"),
        ("arange(100)", "arange(20)"),
    )
    for code in [code for _, code in blocks("docs/densities.md")]:
        for long, short in small:
            code = code.replace(long, short)
        run(in_repo(code), names)
    outliers, classes, filled = capsys.readouterr().out.splitlines()[-3:]
    assert 0.0 <= float(outliers.split()[0]) <= 1.0 and "calibration_error" in classes
    assert filled.startswith("(19, 20, 8, 8, 1) ") and "coverage" in filled


def test_a_config_is_completed_overridden_and_refused(in_repo, capsys):
    run(in_repo(block("docs/configs.md", "genjax.build(config")))
    rate, message = capsys.readouterr().out.splitlines()
    assert rate == "0.0002 0.99"
    assert message.startswith("unknown config key 'model.chanels'; did you mean 'channels'?")


@pytest.mark.parametrize(
    "word", ['name="score_resnet", channels=64, num_layers=8', "wgan_gp", "glow", "transforms="]
)
def test_experiment_examples_build(tfds_dir, word):
    config = ConfigDict(run(block("docs/configs.md", word))["get_config"]())
    config.data.update(data_dir=tfds_dir, train_split="test[:200]", test_split="test[:200]")
    config.train.num_steps = 10
    for net in [config.model] if "name" in config.model else config.model.values():
        net.update(SMALL[net.name])
    if word == "wgan_gp":  # it wants a trained classifier where it evaluates
        config.eval.features.workdir = "/nowhere"
        with pytest.raises(configs.ConfigError, match="no trained classifier|not a classifier"):
            configs.build(config)
        config.train.eval_every = 0
    experiment = configs.build(config)
    assert experiment.train_data.num_classes == 10
    if word == "transforms=":
        assert experiment.train_data.event_shape == (16, 16, 1) and experiment.augment()


def test_the_pods_commands_are_understood():
    (found,) = re.findall(r"```\n(export POD.*?)```", TEXTS["docs/pods.md"], re.DOTALL)
    script = "set -e\n" + "\n".join(
        f"{line} --dry_run" if line.startswith("python") else line for line in found.splitlines()
    )
    folder = pathlib.Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-c", script], cwd=REPO, capture_output=True, text=True,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert not done.returncode, done.stderr
    for word in ("create", "scp", "run.py", "tail -n", "kill -TERM", "delete"):
        assert word in done.stdout


# Data of one's own.


@pytest.fixture(scope="module")
def own_data(tmp_path_factory):
    """The files of the page on data, and the data they make."""
    folder = tmp_path_factory.mktemp("own")
    for name, code in blocks("docs/data.md"):
        (folder / name).write_text(code)
    subprocess.run([sys.executable, "make_data.py"], cwd=folder, check=True)
    return folder


OTHERS = {
    "vdm": dict(
        model=dict(name="score_mlp", hidden_size=16, num_layers=1),
        family=dict(name="vdm", schedule=dict(name="learned_monotone")),
        optimizer=dict(name="adamw"),
    ),
    "gan": dict(
        model={p: dict(name="mlp", hidden_size=16) for p in ("generator", "critic")},
        family=dict(name="gan", latent_size=4),
        optimizer={p: dict(name="adam") for p in ("generator", "critic")},
    ),
    "flow": dict(
        model=dict(name="glow", num_scales=2, num_steps=1, hidden_size=8),
        family=dict(name="flow"),
        optimizer=dict(name="adamax"),
    ),
}
"""What models the other kinds of data, as briefly."""
PAIRS = [(file, kind) for file in ("shapes", "people", "hub") for kind in ("vdm", "gan", "flow")]


@pytest.mark.parametrize("file, kind", [
    pytest.param(*pair, marks=[] if pair == ("people", "gan") else [pytest.mark.slow])
    for pair in PAIRS
])  # fmt: skip
def test_every_kind_of_model_trains_on_every_kind_of_file(
    own_data, tmp_path, monkeypatch, file, kind
):
    jax.devices()
    monkeypatch.chdir(own_data)
    shown = {("shapes", "vdm"): "shapes", ("hub", "gan"): "hub", ("people", "flow"): "people"}
    source = (own_data / f"{file}.py").read_text()
    assert source.count("\n") <= 20
    config = run(source)["get_config"]()
    if (file, kind) not in shown:
        image = file != "people"
        theirs = {("vdm", True): "shapes", ("gan", True): "hub"}.get((kind, image))
        names = run((own_data / f"{theirs}.py").read_text()) if theirs else None
        other = names["get_config"]() if names else OTHERS[kind]
        config |= {name: other[name] for name in ("model", "family", "optimizer")}
    config["train"] = dict(num_steps=2, eval_every=0 if kind == "gan" else 2, sample_every=2)
    config["sample"] = dict(num_samples=6, **(dict(num_steps=3) if kind == "vdm" else {}))
    for net in [config["model"], *config["model"].values()]:
        if isinstance(net, dict) and net.get("name") in SMALL:
            net.update(SMALL[net["name"]])
    made = genjax.Run(genjax.build(config), tmp_path, quiet=True)
    made.train()
    x = made.sample(6)
    assert x.shape[1:] == {"shapes": (16, 16, 3), "people": (2,), "hub": (16, 16, 3)}[file]
    if file == "people" and kind != "gan":  # in years and money, as the table is
        assert np.median(x[:, 1]) > 1000 and 10 < np.median(x[:, 0]) < 120


# Extending.


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The files of the walk-through, by their names, and the data they make."""
    folder = tmp_path_factory.mktemp("walk")
    for name, code in blocks("docs/extending.md"):
        if name:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(code)
    for command in commands("docs/extending.md"):
        if "make_" in command:
            subprocess.run([sys.executable, *shlex.split(command)[1:]], cwd=folder, check=True)
    return folder


def in_package(command, folder, **kwargs):
    path = f"{REPO}:{os.environ.get('PYTHONPATH', '')}"
    return subprocess.Popen(
        [sys.executable, *shlex.split(command)[1:]], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(package):
    """The run of the walk-through, killed once, and gone on with by the same command."""
    train, sample = [c for c in commands("docs/extending.md") if "runs/dae " in f"{c} "]
    killed = in_package(train, package)
    until = time.monotonic() + 120
    while not (package / "runs/dae/checkpoints/500").exists():
        assert killed.poll() is None and time.monotonic() < until, killed.communicate()[0]
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    for command in (train, sample):
        going = in_package(command, package)
        out = going.communicate(timeout=120)[0]
        assert not going.returncode, out
    return package / "runs/dae"


@pytest.mark.slow
def test_the_walk_through_trains_and_goes_on_after_a_kill(trained):
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "train/rmse" in row] == list(range(100, 2001, 100))
    assert rows[-1]["eval/squared_error"] < 0.5 * rows[5]["eval/squared_error"]
    config = json.loads((trained / "config.json").read_text())
    assert config["family"]["noise_scale"] == 0.3 and config["data"]["options"] == {"scale": 2.0}
    with np.load(trained / "samples/step_00002000_sample.npz") as file:
        assert file["samples"].shape == (4, 32)


@pytest.fixture
def at_hand(package, monkeypatch):
    """The package can be imported, as where its commands run."""
    jax.devices()
    monkeypatch.chdir(package)
    monkeypatch.syspath_prepend(str(package))
    importlib.invalidate_caches()
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "galaxies"]:
        del sys.modules[name]


@pytest.mark.slow
@pytest.mark.parametrize("file", ["swirl", "dae_shifted", "cascade", "sky"])
def test_parts_of_the_walk_through_take_a_step(file, trained, at_hand, tmp_path):
    experiment = genjax.build(f"{file}.py", {"train.num_steps": 1})
    going = genjax.Run(experiment, tmp_path / file, quiet=True)
    going.train()
    if file == "cascade":  # the frozen part came along, and no optimiser moves it
        kernel = going.state.model_state["first"]["frozen"]["variables"]["params"]["dense_0"][
            "kernel"
        ]
        assert list(going.state.params) == ["second"]
        first = genjax.load(trained, quiet=True).state
        np.testing.assert_array_equal(kernel, first.ema["net"]["dense_0"]["kernel"])
    if file == "sky":
        assert set(experiment.spec) == {"x", "sky/x"}


def test_the_walk_throughs_family_refuses_what_it_does_not_know(package, at_hand):
    with pytest.raises(configs.ConfigError, match="noise_scael'; did you mean 'noise_scale'"):
        genjax.build("dae.py", {"family.noise_scael": 0.1})
    with pytest.raises(configs.ConfigError, match="there is no stream sky: the data has x"):
        genjax.build("sky.py", {"data.streams": None})
    with pytest.raises(configs.ConfigError, match="noise_scale must be positive"):
        genjax.build("dae.py", {"family.noise_scale": 0.0})


@pytest.mark.slow
def test_the_other_commands_of_the_walk_through_run(trained):
    others = [
        c for c in commands("docs/extending.md") if "runs/" in c and "runs/dae " not in f"{c} "
    ]
    assert len(others) == 4
    for command in others:
        going = in_package(command, trained.parents[1])
        out = going.communicate(timeout=300)[0]
        assert not going.returncode and "done" in out, out


@pytest.mark.slow
def test_wasserstein_gan_example_uses_only_the_losses_and_covers_the_modes(capsys):
    code = block("docs/extending.md", "losses.gradient_penalty")
    assert set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)) == {"jax", "genjax"}
    assert "from genjax import losses" in code and code.count("genjax") == 1
    run(code)
    assert capsys.readouterr().out == "8 of 8 modes\n"


@pytest.mark.usefixtures("unchecked")  # its data are a NumPy array
@pytest.mark.slow
def test_flow_example_fits_the_array(capsys):
    run(block("docs/extending.md", "import coupling_flow"))
    nats = float(capsys.readouterr().out.split()[0])
    # The entropy of the banana is that of the normal it is a shear of: log(2 pi e) = 2.838 nats.
    assert 2.6 < nats < 2.9


# What is named exists.


@pytest.mark.parametrize("page", TEXTS)
def test_files_and_tests_named_exist(page):
    for path in set(re.findall(r"(?:scripts|experiments|genjax|tests)/[\w/.]+\.\w+", TEXTS[page])):
        assert (REPO / path).exists(), path
    for name in set(re.findall(r"`(test_\w+)`", TEXTS[page])):
        found = [p for p in (REPO / "tests").rglob("test_*.py") if f"def {name}(" in p.read_text()]
        assert len(found) == 1, name


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if target.startswith("http"):
            continue
        path, _, heading = target.partition("#")
        place = (REPO / page).parent / path if path else REPO / page
        assert place.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", place.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}


@pytest.mark.parametrize("page", TEXTS)
def test_flags_of_commands_named_exist(page):
    for line in commands(page):
        words = shlex.split(line.replace("[", "").replace("]", ""))
        script = "genjax/command.py" if words[1] == "-m" or "run.py" in words[1] else words[1]
        if not script.startswith(("scripts/", "genjax/")) or words[2] == "sphinx":
            continue
        source = (REPO / script).read_text()
        for flag in [w.removeprefix("--").partition("=")[0] for w in words if w.startswith("--")]:
            known = f'"{flag}"' in source or f'"--{flag}"' in source
            assert known or flag.startswith("config.") or "tpu_pod" in script, f"{line}: {flag}"


def known_keys():
    """Keys of each section, whatever it names."""
    found = {name: set(arguments(settings)) for name, settings in SETTINGS.items()}
    found |= {"family": {"name"}, "model": {"name", "frozen"}, "optimizer": {"name"}}
    for recipe in tables.FAMILIES.values():
        found["family"] |= {*recipe.keys(), *recipe.parts}
        for where in recipe.model_sections():
            found["model"].add(where.removeprefix("model."))
        found["optimizer"] |= {w.removeprefix("optimizer.") for w in recipe.optimizer_sections()}
        for slot in recipe.networks.values():
            found["model"] |= {key for net in slot.table.values() for key in arguments(net)}
            found["model"] |= set(slot.beside)
    found["optimizer"] |= {key for made in tables.OPTIMIZERS.values() for key in arguments(made)}
    return found


@pytest.mark.parametrize("page", [page for page in TEXTS if page != "docs/extending.md"])
def test_config_keys_named_exist(page):
    sections = known_keys()
    named = re.findall(rf"(?:`|--config\.)({'|'.join(sections)})\.(\w+)", TEXTS[page])
    for section, key in named:
        assert key in sections[section] or key in ("npy", "npz", "py", "json", "csv", "txt"), (
            f"{section}.{key}"
        )


def test_the_reference_has_every_key_and_refuses_one_without_a_meaning(monkeypatch):
    pytest.importorskip("sphinx")
    pytest.importorskip("docstring_parser")
    monkeypatch.syspath_prepend(str(REPO / "docs"))
    reference = importlib.import_module("reference")
    assert not doctest.testmod(reference).failed
    page = reference.config_reference("sections") + reference.config_reference("families")
    for part in reference.TABLES:
        assert f"# {reference.TABLES[part][0]}" in reference.config_reference(part)
    known = known_keys()
    for section in (*SETTINGS, "family"):
        assert not [key for key in known[section] - {"name"} if f"``{key}``" not in page]
    valid = {"width": arguments(SETTINGS["train"])["num_steps"]}
    with pytest.raises(ValueError, match="net: the docstring says nothing of width"):
        reference.key_table("net", valid, {"wdith": "Its width."})


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path):
    pytest.importorskip("furo")
    pytest.importorskip("myst_parser")
    build = "-m sphinx -W --keep-going -q -b html docs".split()
    done = subprocess.run(
        [sys.executable, *build, tmp_path],
        cwd=REPO, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(REPO)},
    )  # fmt: skip
    assert not done.returncode, done.stderr
