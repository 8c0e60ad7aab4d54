"""A causal language model of transformers, run on this machine in batches.

Enters: prompts. Leaves: texts, or probabilities of the first token of given texts.

    python -c "from eval.judging.readers import Prompt; \
from eval.judging.readers.local import LocalReader; \
print(list(LocalReader('smollm2').answers([Prompt('', 'Say yes.')], 3)))"
"""

import hashlib
import inspect
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from configs.models import find_model, load_model
from eval.files.provenance import file_hash
from eval.judging.readers import Failure, Prompt


class LocalReader:
    """A causal LM and its tokenizer.

    The chat template writes the start token itself, so the text it returns is tokenised without
    special tokens. `published_tokens=True` adds them a second time, which is what the published
    UDCG script does with tokenizers that add a start token.
    """

    def __init__(
        self,
        name: str,
        *,
        device: str | None = None,
        dtype: str = "auto",
        tokens_per_batch: int = 4096,
        published_tokens: bool = False,
    ) -> None:
        """Load `name` (a local model, a folder, a hub id); `ValueError` where there is none."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.name = name
        self.tokens_per_batch = tokens_per_batch
        self.published_tokens = published_tokens
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        # Half precision is slow on most CPUs and costs accuracy; a GPU keeps what the files hold.
        if dtype == "auto" and device == "cpu":
            dtype = "float32"
        self.tokenizer: Any = load_model("reader", name, AutoTokenizer.from_pretrained)
        model: Any = load_model(
            "reader", name, lambda path: AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
        )
        self.model = model.to(device).eval()
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.max_tokens = int(getattr(self.model.config, "max_position_embeddings", 0) or 0)
        self.identity = json.dumps(
            [name, _weights_hash(find_model(name)), str(self.model.dtype), published_tokens]
        )

    def answers(
        self, prompts: Sequence[Prompt], max_tokens: int
    ) -> Iterator[tuple[int, str | Failure]]:
        """Yield greedy continuations, special tokens left out."""
        import torch

        for rows, ids, mask in self._batches(prompts, max_tokens):
            if isinstance(ids, Failure):
                yield rows[0], ids
                continue
            with torch.inference_mode():
                output = self.model.generate(
                    ids,
                    attention_mask=mask,
                    max_new_tokens=max_tokens,
                    do_sample=False,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    pad_token_id=self.tokenizer.pad_token_id,
                )
            texts = self.tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
            yield from zip(rows, texts, strict=True)

    def first_token_probabilities(
        self, prompts: Sequence[Prompt], texts: Sequence[str]
    ) -> Iterator[tuple[int, list[float] | Failure]]:
        """Yield the probabilities of the first token of each of `texts`, after each prompt.

        Raises `ValueError` where two texts begin with the same token: they can't be told apart.
        """
        import torch

        tokens = [self.first_token(text) for text in texts]
        if len(set(tokens)) < len(tokens):
            raise ValueError(
                f"{self.name} writes some of {list(texts)} with the same first token, "
                "so their probabilities cannot be told apart; generate the answers instead"
            )
        only_last = (
            {"logits_to_keep": 1}
            if "logits_to_keep" in inspect.signature(self.model.forward).parameters
            else {}
        )
        for rows, ids, mask in self._batches(prompts, 0):
            if isinstance(ids, Failure):
                yield rows[0], ids
                continue
            with torch.inference_mode():
                # Rows are padded on the left: positions count real tokens alone.
                positions = (mask.cumsum(1) - 1).clamp(min=0)
                logits = self.model(
                    input_ids=ids, attention_mask=mask, position_ids=positions, **only_last
                ).logits[:, -1]
                probabilities = torch.softmax(logits.float(), dim=-1)[:, tokens].cpu().tolist()
            yield from zip(rows, probabilities, strict=True)

    def first_token(self, text: str) -> int:
        """Return the id of the first token of `text`."""
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        if not ids:
            raise ValueError(f"{self.name} has no token for {text!r}")
        return int(ids[0])

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Return the token ids of a prompt, by the model's chat template where it has one."""
        if not self.tokenizer.chat_template:
            text = f"{prompt.system}\n\n{prompt.user}" if prompt.system else prompt.user
            return list(self.tokenizer(text)["input_ids"])
        messages = [{"role": "user", "content": prompt.user}]
        if prompt.system:
            messages.insert(0, {"role": "system", "content": prompt.system})
        try:
            text = self._render(messages)
        except Exception as error:
            # Some templates know no system role and raise their own error; the text still counts.
            if not prompt.system or "system" not in str(error).lower():
                raise
            text = self._render([{"role": "user", "content": f"{prompt.system}\n\n{prompt.user}"}])
        return list(self.tokenizer(text, add_special_tokens=self.published_tokens)["input_ids"])

    def _render(self, messages: list[dict[str, str]]) -> str:
        return str(
            self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        )

    def _batches(
        self, prompts: Sequence[Prompt], reserve: int
    ) -> Iterator[tuple[list[int], Any, Any]]:
        """Yield (rows, ids [B, T], mask [B, T]) of about equal lengths, padded on the left.

        A prompt that leaves no room for `reserve` new tokens comes alone, with a `Failure`.
        """
        import torch

        encoded = [self.prompt_ids(prompt) for prompt in prompts]
        waiting: list[int] = []
        for row in sorted(range(len(encoded)), key=lambda row: len(encoded[row])):
            length = len(encoded[row])
            if self.max_tokens and length + reserve > self.max_tokens:
                reason = f"the prompt has {length} tokens and {self.name} takes {self.max_tokens}"
                yield [row], Failure(reason), None
                continue
            if waiting and (len(waiting) + 1) * length > self.tokens_per_batch:
                yield self._padded(waiting, encoded, torch)
                waiting = []
            waiting.append(row)
        if waiting:
            yield self._padded(waiting, encoded, torch)

    def _padded(
        self, rows: list[int], encoded: list[list[int]], torch: Any
    ) -> tuple[list[int], Any, Any]:
        width = max(len(encoded[row]) for row in rows)
        ids = torch.full((len(rows), width), self.tokenizer.pad_token_id)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, width - len(encoded[row]) :] = torch.tensor(encoded[row])
            mask[place, width - len(encoded[row]) :] = 1
        return rows, ids.to(self.model.device), mask.to(self.model.device)


def _weights_hash(resolved: str) -> str:
    """Return a digest of a model folder's weights, or the hub name as it is."""
    folder = Path(resolved)
    if not folder.is_dir():
        return resolved
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")) + sorted(folder.glob("token*.json")):
        digest.update(f"{path.name} {file_hash(path)}\n".encode())
    return digest.hexdigest()
