"""The folder of a result: its runs, `result.json`, its page. It holds one result, and that whole.

Enters: runs by name, a JSON object, a page. Leaves: these and nothing of a former result; files
that this project did not write are never replaced.

    write_result(Path("out"), {"dense": {"q1": {"p4": 0.66}}}, {"queries": 1}, "<!doctype html>")
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.files import write_text
from configs.formats.lines import read_lines
from eval.files.trec import Run, write_run

RUNS, RESULT, PAGE = "runs", "result.json", "report.html"
_TAG = "blockseek-"


def check_result_folder(folder: Path) -> None:
    """Raise `ValueError` naming what in `folder` a result would replace and is none of ours."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder with --out")
    for path in (folder / RESULT, folder / PAGE, *sorted((folder / RUNS).glob("*"))):
        if path.exists() and not _is_ours(path):
            raise ValueError(
                f"{path} is there already and no result of this command; move it, or name another "
                "folder with --out"
            )


def write_result(folder: Path, runs: Mapping[str, Run], result: Any, page: str | None) -> None:
    """Replace the result in `folder`, as one: `result.json` goes first and comes last.

    Raises `ValueError` as `check_result_folder` does, and for ids that no run can hold.
    """
    check_result_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".result.", dir=folder))
    try:
        (made / RUNS).mkdir()
        for name, run in runs.items():
            write_run(made / RUNS / f"{name}.trec", run, f"{_TAG}{name}")
        if page is not None:
            write_text(made / PAGE, page)
        text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
        write_text(made / RESULT, f"{text}\n")
        for name in (RESULT, PAGE):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / RUNS, ignore_errors=True)
        for name in (RUNS, PAGE, RESULT):
            if (made / name).exists():
                (made / name).rename(folder / name)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _is_ours(path: Path) -> bool:
    if path.name == RESULT:
        try:
            found = json.loads(path.read_bytes())
        except (ValueError, OSError):
            return False
        return isinstance(found, dict) and bool(found.keys() & {"stages", "against_dense"})
    if path.name == PAGE:
        with path.open("rb") as file:
            return b"<title>blockseek" in file.read(1000)
    try:
        first = next((line.text or "" for line in read_lines(path)), f"x {_TAG}")
    except ValueError:
        return False
    return (first.split() or [""])[-1].startswith(_TAG)
