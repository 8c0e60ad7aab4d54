"""What a result was made from: hashes of the files, versions of the packages.

Enters: paths. Leaves: a JSON object to save beside the result.

    python -c "from eval.files.provenance import provenance; print(provenance([]))"
"""

import hashlib
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from eval.files.trec import PathLike

PACKAGES = (
    "blockseek",
    "ir-measures",
    "numpy",
    "scipy",
    "scikit-learn",
    "sentence-transformers",
    "torch",
    "transformers",
)


def provenance(files: Iterable[PathLike]) -> dict[str, Any]:
    """Return sha256 of the files (those that are files) and the versions of what computed."""
    return {
        "sha256": {str(path): file_hash(path) for path in files if Path(path).is_file()},
        "versions": {"python": platform.python_version()} | package_versions(),
    }


def file_hash(path: PathLike) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of those of `packages` that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
