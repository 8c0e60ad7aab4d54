"""Warnings that name the line of whoever called us.

Enters: what to say. Leaves: a warning at the first frame that is not ours.
"""

import sys
import warnings


class BlankPassagesWarning(UserWarning):
    """Passages without a visible character were not read, and come last."""


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn where the caller stands, behind our own frames and those of torch's decorators."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back and frame.f_globals["__name__"].split(".")[0] in ("rerank", "torch"):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
