"""How the documentation is built: ``python -m sphinx -W --keep-going -b html docs docs/_build``."""

import pathlib
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

_project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
project = "genjax"
author = "the genjax authors"
project_copyright = author
version = release = _project["version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",  # MathJax and its fonts from the package, so that no page loads any
    "reference",  # docs/reference.py: config keys and public symbols from the code itself
]
exclude_patterns = ["_build", "_static"]

# Pages are Markdown. Headings are targets, as on GitHub.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Links out of docs/ are to files of the repository, which the README shows on its own.
suppress_warnings = ["myst.header"]

# Docstrings are in Google's style.
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_attr_annotations = False  # signatures have them
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
add_module_names = False
# References to names of this package must lead somewhere; those to others' are not looked up.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!genjax\.).*"),
    ("py:class", r"genjax\.(devices\.T|families\.likelihood\.T|families\.middle\.Model)"),
    ("py:class", r"genjax\.(diffusion\.guidance\._Told|families\.gan\.translation\.Side)"),
]

html_theme = "furo"
html_title = "genjax"
html_static_path = ["_static"]
html_css_files = ["genjax.css"]
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {
        "font-stack--monospace": "DejaVu Sans Mono, Menlo, Consolas, monospace"
    },
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
