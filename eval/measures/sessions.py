"""NUM: one score for a whole session of queries, normalised by an ideal session.

Enters: sessions (query ids in order), qrels, a run. Leaves: a score in [0, 1] per session.
Source: Session-level Normalization and Click-through Data Enhancement for Session-based
Evaluation, arXiv 2401.12445, on the U-measure (Sakai & Dou, SIGIR 2013).

    python -c "from eval.measures.sessions import num; \
print(num([('q1', 'q2')], {'q1': {'a': 1}, 'q2': {}}, {'q1': {'a': 1.}}))"
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from configs.formats.checks import id_fault
from configs.formats.lines import PathLike, text_lines
from configs.formats.numerals import finite_number
from eval.measures.ranking import trec_eval_order


@dataclass(frozen=True)
class SessionSettings:
    """How a searcher reads; lengths are counted in passages.

    `depth` passages of every list are read; a new query costs as much as reading `reformulation`
    passages; after `patience` passages nothing is worth anything (the L of the U-measure).
    """

    depth: int = 10
    reformulation: float = 1.0
    patience: float = 100.0


@dataclass(frozen=True)
class SessionScores:
    """NUM by session (named by its first query), and what could not be counted.

    `without_relevant` are sessions without a relevant passage: they have no ideal and no score.
    `missing` are judged queries that the run lacks: their turn is spent and brings nothing.
    """

    scores: dict[str, float]
    without_relevant: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def mean(self) -> float | None:
        """Mean over the sessions that have a score."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else None


def num(
    sessions: Sequence[Sequence[str]],
    qrels: Mapping[str, Mapping[str, int]],
    run: Mapping[str, Mapping[str, float]],
    settings: SessionSettings | None = None,
) -> SessionScores:
    """Return U(session) / U(ideal session) of every session.

    The trailtext of a session is what the searcher reads: the first passages of each list, turn by
    turn. U = sum of gain * max(0, 1 - position / patience) over it, position being the length
    read so far; a passage read before brings nothing again. A session is one need, so a passage's
    gain is that of its best grade in any turn, (2^grade - 1) / 2^highest. The ideal session reads
    the session's relevant passages, best first, under one query.

    The paper infers relevance from clicks and measures characters; with judgments and without
    texts, grades and passages stand in for them. Turns without judgments are left out.
    """
    settings = settings or SessionSettings()
    if settings.depth < 1 or settings.patience <= 0 or settings.reformulation < 0:
        raise ValueError(
            f"depth and patience must be above 0 and reformulation at least 0, got {settings}"
        )
    highest = max((grade for grades in qrels.values() for grade in grades.values()), default=0)
    scores: dict[str, float] = {}
    hopeless: list[str] = []
    missing: list[str] = []
    for turns in sessions:
        judged = [query_id for query_id in turns if query_id in qrels]
        best: dict[str, int] = {}
        for query_id in judged:
            for passage_id, grade in qrels[query_id].items():
                best[passage_id] = max(best.get(passage_id, 0), grade)
        gains = {
            passage_id: (2**grade - 1) / 2**highest
            for passage_id, grade in best.items()
            if grade > 0
        }
        if not judged:
            continue
        if not gains:
            hopeless.append(judged[0])
            continue
        trail: list[tuple[str, float]] = []
        position = 0.0
        for turn, query_id in enumerate(judged):
            position += settings.reformulation if turn else 0.0
            if not run.get(query_id):
                missing.append(query_id)
                continue
            for passage_id in trec_eval_order(run[query_id])[: settings.depth]:
                position += 1.0
                trail.append((passage_id, position))
        ideal = sorted(gains.values(), reverse=True)
        reachable = sum(
            gain * _decay(place, settings.patience) for place, gain in enumerate(ideal, start=1)
        )
        scores[judged[0]] = _utility(trail, gains, settings.patience) / reachable
    return SessionScores(scores, tuple(hopeless), tuple(missing))


def read_sessions(path: PathLike) -> list[tuple[str, ...]]:
    """Read sessions from a TSV with the columns `session`, `turn` and `query-id`, by turn."""
    sessions: dict[str, list[tuple[float, str]]] = {}
    columns: list[int] = []
    for number, line in text_lines(path):
        fields = line.split("\t")
        if not columns:
            try:
                columns = [fields.index(name) for name in ("session", "turn", "query-id")]
            except ValueError:
                raise ValueError(
                    f"{path}:{number}: the header must name the columns session, turn, query-id"
                ) from None
            continue
        turn = None
        if len(fields) > max(columns):
            session, text, query_id = (fields[column] for column in columns)
            turn = finite_number(text)
        if turn is None:
            raise ValueError(f"{path}:{number}: expected a session, a turn's number and a query id")
        if fault := id_fault(query_id):
            raise ValueError(f"{path}:{number}: query: {fault}")
        sessions.setdefault(session, []).append((turn, query_id))
    if not sessions:
        raise ValueError(f"{path}: holds no session")
    return [tuple(query_id for _, query_id in sorted(turns)) for turns in sessions.values()]


def _utility(
    trail: Sequence[tuple[str, float]], gains: Mapping[str, float], patience: float
) -> float:
    seen: set[str] = set()
    total = 0.0
    for passage_id, position in trail:
        if passage_id not in seen:
            seen.add(passage_id)
            total += gains.get(passage_id, 0.0) * _decay(position, patience)
    return total


def _decay(position: float, patience: float) -> float:
    return max(0.0, 1.0 - position / patience)
