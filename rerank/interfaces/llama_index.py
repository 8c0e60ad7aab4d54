"""A LlamaIndex node postprocessor that reranks.

Enters: nodes with scores. Leaves: the best of them with ours. Needs the extra `llama-index`.

    from rerank.interfaces.llama_index import BlockRankPostprocessor

    postprocessor = BlockRankPostprocessor(ranker=BlockRanker.from_pretrained(), top_n=3)
    index.as_query_engine(node_postprocessors=[postprocessor])
"""

from typing import Any

try:
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
except ImportError as error:
    raise ImportError(
        "llama-index-core is not installed: pip install 'blockseek[llama-index]'"
    ) from error

from rerank.interfaces.by_place import rank_by_place


class BlockRankPostprocessor(BaseNodePostprocessor):
    """Keeps the best `top_n` nodes (None: all, in their new order).

    `ranker` is a loaded `BlockRanker`. It reads what an embedding model would read of a node: its
    text with the metadata meant for embedding.
    """

    ranker: Any
    top_n: int | None = None

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex serialises it."""
        return "BlockRankPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        """The best nodes, best first, with our scores; the given ones stay as they are.

        Nodes without a visible character come last, and a warning counts them. Raises
        `ValueError` without a query, and for a `top_n` below 1.
        """
        if query_bundle is None:
            raise ValueError("reranking needs a query: give query_bundle or query_str")
        texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        ranking = rank_by_place(self.ranker, query_bundle.query_str, texts, self.top_n)
        return [NodeWithScore(node=nodes[place].node, score=score) for place, score in ranking]
