import pytest
from rerank_cases import PASSAGES, QUERY, load_ranker, packed, save_model, scores

HEADS = """
backbone: decoder
query_attends: true
query_position: 4096
instruction: "Rank.\\nQuery: {query}\\n\\n"
passage: "Passage: {title}\\n{text}\\n\\n"
query: "Query: {query}\\nAnswer:"
signal: query
score: mass
heads: [[1, 3], [1, 0], [3, 2]]
head_weights: [1, 2, 5]
"""


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return load_ranker(save_model(tmp_path_factory.mktemp("llama"), "Llama", "smollm2"), HEADS)


def _found(ranker, passages=PASSAGES, query=QUERY):
    return ranker.highlights(query, passages)


def test_the_masses_of_a_passage_add_up_to_its_score(decoder):
    found = _found(decoder)
    wanted = scores(decoder, QUERY, PASSAGES)
    assert max(wanted) - min(wanted) > 0.01  # else equal shares would pass
    assert [each.mass for each in found] == pytest.approx(wanted, abs=1e-6)
    for each in found:
        total = sum(token.mass for token in each.tokens) + each.template_mass
        assert total == pytest.approx(each.mass, abs=1e-9)


def test_signal_tokens_of_unequal_weight_count_as_in_the_score(decoder, monkeypatch):
    read = decoder.backbone.read

    def first_signal_alone(prompts):
        readout = read(prompts)
        first = (heads.weights.cumsum(1) == heads.weights for heads in readout.heads)
        chosen = (
            h._replace(weights=h.weights * f) for h, f in zip(readout.heads, first, strict=True)
        )
        return readout._replace(heads=tuple(chosen))

    before = _found(decoder)
    monkeypatch.setattr(decoder.backbone, "read", first_signal_alone)
    signals = len(packed(decoder, QUERY, PASSAGES).signal)
    assert signals > 1
    wanted = [signals * score for score in scores(decoder, QUERY, PASSAGES)]
    found = [each.mass for each in _found(decoder)]
    assert found == pytest.approx(wanted, abs=1e-6)
    assert found != pytest.approx([each.mass for each in before], abs=1e-4)


def test_places_are_those_of_the_callers_own_text(decoder, minilm_ranker):
    passages = [
        {"id": "both", "title": "Pear tree", "text": "A pear. 梨"},
        {"id": "title", "title": "Pear tree", "text": ""},
        {"id": "text", "text": "A pear."},
    ]
    for ranker in (decoder, minilm_ranker):
        for each, passage in zip(_found(ranker, passages), passages, strict=True):
            for field in ("title", "text"):
                own = passage.get(field, "")
                covered = set()
                for token in each.tokens:
                    if token.field == field:
                        assert 0 <= token.start < token.end <= len(own)
                        covered |= set(range(token.start, token.end))
                missing = "".join(c for place, c in enumerate(own) if place not in covered)
                assert not missing.strip(), (each.id, field, missing)


def test_the_token_that_a_late_interaction_matches_stands_out(minilm_ranker):
    (rain, faust) = _found(minilm_ranker, ["It rained.", "Goethe wrote Faust in Weimar."], "faust")
    best = max(faust.tokens, key=lambda token: token.mass)
    assert "Goethe wrote Faust in Weimar."[best.start : best.end] == "Faust"
    assert faust.mass > rain.mass
    assert faust.mass + rain.mass == pytest.approx(1, abs=1e-5)


def test_what_was_cut_off_has_no_mass(decoder):
    (long, _) = _found(decoder, ["Goethe wrote Faust. " * 100, "A pear."])
    assert max(token.end for token in long.tokens) < 20 * 100
    assert len(long.tokens) <= decoder.settings.max_passage_tokens


def test_an_empty_query_is_refused(decoder):
    with pytest.raises(ValueError, match="the query is empty"):
        _found(decoder, query=" ")
