"""`python -m eval report SOURCE [RUN...] --out FILE`: an HTML report that opens offline."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.commands.output import Subparsers

if TYPE_CHECKING:
    from eval.reporting.report import Latency


def add_report_parser(subparsers: Subparsers) -> None:
    """Add the `report` subcommand."""
    parser = subparsers.add_parser(
        "report",
        help="write an HTML report of runs, or of a result folder",
        description="SOURCE is the qrels (a file, a BEIR folder, an ir_datasets id), with RUNs; or "
        "a folder that `run` wrote, which names its own collection and runs.",
    )
    parser.add_argument("source", help="qrels, or a result folder")
    parser.add_argument("runs", nargs="*", help="TREC runs, or folders of them")
    parser.add_argument("--out", required=True, help="HTML file to write")
    parser.add_argument("--title", help="(the source's name)")
    parser.add_argument("--split", help="of a BEIR folder (test)")
    parser.add_argument("--measures", nargs="+", metavar="NAME", help="names of ir-measures")
    parser.add_argument("--baseline", help="name of the baseline system (the first that ran)")
    parser.add_argument("--judges", nargs="+", help="label files or folders: adds the agreement")
    parser.add_argument("--permutations", type=int, default=10_000, help="(%(default)s)")
    parser.add_argument("--resamples", type=int, default=10_000, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.set_defaults(run=run_report)


def run_report(arguments: argparse.Namespace) -> None:
    """Compare, plot, write the page."""
    from configs.files import write_text
    from eval.agreement.results import Settings as AgreementSettings
    from eval.agreement.study import study as study_agreement
    from eval.files.named_labels import judge_files, read_judge
    from eval.files.named_runs import named_runs, run_paths
    from eval.files.provenance import provenance
    from eval.measures.ranking import DEFAULT_MEASURES
    from eval.reporting.report import best_systems, precision_recall_curves, render_report
    from eval.statistics.comparison import Settings, compare
    from retrieval.corpora import load_qrels

    source, sources = Path(arguments.source), list(arguments.runs)
    result = _result(source)
    latencies: list[Latency] = []
    qrels_source, split = str(arguments.source), arguments.split or "test"
    if result is not None:
        sources = sources or [source / "runs"]
        qrels_source = result["settings"]["collection"]
        split = arguments.split or result["settings"]["split"]
        latencies = _latencies(source, result)
    if not sources:
        raise ValueError("no run named; give runs, or a result folder with a result.json")
    qrels = load_qrels(qrels_source, split)
    runs = named_runs(sources)
    comparison = compare(
        qrels,
        runs,
        arguments.measures or DEFAULT_MEASURES,
        baseline=arguments.baseline,
        settings=Settings(
            resamples=arguments.resamples,
            permutations=arguments.permutations,
            seed=arguments.seed,
        ),
    )
    files = list(run_paths(sources).values())
    study = None
    if arguments.judges:
        labels = judge_files(arguments.judges)
        files += labels.values()
        study = study_agreement(
            qrels,
            {name: read_judge(path) for name, path in labels.items()},
            runs if len(comparison.scores) > 1 else None,
            AgreementSettings(
                measure=comparison.measures[0],
                permutations=arguments.permutations,
                seed=arguments.seed,
            ),
        )
    made = provenance(files) | {"qrels": qrels_source, "seed": arguments.seed}
    if result is not None:
        made["pipeline"] = result.get("provenance", {})
    page = render_report(
        arguments.title or f"Evaluation on {Path(qrels_source).name}",
        comparison,
        curves=precision_recall_curves(qrels, runs, best_systems(comparison)),
        study=study,
        latencies=latencies,
        provenance=made,
    )
    write_text(arguments.out, page)
    print(f"{len(comparison.scores)} systems on {len(qrels)} queries: {arguments.out}")


def _result(source: Path) -> Any:
    """Return the JSON of a result folder, None where `source` is none."""
    path = source / "result.json"
    if not path.is_file():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        result["settings"]["collection"], result["settings"]["split"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no result of `run` ({error!r})") from None
    return result


def _latencies(source: Path, result: Any) -> "list[Latency]":
    from eval.reporting.report import Latency

    try:
        return [
            Latency(stage["name"], stage["latency_ms"]["p50"], stage["latency_ms"]["p95"])
            for stage in result["stages"]
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{source / 'result.json'}: stages without latencies ({error!r})"
        ) from None
