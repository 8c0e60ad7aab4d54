"""`--help` answers at once: nothing heavy is imported before a command runs."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {
    "torch", "faiss", "transformers", "sentence_transformers", "numpy", "pyarrow", "scipy",
    "sklearn", "statsmodels", "pandas", "matplotlib", "ir_measures", "ir_datasets", "triton",
}  # fmt: skip
MODULES = ("retrieval.index", "retrieval.filter", "eval", "rerank")
CPU_SECONDS = 0.3
_WRAPPER = """
import json, runpy, sys
sys.argv = [sys.argv[1], *sys.argv[2:]]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    code = end.code or 0
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


def _run(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("module", MODULES)
def test_help_imports_nothing_heavy(module):
    found = _run("-c", _WRAPPER, module, "--help")
    assert found.stdout.startswith("usage: python -m ")
    code, imported = json.loads(found.stderr.splitlines()[-1])
    assert code == 0
    assert "argparse" in imported
    assert not HEAVY & set(imported)


@pytest.mark.parametrize("module", MODULES)
def test_help_takes_little_cpu(module):
    """Seconds of CPU, not of the clock; the least of five, for the caches are shared."""
    taken = []
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-m", module, "--help"], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        assert isinstance(usage, resource.struct_rusage)
        taken.append(usage.ru_utime + usage.ru_stime)
    assert min(taken) < CPU_SECONDS
