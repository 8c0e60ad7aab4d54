"""Open the lexical leg of an index, and search it with words.

Enters: the folder of an index, its manifest. Leaves: rows and their BM25 scores (k1 1.2, b 0.75).

The pieces of all segments are opened as one index of tantivy's, so that how rare a word is, and how
long a passage is, are counted over all of them: a score does not depend on the segment that a
passage lies in. tantivy wants its files in one folder, under names of its own, and writes there: a
folder of links is made for it, and is gone again once it has opened them.

    LexicalLeg(Path("my-index"), manifest).search("apple trees", k=10, live)
"""

import contextlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tantivy

from index.disk.files import file_of
from index.manifest.manifest import Manifest
from index.manifest.words import lexical_files
from index.words.analyser import FIELD, index_meta, make_analyser, schema_of

_TIMES = 100
# Passages looked through, at most, for one that holds all words of a text.
_LIKE_IT = 10_000


class LexicalLeg:
    """The words of all passages, open. Rows are numbered through all segments, deleted ones too."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Raises `ValueError` for a file that is not what the manifest promises."""
        self._analyser = make_analyser(manifest.lexical)
        self._schema = schema_of(manifest.lexical)
        pieces = [
            (folder / segment.data, number, piece.rows)
            for segment in manifest.segments
            for number, piece in enumerate(segment.words)
        ]
        self._starts = np.cumsum([0, *(rows for _, _, rows in pieces)])
        with _folder_of_links() as place:
            segments = [
                (_link(data, number, place, ordinal), rows)
                for ordinal, (data, number, rows) in enumerate(pieces)
            ]
            meta = index_meta(manifest.lexical, segments)
            (place / "meta.json").write_text(json.dumps(meta))
            with _readable():
                index = tantivy.Index.open(str(place))
                index.config_reader("manual")  # nobody will write there: no thread that looks
                self._searcher = index.searcher()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def search(
        self, query: str, k: int, live: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The rows, int64, that score best for `query`, and their scores, float32, descending.

        As many as `k`, and those that tie with the last one; fewer where fewer share a word with
        the query. `live` says of rows, int64 [n], which may be found, bool [n]. Each word of the
        query counts as often as it stands in it, and is a word, whatever its characters mean to
        another search.
        """
        words = Counter(self._analyser.analyze(query))
        clauses = [(tantivy.Occur.Should, self._term(word, words[word])) for word in sorted(words)]
        asked = tantivy.Query.boolean_query(clauses)
        wanted = k + 1
        while True:
            rows, scores = self._found(asked, wanted)
            mine = live(rows)
            kept = scores[mine]
            all_there = len(rows) < wanted or wanted >= len(self)
            if all_there or (len(kept) >= k and scores[-1] < kept[k - 1]):
                count = np.count_nonzero(kept >= kept[k - 1]) if len(kept) > k else len(kept)
                return rows[mine][:count], kept[:count]
            wanted = 2 * wanted

    def holds(self, row: int, text: str) -> bool:
        """Whether the words of `text`, those of passage `row`, are found there.

        True also where 10,000 passages hold them all: who is among those tells nothing of `row`.
        """
        words = sorted(set(self._analyser.analyze(text)))
        if not words:
            return True
        asked = [(tantivy.Occur.Must, self._term(word, 1)) for word in words]
        rows, _ = self._found(tantivy.Query.boolean_query(asked), _LIKE_IT)
        return row in rows or len(rows) == _LIKE_IT

    def _term(self, word: str, times: int) -> tantivy.Query:
        term = tantivy.Query.term_query(self._schema, FIELD, word)
        return term if times == 1 else tantivy.Query.boost_query(term, float(times))

    def _found(self, asked: tantivy.Query, most: int) -> tuple[np.ndarray, np.ndarray]:
        with _readable():
            hits = self._searcher.search(asked, min(most, max(len(self), 1)), count=False).hits
        places = [(place.segment_ord, place.doc) for _, place in hits]
        ordinals, documents = np.array(places, np.int64).reshape(-1, 2).T
        return self._starts[ordinals] + documents, np.array([s for s, _ in hits], np.float32)


@contextlib.contextmanager
def _folder_of_links() -> Iterator[Path]:
    """An empty folder, deleted in the end with whatever tantivy left there.

    A thread of tantivy's, which looks for commits until it is told not to, may leave a lock file
    while the folder is deleted: then it is deleted again. Raises `RuntimeError` where there is no
    place for temporary files: the index is none the worse for it.
    """
    try:
        place = Path(tempfile.mkdtemp(prefix="blockseek-"))
        try:
            yield place
        finally:
            for _ in range(_TIMES):
                shutil.rmtree(place, ignore_errors=True)
                if not place.exists():
                    break
    except OSError as error:
        raise RuntimeError(
            f"the lexical leg opens by a temporary folder, and none can be written ({error}); name "
            f"a place for one in TMPDIR"
        ) from None


def _link(data: Path, number: int, place: Path, ordinal: int) -> str:
    """Link the files of a piece into `place` under tantivy's names; the name of its segment."""
    name = f"{ordinal:032x}"
    for suffix, file in lexical_files(number).items():
        try:
            (place / f"{name}.{suffix}").symlink_to(file_of(data, file).resolve())
        except ValueError as error:
            raise ValueError(f"{data.name}: {error}") from None
    return "-".join((name[:8], name[8:12], name[12:16], name[16:20], name[20:]))


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Let what tantivy raises about a damaged file be a `ValueError` of one sentence."""
    try:
        yield
    except BaseException as error:
        # What Rust's panic becomes here is no Exception, and has no name that could be imported.
        if not isinstance(error, ValueError) and type(error).__name__ != "PanicException":
            raise
        reason = str(error).splitlines()[0][:200]
        raise ValueError(f"the lexical files can't be read: {reason}") from None
