"""What the README tells a new user to type works, and prints what it says.

Blocks marked `sh` and `python` run in order in one empty folder; where a plain block follows, it
must be the end of what was printed, numbers with a point aside (they differ in their last digits
between machines).
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


class Example(NamedTuple):
    language: str
    code: str
    printed: str


def _examples() -> list[Example]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = list(_BLOCK.finditer(text))
    examples = []
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block[1] in ("sh", "python"):
            adjacent = following is not None and following.start() == block.end()
            printed = following[2] if following and adjacent and not following[1] else ""
            examples.append(Example(block[1], block[2], printed))
    return examples


def _without_digits(text: str) -> str:
    return re.sub(r"-?\d+\.\d+", "#", text).strip()


def test_readme_has_examples_of_all_three_uses():
    code = "".join(example.code for example in _examples())
    for use in ("retrieval.index build", "retrieval.index search", "rerank(", "eval run"):
        assert use in code


def test_readme_examples_run_and_print_what_it_says(tmp_path):
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
    }
    for example in _examples():
        command = {"sh": ["bash", "-e", "-c"], "python": [sys.executable, "-c"]}[example.language]
        done = subprocess.run(
            [*command, example.code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{example.code}\n{done.stderr}"
        if example.printed:
            assert _without_digits(done.stdout).endswith(_without_digits(example.printed))
    assert (tmp_path / "garden-run" / "report.html").is_file()


def test_readme_names_make_targets_that_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"`make ([\w-]+)`", readme))
    assert {"demo", "test"} <= targets
    assert targets <= set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))


def test_readme_tree_names_files_that_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = next(m[2] for m in _BLOCK.finditer(text) if m[2].startswith("retrieval/"))
    folder = ROOT
    for line in tree.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = ROOT / name
            assert folder.is_dir(), name
        else:
            assert (folder / name).exists(), f"{folder}/{name}"


def test_the_map_names_files_that_exist():
    """docs/architecture.md shortens a path to what the sentence before it leaves open."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./]+(?:\.py|\.yaml|/))`", text)) - {"configs/rerank/NAME.yaml"}
    paths = {
        f"/{path.relative_to(ROOT).as_posix()}{'/' if path.is_dir() else ''}"
        for folder in ("retrieval", "rerank", "index", "kernels", "eval", "configs", "tests")
        for path in (ROOT / folder, *(ROOT / folder).rglob("*"))
    }
    assert len(named) > 40
    assert not [name for name in named if not any(path.endswith(f"/{name}") for path in paths)]
