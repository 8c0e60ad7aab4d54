import pytest

from configs.files import new_folder, replacing


def _write_half(target):
    with replacing(target) as file:
        file.write(b"half")
        raise RuntimeError


def _make_half(target):
    with new_folder(target) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "note"
    with replacing(target) as file:
        file.write(b"old")
        assert not target.exists()
    with pytest.raises(RuntimeError):
        _write_half(target)
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "model"
    with pytest.raises(RuntimeError):
        _make_half(target)
    assert list(tmp_path.iterdir()) == []
    with new_folder(target) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "note").write_text("x")
        assert not target.exists()
    assert (target / "inner" / "note").read_text() == "x"
    with pytest.raises(ValueError, match="model exists; remove it"):
        _make_half(target)
    assert list(tmp_path.iterdir()) == [target]
