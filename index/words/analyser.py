"""What makes words of a text, in passages and in queries alike.

Enters: an analyser's name. Leaves: tantivy's analyser, the schema of an index of its words, and
what tantivy's own file says of such an index.

    make_analyser("english").analyze("Pruning the apple trees")  # ["prune", "appl", "tree"]
"""

from collections.abc import Sequence
from typing import Any

import tantivy

from index.manifest.words import ENGLISH

FIELD = "text"
# Longer words are hashes and base64.
_WORD_BYTES = 255


def make_analyser(name: str) -> tantivy.TextAnalyzer:
    """Lower-cased runs of letters and digits.

    `english` leaves out stop words and takes the stems of the others; `plain` keeps every word.
    """
    filters = [tantivy.Filter.remove_long(_WORD_BYTES + 1), tantivy.Filter.lowercase()]
    if name == ENGLISH:
        filters += [tantivy.Filter.stopword(name), tantivy.Filter.stemmer(name)]
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    for each in filters:
        builder = builder.filter(each)
    return builder.build()


def index_meta(analyser: str, segments: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """What tantivy's meta.json says of an index of `schema_of(analyser)`.

    `segments` are the names of its segments, UUIDs, and how many documents each has.
    """
    indexing = {"record": "freq", "fieldnorms": True, "tokenizer": analyser}
    options = {"indexing": indexing, "stored": False, "fast": False}
    return {
        "index_settings": {"docstore_compression": "lz4", "docstore_blocksize": 16384},
        "segments": [
            {"segment_id": name, "max_doc": documents, "deletes": None}
            for name, documents in segments
        ],
        "schema": [{"name": FIELD, "type": "text", "options": options}],
        "opstamp": 0,
    }


def schema_of(analyser: str) -> tantivy.Schema:
    """One field of words, each with how often it stands in a passage; no text is kept."""
    builder = tantivy.SchemaBuilder()
    return builder.add_text_field(FIELD, tokenizer_name=analyser, index_option="freq").build()
