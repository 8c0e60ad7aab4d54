"""The arrows of the design: what measures must not need what is measured."""

import ast
from pathlib import Path

import pytest

EVAL = Path(__file__).resolve().parents[2] / "eval"
OTHERS = {"retrieval", "rerank", "index", "kernels"}
# These read texts or run the pipeline; everything else in eval/ stands alone.
WITH_TEXTS = {
    "mini_data/build.py", "mini_data/fit.py", "mini_data/leaks.py", "mini_data/lists.py",
    "mini_data/prepare.py", "mini_data/source_search.py", "mini_data/sources.py",
    "pipeline/collection_runs.py", "pipeline/collection_texts.py", "pipeline/collections.py",
    "pipeline/demo.py", "pipeline/known_items.py", "pipeline/mining.py", "pipeline/report_files.py",
    "pipeline/stages.py",
}  # fmt: skip
ALONE = sorted(
    path.relative_to(EVAL).as_posix()
    for path in EVAL.rglob("*.py")
    if path.relative_to(EVAL).as_posix() not in WITH_TEXTS and "commands" not in path.parts
)


@pytest.mark.parametrize("name", ALONE)
def test_measures_statistics_agreement_and_udcg_import_no_other_room(name):
    imported = set()
    for node in ast.walk(ast.parse((EVAL / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    assert imported.isdisjoint(OTHERS)
