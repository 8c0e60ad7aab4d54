"""A process of its own that answers a line with a line of JSON, so that its memory is its alone.

In: a command, and what it is asked. Out: its answers.

    worker = Answering([sys.executable, __file__, "--worker", "ours"])
    worker.asked()
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence


class Answering:
    """The process of a command, whose first answer says what it holds when loaded, in MB."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | dict(environment or {}),
        )
        self.loaded_mb: float = self._answer()["loaded_mb"]

    def asked(self, line: str = "") -> dict[str, float]:
        """What it answers to `line`; raises `RuntimeError` where it ended before."""
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(map(str, self.process.args))} ended early")  # type: ignore[arg-type]
        answer: dict[str, float] = json.loads(line)
        return answer
