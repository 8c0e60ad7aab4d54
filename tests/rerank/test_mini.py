"""The reranker in the box: small, loaded by no name at all, and order- and company-proof."""

from pathlib import Path

import pytest
import torch
from rerank_cases import PASSAGES, QUERY, scores
from safetensors.torch import load_file, save_file

from configs.models import find_model
from rerank import BlockRanker

FOLDER = Path(find_model("mini"))


@pytest.fixture(scope="module")
def mini():
    return BlockRanker.from_pretrained(device="cpu")


def test_it_is_a_small_change_of_minilm():
    size = sum(path.stat().st_size for path in FOLDER.iterdir())
    assert size < 24 * 2**20
    assert {path.suffix for path in FOLDER.iterdir()} <= {".yaml", ".safetensors", ".json", ".md"}
    assert (FOLDER / "README.md").is_file()


def test_it_finds_what_answers(mini):
    ranking = [result.id for result in mini.rerank(QUERY, PASSAGES)]
    assert ranking[0] == "0"
    assert set(ranking[-2:]) <= {"pear", "rain"}


def test_no_order_company_or_split_changes_a_bit(mini):
    whole = scores(mini, QUERY, PASSAGES)
    assert scores(mini, QUERY, PASSAGES[::-1]) == whole[::-1]
    assert [scores(mini, QUERY, [passage])[0] for passage in PASSAGES] == whole
    small = BlockRanker(mini.backbone, max_tokens=48)
    assert scores(small, QUERY, PASSAGES) == whole
    others = ["when does a pear ripen?", QUERY]
    batch = mini.rerank_batch(others, [PASSAGES[:2], PASSAGES])
    assert [r.score for r in batch[1]] == [r.score for r in mini.rerank(QUERY, PASSAGES)]


def test_a_whole_cache_gives_the_same_scores(mini):
    cache = mini.cache(PASSAGES, bits=32)
    found = {result.original_rank: result.score for result in cache.rerank(QUERY)}
    for number, score in enumerate(scores(mini, QUERY, PASSAGES), 1):
        assert found[number] == pytest.approx(score, abs=1e-5)


def test_the_weights_are_minilms_with_the_update(mini):
    update = FOLDER / "update.safetensors"
    if not update.is_file():
        pytest.skip("this build ships no update of the weights")
    tensors = load_file(update)
    plain = BlockRanker.from_pretrained("minilm", device="cpu").backbone.model
    name = "encoder.layer.0.attention.self.query"
    change = tensors[f"{name}.up"].float() @ tensors[f"{name}.down"].float()
    expected = plain.get_parameter(f"{name}.weight") + change
    found = mini.backbone.model.get_parameter(f"{name}.weight")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)
    assert change.abs().max() > 0


def test_a_broken_update_is_one_sentence(tmp_path):
    for path in FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    save_file({"encoder.nowhere.up": torch.zeros(4, 2)}, tmp_path / "update.safetensors")
    with pytest.raises(ValueError, match=r"encoder\.nowhere is no linear layer"):
        BlockRanker.from_pretrained(str(tmp_path), device="cpu")
    (tmp_path / "update.safetensors").unlink()
    (tmp_path / "late_interaction.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no late_interaction\.safetensors"):
        BlockRanker.from_pretrained(str(tmp_path), device="cpu")
