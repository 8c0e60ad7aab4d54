import asyncio

import pytest

pytest.importorskip("llama_index.core", reason="needs the extra llama-index")

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from rerank.interfaces.llama_index import BlockRankPostprocessor

NODES = [
    NodeWithScore(node=TextNode(text="A pear.", id_="pear"), score=0.9),
    NodeWithScore(node=TextNode(text="Goethe wrote Faust.", id_="faust"), score=0.1),
    NodeWithScore(node=TextNode(text="Rain.", id_="rain", metadata={"town": "Weimar"}), score=0.5),
]


def test_the_best_nodes_come_back_scored_and_the_given_ones_stay(minilm_ranker):
    postprocessor = BlockRankPostprocessor(ranker=minilm_ranker, top_n=2)
    assert isinstance(postprocessor, BaseNodePostprocessor)
    found = postprocessor.postprocess_nodes(NODES, query_str="who wrote Faust?")
    texts = ["A pear.", "Goethe wrote Faust.", "town: Weimar\n\nRain."]
    expected = minilm_ranker.rerank("who wrote Faust?", texts)[:2]
    assert [node.score for node in found] == [ranked.score for ranked in expected]
    assert found[0].node_id == "faust"
    assert [node.score for node in NODES] == [0.9, 0.1, 0.5]
    bundle = QueryBundle("who wrote Faust?")
    again = asyncio.run(postprocessor.apostprocess_nodes(NODES, query_bundle=bundle))
    assert again == found


def test_all_nodes_by_default_none_of_none_and_a_query_is_needed(minilm_ranker):
    postprocessor = BlockRankPostprocessor(ranker=minilm_ranker)
    assert len(postprocessor.postprocess_nodes(NODES, query_str="rain")) == 3
    assert postprocessor.postprocess_nodes([], query_str="rain") == []
    with pytest.raises(ValueError, match="needs a query"):
        postprocessor.postprocess_nodes(NODES)
