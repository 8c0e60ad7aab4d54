"""The qrels of a collection, wherever they live.

Enters: a qrels file, a BEIR folder, or an ir_datasets id. Leaves: `{query id: {passage: grade}}`.

    python -c "from eval.files.collection_qrels import load_qrels; print(len(load_qrels('folder')))"
"""

from pathlib import Path

from configs.formats.qrels import collect_qrels
from eval.files.trec import PathLike, Qrels, read_qrels


def load_qrels(source: PathLike, split: str = "test") -> Qrels:
    """Return the qrels of `source`.

    A file is read as it is, a folder by its `qrels/<split>.tsv`, and anything else is an
    ir_datasets id such as `beir/scifact/test` (which may be fetched). Raises `ValueError` for a
    source that is none of the three.
    """
    path = Path(source)
    if path.is_file():
        return read_qrels(path)
    if path.is_dir():
        candidates = [path / "qrels" / f"{split}.tsv", path / "qrels" / f"{split}.tsv.gz"]
        for candidate in candidates:
            if candidate.is_file():
                return read_qrels(candidate)
        present = sorted(file.name for file in (path / "qrels").glob("*.tsv*"))
        raise ValueError(
            f"{path} has no qrels/{split}.tsv"
            + (f"; it has {', '.join(present)}: name one with --split" if present else "")
        )
    import ir_datasets

    try:
        dataset = ir_datasets.load(str(source))
    except KeyError:
        raise ValueError(
            f"{source} is no qrels file, no folder with qrels/, and no ir_datasets id"
        ) from None
    if not dataset.has_qrels():
        raise ValueError(f"the ir_datasets collection {source} has no qrels")
    judgments = ((j.query_id, j.doc_id, j.relevance) for j in dataset.qrels_iter())
    return collect_qrels(judgments, str(source))
