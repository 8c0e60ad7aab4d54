"""What a manifest says of the lexical leg: the files of the words of a segment's passages.

Enters: JSON. Leaves: records, checked. The words of a segment lie in pieces, each over consecutive
passages; every name follows from a piece's number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from index.disk.schema import check_digest_texts, check_ranges

OFF = "off"
ENGLISH = "english"
ANALYSERS = (ENGLISH, "plain")
SUFFIXES = ("fast", "fieldnorm", "idx", "pos", "store", "term")


@dataclass(frozen=True)
class LexicalPiece:
    """The words of `rows` consecutive passages of a segment: the digest of each file, by suffix."""

    rows: int
    sha256: dict[str, str]

    def __post_init__(self) -> None:
        check_ranges(self, rows=(1, 2**31))
        if sorted(self.sha256) != list(SUFFIXES):
            raise ValueError(f"sha256 is of {sorted(self.sha256)!r:.80}, wanted {SUFFIXES}")
        check_digest_texts({f"sha256.{suffix}": text for suffix, text in self.sha256.items()})


def lexical_files(number: int) -> dict[str, str]:
    """The names of the files of a segment's piece `number`, by suffix."""
    return {suffix: f"lexical-{number:05d}.{suffix}" for suffix in SUFFIXES}


def lexical_digests(pieces: Sequence[LexicalPiece]) -> dict[str, str]:
    """The digest of each file of a segment's pieces, by name."""
    return {
        name: piece.sha256[suffix]
        for number, piece in enumerate(pieces)
        for suffix, name in lexical_files(number).items()
    }


def check_lexical(name: str) -> None:
    """Raise `ValueError` unless `name` is an analyser's, or `off`."""
    if name not in (*ANALYSERS, OFF):
        raise ValueError(f"lexical is {name!r:.80}, wanted {', '.join(ANALYSERS)} or {OFF}")
