"""What only an encoder's settings say: it scores by its last hidden states.

Enters: a `blockrank.yaml` with `backbone: encoder`. Leaves: `EncoderSettings`.
"""

from dataclasses import dataclass
from typing import Literal

from rerank.settings.common import RankerSettings


@dataclass(frozen=True, kw_only=True)
class EncoderSettings(RankerSettings):
    """An encoder's normalised last hidden states are queries and keys at once.

    Their products are divided by `temperature`, unless a trained `late_interaction` brings its own
    (`rerank.backbones.late_interaction`). With `lexical` equal words count beside it
    (`rerank.backbones.lexical`). With `query_gates` passages read the query in every layer, as far
    as the gates are open (`rerank.backbones.query_gates`); nothing of them can be cached then.
    """

    backbone: Literal["encoder"] = "encoder"
    temperature: float = 0.05
    late_interaction: bool = False
    lexical: bool = False
    query_gates: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, wanted more than 0")
        if self.query_gates and self.query_attends:
            raise ValueError("query_gates needs query_attends: false")
        for name in ("late_interaction", "lexical"):
            if getattr(self, name) and self.score != "log_sum_exp":
                raise ValueError(f"{name} needs backbone: encoder and score: log_sum_exp")

    @property
    def passages_see_query(self) -> bool:
        """Whether what is computed of a passage depends on the query."""
        return self.query_gates or super().passages_see_query

    @property
    def compares_words(self) -> bool:
        """As `lexical` says."""
        return self.lexical
