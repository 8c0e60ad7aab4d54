import json

import pytest

from configs.command import run_command
from eval.__main__ import build_parser
from eval.commands.udcg import run_udcg
from eval.files.udcg_examples import choose_model, examples_from_run, read_examples, score_examples


def example(*passages, **fields):
    made = [
        {"doc_id": f"d{place}", "text": "t", "is_relevant": relevant, "models_info": info}
        for place, (relevant, info) in enumerate(passages)
    ]
    return {"question": "why?", "passages": made, **fields}


def info(probability, model="m"):
    return {model: {"no_res_prob": probability}}


def command(path, *options):
    run_udcg(build_parser().parse_args(["udcg", str(path), *options]))


@pytest.fixture
def file(tmp_path):
    def write(*examples):
        path = tmp_path / "examples.json"
        path.write_text(json.dumps(list(examples)))
        return path

    return write


def test_published_samples_to_the_last_byte(data_folder, tmp_path, capsys):
    folder = data_folder / "udcg_sample"
    published = folder / "dataset_with_udcg.json"
    out = tmp_path / "out.json"
    command(
        folder / "dataset_with_scores.json", "--irrelevant-weight", "-0.333", "--out", str(out),
        "--json",
    )  # fmt: skip
    report = json.loads(capsys.readouterr().out)
    expected = [next(iter(item["udcg"].values())) for item in json.loads(published.read_text())]
    assert len(expected) == 3
    assert list(report["scores"].values()) == pytest.approx(expected, abs=1e-12)
    assert out.read_bytes() == published.read_bytes()


def test_published_file_with_scores_scores_the_same_again(data_folder):
    folder = data_folder / "udcg_sample"
    scores = [
        score_examples(read_examples(folder / name), "meta-llama/Llama-3.2-3B-Instruct").scores
        for name in ("dataset_with_scores.json", "dataset_with_udcg.json")
    ]
    assert scores[0] == scores[1]
    with pytest.raises(ValueError, match="readers in the file: none"):
        choose_model(read_examples(folder / "sample_dataset.json"))


def test_a_missing_probability_fails_the_example_and_is_in_no_mean(file, capsys):
    whole = example((True, info(0.0)), example_id="whole")
    broken = example((True, info(0.0)), (False, {}), example_id="broken")
    command(file(whole, broken), "--json")
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["scores"]["broken"] is None
    assert report["mean"] == report["scores"]["whole"]
    assert report["failed"] == {"broken": "passage d1 has no probability of m"}
    assert "broken has no score" in err


def test_empty_contexts_are_counted(file, capsys):
    path = file(example(example_id="empty"), example((True, info(0.5)), example_id="full"))
    command(path, "--empty", "neutral", "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["null"] == 1
    assert report["null_share"] == 0.5
    assert report["scores"]["empty"] == 0.5
    command(path)
    assert "null contexts 50.0%" in capsys.readouterr().out


def test_learned_weights_are_saved_and_read_back(file, tmp_path, capsys):
    path = file(example((True, info(0.1)), correct=1), example((False, info(0.1)), correct=0))
    weights = tmp_path / "weights.json"
    command(path, "--learn", "correct", "--save-weights", str(weights), "--json")
    learned = json.loads(capsys.readouterr().out)
    command(path, "--weights", str(weights), "--json")
    assert json.loads(capsys.readouterr().out)["scores"] == learned["scores"]
    with pytest.raises(ValueError, match="no number 'accuracy'"):
        command(path, "--learn", "accuracy")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[{]", "broken JSON: .* at column 3"),
        ("{}", "list of examples"),
        ('[{"question": "q"}]', "'passages'"),
        ('[{"passages": []}]', "'question'"),
        ('[{"question": "q", "passages": [{"text": "t"}]}]', "passage 1: 'is_relevant'"),
        ('[{"question": "q", "passages": [{"is_relevant": true}]}]', "passage 1: .*'text'"),
    ],
)
def test_a_broken_file_names_the_place(tmp_path, text, word):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=word) as error:
        read_examples(path)
    assert str(path) in str(error.value)


def test_several_readers_must_be_named(file):
    examples = read_examples(file(example((True, info(0.1) | info(0.2, "other")))))
    with pytest.raises(ValueError, match="--model; readers in the file: m, other"):
        choose_model(examples)
    with pytest.raises(ValueError, match="'third'"):
        choose_model(examples, "third")
    assert choose_model(examples, "other") == "other"


def test_gamma_with_the_papers_sign_is_refused_before_a_file_is_read(capsys):
    assert run_command(build_parser(), ["udcg", "none.json", "--irrelevant-weight", ".333"]) == 2
    assert "--irrelevant-weight -0.333" in capsys.readouterr().err


def test_examples_from_a_run_keep_its_order_and_count_unjudged_as_irrelevant():
    examples = examples_from_run(
        {"q1": "one?", "q2": "two?"},
        {"a": "A", "b": "B", "c": "C"},
        {"q1": {"a": 2, "c": 1}, "q2": {"a": 1}},
        {"q1": ["b", "a", "c"]},
        depth=2,
        minimum_grade=2,
    )
    assert [(p["doc_id"], p["is_relevant"]) for p in examples[0]["passages"]] == [
        ("b", False),
        ("a", True),
    ]
    assert examples[1]["passages"] == []
    with pytest.raises(ValueError, match="'z' of the run has no text"):
        examples_from_run({"q": "?"}, {}, {"q": {"z": 1}}, {"q": ["z"]})
