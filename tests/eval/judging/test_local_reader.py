import math

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from eval.judging.abstention import NO_RESPONSE, SYSTEM, abstention_probabilities, abstention_prompt
from eval.judging.readers import Failure, Prompt
from eval.judging.readers.answer_cache import AnswerCache
from eval.judging.readers.local import LocalReader

TOKENS = "<s> </s> <user> <system> <answer> NO -RESPONSE 0 1 2 3 Yes No"
WORDS = f"{TOKENS} where is the cat dog mat".split()
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}<answer>{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
)


def save_model(folder, template=TEMPLATE, positions=64):
    """A small Llama with random weights and a tokenizer that adds a start token by itself."""
    vocabulary = {word: number for number, word in enumerate([*WORDS, "<unk>"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("-RESPONSE", "isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    wrapped.chat_template = template
    wrapped.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=positions,
        bos_token_id=0, eos_token_id=1, initializer_range=0.5,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


PROMPTS = [
    Prompt("", "where is the cat"),
    Prompt("where", "is the dog the cat the mat where is the mat"),
    Prompt("", "cat"),
    Prompt("the the the", "dog"),
]


def by_hand(reader, ids, texts):
    """Probabilities of one unpadded prompt, straight from the model."""
    with torch.inference_mode():
        probabilities = torch.softmax(reader.model(torch.tensor([ids])).logits[0, -1], -1)
    return [float(probabilities[reader.tokenizer.convert_tokens_to_ids(text)]) for text in texts]


def test_probabilities_equal_the_unpadded_model_whatever_the_batch(folder):
    for budget in (1, 30, 4096):
        reader = LocalReader(folder, device="cpu", tokens_per_batch=budget)
        found = dict(reader.first_token_probabilities(PROMPTS, ["0", "1", "Yes"]))
        for row, prompt in enumerate(PROMPTS):
            expected = by_hand(reader, reader.prompt_ids(prompt), ["0", "1", "Yes"])
            assert found[row] == pytest.approx(expected, rel=1e-4)
    assert len({round(found[row][0], 6) for row in found}) == len(PROMPTS)


def test_the_template_writes_the_start_token_once(folder):
    start = 0
    once = LocalReader(folder, device="cpu").prompt_ids(PROMPTS[0])
    assert once.count(start) == 1
    quirk = LocalReader(folder, device="cpu", published_tokens=True).prompt_ids(PROMPTS[0])
    assert quirk == [start, *once]


def test_the_quirk_is_what_the_published_script_computes(folder):
    """tokenizer(apply_chat_template(..., tokenize=False)), softmax of the last logits."""
    reader = LocalReader(folder, device="cpu", published_tokens=True)
    text = reader.tokenizer.apply_chat_template(
        [{"role": "system", "content": "the"}, {"role": "user", "content": "cat"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    ids = reader.tokenizer(text, return_tensors="pt", truncation=True)["input_ids"][0].tolist()
    ((_, found),) = reader.first_token_probabilities([Prompt("the", "cat")], [NO_RESPONSE])
    assert found == pytest.approx(by_hand(reader, ids, ["NO"]), rel=1e-4)


def test_abstention_is_the_first_token_of_no_response(folder, tmp_path):
    reader = LocalReader(folder, device="cpu")
    examples = [
        {"question": "where is the cat", "passages": [{"text": "the mat"}, {"text": "dog"}]},
        {"question": "where", "passages": []},
    ]
    found = abstention_probabilities(examples, reader, AnswerCache(tmp_path / "a.sqlite"))
    assert not found.failures
    assert set(found.probabilities) == {(0, 0), (0, 1)}
    prompt = abstention_prompt("where is the cat", "the mat")
    assert prompt == (SYSTEM, "Document: the mat\nQuestion: where is the cat\nAnswer:")
    expected = by_hand(reader, reader.prompt_ids(prompt), ["NO"])
    assert found.probabilities[0, 0] == pytest.approx(expected[0], rel=1e-4)


def test_answers_do_not_depend_on_the_batch(folder):
    alone = LocalReader(folder, device="cpu", tokens_per_batch=1)
    together = LocalReader(folder, device="cpu")
    answers = dict(together.answers(PROMPTS, 4))
    assert answers == dict(alone.answers(PROMPTS, 4))
    assert all(isinstance(text, str) for text in answers.values())
    assert any(answers.values())


def test_a_prompt_that_does_not_fit_fails_alone(folder):
    reader = LocalReader(folder, device="cpu")
    long = Prompt("", "cat " * 70)
    found = dict(reader.first_token_probabilities([long, PROMPTS[0]], ["Yes"]))
    assert isinstance(found[0], Failure)
    assert "73 tokens" in found[0].reason
    assert math.isfinite(found[1][0])
    room = Prompt("", "cat " * 55)
    assert isinstance(dict(reader.answers([room], 20))[0], Failure)
    assert isinstance(dict(reader.answers([room], 2))[0], str)


def test_labels_with_one_first_token_are_refused(folder):
    reader = LocalReader(folder, device="cpu")
    with pytest.raises(ValueError, match="same first token"):
        list(reader.first_token_probabilities(PROMPTS, ["NO-RESPONSE", "NO"]))


def test_a_template_without_a_system_role_gets_it_in_front_of_the_question(tmp_path):
    strict = LocalReader(save_model(tmp_path / "strict", NO_SYSTEM + TEMPLATE), device="cpu")
    plain = LocalReader(save_model(tmp_path / "plain"), device="cpu")
    assert strict.prompt_ids(Prompt("the", "cat")) == plain.prompt_ids(Prompt("", "the\n\ncat"))


def test_a_model_without_a_template_reads_the_plain_text(tmp_path):
    reader = LocalReader(save_model(tmp_path / "base", template=None), device="cpu")
    ids = reader.tokenizer.convert_tokens_to_ids
    assert reader.prompt_ids(Prompt("the", "cat")) == [0, ids("the"), ids("cat")]


def test_the_identity_knows_the_weights_and_the_tokens(folder, tmp_path):
    one = LocalReader(folder, device="cpu").identity
    assert one == LocalReader(folder, device="cpu").identity
    assert one != LocalReader(folder, device="cpu", published_tokens=True).identity
    other = save_model(tmp_path / "other")
    model = AutoModelForCausalLM.from_pretrained(other)
    model.lm_head.weight.data += 1
    model.save_pretrained(other)
    digest = [LocalReader(path, device="cpu").identity.split(",")[1] for path in (folder, other)]
    assert digest[0] != digest[1]


def test_no_such_model_is_one_sentence():
    with pytest.raises(ValueError, match="reader 'no-such/model'"):
        LocalReader("no-such/model")
