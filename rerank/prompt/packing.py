"""Pack prompts into one ragged row of tokens: no padding, one tokenizer call.

Enters: the texts of prompts' blocks. Leaves: tokens, positions, the blocks' layout, and which
tokens are signals. With `query_attends`, a request is instruction, passages, query. Without, the
query is a request of its own, which nothing but itself attends to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch

from configs.formats.checks import query_name
from kernels import BlockLayout, CachedLayout, RequestBlocks
from kernels.host import to_device
from rerank.prompt.multi_vector import scoring_passage, scoring_query
from rerank.prompt.spelled_tokens import BlockTokens as BlockTokens
from rerank.prompt.spelled_tokens import as_text, special_ids, spelled
from rerank.prompt.template import Given, PromptTexts
from rerank.prompt.windows import in_windows
from rerank.prompt.words import NO_WORD, word_keys
from rerank.settings.common import RankerSettings
from rerank.settings.multi_vector import MultiVectorSettings

# Matrix products of fewer rows take another code path on CPU, whose last bits differ; padding
# the pack keeps a lone short prompt equal, bit for bit, to the same prompt in company.
_FEWEST_TOKENS = 16


class PromptTokens(NamedTuple):
    """One prompt's blocks in tokens; `truncated` counts the passages that were cut."""

    instruction: BlockTokens
    passages: list[BlockTokens]
    query: BlockTokens
    signal: list[int]
    truncated: int

    @property
    def num_tokens(self) -> int:
        """Tokens of all blocks."""
        blocks = (self.instruction, *self.passages, self.query)
        return sum(len(block.ids) for block in blocks)


@dataclass(frozen=True)
class PackedPrompts:
    """R prompts in one row of T tokens; they are the layouts' first R requests.

    `layout` has the blocks that attention knows, `passages` whole passages, whose windows are one:
    the two are the same where no passage has several. Of cached passages `passages` tells where
    they lie in what was read. `passage_counts` [R] are their numbers of passages, `signal` [S]
    token numbers, and `signal_request` [S] the request whose passages each of them scores, in
    order; `key_mask` [T] is False for special tokens, which score for nobody. `words` int32 [T]
    number the words that tokens begin; all 0 where nothing asks; `signal_words` [S] are those of
    the signal tokens. `signal_request` and words lie on the host, all else on the device: what
    follows from them is known without waiting for it.
    """

    layout: BlockLayout
    passages: BlockLayout | CachedLayout
    passage_counts: tuple[int, ...]
    input_ids: torch.Tensor
    positions: torch.Tensor
    signal: torch.Tensor
    signal_request: torch.Tensor
    key_mask: torch.Tensor
    words: torch.Tensor
    signal_words: torch.Tensor

    @property
    def signal_slices(self) -> list[slice]:
        """Where each request's signal tokens lie among the S."""
        counts = torch.bincount(self.signal_request, minlength=len(self.passage_counts)).tolist()
        return [slice(*bounds) for bounds in pairwise(accumulate(counts, initial=0))]


def tokenize(
    tokenizer: Any, settings: RankerSettings, prompts: Sequence[PromptTexts]
) -> list[PromptTokens]:
    """Tokenize every block of `prompts` in one call.

    An encoder's blocks carry its special tokens, a decoder's only those its template spells; one
    that a query or passage spells is read as text (such a block is tokenized a second time).
    Long passages are cut or read in windows (`rerank.prompt.windows`). Raises `ValueError` for a
    query longer than `max_query_tokens` or without a token, naming it by its place where there are
    several.
    """
    texts = [
        text for prompt in prompts for text in (prompt.instruction, *prompt.passages, prompt.query)
    ]
    wants_special = settings.backbone == "encoder"
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} does not tell which characters a token stands for: the "
            f"model needs a tokenizer.json"
        )
    encoded = tokenizer(
        texts,
        add_special_tokens=wants_special,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,
    )
    given = [spans for prompt in prompts for spans in prompt.given]
    special = special_ids(tokenizer)
    blocks = iter(
        [
            _block(tokenizer, text, BlockTokens(*columns), spans, special, settings.compares_words)
            for text, spans, *columns in zip(
                texts,
                given,
                encoded["input_ids"],
                encoded["offset_mapping"],
                [[bool(mark) for mark in marks] for marks in encoded["special_tokens_mask"]],
                strict=True,
            )
        ]
    )
    tokens = []
    for number, prompt in enumerate(prompts, 1):
        name = query_name(number, len(prompts))
        instruction = next(blocks)
        passages = [next(blocks) for _ in prompt.passages]
        query = next(blocks)
        if isinstance(settings, MultiVectorSettings):
            query = scoring_query(query, settings)
        if len(query.ids) > settings.max_query_tokens:
            raise ValueError(
                f"{name} has {len(query.ids)} tokens with its template, the limit is "
                f"{settings.max_query_tokens}: shorten it, or raise max_query_tokens"
            )
        read = [in_windows(block, settings) for block in passages]
        truncated = sum(
            whole.text_tokens > kept.text_tokens for whole, kept in zip(passages, read, strict=True)
        )
        if isinstance(settings, MultiVectorSettings):
            read = [scoring_passage(block, settings) for block in read]
        tokens.append(
            PromptTokens(
                instruction=instruction,
                passages=read,
                query=query,
                signal=_signal(settings, query, prompt.query_span, name),
                truncated=truncated,
            )
        )
    return tokens


def _block(
    tokenizer: Any,
    text: str,
    block: BlockTokens,
    given: Sequence[Given],
    special: frozenset[int],
    lexical: bool,
) -> BlockTokens:
    if not text:
        return BlockTokens([], [], [])  # an encoder would still add its special tokens
    if spelled(block, given, special):
        block = as_text(tokenizer, text, block, given, special)
    return block._replace(words=word_keys(text, block.characters)) if lexical else block


def _signal(
    settings: RankerSettings, query: BlockTokens, span: tuple[int, int], name: str
) -> list[int]:
    """The signal tokens' places in the query block."""
    if isinstance(settings, MultiVectorSettings):
        return [place for place, special in enumerate(query.special) if not special]
    if settings.signal == "last":
        return list(range(max(0, len(query.ids) - settings.signal_tokens), len(query.ids)))
    start, end = span
    places = [
        place
        for place, ((first, last), special) in enumerate(
            zip(query.characters, query.special, strict=True)
        )
        if first < end and last > start and not special
    ]
    if not places:
        raise ValueError(f"{name} has no token of its own to score with")
    return places


def pack(
    prompts: Sequence[PromptTokens],
    settings: RankerSettings,
    *,
    pad_id: int,
    query_position: int | None,
    device: torch.device,
) -> PackedPrompts:
    """Lay `prompts` out one after the other."""
    requests: list[RequestBlocks] = []
    windows: list[list[int]] = []
    blocks: list[BlockTokens] = []
    for prompt in prompts:
        blocks += [prompt.instruction, *prompt.passages]
        lengths = [len(passage.ids) for passage in prompt.passages]
        attending = len(prompt.query.ids) if settings.query_attends else 0
        requests.append(RequestBlocks(len(prompt.instruction.ids), lengths, attending))
        windows.append(
            [n for passage in prompt.passages for n in passage.windows or (len(passage.ids),)]
        )
        if settings.query_attends:
            blocks.append(prompt.query)
    if not settings.query_attends:
        blocks += [prompt.query for prompt in prompts]
        requests += [RequestBlocks(0, [len(prompt.query.ids)], 0) for prompt in prompts]
    missing = _FEWEST_TOKENS - sum(len(block.ids) for block in blocks)
    if missing > 0:
        blocks.append(BlockTokens([pad_id] * missing, [], [True] * missing))
        requests.append(RequestBlocks(0, [missing], 0))
    passages = BlockLayout.build(requests, device)
    layout = passages
    if any(passage.windows for prompt in prompts for passage in prompt.passages):
        cut = [r._replace(passages=w) for r, w in zip(requests, windows, strict=False)]
        layout = BlockLayout.build([*cut, *requests[len(cut) :]], device)

    queries = (
        range(len(prompts)) if settings.query_attends else range(len(prompts), 2 * len(prompts))
    )
    signal, signal_request = [], []
    for number, (prompt, request) in enumerate(zip(prompts, queries, strict=True)):
        spans = layout.spans[request]
        start = spans.query.start if settings.query_attends else spans.passages[0].start
        signal += [start + place for place in prompt.signal]
        signal_request += [number] * len(prompt.signal)
    special = [mark for block in blocks for mark in block.special]
    numbers = [n for block in blocks for n in block.words or [NO_WORD] * len(block.ids)]
    words = torch.tensor(numbers, dtype=torch.int32)
    return PackedPrompts(
        layout=layout,
        passages=passages,
        passage_counts=tuple(len(prompt.passages) for prompt in prompts),
        input_ids=_tensor([id_ for block in blocks for id_ in block.ids], device),
        positions=layout.positions(query_position),
        signal=_tensor(signal, device),
        signal_request=torch.tensor(signal_request, dtype=torch.int64),
        key_mask=to_device(~torch.tensor(special, dtype=torch.bool), device),
        words=words,
        signal_words=words[signal],
    )


def _tensor(values: list[int], device: torch.device) -> torch.Tensor:
    return to_device(torch.tensor(values, dtype=torch.int64), device)
