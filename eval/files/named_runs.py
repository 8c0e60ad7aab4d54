"""Runs of several systems by name.

Enters: run files and folders of run files. Leaves: `{system: run}`, None for a system whose file
is empty or absent: it failed, and a failure is not a score.

    python -c "from eval.files.named_runs import named_runs; print(list(named_runs(['runs'])))"
"""

from collections.abc import Iterable
from pathlib import Path

from eval.files.trec import PathLike, Run, read_run

# What a run's file name may end in; the rest is the system's name.
SUFFIXES = (".gz", ".trec", ".run", ".txt", ".res")


def system_name(path: PathLike) -> str:
    """Return the file's name without what says that it is a run."""
    name = Path(path).name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def run_paths(sources: Iterable[PathLike]) -> dict[str, Path]:
    """Return `{system: file}`: files as they are, folders by the runs in them, sorted by name.

    Raises `ValueError` where two files give one name, and where a folder has no run.
    """
    paths: dict[str, Path] = {}
    for source in map(Path, sources):
        found = [source]
        if source.is_dir():
            found = sorted(
                path
                for path in source.iterdir()
                if path.is_file()
                and not path.name.startswith(".")
                and path.name.removesuffix(".gz").endswith(SUFFIXES[1:])
            )
            if not found:
                raise ValueError(
                    f"{source} holds no run (files that end in {', '.join(SUFFIXES[1:])}, or .gz)"
                )
        for path in found:
            name = system_name(path)
            if name in paths:
                raise ValueError(f"{paths[name]} and {path} are both named {name!r}; rename one")
            paths[name] = path
    return paths


def named_runs(sources: Iterable[PathLike]) -> dict[str, Run | None]:
    """Read the runs of `sources`; a file that is absent or empty is a system that failed: None."""
    return {
        name: read_run(path) if path.is_file() and path.stat().st_size else None
        for name, path in run_paths(sources).items()
    }
