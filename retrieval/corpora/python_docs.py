"""`pydoc`: the documentation of the Python that runs this, and of packages installed in it.

Enters: `pydoc`, or `pydoc:numpy,torch` to name the packages. Leaves: one passage for every
documented public module, class, function and method. Source files are parsed, never imported;
modules built into the interpreter have no source and are asked directly.
"""

import ast
import importlib
import importlib.util
import inspect
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from index.records import Passage
from retrieval.corpora.reading import Reading
from retrieval.corpora.records import Record

# Packages that this project installs anyway, and whose documentation is prose.
DEFAULT_PACKAGES = (
    "numpy",
    "pyarrow",
    "matplotlib",
    "jinja2",
    "httpx",
    "tqdm",
    "safetensors",
    "huggingface_hub",
    "ir_datasets",
    "ir_measures",
)
_TESTS = {"test", "tests", "testing", "idle_test"}
_PROGRAMS = {"idlelib", "lib2to3", "turtledemo", "ensurepip"}
_NOT_DOCUMENTATION = _TESTS | _PROGRAMS | {"site-packages", "dist-packages", "_vendor", "vendor"}
_Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def read_python_docs(reading: Reading, packages: tuple[str, ...] | None = None) -> Iterator[Record]:
    """The documentation as records, in a fixed order; the id is the dotted name.

    `packages` are added to the standard library; None takes those of `DEFAULT_PACKAGES` that are
    installed. Raises `ValueError` for a package that is named but not installed.
    """
    reading.missing("pydoc", reading.names, "it holds ids, titles and texts alone")
    library = Path(sysconfig.get_paths()["stdlib"])
    sources = [(library, "")]
    for name in DEFAULT_PACKAGES if packages is None else packages:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):  # a dotted name whose parent is missing, an empty name
            spec = None
        if spec is not None and spec.submodule_search_locations:
            sources.append((Path(next(iter(spec.submodule_search_locations))), name))
        elif packages is not None:
            raise ValueError(f"pydoc:{name}: no package of that name is installed in {sys.prefix}")
    seen: set[str] = set()
    for passage in (*_built_in(), *(p for root, name in sources for p in _parsed(root, name))):
        # A name is documented once: overloads and platform variants repeat it.
        if passage.id not in seen:
            seen.add(passage.id)
            yield Record(passage.id, passage)


def _parsed(root: Path, package: str) -> Iterator[Passage]:
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if _NOT_DOCUMENTATION & set(parts[:-1]) or any(_private(part) for part in parts):
            continue
        names = [package, *parts] if package else list(parts)
        module = ".".join(names[:-1] if names[-1] == "__init__" else names)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old escapes in other people's strings
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue  # templates and files for other Pythons
        if text := ast.get_docstring(tree):
            yield Passage(module, module, text)
        yield from _members(tree, module)


def _members(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[Passage]:
    for child in node.body:
        if isinstance(child, _Documented) and not _private(child.name):
            name = f"{prefix}.{child.name}"
            if text := ast.get_docstring(child):
                signature = "" if isinstance(child, ast.ClassDef) else f"({_arguments(child)})"
                yield Passage(name, f"{name}{signature}", text)
            if isinstance(child, ast.ClassDef):
                yield from _members(child, name)


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The parameters' names: annotations and defaults would fill the passage with code."""
    arguments = function.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    if arguments.vararg:
        names.append(f"*{arguments.vararg.arg}")
    names += [argument.arg for argument in arguments.kwonlyargs]
    if arguments.kwarg:
        names.append(f"**{arguments.kwarg.arg}")
    return ", ".join(name for name in names if name not in ("self", "cls"))


def _built_in() -> Iterator[Passage]:
    for module_name in sorted(sys.builtin_module_names):
        if _private(module_name):
            continue
        module = importlib.import_module(module_name)
        if text := inspect.getdoc(module):
            yield Passage(module_name, module_name, text)
        for name, member in sorted(vars(module).items()):
            # A debugger or a test runner puts hooks of its own into `sys`, beside the originals.
            member = vars(module).get(f"__{name}__", member)
            if _private(name) or not (inspect.isclass(member) or inspect.isbuiltin(member)):
                continue
            if getattr(member, "__module__", module_name) != module_name:
                continue
            full_name = name if module_name == "builtins" else f"{module_name}.{name}"
            if text := inspect.getdoc(member):
                yield Passage(full_name, full_name, text)
            if inspect.isclass(member):
                for method, value in sorted(vars(member).items()):
                    text = None if _private(method) else inspect.getdoc(value)
                    if text:
                        yield Passage(f"{full_name}.{method}", f"{full_name}.{method}", text)


def _private(name: str) -> bool:
    return name.startswith("_") and name != "__init__"
