"""Label files of several judges by name.

Enters: label files and folders of them. Leaves: `{judge: file}`, and labels; None for an empty
file, which is a judge that failed.

    python -c "from eval.files.named_labels import judge_files as f; print(list(f(['judges'])))"
"""

from collections.abc import Iterable
from pathlib import Path

from eval.files.trec import PathLike, Qrels, read_qrels

SUFFIXES = (".tsv", ".txt", ".qrels")


def judge_files(sources: Iterable[PathLike]) -> dict[str, Path]:
    """Return `{judge: file}`: files as they are, folders by the label files in them, sorted.

    Raises `ValueError` where a source does not exist, two files give one name, or there is none.
    """
    paths = list(map(Path, sources))
    files: dict[str, Path] = {}
    for source in paths:
        if source.is_dir():
            found = sorted(path for path in source.iterdir() if path.suffix in SUFFIXES)
        elif source.is_file():
            found = [source]
        else:
            raise ValueError(f"{source} does not exist; name the judges' label files with --judges")
        for path in found:
            if path.stem in files:
                raise ValueError(f"{files[path.stem]} and {path} are one name; rename one")
            files[path.stem] = path
    if not files:
        raise ValueError(f"no label file ({', '.join(SUFFIXES)}) in {', '.join(map(str, paths))}")
    return files


def read_judge(path: Path) -> Qrels | None:
    """Return the labels, None for an empty file."""
    return read_qrels(path) if path.stat().st_size else None
