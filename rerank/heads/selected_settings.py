"""From evidence to settings: what `select-heads` writes.

Enters: `HeadEvidence` and the model's settings. Leaves: the chosen calibration and heads, the
settings that score with them, and a record of where they come from.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

from rerank.heads.evidence import Head, HeadEvidence
from rerank.heads.selection import Calibration, Method, Selection, select_heads
from rerank.scoring.probability import fit_probability
from rerank.settings.decoder import DecoderSettings


def select(
    evidence: Sequence[HeadEvidence],
    heads: Sequence[Head],
    *,
    most: int,
    method: Method,
    calibration: Calibration | None,
    seed: int,
) -> tuple[Calibration, Selection]:
    """`select_heads` under `calibration`, or (None) under the one that validates better.

    Equal ones go to none, which costs one pass less. Raises `ValueError` as `select_heads`.
    """
    found = {
        each: select_heads(evidence, heads, most=most, method=method, calibration=each, seed=seed)
        for each in (get_args(Calibration) if calibration is None else (calibration,))
    }
    best = max(found, key=lambda each: found[each].ndcg)
    return best, found[best]


def selected_settings(
    base: DecoderSettings, selection: Selection, calibration: Calibration
) -> DecoderSettings:
    """`base` with the selected heads; `layer` names the highest of them.

    The map to a probability is fitted to scores by heads that other queries chose. There is none
    where those scores do not rise with relevance.
    """
    try:
        line = fit_probability(selection.scores.tolist(), (selection.grades > 0).tolist())
    except ValueError:
        line = None
    return replace(
        base,
        layer=max(layer for layer, _ in selection.heads),
        heads=selection.heads,
        head_weights=None,
        score="mass",
        calibration=calibration,
        probability=line,
    )


def provenance(model: str, examples: Path, selection: Selection, method: Method) -> dict[str, Any]:
    """What a reader of the settings needs to know, and to do it again."""
    return {
        "heads selected for": model,
        "examples": examples.name,
        "examples sha256": hashlib.sha256(examples.read_bytes()).hexdigest(),
        "queries left out": selection.left_out,
        "method": method,
        "nDCG@10 by number of heads, cross-validated": {
            str(count): round(value, 4) for count, value in selection.validated.items()
        },
        "versions": {name: metadata.version(name) for name in ("torch", "transformers")},
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
