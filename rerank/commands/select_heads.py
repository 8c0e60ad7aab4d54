"""`python -m rerank select-heads MODEL --examples FILE --out FOLDER`: which heads should score.

Enters: a decoder and labelled queries (as training reads them, `rerank/examples/labelled.py`).
Leaves: `blockrank.yaml` with the model's whole settings, the heads that rank best, calibration,
the map to a probability, and, as comments, where all that comes from.
"""

import argparse
import json
import sys
from pathlib import Path

from configs.command import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add the `select-heads` subcommand."""
    parser = subparsers.add_parser(
        "select-heads",
        help="find the attention heads of a decoder that rank best",
        description="Rate every attention head on labelled queries, keep the best, and write the "
        "settings that use them. An untrained language model needs it to rank at all well.",
    )
    parser.add_argument("model", help="smollm2, a folder, or a hub model's name")
    parser.add_argument(
        "--examples", type=Path, required=True, help="labelled queries with passages, JSON Lines"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="a folder for blockrank.yaml (the model's own, say), or a .yaml file",
    )
    parser.add_argument(
        "--heads", type=int, default=16, help="at most so many (default: %(default)s)"
    )
    parser.add_argument("--layers", metavar="LO:HI", help="layers LO to HI - 1; default: all")
    parser.add_argument(
        "--method",
        choices=("retrieval", "qk"),
        default="retrieval",
        help="rate heads by their own nDCG@10, or by the attention that relevant passages get",
    )
    parser.add_argument(
        "--calibration",
        choices=("none", "content_free"),
        help="score with or without the content-free query; default: whichever validates better",
    )
    parser.add_argument("--settings", help="settings to begin with; default: the model's own")
    parser.add_argument("--seed", type=int, default=0, help="deals queries to the folds")
    parser.add_argument("--device", help="cpu, cuda, ...; default: the best there is")
    parser.add_argument("--dtype", help="float32, bfloat16, float16 or fp8")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Select, write, and say what was found."""
    layers = _layers(arguments.layers)
    if arguments.heads < 1:
        raise ValueError(f"--heads is {arguments.heads}, wanted at least 1")
    from tqdm import tqdm

    from rerank.examples.labelled import read_examples
    from rerank.heads.evidence import load_every_head, read_evidence
    from rerank.heads.selected_settings import provenance, select, selected_settings
    from rerank.settings.reading import OWN_SETTINGS, read_ranker_settings
    from rerank.settings.writing import write_settings

    examples = read_examples(arguments.examples)
    given = arguments.settings and read_ranker_settings(arguments.settings)
    backbone, base = load_every_head(
        arguments.model, layers, settings=given, device=arguments.device, dtype=arguments.dtype
    )
    queries = tqdm(examples, unit=" queries", disable=None, file=sys.stderr)
    evidence = list(read_evidence(backbone, queries))
    calibration, selection = select(
        evidence,
        backbone.settings.heads or (),
        most=arguments.heads,
        method=arguments.method,
        calibration=arguments.calibration,
        seed=arguments.seed,
    )
    settings = selected_settings(base, selection, calibration)
    out = arguments.out if arguments.out.suffix == ".yaml" else arguments.out / OWN_SETTINGS
    record = provenance(arguments.model, arguments.examples, selection, arguments.method)
    record |= {"seed": arguments.seed, "dtype": backbone.precision}
    write_settings(out, settings, record)
    report = {"out": str(out), **record, "heads": settings.heads, "calibration": calibration}
    if arguments.json:
        print(json.dumps(report))
        return
    for count, value in selection.validated.items():
        chosen = "  <- chosen" if count == len(selection.heads) else ""
        print(f"{count:>4} heads  nDCG@10 {value:.4f} on queries left out{chosen}")
    for (layer, head), rating in zip(selection.heads, selection.ratings, strict=True):
        print(f"layer {layer:>3} head {head:>3}  {rating:.4f}")
    print(f"calibration {calibration}; probability {settings.probability}")
    print(f"{out}: {len(selection.heads)} heads, layers above {settings.layer} are not needed")


def _layers(text: str | None) -> range | None:
    """`LO:HI` as a range; raises `ValueError` for anything else."""
    if text is None:
        return None
    low, colon, high = text.partition(":")
    if not (colon and low.isdecimal() and high.isdecimal() and int(low) < int(high)):
        raise ValueError(f"--layers is {text!r}, wanted LO:HI such as 8:24")
    return range(int(low), int(high))
