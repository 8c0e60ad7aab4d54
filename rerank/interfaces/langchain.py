"""A LangChain document compressor that reranks.

Enters: LangChain documents. Leaves: the best of them, scored. Needs the extra `langchain`.

    from rerank.interfaces.langchain import BlockRankCompressor

    compressor = BlockRankCompressor(ranker=BlockRanker.from_pretrained(), top_n=3)
    ContextualCompressionRetriever(base_compressor=compressor, base_retriever=retriever)
"""

from collections.abc import Iterable, Sequence
from typing import Any

try:
    from langchain_core.documents import BaseDocumentCompressor, Document
except ImportError as error:
    raise ImportError(
        "langchain-core is not installed: pip install 'blockseek[langchain]'"
    ) from error

from rerank.interfaces.by_place import rank_by_place


class BlockRankCompressor(BaseDocumentCompressor):
    """Keeps the best `top_n` documents (None: all, in their new order).

    `ranker` is a loaded `BlockRanker`. The score goes into the metadata as `score_key`; a title
    is read from the metadata's `title`, if there is one.
    """

    ranker: Any
    top_n: int | None = None
    score_key: str = "relevance_score"

    def compress_documents(
        self, documents: Iterable[Document], query: str, callbacks: Any = None
    ) -> Sequence[Document]:
        """The best documents as copies, best first; the given ones stay as they are.

        Documents without a visible character come last, and a warning counts them. Raises
        `ValueError` for an empty query or a `top_n` below 1.
        """
        documents = list(documents)
        passages = [
            {"title": str(document.metadata.get("title") or ""), "text": document.page_content}
            for document in documents
        ]
        found = []
        for place, score in rank_by_place(self.ranker, query, passages, self.top_n):
            metadata = {**documents[place].metadata, self.score_key: score}
            found.append(documents[place].model_copy(update={"metadata": metadata}))
        return found
