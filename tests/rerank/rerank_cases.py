"""Small random models of every family, and block attention written down from its definition."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import transformers
from transformers import AutoModel, AutoTokenizer

from configs.models import find_model
from kernels import BlockLayout, RequestBlocks
from rerank import BlockRanker
from rerank.backbones.block_interface import NAME, BlockContext, register
from rerank.prompt.candidates import as_candidates
from rerank.prompt.packing import PackedPrompts, pack, tokenize
from rerank.prompt.template import fill

DECODERS = ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma3")
OTHER_DECODERS = ("Phi3", "Olmo2", "Cohere")
PASSAGES = [
    "Goethe wrote Faust, a tragedy in two parts.",
    {"id": "pear", "title": "Pear", "text": "A pear."},
    "The Sorrows of Young Werther is a novel that Goethe wrote in 1774, and it made him famous.",
    {"id": "rain", "title": "", "text": "Rain fell on Weimar all night long; nobody wrote."},
    {"id": "marlowe", "title": "Doctor Faustus", "text": "A play by Christopher Marlowe."},
]
QUERY = "who wrote the tragedy Faust?"


@cache
def tokenizer_of(name: str):
    return AutoTokenizer.from_pretrained(find_model(name))


# An encoder whose passages and query read the instruction, and its query all of them.
ATTENDING = """
backbone: encoder
query_attends: true
instruction: "{query}"
passage: "{text}"
query: "{query}"
signal: query
score: mass
temperature: 0.5
"""


def save_model(folder: Path, family: str, tokenizer: str, **changes: object) -> Path:
    """A random model of `family`, 4 layers, in `folder`, with the tokenizer of a real model."""
    words = tokenizer_of(tokenizer)
    causal = family in (*DECODERS, *OTHER_DECODERS)
    options: dict[str, object] = {
        "vocab_size": len(words),
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 16384 if causal else 512,
        "initializer_range": 0.2,  # attention that is far from uniform
    }
    if causal:
        options |= {"num_key_value_heads": 2, "head_dim": 12}
    if family in OTHER_DECODERS:
        options |= dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"))
    if family == "Mistral":
        options["sliding_window"] = None
    if family == "Gemma3":
        options |= {"query_pre_attn_scalar": 12, "pad_token_id": 0}
        options["layer_types"] = ["sliding_attention", "full_attention"] * 2
    name = "Gemma3Text" if family == "Gemma3" else family  # the other one reads images too
    config = getattr(transformers, f"{name}Config")(**options | changes)
    torch.manual_seed(3)
    kind = "ForCausalLM" if causal else "Model"
    getattr(transformers, f"{family}{kind}")(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def small_model(family: str, own_attention: bool = False, **changes: object):
    """A random model of two layers and no tokenizer, under our attention or torch's own."""
    options: dict[str, object] = {
        "vocab_size": 50,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    if family in DECODERS:
        options |= {"num_key_value_heads": 2, "head_dim": 12}
    torch.manual_seed(1)
    model = getattr(transformers, f"{family}Model")(
        getattr(transformers, f"{family}Config")(**options | changes)
    )
    if own_attention:
        model.set_attn_implementation(register())
    return model.eval()


def last_states(model, tokens: int = 7, **options: object) -> torch.Tensor:
    """[1, T, d] of one text, which our attention reads as one passage."""
    if model.config._attn_implementation == NAME:
        layout = BlockLayout.build([RequestBlocks(0, [tokens], 0)], model.device)
        options["block_context"] = BlockContext(layout, causal=hasattr(model, "layers"))
    ids = torch.arange(3, 3 + tokens, device=model.device)[None]
    with torch.inference_mode():
        return model(input_ids=ids, **options).last_hidden_state


def load_ranker(folder: Path, settings: str = "", **options: object) -> BlockRanker:
    if settings:
        (folder / "blockrank.yaml").write_text(settings)
    return BlockRanker.from_pretrained(str(folder), device="cpu", **options)


def packed(ranker: BlockRanker, query: str, passages: list) -> PackedPrompts:
    """What one call of `rerank` reads."""
    texts = fill(ranker.settings, query, as_candidates(passages))
    return pack(
        tokenize(ranker.backbone.tokenizer, ranker.settings, [texts]),
        ranker.settings,
        pad_id=ranker.backbone.pad_id,
        query_position=ranker.backbone.query_position,
        device=ranker.backbone.device,
    )


def scores(ranker: BlockRanker, query: str, passages: list) -> list[float]:
    """Scores in the passages' own order."""
    return ranker.scores(query, as_candidates(passages))


@dataclass
class DenseRun:
    """One prompt read by transformers' own attention under a dense mask."""

    blocks: list[list[int]]  # token numbers: instruction, passages, query
    special: torch.Tensor
    attentions: tuple[torch.Tensor, ...]
    hidden: torch.Tensor


def dense_run(
    folder: Path,
    texts: list[str],
    *,
    attends: bool,
    query_position: int | None,
    unseen: tuple[int, set[int]] | None = None,
):
    """Read blocks `texts` (instruction, passages, query) with the mask of the definition.

    A passage token sees the instruction and its own block, a query token everything (or, without
    `attends`, its own block); in a decoder nothing in its own block that comes later. With `unseen`
    query tokens don't see those blocks from that layer on.
    """
    model = AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    causal = model.config.model_type.removesuffix("_text") in {
        family.lower() for family in (*DECODERS, *OTHER_DECODERS)
    }
    ids: list[int] = []
    positions: list[int] = []
    special: list[bool] = []
    blocks: list[list[int]] = []
    after_instruction, longest = 0, 0
    for number, text in enumerate(texts):
        block = tokenizer(text, add_special_tokens=not causal)["input_ids"] if text else []
        if number == 0:
            start, after_instruction = 0, len(block)
        elif number < len(texts) - 1:
            start, longest = after_instruction, max(longest, len(block))
        elif not attends:
            start = 0
        else:
            start = after_instruction + longest if query_position is None else query_position
        blocks.append(list(range(len(ids), len(ids) + len(block))))
        ids += block
        positions += range(start, start + len(block))
        special += [
            not causal and id_ in (tokenizer.cls_token_id, tokenizer.sep_token_id) for id_ in block
        ]
    sees = torch.zeros(len(ids), len(ids), dtype=torch.bool)
    for number, block in enumerate(blocks):
        for row in block:
            for other, keys in enumerate(blocks):
                is_query = number == len(blocks) - 1
                if other == number:
                    sees[row, [key for key in keys if key <= row or not causal]] = True
                elif (is_query and attends) or (other == 0 and not is_query):
                    sees[row, keys] = True
    mask = torch.where(sees, 0.0, torch.finfo(torch.float32).min)
    if unseen is not None:
        hidden = [key for number in unseen[1] for key in blocks[number]]
        sees[torch.tensor(blocks[-1])[:, None], hidden] = False
        later = {"attention_mask": torch.where(sees, 0.0, mask.min())[None, None]}
        for layer in model.layers[unseen[0] :]:
            layer.register_forward_pre_hook(lambda _, a, k: (a, k | later), with_kwargs=True)
    with torch.inference_mode():
        output = model.eval()(
            input_ids=torch.tensor([ids]),
            position_ids=torch.tensor([positions]),
            attention_mask=mask[None, None],
            output_attentions=True,
        )
    return DenseRun(
        blocks, torch.tensor(special), output.attentions, output.last_hidden_state[0].double()
    )


def dense_mass(
    run: DenseRun, layer: int, signals: list[int], heads: list[int] | slice = slice(None)
) -> torch.Tensor:
    """BlockRank's score: the signals' attention to passages alone, summed a passage, mean of heads.

    A softmax over passage tokens alone is the softmax over all, divided by the passages' share.
    """
    weights = run.attentions[layer][0].double()[heads][:, signals].masked_fill(run.special, 0.0)
    received = torch.stack([weights[..., block].sum(-1) for block in run.blocks[1:-1]], dim=-1)
    return (received / received.sum(-1, keepdim=True)).mean(dim=(0, 1))


def dense_late_interaction(run: DenseRun, signals: list[int], temperature: float) -> torch.Tensor:
    """The mean over query tokens of the soft maximum of their cosines to a passage's tokens."""
    unit = run.hidden / run.hidden.norm(dim=-1, keepdim=True)
    rows = []
    for block in run.blocks[1:-1]:
        keys = [token for token in block if not run.special[token]]
        logits = unit[signals] @ unit[keys].T / temperature
        rows.append((temperature * logits.logsumexp(-1)).mean())
    return torch.stack(rows)
