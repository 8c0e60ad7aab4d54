"""Answer decoding against an implementation that reads every answer on its own, densely."""

import math

import pytest
import torch
from rerank_cases import PASSAGES, QUERY, save_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from rerank.answers.decoding import AnswerDecoder, AnswerSettings
from rerank.prompt.candidates import as_candidates

# Twelve passages: the numbers 1 and 10 to 12 begin alike.
MANY = [*PASSAGES, *(f"Passage about {word} and {word}." for word in "abcdefg")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("llama"), "Llama", "smollm2")


@pytest.fixture(scope="module")
def decoder(folder):
    return AnswerDecoder.from_pretrained(str(folder), device="cpu")


def scores(decoder, passages):
    return decoder.scores(QUERY, as_candidates(passages))


def blocks_of(decoder, candidates):
    """The texts of instruction, passages and query, numbered as documented."""
    settings = decoder.settings
    order = sorted(candidates, key=lambda c: (c.title, c.text, c.id))
    passages = [
        f"[{number}] " + (f"{c.title}\n" if c.title else "") + f"{c.text}\n\n"
        for number, c in enumerate(order, 1)
    ]
    instruction = settings.instruction.replace("{query}", QUERY)
    return order, [instruction, *passages, settings.query.replace("{query}", QUERY)]


def dense_log_probabilities(folder, decoder, passages):
    """For each answer one dense pass over the prompt and its tokens; then the definition."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    order, texts = blocks_of(decoder, as_candidates(passages))
    blocks = tokenizer(texts, add_special_tokens=False)["input_ids"]
    answers = [
        tokenizer(f"{number}]", add_special_tokens=False)["input_ids"]
        for number in range(1, len(order) + 1)
    ]
    prompt = sum(map(len, blocks))
    logits = {}  # after each prefix of an answer
    for answer in answers:
        whole = [*blocks[:-1], [*blocks[-1], *answer]]
        ids = [id_ for block in whole for id_ in block]
        owner = torch.tensor([n for n, block in enumerate(whole) for _ in block])
        after = len(whole[0])
        starts = [0, *([after] * (len(whole) - 2)), decoder.settings.query_position]
        lengths = [range(len(block)) for block in whole]
        positions = [start + n for start, ns in zip(starts, lengths, strict=True) for n in ns]
        causal = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
        visible = (owner[:, None] == owner) | (owner == 0) | (owner[:, None] == len(whole) - 1)
        mask = torch.where(causal & visible, 0.0, torch.finfo(torch.float32).min)
        with torch.inference_mode():
            output = model(
                input_ids=torch.tensor([ids]),
                position_ids=torch.tensor([positions]),
                attention_mask=mask[None, None],
            ).logits[0]
        for length in range(len(answer)):
            logits[tuple(answer[:length])] = output[prompt - 1 + length].double()
    found = {}
    for candidate, answer in zip(order, answers, strict=True):
        total = 0.0
        for length, token in enumerate(answer):
            prefix = tuple(answer[:length])
            allowed = {a[length] for a in answers if tuple(a[:length]) == prefix}
            row = logits[prefix]
            total += float(row[token] - row[sorted(allowed)].logsumexp(0))
        found[candidate.id] = total
    return [found[candidate.id] for candidate in as_candidates(passages)]


@pytest.mark.parametrize("family", ["Llama", "Mistral", "Qwen2", "Qwen3"])
def test_equals_reading_every_answer_on_its_own(family, tmp_path):
    folder = save_model(tmp_path, family, "smollm2")
    decoder = AnswerDecoder.from_pretrained(str(folder), device="cpu")
    found = scores(decoder, MANY)
    assert found == pytest.approx(dense_log_probabilities(folder, decoder, MANY), abs=1e-4)
    assert max(found) - min(found) > 0.1  # else any order would do


def test_probabilities_of_all_passages_add_up_to_one(decoder):
    assert math.fsum(map(math.exp, scores(decoder, MANY))) == pytest.approx(1, abs=1e-5)
    assert scores(decoder, ["A pear."]) == [0.0]


def test_the_order_of_the_passages_has_no_say_bit_for_bit(decoder):
    given = [{"id": c.id, "title": c.title, "text": c.text} for c in as_candidates(MANY)]
    expected = {r.id: r.score for r in decoder.rerank(QUERY, given)}
    for step in (5, 7):
        mixed = [given[(step * place) % len(given)] for place in range(len(given))]
        assert {r.id: r.score for r in decoder.rerank(QUERY, mixed)} == expected


def test_rerank_sorts_by_probability(decoder):
    found = decoder.rerank(QUERY, MANY, top_k=3)
    assert [r.rank for r in found] == [1, 2, 3]
    assert [r.score for r in found] == sorted(scores(decoder, MANY), reverse=True)[:3]


def test_the_template_is_data_and_a_model_may_carry_its_own(folder, tmp_path_factory):
    own = tmp_path_factory.mktemp("own")
    for file in folder.iterdir():
        (own / file.name).symlink_to(file)
    (own / "blockrank-answer.yaml").write_text(
        'instruction: ""\npassage: "<{identifier}> {text}"\nquery: "{query} <"\nanswer_end: ">"\n'
    )
    decoder = AnswerDecoder.from_pretrained(str(own), device="cpu")
    assert decoder.settings.answer_end == ">"
    assert len(scores(decoder, MANY)) == len(MANY)


def test_bad_input_is_one_sentence(decoder):
    for query, passages, top_k, message in [
        (" ", MANY, None, "the query is empty"),
        (QUERY, [], None, "the list is empty"),
        (QUERY, MANY, 0, "top_k is 0"),
        ("word " * 400, MANY, None, "the query has"),
    ]:
        with pytest.raises(ValueError, match=message):
            decoder.rerank(query, passages, top_k)
    with pytest.raises(ValueError, match="it is an encoder"):
        AnswerDecoder.from_pretrained("minilm", device="cpu")
    with pytest.raises(ValueError, match=r"has no \{identifier\}"):
        AnswerSettings(instruction="", passage="{text}", query="{query}", answer_end="")
    unclosed = AnswerSettings(
        instruction="", passage="{identifier} {text}", query="{query} ", answer_end=""
    )
    with pytest.raises(ValueError, match="close answers with answer_end"):
        scores(AnswerDecoder(decoder.model, decoder.tokenizer, unclosed), MANY)
