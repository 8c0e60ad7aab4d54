"""Sentences to hide in a text, with questions that ask for them in other words.

In: how many, at most 50. Out: needles; those of one kind are told apart by one word.
"""

from typing import NamedTuple


class Needle(NamedTuple):
    """A sentence, and the question that it answers."""

    sentence: str
    question: str


_WHO = ("porter", "librarian", "baker", "surgeon", "sailor")
_WHAT = ("copper kettle", "third bookcase", "flour barrel", "garden bench", "blue lantern")
_WHERE = ("Lisbon", "Quebec", "Nairobi", "Osaka", "Bergen")
_WHEN = ("March", "August", "October", "January", "May")
# {who}, {what}, {where} and {when} differ from needle to needle; a question names one of them.
_KINDS = (
    (
        "The {who} keeps the spare key underneath the {what}.",
        "Where does the {who} hide the extra key?",
    ),
    (
        "Our {who} swims across the bay near {where} before breakfast.",
        "Which exercise does the {who} take in the mornings?",
    ),
    (
        "The choir of {where} will sing the mass without an organ in {when}.",
        "What are the singers of {where} going to perform unaccompanied?",
    ),
    (
        "Nobody told the {who} that the wedding had been put off until {when}.",
        "Who does not know that the marriage of the {who}'s friends is delayed?",
    ),
    (
        "In {where} the last tram leaves from the fish market at ten past one.",
        "When can I catch the final streetcar at night in {where}?",
    ),
    (
        "The {who} traded a violin for two goats and a wagon of hay.",
        "What did the {who} get in exchange for the instrument?",
    ),
    (
        "Grandmother's recipe from {where} asks for plums, never for cherries.",
        "Which fruit goes into the old family dish from {where}?",
    ),
    (
        "The museum of {where} lent its only meteorite to a school in {when}.",
        "Which rock from space did the museum of {where} give away for a while?",
    ),
    (
        "The password that the {who} wrote on the wall begins with a number seven.",
        "What is the first digit of the secret word of the {who}?",
    ),
    (
        "A parrot that the {who} raised can recite train timetables.",
        "What has the pet bird of the {who} learned by heart?",
    ),
)


def needles(count: int) -> list[Needle]:
    """The first `count` needles, as many kinds as possible among them."""
    made = []
    for number in range(count):
        turn, kind = divmod(number, len(_KINDS))
        values = {
            "who": _WHO[turn],
            "what": _WHAT[turn],
            "where": _WHERE[turn],
            "when": _WHEN[turn],
        }
        made.append(Needle(*(text.format(**values) for text in _KINDS[kind])))
    return made
