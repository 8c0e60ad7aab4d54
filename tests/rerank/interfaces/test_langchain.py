import asyncio

import pytest

pytest.importorskip("langchain_core", reason="needs the extra langchain")

from langchain_core.documents import BaseDocumentCompressor, Document

from rerank.interfaces.langchain import BlockRankCompressor

DOCUMENTS = [
    Document("A pear.", metadata={"source": "garden"}),
    Document("A tragedy that Goethe wrote.", metadata={"title": "Faust"}, id="faust"),
    Document("Rain fell on Weimar."),
]


def test_the_best_documents_come_back_scored_and_the_given_ones_stay(minilm_ranker):
    compressor = BlockRankCompressor(ranker=minilm_ranker, top_n=2)
    assert isinstance(compressor, BaseDocumentCompressor)
    found = compressor.compress_documents(DOCUMENTS, "who wrote Faust?")
    assert found[0].id == "faust"
    assert len(found) == 2
    passages = [{"title": d.metadata.get("title", ""), "text": d.page_content} for d in DOCUMENTS]
    best = minilm_ranker.rerank("who wrote Faust?", passages)[0]
    assert found[0].metadata == {"title": "Faust", "relevance_score": best.score}
    assert "relevance_score" not in DOCUMENTS[1].metadata
    assert asyncio.run(compressor.acompress_documents(DOCUMENTS, "who wrote Faust?")) == found


def test_all_documents_by_default_and_none_of_none(minilm_ranker):
    compressor = BlockRankCompressor(ranker=minilm_ranker, score_key="score")
    assert len(compressor.compress_documents(DOCUMENTS, "rain")) == 3
    assert compressor.compress_documents([], "rain") == []
    with pytest.raises(ValueError, match="top_k is 0"):
        BlockRankCompressor(ranker=minilm_ranker, top_n=0).compress_documents(DOCUMENTS, "rain")
