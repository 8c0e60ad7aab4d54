import pytest

from retrieval.corpora import load_qrels


def test_file_folder_and_split(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    expected = {"q": {"d": 1}}
    assert load_qrels(tmp_path / "qrels" / "dev.tsv") == expected
    assert load_qrels(tmp_path, split="dev") == expected
    with pytest.raises(ValueError, match=r"no qrels/test\.tsv; it has dev\.tsv"):
        load_qrels(tmp_path)


def test_what_is_neither_file_nor_folder_nor_collection():
    with pytest.raises(ValueError, match="no ir_datasets id"):
        load_qrels("no-such-collection/at-all")
