import hashlib

from eval.files.provenance import provenance


def test_files_are_hashed_and_versions_named(tmp_path):
    path = tmp_path / "run"
    path.write_bytes(b"q Q0 d 1 1 t\n")
    made = provenance([path, tmp_path / "absent"])
    assert made["sha256"] == {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}
    assert made["versions"].keys() >= {"python", "numpy", "ir-measures", "scipy"}
