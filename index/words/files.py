"""Write the lexical leg of a segment: the words of its passages, once, never changed again.

Enters: shards on the disk, and an analyser's name. Leaves: pieces, each an inverted index (a
segment of tantivy's) of consecutive passages, whose document n is the n-th of them. The same
passages give the same bytes. Which of them are deleted the dense leg knows; the files hold all.

    write_lexical(Path("building"), shards, "english")
"""

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import tantivy

from index.disk.files import sha256_of, sync_folder
from index.manifest.segments import ShardRecord
from index.manifest.words import OFF, LexicalPiece, lexical_files
from index.store.shards import read_passages
from index.words.analyser import FIELD, make_analyser, schema_of
from index.words.scratch import SCRATCH, remove_scratch

# A piece is a segment that tantivy did not have to write before its end, so that its documents lie
# in the order of the passages. Where all words differ it takes up to 15 bytes a byte of text, 2 GB
# of the 4 that it may; of real texts tens of megabytes.
_PIECE_BYTES = 2**27
_WRITER_BYTES = 4 * 10**9
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def write_lexical(
    place: Path, shards: Sequence[ShardRecord], analyser: str
) -> tuple[LexicalPiece, ...]:
    """Write the words of all passages of the shards in `place`; nothing where `analyser` is off.

    Raises `ValueError` for a damaged shard, `OSError` naming the folder when the disk is full, say.
    """
    if analyser == OFF:
        return ()
    pieces: list[LexicalPiece] = []
    for texts in _in_pieces(place, shards):
        remove_scratch(place)
        (place / SCRATCH).mkdir()
        try:
            pieces.append(_write_piece(place, len(pieces), analyser, texts))
        finally:
            remove_scratch(place)
    return tuple(pieces)


def _write_piece(place: Path, number: int, analyser: str, texts: Iterator[str]) -> LexicalPiece:
    rows, name = _index(place / SCRATCH, analyser, texts)
    digests = {}
    for suffix, kept in lexical_files(number).items():
        path = place / SCRATCH / f"{name}.{suffix}"
        _sync(path)
        digests[suffix] = sha256_of(path)
        path.replace(place / kept)
    sync_folder(place)
    return LexicalPiece(rows, digests)


def _in_pieces(place: Path, shards: Sequence[ShardRecord]) -> Iterator[Iterator[str]]:
    """The texts of all passages, in order, as many together as make a piece.

    Each piece is to be read to its end before the next one is asked for.
    """
    texts = (passage.full_text for shard in shards for passage in read_passages(place, shard))
    first = next(texts, None)

    def piece() -> Iterator[str]:
        nonlocal first
        room = _PIECE_BYTES
        while first is not None and room > 0:
            yield first
            room -= len(first.encode())
            first = next(texts, None)

    while first is not None:
        yield piece()


def _index(scratch: Path, analyser: str, texts: Iterator[str]) -> tuple[int, str]:
    """Let tantivy write the words of `texts`: how many there were, and what it called its files."""
    with _os_errors(scratch):
        index = tantivy.Index(schema_of(analyser), path=str(scratch))
        index.config_reader("manual")  # else a thread looks for commits, and leaves a lock file
        index.register_tokenizer(analyser, make_analyser(analyser))
        writer = index.writer(_WRITER_BYTES, num_threads=1)
    try:
        for text in texts:
            document = tantivy.Document()
            document.add_text(FIELD, text)
            with _os_errors(scratch):
                writer.add_document(document)
        with _os_errors(scratch):
            writer.commit()
            writer.wait_merging_threads()
    finally:
        del writer  # its threads end here, before anybody tidies up
    (segment,) = json.loads((scratch / "meta.json").read_text())["segments"]
    return segment["max_doc"], segment["segment_id"].replace("-", "")


@contextlib.contextmanager
def _os_errors(scratch: Path) -> Iterator[None]:
    """Let what tantivy says of a full disk, a `ValueError`, be the `OSError` that it was."""
    try:
        yield
    except ValueError as error:
        if told := _OS_ERROR.search(str(error)):
            raise OSError(int(told[1]), os.strerror(int(told[1])), str(scratch)) from None
        # A thread of its own that could not write does not say why.
        reason = "the words could not be written (is the disk full?)"
        raise OSError(errno.EIO, reason, str(scratch)) from error


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
