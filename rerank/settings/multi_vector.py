"""What a late-interaction checkpoint of sentence-transformers says of how it scores.

Enters: such a checkpoint, read by `rerank.backbones.multi_vector`. Leaves: `MultiVectorSettings`,
which no `blockrank.yaml` holds.
"""

from dataclasses import dataclass
from typing import Literal

from rerank.settings.encoder import EncoderSettings


@dataclass(frozen=True)
class Expansion:
    """Queries of fewer than `length` tokens are filled up with `token` (ColBERT, arXiv 2004.12832).

    Each of these scores. The query's own tokens see them only where it `attends`; else each of them
    sees the query's own tokens and nothing more, not even itself.
    """

    token: int
    length: int
    attends: bool


@dataclass(frozen=True, kw_only=True)
class MultiVectorSettings(EncoderSettings):
    """An encoder whose every query token scores by its best passage token (MaxSim).

    The maximum is the soft maximum of other encoders at a temperature so low that in float32 they
    are one. Of a block's tokens, special ones included, those whose ids are among `passage_skips`
    or `query_skips` don't count. A longer query is cut, as the checkpoint's own library cuts it.
    The sum over query tokens is their `mean` where the checkpoint says so.
    """

    query_attends: bool = False
    signal: Literal["query", "last"] = "query"
    score: Literal["mass", "log_sum_exp"] = "log_sum_exp"
    instruction: str = ""
    temperature: float = 1e-8
    passage_skips: tuple[int, ...] = ()
    query_skips: tuple[int, ...] = ()
    expansion: Expansion | None = None
    mean: bool = False
