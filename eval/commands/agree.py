"""`python -m eval agree FOLDER`: judges against the human labels, and systems under both."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from configs.command import note
from eval.commands.output import Subparsers, add_output_options, print_json, print_table
from eval.reporting.tables import NOT_RUN, Cell

if TYPE_CHECKING:
    from eval.agreement.results import Study

LABEL_HEADER = ["judge", "pairs", "exact", "kappa", "low", "high", "quadratic", "alpha", "bias"]
SYSTEM_HEADER = ["tau_b", "tau_AP", "rho", "RBO", "top-k", "kept", "missed", "false", "opposite"]


def add_agree_parser(subparsers: Subparsers) -> None:
    """Add the `agree` subcommand."""
    parser = subparsers.add_parser(
        "agree",
        help="agreement of LLM judges with human labels, and of the system rankings they give",
        description="Compare the labels in FOLDER/judges with those in FOLDER/qrels; with --runs, "
        "also the rankings of systems and the significant differences that they lead to.",
    )
    parser.add_argument("folder", help="BEIR folder with qrels/ and judges/, or a qrels file")
    parser.add_argument("--judges", nargs="+", help="label files or folders (FOLDER/judges)")
    parser.add_argument("--runs", nargs="+", help="TREC runs, or folders of them")
    parser.add_argument(
        "--common-pairs",
        action="store_true",
        help="compare all judges on the pairs that every one of them labelled",
    )
    parser.add_argument("--split", default="test", help="of the qrels (%(default)s)")
    parser.add_argument("--measure", default="nDCG@10", help="ranks systems (%(default)s)")
    parser.add_argument(
        "--scale",
        nargs=2,
        type=int,
        metavar=("LOW", "HIGH"),
        help="labels outside are clipped and counted (0 to the highest human grade)",
    )
    parser.add_argument("--top", type=int, default=10, help="k of the top-k tau (%(default)s)")
    parser.add_argument("--rbo-p", type=float, default=0.9, help="(%(default)s)")
    parser.add_argument("--permutations", type=int, default=10_000, help="(%(default)s)")
    parser.add_argument("--resamples", type=int, default=2_000, help="bootstrap (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    add_output_options(parser)
    parser.set_defaults(run=run_agree)


def run_agree(arguments: argparse.Namespace) -> None:
    """Study and print."""
    from dataclasses import replace

    from eval.agreement.results import Settings
    from eval.agreement.study import study
    from eval.files.named_labels import judge_files, read_judge
    from eval.files.named_runs import named_runs, run_paths
    from eval.files.provenance import provenance
    from retrieval.corpora import load_qrels

    qrels = load_qrels(arguments.folder, arguments.split)
    files = judge_files(arguments.judges or [Path(arguments.folder) / "judges"])
    result = study(
        qrels,
        {name: read_judge(path) for name, path in files.items()},
        named_runs(arguments.runs) if arguments.runs else None,
        Settings(
            measure=arguments.measure,
            scale=tuple(arguments.scale) if arguments.scale else None,
            common_pairs=arguments.common_pairs,
            top=arguments.top,
            rbo_p=arguments.rbo_p,
            permutations=arguments.permutations,
            resamples=arguments.resamples,
            seed=arguments.seed,
        ),
    )
    _warn(result)
    if arguments.format == "json":
        read = [*files.values(), *run_paths(arguments.runs or []).values()]
        print_json(replace(result, provenance=provenance(read)).as_json())
        return
    header = LABEL_HEADER + (SYSTEM_HEADER if result.systems else [])
    print_table(arguments, header, _rows(result))
    if arguments.format == "text":
        _print_notes(result)


def _warn(result: "Study") -> None:
    for name in result.not_run:
        note(f"{name} did not run: its file is absent or empty")
    for name, labels in result.labels.items():
        for who, count in zip(("human", name), labels.clipped, strict=True):
            if count:
                note(
                    f"{count} labels of {who} lie outside the scale "
                    f"{result.grades[0]}..{result.grades[-1]} and were clipped"
                )
        if labels.human_only:
            note(
                f"{name} has no label for {labels.human_only} human pairs; "
                f"the {labels.pairs} shared ones are compared"
            )


def _rows(result: "Study") -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for name, labels in result.labels.items():
        row: list[Cell] = [
            name,
            labels.pairs,
            labels.exact.value,
            labels.kappa.value,
            labels.kappa.low,
            labels.kappa.high,
            labels.kappa_quadratic.value,
            labels.alpha_ordinal.value,
            labels.mean_bias,
        ]
        if result.systems:
            systems = result.systems[name]
            kept = systems.preservation
            row += [systems.tau_b, systems.tau_ap, systems.spearman, systems.rbo]
            row += [systems.top_k_tau, kept.agreements, kept.missed, kept.false]
            row += [kept.contradictions]
        rows.append(row)
    rows.sort(key=lambda row: (-float(row[3] or 0), str(row[0])))
    width = len(rows[0])
    rows += [[name, NOT_RUN, *[""] * (width - 2)] for name in result.not_run]
    return rows


def _print_notes(result: "Study") -> None:
    settings = result.settings
    print(
        f"\ngrades {result.grades[0]}..{result.grades[-1]}; kappa with {settings.confidence:.0%} "
        f"bootstrap interval over queries ({settings.resamples} resamples); alpha: Krippendorff, "
        f"ordinal (all raters together {result.alpha_of_all:.4f}); bias: judge minus human"
    )
    cuts = {name: labels.kappa_at_cut for name, labels in result.labels.items()}
    for name, kappas in cuts.items():
        listed = ", ".join(f">={cut}: {kappa.value:.4f}" for cut, kappa in kappas.items())
        print(f"binary kappa of {name}: {listed}")
    if result.systems:
        systems = next(iter(result.systems.values()))
        pairs = len(systems.human_means) * (len(systems.human_means) - 1) // 2
        print(
            f"{len(systems.human_means)} systems by {settings.measure}, {pairs} pairs; kept, "
            "missed, false, opposite: significant under both, the human alone, the judge alone, "
            f"both but in opposite directions (randomised Tukey HSD, {settings.permutations} "
            f"permutations, alpha {settings.alpha}, same queries)"
        )
