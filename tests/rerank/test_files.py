import pytest

from rerank.files import new_folder, replacing


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "note"
    with replacing(target) as file:
        file.write(b"old")
        assert not target.exists()
    with pytest.raises(RuntimeError), replacing(target) as file:
        file.write(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "model"
    with pytest.raises(RuntimeError), new_folder(target) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with new_folder(target) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "note").write_text("x")
        assert not target.exists()
    assert (target / "inner" / "note").read_text() == "x"
    with pytest.raises(ValueError, match="model exists; remove it"), new_folder(target):
        pass
    assert list(tmp_path.iterdir()) == [target]
