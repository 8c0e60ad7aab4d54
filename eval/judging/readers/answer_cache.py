"""Answers of language models on disk, so that none is paid for twice and a killed run resumes.

Enters: a reader's call and its prompts. Leaves: the same stream, the known answers first.

    cache = AnswerCache("answers.sqlite")
    list(cache.through("generate", reader.identity, prompts, ask))
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from eval.files.trec import PathLike
from eval.judging.readers import Failure, Prompt


class AnswerCache:
    """One SQLite file; every answer is on disk before it is handed on. Failures are not kept."""

    def __init__(self, path: PathLike) -> None:
        """Open or make the file; `ValueError` where it is something else."""
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(self.path, timeout=60)
            self._database.execute("pragma journal_mode = wal")
            self._database.execute(
                "create table if not exists answers"
                " (key text primary key, reader text, task text, answer text)"
            )
            # Another program's table of this name fails here, not after the first paid answer.
            self._database.execute("select key, reader, task, answer from answers limit 0")
            self._database.commit()
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{self.path} is no cache of answers ({error}); name another file"
            ) from None

    def through(
        self,
        task: str,
        identity: str,
        prompts: Sequence[Prompt],
        ask: Callable[[Sequence[Prompt]], Iterable[tuple[int, Any | Failure]]],
    ) -> Iterator[tuple[int, Any | Failure]]:
        """Yield (index, answer) of every prompt: cached ones first, then those of `ask`.

        `task` holds every option that changes an answer; with the reader's identity and the
        whole prompt (which holds the query and the passage) it makes the key. The same prompt is
        asked once.
        """
        rows: dict[str, list[int]] = {}
        for row, prompt in enumerate(prompts):
            rows.setdefault(_key(task, identity, prompt), []).append(row)
        unknown = []
        for key, places in rows.items():
            known = self._database.execute(
                "select answer from answers where key = ?", (key,)
            ).fetchone()
            if known is None:
                unknown.append(key)
                continue
            answer = json.loads(known[0])
            yield from ((row, answer) for row in places)
        if not unknown:
            return
        for index, answer in ask([prompts[rows[key][0]] for key in unknown]):
            key = unknown[index]
            if not isinstance(answer, Failure):
                self._database.execute(
                    "insert or replace into answers values (?, ?, ?, ?)",
                    (key, identity, task, json.dumps(answer)),
                )
                self._database.commit()
            yield from ((row, answer) for row in rows[key])

    def __len__(self) -> int:
        return int(self._database.execute("select count(*) from answers").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _key(task: str, identity: str, prompt: Prompt) -> str:
    return hashlib.sha256(json.dumps([task, identity, *prompt]).encode()).hexdigest()
