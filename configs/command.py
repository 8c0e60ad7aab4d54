"""What every command line of the project shares: exit codes and one-sentence errors.

Enters: a parser whose arguments carry `run`, the function to call. Leaves: an exit code.

    sys.exit(run_command(parser, argv))
"""

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from configs.formats.shown import shown_line

if TYPE_CHECKING:
    # argparse makes this class public in its annotations alone.
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Subparsers = Any

USAGE_ERROR = 2
FAILURE = 1
INTERRUPTED = 130
# A disk that is full or broken is no mistake of the user's input.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def run_command(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, call the chosen `run(arguments)` and turn what it raises into an exit code.

    `ValueError` and `OSError` are the user's input (a field, a file, an option): exit code 2. A
    full or broken disk and anything else are failures: exit code 1. Either way stderr gets one
    line, in which no character of a name or a text moves the cursor; `--debug` adds the traceback.
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
        _drop_stdout()
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if arguments.debug:
            traceback.print_exc()
        return _tell(error)
    return 0


def note(text: str) -> None:
    """Tell people something on stderr, in one line that moves no cursor."""
    print(f"note: {shown_line(text)}", file=sys.stderr)


def _tell(error: Exception) -> int:
    """Say in one line what went wrong; the exit code."""
    message = shown_line(str(error)) or type(error).__name__
    if isinstance(error, OSError) and error.errno in _DISK:
        about = error.filename if error.filename is not None else "while writing"
        print(f"failed: {os.strerror(error.errno)}: {shown_line(str(about))}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:
            _drop_stdout()  # else the interpreter would complain of it once more
        return FAILURE
    if isinstance(error, ValueError | OSError):
        print(f"error: {message}", file=sys.stderr)
        return USAGE_ERROR
    print(f"failed: {type(error).__name__}: {message} (--debug shows where)", file=sys.stderr)
    return FAILURE


def _drop_stdout() -> None:
    """Let what is still to be written to stdout go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _with_subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in dict.fromkeys(action.choices.values()):
                yield from _with_subparsers(subparser)
