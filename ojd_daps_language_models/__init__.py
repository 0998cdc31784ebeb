"""Train and publish language models on job adverts."""

from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parent.parent

# Metaflow ships this whole package, YAML and samples included, with every remote task.
METAFLOW_PACKAGE_POLICY = "include"

__version__ = "0.1.0"
