"""How one model ranks: template, layer, signal tokens, score.

Enters: a model's name or folder. Leaves: `RankerSettings`. A model's folder may carry its own as
`blockrank.yaml`; otherwise the project's file of the model's name, or of its kind, is taken.

    settings_for("smollm2").layer
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs.settings import CONFIGS, read_settings

OWN_SETTINGS = "blockrank.yaml"
_QUERY = "{query}"


@dataclass(frozen=True)
class RankerSettings:
    """What decides a score, besides the weights.

    `layer` is l* of BlockRank (arXiv 2510.05396, section 4), counted from 0: attention logits of
    that layer score, and nothing above it is computed. None takes `layer_share` of a decoder's
    layers, and for an encoder the normalised last hidden states with `temperature` in place of
    projections. `heads`, pairs of (layer, head), score in place of all heads of `layer`, weighted
    by `head_weights` or alike. With `query_attends` the query block reads all blocks; without, it
    is read alone, so that passages can be encoded once for all queries.

    A passage longer than `max_passage_tokens` is read in up to `max_windows` windows of at most
    that many tokens (`rerank.prompt.windows`), and cut behind them.

    With `query_in_instruction` the instruction's `{query}` is filled in, as published, and every
    passage sees the query; without, the instruction is `instruction_alone` (or an `instruction`
    that holds no `{query}`), and what is computed of a passage serves every query.

    `base` names the model that a folder's own files are a change of: an update of its weights
    (`rerank.backbones.low_rank`), and with `late_interaction` an encoder's trained one. With
    `lexical` equal words count beside it (`rerank.backbones.lexical`).

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
    layer: int | None = None
    layer_share: float = 0.625
    signal_tokens: int = 2
    temperature: float = 0.05
    query_position: int | None = None
    max_passage_tokens: int = 256
    max_windows: int = 1
    max_query_tokens: int = 128
    heads: tuple[tuple[int, int], ...] | None = None
    head_weights: tuple[float, ...] | None = None
    query_in_instruction: bool = True
    instruction_alone: str | None = None
    calibration: Literal["none", "content_free"] = "none"
    content_free_query: str = "N/A"
    probability: tuple[float, float] | None = None
    base: str | None = None
    late_interaction: bool = False
    lexical: bool = False

    def __post_init__(self) -> None:
        if "{text}" not in self.passage:
            raise ValueError(f"passage template {self.passage!r} has no {{text}}")
        if "{query}" not in self.query:
            raise ValueError(f"query template {self.query!r} has no {{query}}")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, wanted more than 0")
        for name in ("signal_tokens", "max_passage_tokens", "max_windows", "max_query_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted at least 1")
        if self.score == "log_sum_exp" and self.query_attends:
            raise ValueError("score log_sum_exp needs query_attends: false")
        if self.max_windows > 1 and self.query_attends:
            raise ValueError("max_windows above 1 needs query_attends: false")
        if self.backbone == "encoder" and (self.layer is not None or self.heads is not None):
            raise ValueError(
                "layer and heads need backbone: decoder; encoders score by their last hidden states"
            )
        compares = (self.backbone, self.score) == ("encoder", "log_sum_exp")
        for name in ("late_interaction", "lexical"):
            if getattr(self, name) and not compares:
                raise ValueError(f"{name} needs backbone: encoder and score: log_sum_exp")
        if not self.query_in_instruction and _QUERY in self.instruction_template:
            raise ValueError(
                "query_in_instruction is false and the instruction holds {query}: give an "
                "instruction_alone without it"
            )
        if not self.content_free_query.strip():
            raise ValueError("content_free_query is empty, wanted a text such as N/A")
        self._check_heads()

    def _check_heads(self) -> None:
        if self.heads is not None and not self.heads:
            raise ValueError("heads is empty: list [layer, head] pairs, or leave it out for all")
        if len(set(self.heads or ())) != len(self.heads or ()):
            raise ValueError("heads names a head twice")
        weights = self.head_weights
        if weights is None:
            return
        if len(weights) != len(self.heads or ()):
            raise ValueError(
                f"head_weights has {len(weights)} values for {len(self.heads or ())} heads"
            )
        if not (min(weights) >= 0 and 0 < sum(weights) < float("inf")):
            raise ValueError("head_weights must be 0 or more, and not all of them 0")

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


def settings_for(name: str, folder: str, kind: str) -> RankerSettings:
    """The settings of the model `name`, whose files lie in `folder` if that is one.

    `kind` (`encoder` or `decoder`) names the project's file for a model that has none.
    """
    own = Path(folder) / OWN_SETTINGS
    if own.is_file():
        return read_settings(RankerSettings, own)
    shipped = f"rerank/{name}"
    known = "/" not in name and (CONFIGS / f"{shipped}.yaml").is_file()
    return read_settings(RankerSettings, shipped if known else f"rerank/{kind}")


def base_of(folder: Path) -> str | None:
    """The model that `folder` holds a change of, or None where it is whole (or no folder)."""
    own = folder / OWN_SETTINGS
    return read_settings(RankerSettings, own).base if own.is_file() else None
