"""What every command line of the project shares: exit codes and one-sentence errors.

Enters: a parser whose arguments carry `run`, the function to call. Leaves: an exit code.

    sys.exit(run_command(parser, argv))
"""

import argparse
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # argparse makes this class public in its annotations alone.
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Subparsers = Any

USAGE_ERROR = 2
FAILURE = 1
INTERRUPTED = 130


def run_command(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, call the chosen `run(arguments)` and turn what it raises into an exit code.

    `ValueError` and `OSError` are the user's input (a field, a file, an option): exit code 2.
    Anything else is a failure of ours: exit code 1. Either way stderr gets one line, and
    `--debug` adds the traceback.
    """
    parser.set_defaults(debug=False)
    for each in _with_subparsers(parser):
        # No default of its own: a subcommand's would undo a --debug that stands before it.
        each.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show the traceback of an error",
        )
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`head`, say) has what it wants; closing quietly is what a filter does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if arguments.debug:
            traceback.print_exc()
        message = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ValueError | OSError):
            print(f"error: {message}", file=sys.stderr)
            return USAGE_ERROR
        print(f"failed: {type(error).__name__}: {message} (--debug shows where)", file=sys.stderr)
        return FAILURE
    return 0


def _with_subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in dict.fromkeys(action.choices.values()):
                yield from _with_subparsers(subparser)
