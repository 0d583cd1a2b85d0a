"""The versions that are said to be tested."""

import pathlib
import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPO = pathlib.Path(__file__).resolve().parents[1]


def test_what_is_installed_for_tests_is_pinned_to_versions_that_the_project_allows():
    lines = (REPO / ".docker" / "requirements.lock").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["gcs"], *extras["test"], *extras["docs"]]
    for requirement in map(Requirement, needed):
        if requirement.name != project["name"]:
            pinned = pins.get(canonicalize_name(requirement.name))
            assert pinned and requirement.specifier.contains(pinned), f"{requirement}: {pinned}"
    assert "torch" not in pins


def test_the_image_is_made_with_these_versions_and_extras_that_exist():
    text = (REPO / ".docker" / "Dockerfile").read_text()
    assert 'pip install -c .docker/requirements.lock -e ".[${EXTRAS}]"' in text
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    named = {
        extra for extras in re.findall(r"EXTRAS=([\w,]+)", text) for extra in extras.split(",")
    }
    assert named and named <= set(project["optional-dependencies"])
