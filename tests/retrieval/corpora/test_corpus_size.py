import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval.corpora.size import estimated_passages


def test_about_how_many_passages_a_corpus_has(tmp_path):
    lines = [json.dumps({"_id": f"p{n}", "text": "word " * 40}) + "\n" for n in range(9000)]
    beir = tmp_path / "beir"
    beir.mkdir()
    (beir / "corpus.jsonl").write_text("".join(lines))  # more than is looked at
    assert abs((estimated_passages(str(beir)) or 0) - 9000) < 90
    (tmp_path / "c.tsv").write_text("a\tone\nb\ttwo\n")
    assert estimated_passages(str(tmp_path / "c.tsv")) == 2
    table = pa.table({"_id": ["a", "b", "c"], "text": ["x", "y", "z"]})
    pq.write_table(table, tmp_path / "c.parquet")
    assert estimated_passages(str(tmp_path / "c.parquet")) == 3


def test_where_it_is_not_known(tmp_path):
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.write("{}\n")
    (tmp_path / "empty.tsv").write_text("")
    (tmp_path / "broken.parquet").write_bytes(b"no")
    for corpus in ("c.jsonl.gz", "empty.tsv", "broken.parquet", ".", "none.tsv"):
        assert estimated_passages(str(tmp_path / corpus)) is None
    assert estimated_passages("pydoc") is None
