import argparse
from pathlib import Path

import pytest

from configs.command import run_command


def _parser(run):
    parser = argparse.ArgumentParser()
    command = parser.add_subparsers(required=True).add_parser("do")
    command.add_subparsers().add_parser("deep").set_defaults(run=run)
    command.set_defaults(run=run)
    return parser


def _raiser(error):
    def run(arguments):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("a\nb"), 2, "error: a b\n"),
        (FileNotFoundError(2, "No such file", "x"), 2, "error: [Errno 2] No such file: 'x'\n"),
        (KeyError("x"), 1, "failed: KeyError: 'x' (--debug shows where)\n"),
        (RuntimeError(), 1, "failed: RuntimeError: RuntimeError (--debug shows where)\n"),
        (OSError(28, "x", "/d/f"), 1, "failed: No space left on device: /d/f\n"),
        (OSError(122, "x", "/d/f"), 1, "failed: Disk quota exceeded: /d/f\n"),
        (OSError(5, "Input/output error"), 1, "failed: Input/output error: while writing\n"),
        (ValueError("id 'a\x1b[31m\u202eb'"), 2, "error: id 'a\\x1b[31m\\u202eb'\n"),
        (OSError(28, "x", "a\rb"), 1, "failed: No space left on device: a b\n"),
        (KeyError("\x9b1m"), 1, "failed: KeyError: '\\x9b1m' (--debug shows where)\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_what_is_raised_becomes_a_line_and_an_exit_code(capsys, error, code, message):
    assert run_command(_parser(_raiser(error)), ["do"]) == code
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    "argv",
    [["--debug", "do"], ["do", "--debug"], ["do", "deep", "--debug"], ["--debug", "do", "deep"]],
)
def test_debug_may_stand_anywhere(capsys, argv):
    assert run_command(_parser(_raiser(ValueError("x"))), argv) == 2
    assert "Traceback" in capsys.readouterr().err


def test_success_is_zero():
    assert run_command(_parser(lambda arguments: None), ["do"]) == 0


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout_is_a_failure_told_once(capsys, monkeypatch):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert run_command(_parser(lambda arguments: print("hits")), ["do"]) == 1
    assert capsys.readouterr().err == "failed: No space left on device: while writing\n"
