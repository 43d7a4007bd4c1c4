"""Lets every Python process that has this folder on its path find the planted models."""

from pathlib import Path

import medrec.models

medrec.models.__path__.append(str(Path(__file__).parent / "models"))
