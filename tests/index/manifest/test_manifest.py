import json
from dataclasses import asdict

import pytest
from index_cases import (
    as_format,
    change_index,
    segment_of,
    unit_vectors,
    write_index,
    write_values,
)

from index.manifest.formats import FORMAT_VERSION
from index.manifest.manifest import MANIFEST, Manifest


@pytest.fixture(params=[1, 2, 3])
def folder(tmp_path, request):
    write_index(tmp_path / "index", unit_vectors(30))
    as_format(tmp_path / "index", request.param)
    return tmp_path / "index"


def test_a_manifest_reads_back_as_written(folder, tmp_path):
    manifest = Manifest.read(folder)
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
    assert (manifest.passages, manifest.truncated, manifest.skipped) == (30, 1, 2)
    assert manifest.settings == {"shard_size": 100}


def _changed(folder, change):
    values = json.loads((folder / MANIFEST).read_text())
    change(values)
    write_values(folder, values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda values: values.update(format_version=FORMAT_VERSION + 1),
            "has format 4, this version reads 1, 2 and 3",
        ),
        (lambda values: values.pop("format_version"), "is damaged"),
        (lambda values: values.pop("passages"), "is damaged .*passages"),
        (lambda values: values["encoder"].pop("fingerprint"), "is damaged .*fingerprint"),
        (lambda values: segment_of(values)["shards"][0].pop("rows"), "is damaged .*rows"),
        (lambda values: values.update(surplus=1), "is damaged .*surplus"),
        (lambda values: segment_of(values).update(shards=3), "is damaged"),
        (lambda values: segment_of(values).pop("data"), r"is damaged .*segments\[0\]\.data"),
        (lambda values: segment_of(values).update(deleted=[]), "is damaged .*deleted"),
        (lambda values: values.update(format_version=True), "has format True"),
    ],
)
def test_a_manifest_of_another_form_is_refused(folder, change, message):
    _changed(folder, change)
    with pytest.raises(ValueError, match=message) as raised:
        Manifest.read(folder)
    assert str(folder / MANIFEST) in str(raised.value)
    assert "build the index again" in str(raised.value)


@pytest.mark.parametrize("content", [b"{", b"[1]", b"", b"\xff\xfe{}"])
def test_a_damaged_manifest_is_refused(folder, content):
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        Manifest.read(folder)


def test_a_folder_that_is_no_index(tmp_path):
    with pytest.raises(ValueError, match=r"is no index: it has no manifest\.json"):
        Manifest.read(tmp_path)
    with pytest.raises(ValueError, match="does not exist"):
        Manifest.read(tmp_path / "nowhere")


def test_no_flipped_bit_goes_unseen(tmp_path):
    """Every one changes something that is read, so that either form or digest is another."""
    manifest = write_index(tmp_path, unit_vectors(30))
    content = (tmp_path / MANIFEST).read_bytes()
    for place in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        (tmp_path / MANIFEST).write_bytes(flipped)
        with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
            Manifest.read(tmp_path)
    (tmp_path / MANIFEST).write_bytes(content)
    assert Manifest.read(tmp_path) == manifest


def test_a_digest_that_is_missing_is_told(tmp_path):
    write_index(tmp_path, unit_vectors(30))
    _changed(tmp_path, lambda values: values.pop("sha256"))
    with pytest.raises(ValueError, match="sha256 is 'missing', its content has another"):
        Manifest.read(tmp_path)


def test_a_journal_of_the_format_before_is_settled(tmp_path):
    """A version that wrote format 2 was killed in its change; this one reads both as format 3."""
    write_index(tmp_path, unit_vectors(30))
    as_format(tmp_path, 2)
    replaced = asdict(Manifest.read(tmp_path)) | {"format_version": 2}
    journal = json.dumps({"data": "data-0002", "replaced": replaced})
    (tmp_path / "change.json").write_text(journal)
    (tmp_path / "data-0002").mkdir()
    (tmp_path / "data-0002" / "vectors-00000.arrow").write_text("begun")
    change_index(tmp_path, deleted=["p0001"])
    assert not (tmp_path / "data-0002").exists()
    assert Manifest.read(tmp_path).passages == 29
