"""What a run tells, as it comes: a line a row with the seconds used, and JSON lines in a file.

In: rows, checks and parts of named steps. Out: stdout, flushed; the file, appended and flushed; and
how many checks failed. A run that is cut off has told all before it.

    report = Report(minutes=6)
    report.run("times", 5, [("one", lambda: report.row("times", what="one", ms=1.0))])
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

Step = tuple[str, Callable[[], object]]


class StepTimeoutError(BaseException):
    """A step took what was left of the budget; nothing it calls may take that for its own error."""


class Report:
    """Rows of one run of at most `minutes`; `passed` counts checks, `failures` steps as well."""

    def __init__(self, minutes: float, out: Path | None = None, as_json: bool = False) -> None:
        self.passed = 0
        self.failures = 0
        self._start = time.monotonic()
        self._budget = 60 * minutes
        self._out = out.open("a", encoding="utf-8") if out else None
        self._as_json = as_json

    @property
    def used_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._start

    @property
    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        return self._budget - self.used_s

    def row(self, part: str, **fields: Any) -> None:
        """Tell one row of `part`."""
        record = {"part": part, "used_s": round(self.used_s, 1), **fields}
        line = json.dumps(record)
        if self._out:
            self._out.write(line + "\n")
            self._out.flush()
        if not self._as_json:
            told = "  ".join(f"{name} {_short(value)}" for name, value in fields.items())
            line = f"{self.used_s:6.1f} s  {part:<8} {told}"
        print(line, flush=True)

    def check(self, part: str, what: str, error: float, bound: float, **more: Any) -> None:
        """Tell the largest `error` beside its `bound`; beyond it, or NaN, is a failure."""
        passed = error <= bound
        self.passed += passed
        self.failures += not passed
        verdict = "ok" if passed else "FAILED"
        # JSON knows no infinity.
        shown = error if math.isfinite(error) else str(error)
        self.row(part, check=verdict, what=what, error=shown, bound=bound, **more)

    def failed(self, part: str, what: str, error: BaseException) -> None:
        """Tell what broke, and go on."""
        self.failures += 1
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        self.row(part, check="FAILED", what=what, reason=reason)

    def skipped(self, part: str, what: Sequence[str], reason: str) -> None:
        """Tell what was not done, and why."""
        if what:
            self.row(part, skipped=", ".join(what), reason=reason)

    def run(self, part: str, reserve_s: float, steps: Sequence[Step]) -> None:
        """Do `steps` in turn; those that would not fit what is left of the budget are skipped.

        A step needs as long as the longest before it, and the first one `reserve_s`.
        """
        longest = 0.0
        for number, (name, step) in enumerate(steps):
            needed = longest or reserve_s
            if self.left_s < needed:
                reason = f"{self.left_s:.0f} s are left, and {needed:.0f} s would be needed"
                self.skipped(part, [name for name, _ in steps[number:]], reason)
                return
            begun = time.monotonic()
            try:
                with _at_most(self.left_s):
                    step()
            except StepTimeoutError as error:
                self.skipped(part, [name], str(error))
            except Exception as error:
                self.failed(part, name, error)
            longest = max(longest, time.monotonic() - begun)


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise StepTimeoutError inside the block after `seconds`."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise StepTimeoutError(f"not done after {seconds:.0f} s, when the budget was used up")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return " ".join(f"{name}={_short(part)}" for name, part in value.items())
    return str(value)
