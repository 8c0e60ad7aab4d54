"""Judge prompts as data: the words that are asked, the scale, and what counts as an answer.

Enters: a YAML file of configs/eval/judges or of your own. Leaves: prompts, and grades parsed from
answers.

    python -c "from eval.judging.prompts import read_judge_prompt as r; print(r('binary').labels)"
"""

import re
from dataclasses import dataclass
from pathlib import Path

from configs.settings import CONFIGS, read_settings
from eval.judging.readers import Prompt

FOLDER = CONFIGS / "eval" / "judges"
_FIELD = re.compile(r"\{(query|passage)\}")


@dataclass(frozen=True)
class JudgePrompt:
    """One way of asking for a grade.

    `labels[i]` is the word for grade `lowest + i`. `pattern` is a regular expression that must
    match the whole answer (case does not matter, a dot matches line breaks) and whose group
    `label` holds one of the labels: an answer that does not match has no grade.
    """

    labels: tuple[str, ...]
    user: str
    pattern: str
    system: str = ""
    lowest: int = 0
    max_tokens: int = 8
    description: str = ""

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or len({label.lower() for label in self.labels}) < len(self.labels):
            raise ValueError(f"labels {list(self.labels)} must be two or more different words")
        missing = {"query", "passage"} - set(_FIELD.findall(self.user + self.system))
        if missing:
            raise ValueError(f"the prompt never shows {{{min(missing)}}}")
        if "(?P<label>" not in self.pattern:
            raise ValueError(f"pattern {self.pattern!r} has no group (?P<label>...)")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern {self.pattern!r} is broken: {error}") from None

    def ask(self, query: str, passage: str) -> Prompt:
        """Return the prompt for a pair; braces inside the texts stay as they are."""
        texts = {"query": query, "passage": passage}
        filled = [
            _FIELD.sub(lambda field: texts[field.group(1)], part)
            for part in (self.system, self.user)
        ]
        return Prompt(*filled)

    def parse(self, answer: str) -> int | None:
        """Return the grade that `answer` states, None where it states none in the asked form."""
        match = re.fullmatch(self.pattern, answer, re.IGNORECASE | re.DOTALL)
        if match is None:
            return None
        labels = [label.lower() for label in self.labels]
        found = match.group("label").lower()
        return self.lowest + labels.index(found) if found in labels else None


def read_judge_prompt(name: str) -> JudgePrompt:
    """Read a prompt shipped with the project by its name, or any YAML file by its path."""
    path = Path(name)
    if not path.is_file():
        path = FOLDER / f"{name}.yaml"
        if not path.is_file():
            raise ValueError(
                f"no judge prompt {name!r}; the project ships {', '.join(judge_prompt_names())}, "
                "and any YAML file may be named"
            )
    try:
        return read_settings(JudgePrompt, path)
    except ValueError as error:
        # The checks of the dataclass do not know the file.
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def judge_prompt_names() -> list[str]:
    """Return the names of the prompts that the project ships."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))
