"""Content-free calibration: what a passage gets for a query that says nothing is not relevance.

Enters: scores for a query, and for the content-free query over the same passages. Leaves: their
differences. `settings.calibration: content_free` asks for it.

    calibrated([0.6, 0.4], [0.8, 0.2])
"""

from collections.abc import Sequence

from rerank.prompt.packing import PromptTokens
from rerank.prompt.template import PromptTexts, fill
from rerank.settings.common import RankerSettings


def content_free_texts(settings: RankerSettings) -> PromptTexts:
    """The instruction and the query block with the content-free query, and no passages."""
    return fill(settings, settings.content_free_query, [])


def with_passages_of(free: PromptTokens, prompt: PromptTokens) -> PromptTokens:
    """The content-free prompt over the passages of `prompt`: passage blocks hold no query."""
    return free._replace(passages=prompt.passages)


def calibrated(scores: Sequence[float], content_free: Sequence[float]) -> list[float]:
    """`scores` less `content_free`: what the query itself brought each passage.

    In-context re-ranking (ICR, arXiv 2410.02642, section 3) subtracts attention, and so do masses
    here: they then sum to 0 and lie in [-1, 1]. Scores of `log_sum_exp` are logarithms, so there
    the same difference is the logarithm of a ratio.
    """
    return [score - free for score, free in zip(scores, content_free, strict=True)]
