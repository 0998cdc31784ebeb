"""Installs the package, with its YAML files and samples; `flows/` stays outside."""

import tempfile
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
PACKAGE = "ojd_daps_language_models"
# In the checkout it would hide the metadata that are installed, and Metaflow's code
# packages would carry a distribution without a name, at which every job ends.
EGG_BASE = tempfile.TemporaryDirectory()


def read_requirements(name: str) -> list[str]:
    """Return the requirements in a file, without its comments."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in (line.partition("#")[0].strip() for line in lines) if line]


def read_version() -> str:
    """Return the version that the package states, without importing it."""
    text = (ROOT / PACKAGE / "__init__.py").read_text(encoding="utf-8")
    return text.split('__version__ = "')[1].split('"')[0]


setup(
    name=PACKAGE,
    version=read_version(),
    description="Train and publish language models on job adverts.",
    author="The ojd_daps_language_models authors",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    # recipes is a link to configs/, so that wheels and code packages carry the YAML.
    package_data={
        PACKAGE: [
            *("recipes/*.yaml", "recipes/production/*.yaml", "sample_data/*"),
            "publishing/templates/*.md",
        ]
    },
    install_requires=read_requirements("requirements.txt"),
    options={"egg_info": {"egg_base": EGG_BASE.name}},
)
