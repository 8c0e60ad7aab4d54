"""A passage's score has the same bits in any order, batch, split and run, on the CPU."""

import random

import pytest
import torch
from rerank_cases import ATTENDING, load_ranker, save_model

from rerank import BlockRanker
from rerank.prompt.candidates import as_candidates

WORDS = ["faust", "pear", "goethe", "rain", "tragedy", "weimar", "novel", "wrote", "water", "play"]
# A wide feed-forward layer: torch adds up so long a sum in parts, by the number of rows.
WIDE = {"intermediate_size": 1536, "num_hidden_layers": 2}
CASES = [(1, "float32"), (2, "float32"), (1, "bfloat16"), (1, "float16")]


@pytest.fixture(scope="module", params=["decoder", "encoder", "attending encoder"])
def folder(request, tmp_path_factory):
    family, tokenizer = ("Llama", "smollm2") if request.param == "decoder" else ("Bert", "minilm")
    made = save_model(tmp_path_factory.mktemp("invariance"), family, tokenizer, **WIDE)
    if request.param == "attending encoder":
        (made / "blockrank.yaml").write_text(ATTENDING)
    return made


@pytest.fixture(params=CASES, ids=str)
def ranker(request, folder):
    threads, dtype = request.param
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    yield load_ranker(folder, dtype=dtype)
    torch.set_num_threads(before)


def _list(chance, prefix=""):
    return [
        {"id": f"{prefix}{i}", "text": " ".join(chance.choices(WORDS, k=chance.randint(1, 30)))}
        for i in range(chance.randint(1, 9))
    ]


def _scores(ranker, query, passages):
    return {result.id: result.score for result in ranker.rerank(query, passages)}


def test_orders_batches_and_runs(ranker):
    chance = random.Random(11)
    queries = [" ".join(chance.choices(WORDS, k=chance.randint(1, 9))) for _ in range(3)]
    lists = [_list(chance) for _ in queries]
    alone = [_scores(ranker, *pair) for pair in zip(queries, lists, strict=True)]
    assert alone == [_scores(ranker, *pair) for pair in zip(queries, lists, strict=True)]
    for query, passages, wanted in zip(queries, lists, alone, strict=True):
        shuffled = chance.sample(passages, len(passages))
        assert _scores(ranker, query, shuffled) == wanted
    # The budget parts the requests in other places each time.
    for max_tokens in (300, 10_000):
        budgeted = BlockRanker(ranker.backbone, max_tokens=max_tokens)
        order = chance.sample(range(3), 3)
        together = budgeted.rerank_batch([queries[i] for i in order], [lists[i] for i in order])
        for place, found in zip(order, together, strict=True):
            if not _in_groups(ranker, max_tokens, queries[place], lists[place]):
                assert {result.id: result.score for result in found} == alone[place]


def _in_groups(ranker, max_tokens, query, passages):
    (prompt,) = ranker.prompts([query], [as_candidates(passages)])
    return ranker.settings.query_attends and prompt.num_tokens > max_tokens
