"""A reranker as a late-interaction checkpoint, for sentence-transformers' `MultiVectorEncoder`.

Enters: a `BlockRanker` over an encoder. Leaves: a folder.

    export_multi_vector(BlockRanker.from_pretrained(), Path("mini-multi-vector"))

What that form can hold goes along: the updated weights, unit vectors of the last hidden states
without those of special tokens, and the table of what each query token counts, as a module that the
query alone passes through. What it can't hold is lost, and scores are others (docs/rerank.md tells
by how much): the soft maximum becomes a hard one, a token's weight knows no context and no sum over
its query, passages are cut behind their first window, and the prior and the lexical head are gone.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from configs.files import new_folder
from rerank.backbones.encoder import EncoderBackbone
from rerank.backbones.multi_vector import MultiVectorBackbone
from rerank.ranker import BlockRanker

_TEXT = "{title}\n{text}"
_BOTH = ["query", "document"]


def export_multi_vector(ranker: BlockRanker, out: Path) -> None:
    """Write `ranker` to the new folder `out`, as far as the form allows.

    Raises `ValueError` where `out` exists, and for a reranker that is no late interaction over an
    encoder: a decoder, one whose query attends to passages, templates with words behind the text.
    """
    backbone, settings = ranker.backbone, ranker.settings
    if isinstance(backbone, MultiVectorBackbone):
        raise ValueError("it is such a checkpoint already: copy its folder")
    if not isinstance(backbone, EncoderBackbone) or settings.query_attends:
        raise ValueError("only an encoder that reads the query alone is a late interaction")
    prompts = {
        "query": _prefix(settings.query, "{query}"),
        "document": _prefix(settings.passage, _TEXT),
    }
    if settings.instruction_template or backbone.query_gates is not None:
        raise ValueError("its passages see an instruction or the query; late interaction has none")
    from sentence_transformers import MultiVectorEncoder

    with TemporaryDirectory() as scratch:
        backbone.model.save_pretrained(scratch)
        backbone.tokenizer.save_pretrained(scratch)
        modules = _modules(scratch, backbone)
        model = MultiVectorEncoder(modules=modules, prompts=prompts, device="cpu")
        with new_folder(out) as folder:
            model.save_pretrained(str(folder), create_model_card=False)


def _modules(body: str, backbone: EncoderBackbone) -> list[Any]:
    from sentence_transformers.base.modules import Normalize, Router, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    from sentence_transformers.sentence_transformer.modules import WordWeights

    settings, tokenizer, late = backbone.settings, backbone.tokenizer, backbone.late_interaction
    # A pooler that nobody trained would be drawn at random.
    unpooled = backbone.model.config.model_type == "bert"
    transformer = Transformer(
        body,
        model_kwargs={"add_pooling_layer": False} if unpooled else {},
        query_length=settings.max_query_tokens,
        document_length=settings.max_passage_tokens,
    )
    special = [tokenizer.convert_ids_to_tokens(i) for i in sorted(tokenizer.all_special_ids)]
    mask = MultiVectorMask(skiplist_words=special, skiplist_tasks=_BOTH)
    if late is None:
        return [transformer, Normalize("token_embeddings"), mask]
    words = [tokenizer.convert_ids_to_tokens(i) for i in range(len(late.table))]
    weights = WordWeights(words, dict(zip(words, late.table.tolist(), strict=True)))
    # The query's vectors are as long as their tokens count; a passage's stay of length one.
    sides = Router.for_query_document([Normalize("token_embeddings"), weights], [
        Normalize("token_embeddings")
    ])  # fmt: skip
    return [transformer, sides, mask]


def _prefix(template: str, placeholder: str) -> str:
    """What stands before the text in `template`."""
    prefix, found, rest = template.partition(placeholder)
    if not found or rest or "{" in prefix:
        raise ValueError(
            f"the template {template!r} is no prompt and then the text; a checkpoint has no other"
        )
    return prefix
