import pytest

from eval.judging.prompts import JudgePrompt, judge_prompt_names, read_judge_prompt


@pytest.mark.parametrize("name", judge_prompt_names())
def test_every_shipped_prompt_shows_both_texts_and_reads_its_own_labels(name):
    prompt = read_judge_prompt(name)
    asked = prompt.ask("the query", "the passage")
    assert "the query" in asked.user
    assert "the passage" in asked.user
    assert "{" not in asked.user
    lead = "Some reasons.\nFinal grade: " if name.startswith("stepwise") else ""
    for place, label in enumerate(prompt.labels):
        assert prompt.parse(lead + label) == prompt.lowest + place
        assert prompt.parse(f" {lead}{label}.\n") == prompt.lowest + place
    assert prompt.max_tokens >= 2


@pytest.mark.parametrize(
    "answer",
    ["", "relevant", "4", "-1", "2 or 3", "2, because", "The grade is 2", "22", "2.5", "two", "３"],
)
def test_an_answer_out_of_form_has_no_grade(answer):
    assert read_judge_prompt("graded_0_3").parse(answer) is None


def test_forms_that_are_asked_for():
    graded, binary = read_judge_prompt("graded_0_3"), read_judge_prompt("binary")
    assert graded.parse("Grade: 3") == 3
    assert binary.parse("YES.") == 1
    assert binary.parse("Yes, it does") is None
    stepwise = read_judge_prompt("stepwise_0_3")
    assert stepwise.parse("It was graded 3 once.\nFinal grade: 1") == 1
    assert stepwise.parse("Final grade: 1 or so, and more words") is None


def test_texts_with_braces_are_shown_as_they_are():
    asked = read_judge_prompt("binary").ask("what is {passage}?", "a {query} and {x}")
    assert "Query: what is {passage}?" in asked.user
    assert "Passage: a {query} and {x}" in asked.user


def test_lowest_moves_the_scale():
    prompt = JudgePrompt(("a", "b"), "{query}{passage}", "(?P<label>[ab])", lowest=-1)
    assert (prompt.parse("a"), prompt.parse("B")) == (-1, 0)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("labels: ['0']\nuser: '{query} {passage}'\npattern: '(?P<label>0)'", "two or more"),
        ("labels: ['0', '1']\nuser: '{query}'\npattern: '(?P<label>0)'", "never shows {passage}"),
        ("labels: ['0', '1']\nuser: '{query} {passage}'\npattern: '[01]'", "no group"),
        ("labels: ['0', '1']\nuser: '{query} {passage}'\npattern: '(?P<label>0'", "broken"),
        ("labels: ['0', '1']\nusr: '{query}'", "usr"),
    ],
)
def test_a_broken_file_is_named(tmp_path, text, word):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=word) as error:
        read_judge_prompt(str(path))
    assert "mine.yaml" in str(error.value)
    with pytest.raises(ValueError, match="ships binary, graded_0_3"):
        read_judge_prompt("no_such_prompt")
