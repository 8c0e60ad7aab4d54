import gzip
import stat

import pytest

from configs.files import replacing, write_text


def test_failure_leaves_the_old_file_and_no_debris(tmp_path):
    target = tmp_path / "run.trec"
    write_text(target, "old")

    def fail_half_way():
        with replacing(target) as file:
            file.write(b"half of the new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_gz_is_compressed_and_reproducible(tmp_path):
    for name in ("a.gz", "b.gz"):
        write_text(tmp_path / name, "same text")
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"same text"
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_result_is_readable_like_any_other_file(tmp_path):
    write_text(tmp_path / "ours", "x")
    (tmp_path / "plain").write_text("x")
    ours, plain = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "plain"))
    assert ours == plain


def test_folders_on_the_way_are_made(tmp_path):
    write_text(tmp_path / "new" / "deep" / "file", "x")
    assert (tmp_path / "new" / "deep" / "file").read_text() == "x"
