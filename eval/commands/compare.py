"""`python -m eval compare QRELS RUN...`: systems against a baseline, and all pairs of them."""

import argparse
from typing import TYPE_CHECKING

from configs.command import note
from configs.formats.shown import first_few, shown
from eval.commands.output import Subparsers, add_output_options, print_json, print_table
from eval.reporting.tables import NOT_RUN, Cell

if TYPE_CHECKING:
    from eval.statistics.comparison import Comparison

HEADER = ["system", "measure", "mean", "low", "high", "diff", "p", "p_Holm", "sig", "d_z", "W/T/L"]


def add_compare_parser(subparsers: Subparsers) -> None:
    """Add the `compare` subcommand."""
    parser = subparsers.add_parser(
        "compare",
        help="compare several runs: intervals, tests, effect sizes, worst queries",
        description="Compare systems on the same queries. A system whose file is absent or empty "
        'did not run: it is printed as "not run" and tested nowhere.',
    )
    parser.add_argument("qrels", help="qrels file (TREC or BEIR), BEIR folder, or ir_datasets id")
    parser.add_argument("runs", nargs="+", help="TREC runs, or folders of them")
    parser.add_argument("--split", default="test", help="split of a BEIR folder (%(default)s)")
    parser.add_argument("--measures", nargs="+", metavar="NAME", help="names of ir-measures")
    parser.add_argument("--baseline", help="name of the baseline system (the first that ran)")
    parser.add_argument("--resamples", type=int, default=10_000, help="bootstrap (%(default)s)")
    parser.add_argument("--permutations", type=int, default=10_000, help="tests (%(default)s)")
    parser.add_argument("--alpha", type=float, default=0.05, help="significance (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all resampling (%(default)s)")
    parser.add_argument("--no-pairs", action="store_true", help="skip the Tukey test of all pairs")
    add_output_options(parser)
    parser.set_defaults(run=run_compare)


def run_compare(arguments: argparse.Namespace) -> None:
    """Compare and print."""
    from eval.files.named_runs import named_runs
    from eval.measures.ranking import DEFAULT_MEASURES
    from eval.statistics.comparison import Settings, compare
    from retrieval.corpora import load_qrels

    qrels = load_qrels(arguments.qrels, arguments.split)
    comparison = compare(
        qrels,
        named_runs(arguments.runs),
        arguments.measures or DEFAULT_MEASURES,
        baseline=arguments.baseline,
        all_pairs=not arguments.no_pairs,
        settings=Settings(
            resamples=arguments.resamples,
            permutations=arguments.permutations,
            alpha=arguments.alpha,
            seed=arguments.seed,
        ),
    )
    for name in comparison.not_run:
        note(f"{name} did not run: its file is absent or empty")
    for name, evaluation in comparison.evaluations.items():
        if evaluation.missing:
            note(
                f"{name} lacks {len(evaluation.missing)} judged queries, which count 0: "
                f"{first_few(evaluation.missing)}"
            )
    if arguments.format == "json":
        print_json(comparison.as_json() | {"qrels": str(arguments.qrels)})
        return
    print_table(arguments, HEADER, list(_rows(comparison)))
    if arguments.format == "text":
        _print_notes(comparison)


def _print_notes(comparison: "Comparison") -> None:
    """Say under the table what its columns mean, who is harmed most, and what Tukey finds."""
    import numpy as np

    settings = comparison.settings
    print(
        f"\n{len(comparison.query_ids)} queries; baseline {comparison.baseline}; low, high: "
        f"{settings.confidence:.0%} bootstrap intervals ({settings.resamples} resamples); "
        f"p: paired permutation test ({settings.permutations}); *: p_Holm <= {settings.alpha}; "
        f"d_z: mean over standard deviation of the differences; seed {settings.seed}"
    )
    first = comparison.measures[0]
    for name, scores in comparison.scores.items():
        versus = scores[first].versus
        if versus is not None and versus.worst:
            worst = ", ".join(f"{query_id} ({value:+.3f})" for query_id, value in versus.worst)
            print(shown(f"worst {first} of {name} against {comparison.baseline}: {worst}"))
    for measure, p_values in comparison.pairs.items():
        systems = len(p_values)
        differ = int((p_values[~np.eye(systems, dtype=bool)] <= settings.alpha).sum()) // 2
        print(
            f"randomised Tukey HSD on {measure}: {differ} of {systems * (systems - 1) // 2} pairs "
            f"differ at {settings.alpha}"
        )


def _rows(comparison: "Comparison") -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for measure in comparison.measures:
        ranked = sorted(
            comparison.scores, key=lambda name: (-comparison.scores[name][measure].mean, name)
        )
        for name in ranked:
            score = comparison.scores[name][measure]
            row: list[Cell] = [name, measure, score.mean, score.low, score.high]
            versus = score.versus
            if versus is None:
                row += ["", "", "", "", "", ""]
            else:
                row += [
                    versus.difference,
                    versus.p_permutation,
                    versus.p_permutation_holm,
                    "*" if comparison.significant(name, measure) else "",
                    versus.effect_size,
                    "{}/{}/{}".format(*versus.outcomes),
                ]
            rows.append(row)
        rows += [[name, measure, NOT_RUN, *[""] * 8] for name in comparison.not_run]
    return rows
