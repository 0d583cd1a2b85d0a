import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "genjax"
ALLOWED = {
    "losses": {"losses"},
    "diffusion": {"losses", "diffusion", "ode", "flax", "numpy"},
    "bijectors": {"bijectors", "nets", "ode", "flax", "numpy"},
    "nets": {"devices", "nets", "flax", "numpy"},
    "families": {
        "devices", "losses", "diffusion", "bijectors", "families", "ode", "flax", "numpy",
        "optax",
    },
    "training": {
        "data", "devices", "diffusion", "families.base", "losses.attacks", "training", "evaluation",
        "absl", "etils", "matplotlib", "mlflow", "numpy", "optax", "orbax", "PIL", "rich",
        "safetensors", "tensorboardX", "wandb",
    },
    "config": {
        "bijectors", "config", "data", "diffusion", "families", "nets", "training", "absl",
        "beartype", "etils", "flax", "ml_collections", "numpy", "torch",
    },
    "data": {
        "data", "PIL", "absl", "array_record", "grain", "matplotlib", "numpy", "pyarrow", "scipy",
        "sklearn", "tensorflow_datasets", "tokenizers",
    },
    "evaluation": {
        "PIL", "evaluation", "losses", "nets", "flax", "numpy", "optax", "ot", "scipy", "sklearn",
    },
}  # fmt: skip
ALWAYS = {"jax", "jaxtyping", *sys.stdlib_module_names}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("folder", sorted(p.name for p in PACKAGE.iterdir() if p.is_dir()))
def test_layers_import_only_what_stands_below_them(folder):
    if folder == "__pycache__":
        return
    allowed = {f"genjax.{name}" for name in ALLOWED[folder]} | ALLOWED[folder] | ALWAYS
    for path in (PACKAGE / folder).rglob("*.py"):
        for name in imports(path):
            prefixes = {".".join(name.split(".")[:n]) for n in range(1, 4)}
            if name.startswith("genjax"):
                prefixes.discard("genjax")
            assert prefixes & allowed, f"{path.relative_to(PACKAGE)} imports {name}"


def test_no_modules_import_each_other():
    names = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"):
        path for path in PACKAGE.rglob("*.py")
    }  # fmt: skip
    graph = {}
    for name, path in names.items():
        found = set()
        for imported in imports(path):
            if imported.startswith("genjax"):
                parts = imported.split(".")
                known = [".".join(parts[:n]) for n in range(len(parts), 1, -1)]
                found |= set([k for k in known if k in names][:1])
        # A folder's face imports its modules, which therefore must not go through the face.
        graph[name] = found - {name}
    graph["genjax"] = set()  # imports when it is asked

    done, path = set(), []

    def visit(name):
        assert name not in path, " imports ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for other in sorted(graph[name]):
            visit(other)
        path.pop()
        done.add(name)

    for name in sorted(graph):
        visit(name)


def modules_after(statement):
    code = f"{statement}; import sys; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    return set(subprocess.check_output([sys.executable, "-c", code], text=True).split())


def test_losses_import_jax_and_nothing_heavy():
    heavy = {
        "flax",
        "optax",
        "orbax",
        "grain",
        "tensorflow_datasets",
        "tensorflow",
        "ml_collections",
    }
    assert not heavy & modules_after("import genjax.losses")


def test_configs_never_import_tensorflow():
    assert "tensorflow" not in modules_after("import genjax.config, genjax.data, genjax.training")
