"""How a model ranks, whatever its kind: template, limits, signal tokens, score.

Enters: what a `blockrank.yaml` says. Leaves: the part of it that prompts and scores need;
`settings.encoder` and `settings.decoder` add what only one kind of model has.
"""

from dataclasses import dataclass
from typing import Literal

_QUERY = "{query}"


@dataclass(frozen=True, kw_only=True)
class RankerSettings:
    """What decides a score, besides the weights, for encoders and decoders alike.

    With `query_attends` the query block reads all blocks; without, it is read alone, so that
    passages can be encoded once for all queries.

    A passage longer than `max_passage_tokens` is read in up to `max_windows` windows of at most
    that many tokens (`rerank.prompt.windows`), and cut behind them.

    With `query_in_instruction` the instruction's `{query}` is filled in, as published, and every
    passage sees the query; without, the instruction is `instruction_alone` (or an `instruction`
    that holds no `{query}`), and what is computed of a passage serves every query.

    `base` names the model that a folder's own files are a change of: an update of its weights
    (`rerank.backbones.low_rank`), and of an encoder what it scores with beside them.

    `calibration` content_free corrects a score by what the passage gets for `content_free_query`.
    `probability` is the (slope, intercept) of the logistic map from a score to a probability.
    """

    backbone: Literal["encoder", "decoder"]
    instruction: str
    passage: str
    query: str
    query_attends: bool
    signal: Literal["query", "last"]
    score: Literal["mass", "log_sum_exp"]
    signal_tokens: int = 2
    query_position: int | None = None
    max_passage_tokens: int = 256
    max_windows: int = 1
    max_query_tokens: int = 128
    query_in_instruction: bool = True
    instruction_alone: str | None = None
    calibration: Literal["none", "content_free"] = "none"
    content_free_query: str = "N/A"
    probability: tuple[float, float] | None = None
    base: str | None = None

    def __post_init__(self) -> None:
        self._check_templates()
        for name in ("signal_tokens", "max_passage_tokens", "max_windows", "max_query_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted at least 1")
        if self.query_attends:
            if self.score == "log_sum_exp":
                raise ValueError("score log_sum_exp needs query_attends: false")
            if self.max_windows > 1:
                raise ValueError("max_windows above 1 needs query_attends: false")

    def _check_templates(self) -> None:
        if "{text}" not in self.passage:
            raise ValueError(f"passage template {self.passage!r} has no {{text}}")
        if _QUERY not in self.query:
            raise ValueError(f"query template {self.query!r} has no {_QUERY}")
        if not self.query_in_instruction and _QUERY in self.instruction_template:
            raise ValueError(
                "query_in_instruction is false and the instruction holds {query}: give an "
                "instruction_alone without it"
            )
        if not self.content_free_query.strip():
            raise ValueError("content_free_query is empty, wanted a text such as N/A")

    @property
    def most_passage_tokens(self) -> int:
        """What is read of a passage at most, in all its windows."""
        return self.max_passage_tokens * self.max_windows

    @property
    def instruction_template(self) -> str:
        """The instruction as it is read: with `{query}`, or without."""
        alone = None if self.query_in_instruction else self.instruction_alone
        return self.instruction if alone is None else alone

    @property
    def passages_see_query(self) -> bool:
        """Whether what is computed of a passage depends on the query."""
        return _QUERY in self.instruction_template

    @property
    def compares_words(self) -> bool:
        """Whether prompts number the words of their blocks, for a score of equal ones."""
        return False
