"""Our package `kernels` beside transformers, which looks for another project's of that name."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
_USE = """
import kernels, sys
from pathlib import Path
assert Path(kernels.__file__).parent == Path(sys.argv[1]) / "kernels", kernels.__file__
import torch, transformers, sentence_transformers
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from transformers.utils import is_kernels_available
assert not is_kernels_available()
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=1))
ids = torch.arange(8)
assert torch.isfinite(model(input_ids=ids[None]).logits).all()
before = model.lm_head.weight.detach().clone()
arguments = TrainingArguments(
    output_dir=sys.argv[2], max_steps=1, per_device_train_batch_size=2, report_to=[],
    save_strategy="no", use_cpu=True, disable_tqdm=True)
data = [{"input_ids": ids, "labels": ids}] * 2
Trainer(model=model, args=arguments, train_dataset=data).train()
assert not torch.equal(before, model.lm_head.weight)
print("all of it ran")
"""


def _python(*arguments: object, cwd: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_our_version_lies_outside_the_range_transformers_takes():
    from transformers.utils.import_utils import KERNELS_MAX_VERSION, KERNELS_MIN_VERSION

    ours = Version(version("blockseek"))
    assert not Version(KERNELS_MIN_VERSION) <= ours < Version(KERNELS_MAX_VERSION)


@pytest.mark.slow
def test_transformers_runs_with_ours_installed(tmp_path):
    found = _python("-c", _USE, ROOT, tmp_path / "run", cwd=tmp_path)
    assert found.returncode == 0, found.stderr[-2000:]
    assert found.stdout.endswith("all of it ran\n")


def test_transformers_runs_with_ours_on_the_path_alone(tmp_path):
    """From the source root, and with no distribution that says whose `kernels` this is."""
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for entry in Path(next(p for p in sys.path if p.endswith("site-packages"))).iterdir():
        if "blockseek" not in entry.name:
            (libraries / entry.name).symlink_to(entry)
    source = tmp_path / "source"
    source.mkdir()
    for package in ("kernels", "configs", "index", "retrieval", "rerank", "eval"):
        (source / package).symlink_to(ROOT / package)
    # -S leaves out site-packages, and the editable install with it.
    path = os.pathsep.join([str(source), str(libraries)])
    found = _python("-S", "-c", _USE, source, tmp_path / "run", cwd=tmp_path, path=path)
    assert found.returncode == 0, found.stderr[-2000:]
    assert found.stdout.endswith("all of it ran\n")


@pytest.mark.parametrize("module", ["kernels", "rerank.scoring.scores"])
def test_the_other_distribution_beside_ours_is_told(tmp_path, module):
    folder = tmp_path / "kernels-0.18.2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: kernels\nVersion: 0.18.2\n")
    found = _python("-c", f"import {module}", cwd=tmp_path, path=str(tmp_path))
    assert found.returncode == 1
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: the distribution `kernels` is installed beside blockseek")
    assert "pip uninstall kernels" in last
