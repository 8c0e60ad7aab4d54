"""Answer decoding, for comparison: the language model writes which passage is the best.

Enters: a query and passages. Leaves: `Ranked`s by the log-probability of each passage's number as
the answer. Every layer and the head are run, which scoring by attention spares.

    AnswerDecoder.from_pretrained("smollm2").rerank("who wrote Faust?", ["A pear.", "Goethe."])
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from configs.formats.checks import check_query
from configs.models import SMOLLM2, load_model
from configs.settings import CONFIGS, read_settings
from rerank.answers.attention import AnswerContext, register_answers
from rerank.answers.prefix_tree import PrefixTree, answer_log_probabilities, prefix_tree
from rerank.backbones.block_interface import BlockContext
from rerank.backbones.fp8 import FP8, state_dtype, to_fp8
from rerank.backbones.loading import dtype_of, kind_of
from rerank.prompt.candidates import Candidate, Ranked, as_candidates, check_top_k, ranked
from rerank.prompt.packing import PackedPrompts, pack, tokenize
from rerank.prompt.template import fill
from rerank.settings.decoder import DecoderSettings

DEFAULT_DECODER = SMOLLM2
OWN_SETTINGS = "blockrank-answer.yaml"
_IDENTIFIER = "{identifier}"


@dataclass(frozen=True)
class AnswerSettings:
    """The template: `passage` shows the passage's `{identifier}`, a number from 1.

    `query` ends where the answer begins; an answer is the number and `answer_end`.
    """

    instruction: str
    passage: str
    query: str
    answer_end: str
    query_position: int = 8192
    max_passage_tokens: int = 384
    max_query_tokens: int = 256

    def __post_init__(self) -> None:
        if _IDENTIFIER not in self.passage:
            raise ValueError(f"passage template {self.passage!r} has no {_IDENTIFIER}")
        self.ranker()

    def ranker(self) -> DecoderSettings:
        """The settings that the same blocks have where attention scores."""
        return DecoderSettings(
            instruction=self.instruction,
            passage=self.passage,
            query=self.query,
            query_attends=True,
            signal="last",
            score="mass",
            query_position=self.query_position,
            max_passage_tokens=self.max_passage_tokens,
            max_query_tokens=self.max_query_tokens,
        )


class AnswerDecoder:
    """A causal language model that answers with a passage's number, over block attention.

    Numbers are given by title, text and id, so scores do not depend on the passages' order.
    """

    def __init__(self, model: Any, tokenizer: Any, settings: AnswerSettings) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings
        limit = getattr(model.config, "max_position_embeddings", None) or settings.query_position
        room = limit - settings.max_query_tokens
        self._query_position = max(0, min(settings.query_position, room))

    @classmethod
    def from_pretrained(
        cls,
        name: str | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> "AnswerDecoder":
        """Load a language model at full depth: `smollm2` (default), a folder, or a hub name.

        Raises `ValueError`, in one sentence, when there is none or it does not write text.
        """
        name = name or DEFAULT_DECODER
        return load_model("reranker", name, lambda folder: cls._load(name, folder, device, dtype))

    @classmethod
    def _load(
        cls,
        name: str,
        folder: str,
        device: str | torch.device | None,
        dtype: str | torch.dtype | None,
    ) -> "AnswerDecoder":
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        if kind_of(AutoConfig.from_pretrained(folder, trust_remote_code=False)) != "decoder":
            raise ValueError("answers are written by a causal language model, and it is an encoder")
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        precision = dtype_of(dtype, place)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            attn_implementation=register_answers(),
            dtype=state_dtype(precision),
            use_safetensors=True,
        )
        if precision == FP8:
            to_fp8(model, (), place)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return cls(model.to(place).eval(), tokenizer, _settings_for(name, folder))

    def rerank(self, query: str, passages: Iterable[Any], top_k: int | None = None) -> list[Ranked]:
        """Rank `passages`; a score is the log-probability of the passage's number as the answer.

        Equal scores are ordered by id. Raises `ValueError` as `BlockRanker.rerank` does.
        """
        check_top_k(top_k)
        candidates = as_candidates(passages)
        return ranked(candidates, self.scores(query, candidates))[:top_k]

    @torch.inference_mode()
    def scores(self, query: str, passages: Iterable[Any]) -> list[float]:
        """The log-probability of each passage, in their order; they add up to 1 as probabilities.

        BlockRank's decoding (arXiv 2510.05396) writes one answer; here all answers are scored
        at once, so this is beam search with as many beams as there are passages.
        """
        check_query(query)
        candidates = as_candidates(passages)
        order = sorted(
            range(len(candidates)),
            key=lambda place: (
                candidates[place].title,
                candidates[place].text,
                candidates[place].id,
            ),
        )
        packed = self._pack(query, [candidates[place] for place in order])
        tree = prefix_tree(self._answers(len(order)))
        values = answer_log_probabilities(tree, self._logits(packed, tree)).tolist()
        by_place = dict(zip(order, values, strict=True))
        return [by_place[place] for place in range(len(candidates))]

    def _pack(self, query: str, candidates: Sequence[Candidate]) -> PackedPrompts:
        settings = self.settings.ranker()
        passages, given = [], []
        for number, candidate in enumerate(candidates, 1):
            own = settings.passage.replace(_IDENTIFIER, str(number))
            filled = fill(replace(settings, passage=own), query, [candidate])
            passages += filled.passages
            given += filled.given[1:-1]
        texts = fill(settings, query, [])
        texts = texts._replace(passages=passages, given=[texts.given[0], *given, texts.given[-1]])
        return pack(
            tokenize(self.tokenizer, settings, [texts]),
            settings,
            pad_id=self.tokenizer.pad_token_id or self.tokenizer.eos_token_id or 0,
            query_position=self._query_position,
            device=self.model.device,
        )

    def _answers(self, count: int) -> list[list[int]]:
        texts = [f"{number}{self.settings.answer_end}" for number in range(1, count + 1)]
        found: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return found

    def _logits(self, prompts: PackedPrompts, tree: PrefixTree) -> torch.Tensor:
        """[inner nodes + 1, vocabulary] after every inner node and, last, after the query block.

        The prompt is read once by block attention; then all nodes at once, each seeing the whole
        prompt and the nodes above it.
        """
        query, tokens = prompts.layout.spans[0].query, prompts.layout.num_tokens
        context = AnswerContext(BlockContext(prompts.layout, causal=True))
        root = self.model(
            input_ids=prompts.input_ids[None],
            position_ids=prompts.positions[None],
            use_cache=False,
            logits_to_keep=torch.tensor([query.end - 1], device=self.model.device),
            answer_context=context,
        ).logits[0]
        inner, device = tree.inner, self.model.device
        if not inner:
            return root.float()
        sees = torch.zeros(len(inner), tokens + len(inner), dtype=torch.bool)
        sees[:, : query.end] = True
        sees[:, tokens:] = tree.sees()[inner][:, inner]
        context.sees = sees.to(device)
        depths = tree.depths()
        first = int(prompts.positions[query.end - 1]) + 1
        written = self.model(
            input_ids=torch.tensor([[tree.tokens[node] for node in inner]], device=device),
            position_ids=torch.tensor([[first + depths[node] for node in inner]], device=device),
            use_cache=False,
            answer_context=context,
        ).logits[0]
        return torch.cat([written, root]).float()


def _settings_for(name: str, folder: str) -> AnswerSettings:
    own = Path(folder) / OWN_SETTINGS
    if own.is_file():
        return read_settings(AnswerSettings, own)
    known = "/" not in name and (CONFIGS / f"rerank/answer/{name}.yaml").is_file()
    return read_settings(AnswerSettings, f"rerank/answer/{name if known else 'decoder'}")
