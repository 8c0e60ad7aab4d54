import socket
import subprocess
import sys

import pytest

from index.disk.files import LOCK, only_writer, write_atomic


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="full"):
        write_atomic(target, fail)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_one_writer_at_a_time_across_processes(tmp_path):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, pathlib; from index.disk.files import only_writer\n"
            "with only_writer(pathlib.Path(sys.argv[1])):\n"
            "    print('held', flush=True); sys.stdin.read()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    owner = (
        rf"\(process {holder.pid} on {socket.gethostname()}, since \d{{4}}-.* UTC\); wait for it"
    )
    with (
        pytest.raises(ValueError, match=rf"another process is writing in .* {owner}"),
        only_writer(tmp_path),
    ):
        pass
    holder.kill()
    holder.communicate()
    with only_writer(tmp_path):  # a killed process holds nothing
        pass
    assert (tmp_path / LOCK).read_bytes() == b""


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"pid": 7}', b"\xff" * 2000])
def test_a_lock_that_names_no_owner(tmp_path, content):
    with only_writer(tmp_path):
        (tmp_path / LOCK).write_bytes(content)
        with pytest.raises(ValueError, match="it has not said which"), only_writer(tmp_path):
            pass
