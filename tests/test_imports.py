"""Who may import whom. The imports are read, not run."""

import ast
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("retrieval", "rerank", "index", "kernels", "eval", "configs")
# What a package may import of ours besides itself.
ARROWS = {
    "kernels": set(),
    "index": set(),
    "configs": set(),
    "retrieval": {"index", "configs"},
    "rerank": {"kernels", "configs"},
    "eval": {"retrieval", "rerank", "index", "kernels", "configs"},
}
# The same inside the two packages that have rooms: what a room, or a file beside the rooms, may
# import of the others. Files that hand names on (`__init__`, `__main__`) are not held to it.
ROOMS = {
    "index": {
        "disk": set(),
        "records": set(),
        "manifest": {"disk", "records"},
        "store": {"disk", "records", "manifest"},
        "dense": {"disk", "store"},
        "words": {"disk", "manifest", "store"},
        "segment": {"disk", "records", "manifest", "store", "dense", "words"},
        "dense_index": {"records", "manifest", "store", "dense", "words", "segment"},
        "verify": {"manifest", "store", "dense", "words", "segment", "dense_index"},
        "writing": {"disk", "records", "manifest", "store", "dense", "words", "segment"},
    },
    "rerank": {
        "settings": set(),
        "warned": set(),
        # Prompts cut passages, and the queries of late-interaction checkpoints: the caller is told.
        "prompt": {"settings", "warned"},
        "examples": {"prompt"},
        "backbones": {"settings", "prompt"},
        "answers": {"settings", "prompt", "backbones"},
        "highlights": {"prompt", "backbones"},
        "scoring": {"settings", "prompt", "backbones"},
        "cache": {"settings", "prompt", "backbones", "scoring"},
        "heads": {"settings", "prompt", "backbones", "scoring", "examples"},
        "documents": {"prompt", "backbones", "scoring", "cache", "highlights", "warned"},
        "cascade": {"prompt", "warned"},
        "ranker": {
            "prompt", "backbones", "scoring", "cache", "cascade", "documents", "highlights",
        },
        # An export reads a model's weights.
        "interfaces": {
            "prompt", "backbones", "scoring", "cache", "highlights", "ranker", "warned",
        },
        "training": {"settings", "prompt", "examples", "backbones", "scoring", "ranker"},
        "commands": {
            "settings", "prompt", "examples", "scoring", "heads", "cache", "documents", "answers",
            "highlights", "ranker", "interfaces", "training",
        },
    },
    "eval": {
        "measures": set(),
        "files": {"measures"},
        "statistics": {"measures", "files"},
        "agreement": {"measures", "files", "statistics"},
        "judging": {"files"},
        "reporting": {"measures", "files", "statistics", "agreement"},
        "pipeline": {"measures", "files", "statistics", "reporting"},
        "mini_data": {"files", "pipeline"},
        "commands": {
            "measures", "files", "statistics", "agreement", "judging", "reporting", "pipeline",
            "mini_data",
        },
    },
}  # fmt: skip
# The lexical leg of an index is tantivy's files, as the dense leg is FAISS's.
LIBRARIES = {
    "kernels": {"torch", "triton"},
    "index": {"faiss", "pyarrow", "numpy", "tantivy"},
}
# Measures stand on their own, so that they can be trusted, and used, without the engine.
PURE_MEASURES = (
    "measures.ranking", "measures.udcg", "agreement",
    "statistics.significance", "statistics.tukey", "statistics.intervals",
)  # fmt: skip


@cache
def _modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def _imports(module: str, top_level_only: bool = False) -> frozenset[str]:
    """The names that `module` imports; `from a import b` gives a.b where that is a module."""
    names: set[str] = set()
    for node in _import_nodes(ast.parse(_modules()[module].read_bytes()), top_level_only):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            assert node.level == 0, f"{module} imports relatively"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in _modules() else str(node.module) for name in whole}
    return frozenset(names)


def _import_nodes(tree, top_level_only):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not (top_level_only and _runs_later(node)):
            yield from _import_nodes(node, top_level_only)


def _runs_later(node):
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.dump(node.test)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _roots(module: str) -> set[str]:
    return {name.partition(".")[0] for name in _imports(module)}


def test_the_reader_sees_imports_of_every_kind():
    """Else every test here would pass on nothing."""
    assert set(PACKAGES) <= set(_modules())
    assert "faiss" in _imports("index.dense.build")
    assert "kernels" in _imports("rerank.prompt.packing")
    assert "rerank.cache.build" in _imports("rerank.cache.passage_cache")
    assert "kernels.block_score" in _imports("rerank.scoring.scores")
    assert "retrieval.encoder" in _imports("retrieval")
    assert "retrieval.encoder" not in _imports("retrieval", top_level_only=True)
    assert "index.manifest.manifest" in _imports("retrieval.commands.info")
    assert "index.manifest.manifest" not in _imports("retrieval.commands.info", top_level_only=True)


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_point_one_way(package):
    for module in _modules():
        if module.partition(".")[0] == package:
            ours = _roots(module) & set(PACKAGES)
            assert ours <= ARROWS[package] | {package}, f"{module} imports {ours}"


def _room(module: str) -> str:
    """The room of `module`, or its own name where it stands beside the rooms; "" for a face."""
    parts = module.split(".")
    return "" if len(parts) == 1 or parts[1] == "__main__" else parts[1]


@pytest.mark.parametrize("package", ROOMS)
def test_arrows_between_rooms_point_one_way(package):
    rooms = ROOMS[package]
    TopologicalSorter(rooms).prepare()
    met: dict[str, set[str]] = {room: set() for room in rooms}
    for module in _modules():
        if module.partition(".")[0] == package and (room := _room(module)):
            assert room in rooms, f"{module} stands in a room without arrows"
            inside = {_room(name) for name in _imports(module) if name.startswith(f"{package}.")}
            met[room] |= inside - {room}
            assert inside <= rooms[room] | {room}, f"{module} imports {inside}"
    assert met == rooms, "an arrow that no import takes is to be struck"


@pytest.mark.parametrize("package", LIBRARIES)
def test_the_lowest_packages_need_few_libraries(package):
    allowed = LIBRARIES[package] | {package} | set(sys.stdlib_module_names)
    for module in _modules():
        if module.partition(".")[0] == package:
            assert _roots(module) <= allowed, module


def test_measures_import_none_of_the_engine():
    pure = [
        module
        for module in _modules()
        if f"{module}.".startswith(tuple(f"eval.{name}." for name in PURE_MEASURES))
    ]
    assert len(pure) >= len(PURE_MEASURES)
    for module in pure:
        assert not _roots(module) & (set(PACKAGES) - {"eval"}), module


def test_no_cycles():
    """Between files, and through imports of every kind: late ones, and those for types alone."""
    graph = {
        module: {name for name in _imports(module) if name in _modules()} - {module}
        for module in _modules()
    }
    # A package re-exports its own modules; they may import one another, but not the package.
    TopologicalSorter(graph).prepare()


def test_the_index_command_line_does_not_meet_the_index_package():
    """`python -m retrieval.index` runs beside the package `index`; importing it there is a trap."""
    for module in _modules():
        assert "retrieval.index" not in _imports(module), module
