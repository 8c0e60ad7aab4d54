"""The dense encoder: texts to unit vectors, with sentence-transformers underneath.

Enters: the name of a local model, a folder, or a hub name. Leaves: float32 rows of length one.

    Encoder.load("minilm").encode_queries(["how to open a file"])  # [1, 384]

A model computes in float32 unless another `dtype` is asked for. Whatever it is, vectors are brought
to length one in float32, and the fingerprint is that of the weights as they were stored: queries in
float32 search what passages in bfloat16 built.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from configs.formats.checks import check_queries
from configs.formats.chunks import TokenCounter
from configs.models import MINILM, load_model
from configs.modules import FILES_READ, check_modules
from index.manifest.manifest import EncoderRecord
from index.records import Passage

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_ENCODER = MINILM
FLOAT32 = "float32"
DTYPES = (FLOAT32, "float16", "bfloat16")
_VALUES_PER_TENSOR = 64
# A layer's states of more tokens than these do not stay in a core's cache until the next layer.
_MOST_TOKENS_ON_CPU = 1024


class Encoder:
    """A sentence-transformers model as the engine uses it: prompts, truncation, unit rows."""

    def __init__(
        self,
        name: str,
        model: "SentenceTransformer",
        batch_size: int = 32,
        dtype: str = FLOAT32,
    ) -> None:
        import torch  # loaded already: there is a model

        self._model = model
        self.batch_size = batch_size
        self.dtype = check_dtype(dtype)
        prompts = model.prompts or {}
        passage_prompt = next((p for p in ("document", "passage") if prompts.get(p)), "")
        self.record = EncoderRecord(
            name=name,
            fingerprint=_fingerprint(model),
            dimension=int(model.get_embedding_dimension() or 0),
            max_length=int(model.max_seq_length or 0),
            pooling=_pooling(model),
            query_prompt=prompts.get("query") or "",
            passage_prompt=prompts.get(passage_prompt) or "",
        )
        model.to(getattr(torch, dtype))  # only now: the fingerprint is that of what is stored

    @classmethod
    def load(
        cls,
        name: str = DEFAULT_ENCODER,
        *,
        device: str | None = None,
        max_length: int | None = None,
        batch_size: int = 32,
        dtype: str = FLOAT32,
    ) -> Self:
        """Load an encoder; `max_length` (tokens) lowers the model's own limit.

        `dtype` is what its weights and states are kept in. Raises `ValueError` when there is no
        such model or dtype, or the model's limit is below `max_length`.
        """
        check_dtype(dtype)
        model = load_model("encoder", name, lambda folder: _sentence_transformer(folder, device))
        limit = model.max_seq_length
        if max_length is not None:
            if limit is not None and max_length > limit:
                raise ValueError(f"max_length is {max_length}, encoder {name!r} reads {limit}")
            model.max_seq_length = max_length
        return cls(name, model, batch_size, dtype)

    @property
    def model(self) -> "SentenceTransformer":
        """The model underneath: whoever trains it makes a new `Encoder` of it, for the record."""
        return self._model

    def encode_queries(self, queries: Iterable[str]) -> np.ndarray:
        """Unit vectors float32 [n, d] of `queries`; raises as `check_queries` for a bad one."""
        texts = check_queries(queries)
        return self._encode(texts, self.record.query_prompt, self.batch_size)

    def encode_passages(self, passages: Sequence[Passage]) -> tuple[np.ndarray, int]:
        """Unit vectors float32 [n, d], and how many passages were longer than the model reads.

        The same passages in one call give the same bits: it makes batches of about equal lengths.
        """
        texts = [passage.full_text for passage in passages]
        prompt = self.record.passage_prompt
        lengths = self._token_counts([prompt + text for text in texts])
        limit = self.record.max_length or np.iinfo(np.int64).max
        read = np.minimum(lengths, limit)
        vectors = np.empty((len(texts), self.record.dimension), np.float32)
        most = int(self.batch_size * read.max(initial=0))
        if self._model.device.type == "cpu":
            most = min(most, _MOST_TOKENS_ON_CPU)
        for rows in even_batches(read, most):
            vectors[rows] = self._encode([texts[row] for row in rows], prompt, len(rows))
        return vectors, int(np.count_nonzero(lengths > limit))

    def token_counter(self) -> TokenCounter:
        """What counts the tokens of texts, special ones left out; it keeps the tokenizer alone."""
        return counter_of(self._model.tokenizer)

    def _token_counts(self, texts: list[str]) -> np.ndarray:
        """int64 [n], special tokens among them."""
        if not texts:
            return np.empty(0, np.int64)
        tokenizer = self._model.tokenizer
        encoded = tokenizer(texts, add_special_tokens=True, truncation=False, verbose=False)
        return np.array([len(ids) for ids in encoded["input_ids"]], np.int64)

    def _encode(self, texts: list[str], prompt: str, batch_size: int) -> np.ndarray:
        if not texts:
            return np.empty((0, self.record.dimension), np.float32)
        vectors = self._model.encode(
            texts,
            prompt=prompt or None,
            batch_size=batch_size,
            normalize_embeddings=self.dtype == FLOAT32,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        vectors = np.asarray(vectors, np.float32)
        if self.dtype != FLOAT32:  # in bfloat16 a length of one is off by .4 %
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors


def counter_of(tokenizer: Any) -> TokenCounter:
    """How many tokens of a tokenizer of transformers' the texts of a list have, each alone."""

    def count(texts: list[str]) -> list[int]:
        encoded = tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]

    return count


def check_dtype(dtype: str) -> str:
    """`dtype`; raises `ValueError` for none that an encoder computes in."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}, wanted one of {', '.join(DTYPES)}")
    return dtype


def even_batches(lengths: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """The places of `lengths`, int64 [n], the longest first, in batches of like lengths.

    A batch that is padded to its longest holds at most `most` tokens, but always one text.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        end = start + max(1, most // max(1, longest))
        yield order[start:end]
        start = end


def _sentence_transformer(resolved: str, device: str | None) -> "SentenceTransformer":
    # Imported only now, so that an unknown name is told at once.
    from sentence_transformers import SentenceTransformer

    folder = Path(resolved)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(resolved, allow_patterns=FILES_READ))
    check_modules(folder)
    return SentenceTransformer(
        str(folder),
        device=device,
        trust_remote_code=False,
        model_kwargs={"use_safetensors": True},
    )


def _fingerprint(model: "SentenceTransformer") -> str:
    """A digest of what decides a vector: some of every weight, the modules, length and prompts.

    A revision, a fine-tuned copy or another pooling differs; a copy in another folder does not.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().flatten()
        step = max(1, len(flat) // _VALUES_PER_TENSOR)
        values = flat[::step].float().cpu().numpy()
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + values.tobytes())
    digest.update(
        repr((_pooling(model), model.max_seq_length, sorted(model.prompts.items()))).encode()
    )
    return digest.hexdigest()[:32]


def _pooling(model: "SentenceTransformer") -> str:
    for module in model:
        mode = (
            getattr(module, "pooling_mode", None)
            or getattr(module, "get_pooling_mode_str", lambda: None)()
        )
        if mode:
            return mode if isinstance(mode, str) else "+".join(mode)
    return "none"
