"""`mini` as a checkpoint that sentence-transformers reads: what goes along, and what does not."""

import pytest
import torch
from rerank_cases import PASSAGES, load_ranker, save_model
from scipy.stats import spearmanr
from sentence_transformers import MultiVectorEncoder

from rerank import BlockRanker
from rerank.interfaces.multi_vector_export import export_multi_vector

TEXTS = [p if isinstance(p, str) else p["text"] for p in PASSAGES]
QUERY = "who wrote the tragedy Faust?"


@pytest.fixture(scope="module")
def mini():
    return BlockRanker.from_pretrained("mini", device="cpu")


@pytest.fixture(scope="module")
def folder(mini, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "mini"
    export_multi_vector(mini, out)
    return out


@pytest.fixture(scope="module")
def exported(folder):
    return BlockRanker.from_pretrained(str(folder), device="cpu")


@pytest.fixture(scope="module")
def library(folder):
    return MultiVectorEncoder(str(folder), device="cpu")


def test_a_query_token_is_as_long_as_it_counts(mini, library):
    """Weights as in the table; unit vectors of the same states; no special token."""
    (vectors,) = library.encode_query([QUERY])
    ids = mini.backbone.tokenizer(QUERY, add_special_tokens=False)["input_ids"]
    table = mini.backbone.late_interaction.table[ids]
    torch.testing.assert_close(vectors.norm(dim=-1), table, rtol=1e-5, atol=0)
    (prompt,) = mini.prompts([QUERY], [[]])
    (passage,) = library.encode_document([QUERY])
    torch.testing.assert_close(passage.norm(dim=-1), torch.ones(len(ids)), rtol=1e-5, atol=0)
    assert len(prompt.signal) == len(ids)
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    torch.testing.assert_close(unit, passage, rtol=0, atol=1e-5)


def test_it_ranks_nearly_as_the_reranker_and_scores_as_the_library(mini, exported, library):
    found = exported.scores(QUERY, TEXTS)
    wanted = library.similarity(library.encode_query([QUERY]), library.encode_document(TEXTS))
    torch.testing.assert_close(torch.tensor([found]), wanted, rtol=0, atol=1e-4)
    assert spearmanr(found, mini.scores(QUERY, TEXTS)).statistic > 0.6


def test_what_is_no_late_interaction_is_refused(exported, tmp_path):
    decoder = load_ranker(save_model(tmp_path / "llama", "Llama", "smollm2"))
    with pytest.raises(ValueError, match="only an encoder that reads the query alone"):
        export_multi_vector(decoder, tmp_path / "out")
    with pytest.raises(ValueError, match="it is such a checkpoint already"):
        export_multi_vector(exported, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_untrained_encoder_keeps_its_prompts(tmp_path):
    settings = (
        "{backbone: encoder, query_attends: false, signal: query, score: log_sum_exp, "
        "instruction: '', passage: \"doc: {title}\\n{text}\", query: 'q: {query}'}"
    )
    ranker = load_ranker(save_model(tmp_path / "model", "Bert", "minilm"), settings)
    export_multi_vector(ranker, tmp_path / "out")
    library = MultiVectorEncoder(str(tmp_path / "out"), device="cpu")
    assert library.prompts == {"query": "q: ", "document": "doc: "}
    assert len(library) == 3
    (tmp_path / "model" / "blockrank.yaml").write_text(settings.replace("{text}", "{text} (end)"))
    with pytest.raises(ValueError, match="is no prompt and then the text"):
        export_multi_vector(load_ranker(tmp_path / "model"), tmp_path / "other")
