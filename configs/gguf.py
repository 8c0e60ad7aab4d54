"""Turn a GGUF file into a folder of safetensors, once.

Enters: a `.gguf` file of a causal language model. Leaves: a folder with `config.json`,
`model.safetensors` and the tokenizer, which loads in a second instead of twenty.

    converted_folder(Path("SmolLM2-135M-Instruct.Q4_1.gguf"), Path("~/.cache/blockseek/models"))
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path


def converted_folder(weights: Path, cache: Path) -> Path:
    """The folder under `cache` that holds `weights` as safetensors, made when it is missing.

    The folder's name carries a digest of the file, so another file never meets an old
    conversion; it appears by one rename, so a killed conversion leaves nothing behind that
    looks whole, and two processes may convert at the same time.
    """
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    folder = cache / f"{weights.stem}-{digest}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=cache))
    try:
        _convert(weights, unfinished)
        try:
            os.rename(unfinished, folder)  # noqa: PTH104 - Path.rename says the same, less plainly
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _convert(weights: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    loaded = AutoModelForCausalLM.from_pretrained(
        weights.parent, gguf_file=weights.name, dtype=torch.float32
    )
    # The loaded model refuses `save_pretrained` while its config names the GGUF quantisation;
    # a model of the plain class with the same weights does not.
    config = loaded.config.__class__.from_dict(
        {key: value for key, value in loaded.config.to_dict().items() if "quantization" not in key}
    )
    plain = type(loaded)(config)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
