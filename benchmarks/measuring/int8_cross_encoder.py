"""A cross-encoder of MiniLM's shape in int8 by ONNX Runtime: what many take on a CPU.

In: passages. Out: the call that ranks them. Needs onnx, onnxscript and onnxruntime.

    int8_cross_encoder("", "cpu", "float32")(make_passages(100, 100))()

sentence-transformers' own ONNX backend is built on optimum, whose exporter does not know
transformers 5. So the same is done by hand: torch's exporter, dynamic quantisation of the weights'
products, pairs sorted by length in padded batches of 32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from passages import QUERY

from configs.models import MINILM, find_model

MAX_PAIR_TOKENS = 256
_BATCH = 32
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class _Logits(torch.nn.Module):
    """`model` from tensors to logits, its mask as one that is added."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        """Logits [B, 1] of pairs [B, T]."""
        added = (1.0 - mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        output = self.model(input_ids=ids, attention_mask=added, token_type_ids=types)
        logits: torch.Tensor = output.logits
        return logits


def int8_cross_encoder(
    _: str, device: str, dtype: str
) -> Callable[[list[str]], Callable[[], object]]:
    """With an untrained head: its time is that of a trained one. `dtype` is not asked."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    if device != "cpu":
        raise ValueError("the int8 cross-encoder runs on a CPU: leave it out of --systems")
    folder = find_model(MINILM)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1, attn_implementation="eager"
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    session = _session(model, tokenizer)

    def logits(texts: list[str]) -> np.ndarray:
        encoded = tokenizer(
            [QUERY] * len(texts), texts, truncation=True, max_length=MAX_PAIR_TOKENS, padding=True,
            return_tensors="np",
        )  # fmt: skip
        fed = zip(("ids", "mask", "types"), (encoded[name] for name in _INPUTS), strict=True)
        found: np.ndarray = session.run(None, dict(fed))[0][:, 0]
        return found

    def rank(passages: list[str]) -> list[int]:
        order = sorted(range(len(passages)), key=lambda place: -len(passages[place]))
        scores = np.empty(len(passages), np.float32)
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            scores[batch] = logits([passages[place] for place in batch])
        best: list[int] = np.argsort(-scores, kind="stable").tolist()
        return best

    return lambda passages: lambda: rank(passages)


def _session(model: Any, tokenizer: Any) -> Any:
    """ONNX Runtime's session of the quantised model, with as many threads as torch has."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    example = tokenizer([QUERY] * 2, ["a passage", "a longer passage"], padding=True,
                        return_tensors="pt")  # fmt: skip
    batch = torch.export.Dim("batch", min=1, max=4096)
    tokens = torch.export.Dim("tokens", min=2, max=MAX_PAIR_TOKENS)
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        torch.onnx.export(
            _Logits(model),
            tuple(example[name] for name in _INPUTS),
            whole,
            input_names=["ids", "mask", "types"],
            dynamic_shapes=({0: batch, 1: tokens},) * 3,
            dynamo=True,
            verbose=False,
        )
        quantize_dynamic(whole, small, weight_type=QuantType.QInt8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Or its threads would spin on while the next system has its turn.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return onnxruntime.InferenceSession(small, options, providers=["CPUExecutionProvider"])
