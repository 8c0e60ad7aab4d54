import json

import pytest


def test_rank_from_stdin_and_from_a_file(run_module, tmp_path):
    lines = [
        "A pear.",
        json.dumps({"id": "faust", "title": "Faust", "text": "Goethe wrote\u2028it."}),
        json.dumps({"_id": "c", "contents": "Rain."}, ensure_ascii=False),
    ]
    found = run_module("rerank", "rank", "who wrote Faust?", "--json", stdin="\n".join(lines))
    assert found.returncode == 0, found.stderr
    output = json.loads(found.stdout)
    assert (output["model"], output["query"]) == ("minilm", "who wrote Faust?")
    assert [result["rank"] for result in output["results"]] == [1, 2, 3]
    assert output["results"][0]["id"] == "faust"
    assert {result["id"] for result in output["results"]} == {"faust", "0", "c"}

    file = tmp_path / "passages"
    file.write_text("\n\n".join(lines) + "\n")
    found = run_module("rerank", "rank", "who wrote Faust?", "--passages", file, "--top-k", 2)
    assert found.returncode == 0, found.stderr
    assert [line.split()[0] for line in found.stdout.splitlines()] == ["1", "2"]
    assert found.stdout.splitlines()[0].split()[2:] == ["faust", "Goethe", "wrote", "it."]


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["query", "--passages", "nowhere.txt"], "", "nowhere.txt does not exist"),
        (["query"], "good\n{broken\n", "stdin:2: broken JSON"),
        (["query"], "", "the list is empty"),
        (["query", "--model", "no/such-model"], "A pear.\n", "is neither a local model"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(run_module, arguments, stdin, message):
    found = run_module("rerank", "rank", *arguments, stdin=stdin)
    assert found.returncode == 2
    assert message in found.stderr
    assert found.stderr.startswith("error: ")
    assert len(found.stderr.splitlines()) == 1
    assert found.stdout == ""
