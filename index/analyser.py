"""What makes words of a text, in passages and in queries alike.

Enters: an analyser's name. Leaves: tantivy's analyser, and the schema of an index of its words.

    make_analyser("english").analyze("Pruning the apple trees")  # ["prune", "appl", "tree"]
"""

import tantivy

from index.lexical_record import ENGLISH

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


def schema_of(analyser: str) -> tantivy.Schema:
    """One field of words, each with how often it stands in a passage; no text is kept."""
    builder = tantivy.SchemaBuilder()
    return builder.add_text_field(FIELD, tokenizer_name=analyser, index_option="freq").build()
