"""`--help` answers at once: nothing heavy is imported and little is done before a command runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {
    "torch", "faiss", "transformers", "sentence_transformers", "numpy", "pyarrow", "scipy",
    "sklearn", "statsmodels", "pandas", "matplotlib", "ir_measures", "ir_datasets", "triton",
    "fastapi", "uvicorn", "pydantic", "prometheus_client", "datasets", "accelerate", "peft",
}  # fmt: skip
MODULES = (
    "retrieval.index",
    "retrieval.filter",
    "retrieval.serve",
    "retrieval.train",
    "eval",
    "rerank",
)
# Seconds depend on the machine and on what else it does; calls of Python functions do not. There
# are 11,000 to 21,000 of them, imports included: a twentieth of a second.
CALLS = 60_000
_WRAPPER = """
import json, runpy, sys
calls = 0
def count(frame, event, argument):
    global calls
    calls += event == "call"
sys.argv = [sys.argv[1], *sys.argv[2:]]
sys.setprofile(count)
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    code = end.code or 0
sys.setprofile(None)
imported = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps([code, calls, imported]), file=sys.stderr)
"""


@pytest.mark.parametrize("module", MODULES)
def test_help_imports_nothing_heavy_and_takes_few_calls(module):
    found = subprocess.run(
        [sys.executable, "-c", _WRAPPER, module, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout.startswith("usage: python -m ")
    code, calls, imported = json.loads(found.stderr.splitlines()[-1])
    assert code == 0
    assert "argparse" in imported
    assert not HEAVY & set(imported)
    assert 5_000 < calls < CALLS
