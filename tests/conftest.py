"""Fixtures that more than one package's tests use."""

import os
from pathlib import Path

import pytest

# Tests never reach for a model hub: what they need is installed or made on the spot.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real test collections; the test is skipped where there is none."""
    folder = Path(os.environ.get("BLOCKSEEK_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test collections: set BLOCKSEEK_DATA to their folder ({folder} is none)")
    return folder
