"""docs/scale.md says what benchmarks/scale.py computes."""

import sys
from pathlib import Path

import pytest

# Behind the packages of the same names.
sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

import scale

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scale.md"


def test_the_page_holds_the_plan_that_the_script_prints(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scale.py"])
    scale.main()
    assert f"```\n{capsys.readouterr().out}```\n" in PAGE.read_text()


def test_by_hand():
    """10 million of 128 dimensions in two segments of 5 million: 4 sqrt(5e6) = 8,944, so 8,192."""
    found = scale.plan(
        scale.Inputs(
            passages=10_000_000, dimension=128, segments=2, shard_size=100_000, rate=1000, workers=5
        )
    )
    assert found["vectors, float32"] == "5.12 GB"
    assert found["codes of PQ, 4 bits a pair"] == "320 MB"
    assert found["shards"] == "100"
    assert found["a segment"] == "5,000,000 passages, IVF8192,PQ64x4fs"
    assert found["training vectors of a segment"] == "524,288, 268 MB"
    assert found["codes read a query"] == "78,125, 2.5 MB"
    assert found["encoding, all workers"] == "0.6 hours"
    assert found["cost of encoding"] == "7"  # 2,000 s of five at 2.5 an hour
    assert float(found["filling all lists"].split()[0]) == pytest.approx(0.006, abs=0.05)
