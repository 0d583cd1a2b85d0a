"""Sphinx extension: the reference of configs and of public symbols, from the code itself.

A page says where a part of the reference goes with a comment on a line of its own,
``<!-- config: sections -->``, ``<!-- api: genjax.losses -->`` or ``<!-- layers: table -->``; when
Sphinx reads the page, Markdown made from signatures and docstrings takes its place. A config key or
a public symbol without a meaning is an error of the build: the reference is complete, or it is not
built.
"""

import ast
import functools
import importlib
import inspect
import pathlib
import pkgutil
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import docstring_parser
import flax.linen as nn
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

from genjax.config import tables
from genjax.config.arguments import REQUIRED, Argument, arguments
from genjax.config.defaults import SETTINGS
from genjax.config.features import FEATURES
from genjax.config.frozen import FrozenSettings
from genjax.config.guidance import SAMPLING
from genjax.config.pipelines import ChainSettings, Link
from genjax.config.recipes import Recipe
from genjax.data import LOADERS

_ABBREVIATIONS = frozenset({"dcgan", "gan", "mlp", "mmd", "vdm"})

REPO = pathlib.Path(__file__).resolve().parents[1]

PAGES: Mapping[str, tuple[str, ...]] = {
    "genjax": ("genjax",),
    "genjax.losses": ("genjax.losses",),
    "genjax.diffusion": (
        "genjax.diffusion",
        *(
            f"genjax.diffusion.{name}"
            for name in (
                "weightings",
                "predictions",
                "guidance",
                "grid",
                "samplers.base",
                "samplers.linear",
            )
        ),
        "genjax.diffusion.editing",
        "genjax.diffusion.bottleneck",
        "genjax.diffusion.directions",
    ),
    "genjax.bijectors": ("genjax.bijectors", "genjax.ode"),
    "genjax.nets": ("genjax.nets", "genjax.nets.conditioning"),
    "genjax.families": ("genjax.families",),
    # What families share: the modules beside them.
    "genjax.families.parts": (
        "genjax.families.base",
        "genjax.families.minimizing",
        "genjax.families.adversarial",
        "genjax.devices",
        *(
            f"genjax.families.{path.stem}"
            for path in sorted((REPO / "genjax" / "families").glob("*.py"))
            if path.stem not in ("__init__", "vdm_import", "ddpm_import")
        ),
        "genjax.families.gan.content",
    ),
    "genjax.data": ("genjax.data",),
    "genjax.evaluation": ("genjax.evaluation",),
    "genjax.config": (
        "genjax.config",
        "genjax.config.arguments",
        "genjax.config.first_stage",
        "genjax.config.pipelines",
    ),
    "genjax.training": (
        "genjax.training",
        "genjax.training.attacking",
        "genjax.training.editor",
        "genjax.training.embedding",
        "genjax.training.edits",
        "genjax.training.inversion",
    ),
}
"""Pages of the API reference and what each documents; a symbol is on the first that has it."""

NOT_KEYS = frozenset({"event_shape", "acts", "dataset", "split", "data_dir", "memory_limit_mib"})
"""Arguments of named things that the data or the family decides."""

TABLES: Mapping[str, tuple[str, str, Mapping[str, Callable[..., Any]]]] = {
    "score_networks": (
        "Score networks",
        "`model` of diffusion models and flow matching",
        tables.SCORE_NETS,
    ),
    "sources": (
        "Images that networks are told",
        "`model.source` of diffusion models and flow matching",
        tables.SOURCES,
    ),
    "autoregressive_networks": (
        "Autoregressive networks",
        "`model` of `autoregressive`",
        tables.AUTOREGRESSIVE_NETS,
    ),
    "grid_encoders": (
        "Encoders of grids",
        "`model.encoder` of `vq_vae`, `vq_gan` and `kl_autoencoder`",
        tables.GRID_ENCODERS,
    ),
    "grid_decoders": (
        "Decoders of grids",
        "`model.decoder` of `vq_vae`, `vq_gan` and `kl_autoencoder`",
        tables.GRID_DECODERS,
    ),
    "quantizers": ("Quantizers", "`family.quantizer` of `vq_vae` and `vq_gan`", tables.QUANTIZERS),
    "encoders": ("Encoders", "`model.encoder` of `vae`", tables.ENCODERS),
    "decoders": ("Decoders", "`model.decoder` of `vae`", tables.DECODERS),
    "observations": (
        "Observations",
        "`family.observation` of autoencoders and `autoregressive`",
        tables.OBSERVATIONS,
    ),
    "joint_encoders": (
        "Encoders of adversarial inference",
        "`model.encoder` of `bigan`, its aliases and `latent_regression`",
        tables.JOINT_ENCODERS,
    ),
    "joint_critics": (
        "Critics of rows and latents",
        "`model.critic` of `bigan` and its aliases",
        tables.JOINT_CRITICS,
    ),
    "components": (
        "Components",
        "`family.component` of `mixture` and `hidden_markov`",
        tables.COMPONENTS,
    ),
    "bottom_up": (
        "Encoders of groups of latents",
        "`model.encoder` of `hierarchical_vae`",
        tables.BOTTOM_UP,
    ),
    "top_down": (
        "Decoders of groups of latents",
        "`model.decoder` of `hierarchical_vae`",
        tables.TOP_DOWN,
    ),
    "generators": ("Generators", "`model.generator` of GANs", tables.GENERATORS),
    "critics": ("Critics", "`model.critic` of GANs", tables.CRITICS),
    "translators": (
        "Translators",
        "`model.generator` of `pix2pix` and `cycle_gan`",
        tables.TRANSLATORS,
    ),
    "patch_critics": (
        "Critics of patches",
        "`model.critic` of `pix2pix` and `cycle_gan`",
        tables.PATCH_CRITICS,
    ),
    "enlargers": (
        "Networks that enlarge",
        "`model` of `super_resolution` and `model.generator` of `srgan`",
        tables.ENLARGERS,
    ),
    "classifiers": (
        "Classifiers",
        "`model` of `classifier`, `model.net` of `dann` and `cdan`, `model.critic` of "
        "`semi_supervised_gan`",
        tables.CLASSIFIERS,
    ),
    "domain_networks": (
        "Classifiers of domains",
        "`model.domain_net` of `dann` and `cdan`",
        tables.DOMAIN_NETS,
    ),
    "image_towers": (
        "Networks of images to vectors",
        "`model.image` of `contrastive`, `clip` and `siglip`",
        tables.IMAGE_TOWERS,
    ),
    "embedding_forms": (
        "Forms of embeddings",
        '`data.embeddings.form` with `data.embeddings.what="x"`',
        tables.EMBEDDING_FORMS,
    ),
    "embedding_contexts": (
        "What denoising networks are told of embeddings",
        "`model.embedding` beside `data.embeddings`",
        tables.EMBEDDING_CONTEXTS,
    ),
    "text_towers": (
        "Networks of texts to vectors",
        "`model.text` of `contrastive`, `clip` and `siglip`",
        tables.TEXT_TOWERS,
    ),
    "adversaries": ("Adversaries", "`family.adversary` of `classifier`", tables.ADVERSARIES),
    "flows": ("Flows", "`model` of `flow`", tables.FLOWS),
    "processes": (
        "Processes",
        "`family.process` of diffusion models and of classifiers of latents",
        tables.PROCESSES,
    ),
    "schedules": ("Noise schedules", "`family.schedule` of `vdm`", tables.SCHEDULES),
    "augments": ("Augmentation", "`family.augment` of GANs", tables.AUGMENTS),
    "dequantizers": ("Dequantisers", "`family.dequantizer` of `flow`", tables.DEQUANTIZERS),
    "optimizers": (
        "Optimisers",
        "`optimizer`, of GANs `optimizer.generator` and `optimizer.critic`",
        tables.OPTIMIZERS,
    ),
    "edits": ("Edits", "`edit`, which `--mode=edit` does", tables.EDITS),
    "transforms": ("Transforms", "each of `data.transforms`", tables.TRANSFORMS),
    "loaders": ("Data sets with options", "`data.options`, as `data.name` says", LOADERS),
    "features": ("Features of samples", "`eval.features`", FEATURES),
    "samplers": ("Samplers", "`sample.sampler` of diffusion models", SAMPLING["sampler"]),
    "guidance": ("Guidance", "`sample.guidance` of diffusion models", SAMPLING["guidance"]),
}


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("source-read", _fill_in)
    app.connect("missing-reference", _by_public_name)
    app.connect("autodoc-process-signature", _readable)
    app.connect("autodoc-process-docstring", _whole_sentence, priority=600)  # after napoleon
    app.connect("autodoc-skip-member", _skipped)
    return {"parallel_read_safe": True}


def _fill_in(app: Sphinx, page: str, source: list[str]) -> None:
    """Puts what a comment asks for in its place."""
    del app
    makers = {"config": config_reference, "api": api_reference, "layers": layer_reference}

    def made(match: re.Match[str]) -> str:
        try:
            return makers[match[1]](match[2])
        except (KeyError, ValueError) as error:
            raise ExtensionError(f"{page}: {match[0]}: {error}") from error

    source[0] = re.sub(
        r"^<!-- (config|api|layers): ([\w.]+) -->$", made, source[0], flags=re.MULTILINE
    )


# Configs.


def config_reference(part: str) -> str:
    """A part of the reference of configs, as Markdown.

    Args:
        part: ``sections``, ``families``, ``frozen``, or a key of :data:`TABLES`.

    Returns:
        Markdown.

    Raises:
        ValueError: If a key has no meaning in a docstring.
    """
    if part == "sections":
        return "\n".join(
            _heading(3, name) + _rst(key_table(name, arguments(made), meanings(made)))
            for name, made in SETTINGS.items()
        )
    if part == "frozen":
        return _rst(key_table("frozen", arguments(FrozenSettings), meanings(FrozenSettings)))
    if part == "pipelines":
        made = (("sample", ChainSettings), ("sample.chain", Link))
        return _rst(*(key_table(where, arguments(one), meanings(one)) for where, one in made))
    if part == "families":
        by_length = sorted(tables.FAMILIES, key=lambda name: bool(tables.FAMILIES[name].extends))
        return "\n".join(_family(name, tables.FAMILIES[name]) for name in by_length)
    title, where, table = TABLES[part]
    lines = [f"## {title}\n", f"For {where}.\n"]
    for name, made in table.items():
        valid = {key: a for key, a in arguments(made).items() if key not in NOT_KEYS}
        where = f"{title} {name}"
        lines.append(_heading(3, name))
        lines.append(_rst(summary(made), key_table(where, valid, meanings(made)), references(made)))
    return "\n".join(lines)


def _family(name: str, recipe: Recipe) -> str:
    """Keys of a family; of one that extends another those in which it differs."""
    keys, said, note = recipe.keys(), dict(meanings(recipe.make)), ""
    for group in recipe.groups.values():
        said = {**meanings(group), **said}
    if recipe.extends is None:
        arguments_of_parts = recipe.arguments()
        for part in recipe.parts:
            default = arguments_of_parts[part].default
            hint: Any = Mapping[str, Any] if default is REQUIRED else Mapping[str, Any] | None
            keys[part] = Argument(hint, default)
        models = {where: slot.table for where, slot in recipe.model_sections().items()}
        parts = {f"family.{part}": table for part, table in recipe.parts.items()}
        notes = [
            f"``{where}.name`` is {listed([f'``{n}``' for n in table], 'or')}."
            for where, table in {**models, **parts}.items()
        ]
        optimizers = [f"``{where}``" for where in recipe.optimizer_sections()]
        note = " ".join([*notes, f"Optimisers: {listed(optimizers) or 'none'}."])
    else:
        base_name, base = next(
            (n, r) for n, r in tables.FAMILIES.items() if r.make is recipe.extends and not r.extends
        )
        said = {**meanings(base.make), **said}
        inherited = base.keys()
        decided = [f"``{key}``" for key in inherited if key not in keys]
        keys = {key: a for key, a in keys.items() if inherited.get(key) != a}
        note = f"All other keys are those of :ref:`{base_name} <family-{base_name}>`"
        note += f", but for {listed(decided)}, which it decides itself." if decided else "."
    target = f"(family-{name})=\n"
    table = key_table(f"family {name}", keys, said) if keys else ""
    return (
        target
        + _heading(3, name)
        + _rst(summary(recipe.make), table, note, references(recipe.make))
    )


def meanings(made: Callable[..., Any]) -> dict[str, str]:
    """What a docstring says of each argument or attribute, as reST in one line.

    What a record has of another is said there.
    """
    bases = made.__mro__ if isinstance(made, type) else (made,)
    found: dict[str, str] = {}
    for base in reversed(bases):
        own = base.__doc__ if base is not object else None
        doc = docstring_parser.parse(
            inspect.cleandoc(own or ""), docstring_parser.DocstringStyle.GOOGLE
        )
        found |= {p.arg_name: " ".join((p.description or "").split()) for p in doc.params}
    return found


def summary(made: Callable[..., Any]) -> str:
    """What a docstring says before its sections, as reST."""
    text = inspect.getdoc(made) or ""
    return re.split(r"^[A-Z]\w+:$", text, maxsplit=1, flags=re.MULTILINE)[0].strip()


def references(made: Callable[..., Any]) -> str:
    """The papers a docstring names, as reST."""
    found = re.search(r"^References:\n((?: +.*\n?)+)", inspect.getdoc(made) or "", re.MULTILINE)
    return f"References: {' '.join(found[1].split())}" if found else ""


def key_table(where: str, valid: Mapping[str, Argument], said: Mapping[str, str]) -> str:
    """A table of keys in reST.

    Args:
        where: What the keys are of, for the error.
        valid: The keys.
        said: Their meanings.

    Returns:
        A ``list-table``.

    Raises:
        ValueError: If one has no meaning.
    """
    if not valid:
        return "It has no keys."
    without = [key for key in valid if not said.get(key)]
    if without:
        raise ValueError(f"{where}: the docstring says nothing of {', '.join(without)}")
    rows = ["* - key", "  - type", "  - default", "  - meaning"]
    for key, argument in valid.items():
        default = "required" if argument.default is REQUIRED else f"``{as_text(argument.default)}``"
        rows += [f"* - ``{key}``", f"  - {type_text(argument.hint)}", f"  - {default}"]
        rows.append(f"  - {said[key]}")
    head = ".. list-table::\n   :header-rows: 1\n   :class: keys\n   :widths: 18 18 14 50\n\n"
    return head + textwrap.indent("\n".join(rows), "   ")


def as_text(value: Any) -> str:
    """A default as an experiment file would have it."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def type_text(hint: Any) -> str:
    """A type as a reader of configs wants it, in reST.

    Example:
        >>> type_text(int | None)
        'int or ``None``'
    """
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        # What an experiment file cannot hold (a record of functions, say) is for Python only.
        plain = [o for o in options if not getattr(o, "__module__", "").startswith("genjax.")]
        return " or ".join(type_text(option) for option in plain or options)
    if origin is typing.Literal:
        return " or ".join(f"``{as_text(option)}``" for option in options)
    if hint in (None, type(None)):
        return "``None``"
    if hint is Any:
        return "any"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "mapping"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return (
            f"sequence of {'mappings' if 'Mapping' in str(options[0]) else type_text(options[0])}"
        )
    return getattr(hint, "__name__", str(hint))


def listed(words: Sequence[str], joined_by: str = "and") -> str:
    """Words as a sentence has them.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    return f" {joined_by} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _heading(level: int, name: str) -> str:
    return f"{'#' * level} `{name}`\n\n"


def _rst(*parts: str) -> str:
    """A block of reST in a page of Markdown."""
    return "```{eval-rst}\n" + "\n\n".join(part for part in parts if part) + "\n```\n"


# Layers.


def layer_reference(what: str) -> str:
    """What each layer may import, from the test that keeps it so, as Markdown."""
    del what
    tree = ast.parse((REPO / "tests" / "test_imports.py").read_text())
    (allowed,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ALLOWED"
    ]
    inside = {path.parent.name for path in (REPO / "genjax").glob("*/__init__.py")} | {"devices"}
    lines = ["| layer | holds | of genjax | of others |", "|---|---|---|---|"]
    for layer, names in allowed.items():
        about = (inspect.getdoc(importlib.import_module(f"genjax.{layer}")) or "").split("\n\n")[0]
        own = sorted(n for n in names - {layer} if n.split(".")[0] in inside)
        others = sorted(n for n in names if n.split(".")[0] not in inside)
        columns = [", ".join(f"`{n}`" for n in column) or "nothing" for column in (own, others)]
        lines.append(f"| `{layer}` | {' '.join(about.split())} | {' | '.join(columns)} |")
    return "\n".join(lines)


# Public symbols.


class Symbol(typing.NamedTuple):
    """A public symbol: the page it is on, where a user imports it from, where it is defined."""

    page: str
    package: str
    name: str
    module: str
    directive: str


def api_reference(page: str) -> str:
    """Every public symbol of a page, by the module that defines it, as Markdown.

    Raises:
        ValueError: If one has no docstring.
    """
    found = [symbol for symbol in symbols() if symbol.page == page]
    modules = list(dict.fromkeys(symbol.module for symbol in found))
    if found[0].package == page:  # a package; its exports are in no order worth keeping
        modules.sort()
    package = importlib.import_module(PAGES[page][0])
    lines = [_rst(inspect.getdoc(package) or "")] if hasattr(package, "__path__") else []
    for module in modules:
        own = [symbol for symbol in found if symbol.module == module]
        if not hasattr(importlib.import_module(module), "__path__"):
            pages = [s.page for s in symbols() if s.module == module and s.page != "genjax"]
            if page in pages[:1]:  # where ``:mod:`` leads to
                lines.append(f"({_label(module)})=")
            lines.append(f"## {_title(module, exported=own[0].package != module)}\n")
        about = inspect.getdoc(importlib.import_module(module)) or ""
        context = f".. py:currentmodule:: {own[0].package}"
        lines.append(_rst(context, about, *map(_directive, own)))
    return "\n".join(lines)


def _title(module: str, *, exported: bool) -> str:
    if not exported:  # symbols are imported from there
        return f"`{module}`"
    words = module.rpartition(".")[2].split("_")
    words = [word.upper() if word in _ABBREVIATIONS else word for word in words]
    return " ".join([words[0][0].upper() + words[0][1:], *words[1:]])


def _label(module: str) -> str:
    return f"module-{module}".replace(".", "-").lower()


def _directive(symbol: Symbol) -> str:
    lines = [f".. {symbol.directive}:: {symbol.package}::{symbol.name}"]
    if symbol.directive == "autodata":  # its documentation stands where it is defined
        lines = [f".. autodata:: {symbol.module}::{symbol.name}", "   :no-value:"]
    if symbol.directive == "autoclass":
        lines += ["   :members:", "   :special-members: __call__"]
    return "\n".join(lines)


@functools.cache
def symbols() -> tuple[Symbol, ...]:
    """All public symbols; each once, under the first package that has it.

    Raises:
        ValueError: If one has no docstring.
    """
    found: dict[tuple[str, str], Symbol] = {}
    for page, packages in PAGES.items():
        for package in packages:
            for symbol in _symbols_of(page, package):
                found.setdefault((symbol.module, symbol.name), symbol)
    return tuple(found.values())


def _symbols_of(page: str, package: str) -> Iterator[Symbol]:
    """Symbols of a package: those it exports, or else what its modules define and document."""
    imported = importlib.import_module(package)
    if hasattr(imported, "__all__"):
        for name in imported.__all__:
            value = getattr(imported, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                module = value.__module__
            else:
                module = next(m for m in _modules(package) if name in _defined(m))
            if not _defined(module)[name]:
                raise ValueError(f"{module}.{name} has no docstring")
            yield Symbol(page, package, name, module, _directive_for(value))
        return
    for module in _modules(package):
        for name, documented in _defined(module).items():
            if documented and not name.startswith("_"):
                value = getattr(importlib.import_module(module), name)
                yield Symbol(page, module, name, module, _directive_for(value))


def _directive_for(value: Any) -> str:
    if inspect.isclass(value):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    return "autofunction" if inspect.isfunction(value) else "autodata"


def _modules(package: str) -> list[str]:
    """A package and all modules in it."""
    places = getattr(importlib.import_module(package), "__path__", [])
    return [package, *(info.name for info in pkgutil.walk_packages(places, f"{package}."))]


@functools.cache
def _defined(module: str) -> dict[str, bool]:
    """Names that a module defines, and whether a docstring belongs to each."""
    file = importlib.import_module(module).__file__
    assert file is not None
    body = ast.parse(pathlib.Path(file).read_text()).body
    found: dict[str, bool] = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ast.get_docstring(node) is not None
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        for target in targets:
            if isinstance(target, ast.Name):
                found[target.id] = documented
    return found


def _by_public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.TextElement
) -> nodes.Node | None:
    """Leads a reference to where a symbol is defined to where it is documented."""
    target, kind = node.get("reftarget", ""), node.get("reftype")
    for symbol in symbols():
        if kind == "mod" and target == symbol.module:
            std: Any = env.get_domain("std")
            node["refexplicit"] = True
            return std.resolve_xref(
                env, node["refdoc"], app.builder, "ref", _label(target), node, text
            )
        own = f"{symbol.module}.{symbol.name}"
        if target == own or target.startswith(f"{own}."):
            name = f"{symbol.package}.{symbol.name}{target.removeprefix(own)}"
            domain: Any = env.get_domain("py")
            return domain.resolve_xref(env, node["refdoc"], app.builder, kind, name, node, text)
    return None


def _readable(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str, result: str
) -> tuple[str, str] | None:
    """Names arrays as the code does, and leaves out what every Linen module takes."""
    del app, name, options
    if signature is None:
        return None
    if what == "class" and issubclass(value, nn.Module):
        signature = re.sub(r",? ?(\*, )?parent: .*?, name: [^)]*\)$", ")", signature)
    signature, result = (
        re.sub(r"(?:jaxlib\._jax|jax)\.Array\b", "Array", text or "")
        for text in (signature, result)
    )
    return re.sub(r"= <[^=]*? at 0x[0-9a-f]+>", "= ...", signature), result


def _whole_sentence(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Puts a property's sentence together again: Napoleon takes what a colon follows for a type."""
    del app, name, value, options
    if what in ("attribute", "data", "property") and lines and lines[-1].startswith(":type: "):
        lines[:] = [f"{lines[-1].removeprefix(':type: ')}: {lines[0]}", *lines[1:-1]]


def _skipped(
    app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any
) -> bool | None:
    """Leaves out what records bring with them."""
    del app, what, skip, options
    doc = getattr(value, "__doc__", None) or ""
    if name == "replace" or doc.startswith("Alias for field number"):
        return True
    return None
