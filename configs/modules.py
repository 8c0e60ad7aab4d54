"""What sentence-transformers' `modules.json` names, looked at before anything of it is loaded.

Enters: a model's folder. Leaves: nothing, or a `ValueError` in one sentence.

    check_modules(Path("my-encoder"))
"""

from collections.abc import Collection
from pathlib import Path

from configs.formats.lines import read_json
from configs.models import refuse_pickles

# What is fetched of a model on the hub: no pickles, no code.
FILES_READ = ["*.json", "*.txt", "*.safetensors", "*.model", "*.jinja", "artifact.metadata"]


def check_modules(folder: Path, known: Collection[str] = ()) -> None:
    """Check what `modules.json` names, if there is one, before anything of it is loaded.

    `known` are classes that the loader reads as sentence-transformers' own. Raises `ValueError`
    for any other class, a folder outside the model's, and weights that are pickles.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return
    try:
        modules = [(str(each["type"]), str(each["path"])) for each in read_json(path)]
    except (KeyError, TypeError):
        raise ValueError(f"{path} is no list of modules, each with a type and a path") from None
    for kind, name in modules:
        if not kind.startswith("sentence_transformers.") and kind not in known:
            raise ValueError(
                f"{path} names the class {kind!r}, which is not sentence-transformers' own: "
                f"reading the model would run a stranger's code"
            )
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{path} names the folder {name!r}, which leads out of the model's")
        inner = (folder / name).rglob("*") if name else ()
        for place in (folder / name, *inner):
            refuse_pickles(place)
