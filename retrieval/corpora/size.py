"""About how many passages a corpus has, without reading it: for the time that is left of a build.

estimated_passages("collection.tsv")  # from the length of its first lines
"""

from pathlib import Path

from retrieval.corpora.beir import corpus_file

_SAMPLE_BYTES = 2**20


def estimated_passages(corpus: str) -> int | None:
    """The number of passages, where a file's size or its own count tells; else None."""
    path = Path(corpus)
    found = corpus_file(path) if path.is_dir() else path
    if found is None or not found.is_file():
        return None
    if found.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return int(pq.read_metadata(found).num_rows)
        except (pa.ArrowException, OSError):
            return None  # who reads it says what is wrong
    if found.suffix not in {".jsonl", ".json", ".ndjson", ".tsv", ".txt"}:
        return None
    with found.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    lines = sample.count(b"\n") or 1
    return round(found.stat().st_size * lines / len(sample)) if sample else None
