"""`rerank rank --budget-tokens` and `--budget-ms`: whose first scores count, what is refused."""

import json

import pytest
from rerank_cases import QUERY

from configs.command import run_command
from rerank import BlockRanker, PassageCache
from rerank.__main__ import make_parser

TEXTS = ["Rain fell.", "Goethe wrote the tragedy Faust.", "A pear.", "Who wrote it?"]
SCORES = [0.5, 2, 0.5, -1.5]
ROWS = [
    {"id": f"p{n}", "text": text, "score": score}
    for n, (text, score) in enumerate(zip(TEXTS, SCORES, strict=True))
]


@pytest.fixture
def rank(minilm_ranker, monkeypatch, tmp_path, capsys):
    """Rank rows or texts on the command line: the exit code and what was printed."""
    monkeypatch.setattr(BlockRanker, "from_pretrained", lambda *_: minilm_ranker)

    def run(rows, *arguments, option="--passages"):
        file = tmp_path / "rows.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)))
        code = run_command(make_parser(), ["rank", *map(str, arguments), option, str(file)])
        return code, capsys.readouterr()

    return run


def _found(rank, rows, *arguments, **options):
    code, printed = rank(rows, *arguments, "--json", **options)
    assert code == 0, printed.err
    lines = [json.loads(line)["results"] for line in printed.out.splitlines()]
    return [[(r["id"], r.get("stage", "read")) for r in results] for results in lines]


def test_the_score_of_a_passages_row_says_who_is_read(rank, minilm_ranker):
    (asked,) = minilm_ranker.prompts([QUERY], [[]])
    two = asked.num_tokens + sum(minilm_ranker.token_counts([TEXTS[1], TEXTS[0]]))
    (found,) = _found(rank, ROWS, QUERY, "--budget-tokens", two)
    assert found == [("p1", "read"), ("p0", "read"), ("p2", "first"), ("p3", "first")]
    batch = [{"query": QUERY, "passages": ROWS}, {"query": QUERY, "passages": TEXTS}]
    with_own, without = _found(rank, batch, "--budget-tokens", two, option="--batch")
    assert with_own == found
    # BM25: two words of the query, then one; the second has more tokens than are left.
    assert without[:2] == [("1", "read"), ("3", "first")]


def test_a_score_is_of_one_query_and_milliseconds_read_all_where_there_are_enough(rank, tmp_path):
    (tmp_path / "queries").write_text("rain\npear\n")
    options = ["--queries", tmp_path / "queries", "--budget-tokens", 12]
    firsts = [results[0] for results in _found(rank, ROWS, *options)]
    assert firsts == [("p0", "read"), ("p2", "read")]
    (found,) = _found(rank, ROWS, QUERY, "--budget-ms", 1e9)
    assert {stage for _, stage in found} == {"read"}


def test_a_cache_gives_the_first_scores(rank, minilm_ranker, tmp_path):
    cache = PassageCache.build(minilm_ranker, TEXTS, tmp_path / "cache").rerank(QUERY)
    rows = [{"id": str(n), "text": text} for n, text in enumerate(TEXTS)]
    (found,) = _found(rank, rows, QUERY, "--cache", tmp_path / "cache", "--budget-tokens", 22)
    assert [id_ for id_, _ in found] == [each.id for each in cache]
    assert [stage for _, stage in found] == ["read", "read", "first", "first"]


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        (TEXTS, ["--budget-tokens", "0"], "--budget-tokens is 0, wanted at least 1"),
        (TEXTS, ["--budget-ms", "nan"], "--budget-ms is nan, wanted a number above 0"),
        (TEXTS, ["--budget-ms", "9", "--highlights"], "--budget-ms with --highlights"),
        (TEXTS, ["--budget-tokens", "9", "--mode", "decode"], "--budget-tokens with --mode decode"),
        ([*ROWS, {"id": "q", "text": "x"}], ["--budget-ms", "9"], "passage 'q': its score is None"),
        ([{"text": "x", "score": True}], ["--budget-ms", "9"], "passage '0': its score is True"),
        ([{"text": "x", "score": 10**400}], ["--budget-ms", "9"], "wanted a finite number"),
        ([{"text": "x", "score": 1}], ["--budget-tokens", "2"], "budget_tokens is 2: the query"),
    ],
)
def test_bad_input_is_one_sentence(rank, rows, arguments, message):
    rows = [{"text": row} if isinstance(row, str) else row for row in rows]
    code, printed = rank(rows, QUERY, *arguments)
    assert code == 2
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1


def test_a_cache_alone_has_no_words_to_read(rank, tmp_path):
    code, printed = rank(
        [{"query": "who?"}], "--cache", tmp_path, "--budget-ms", 9, option="--queries"
    )
    assert code == 2
    assert "--budget-ms reads passages' words, which a cache has not" in printed.err
