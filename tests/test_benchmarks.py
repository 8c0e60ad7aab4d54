"""What benchmarks rest on: masks, checks that can fail, a budget, models in a folder, needles."""

import json
import math
import re
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from kernels import BlockLayout, RequestBlocks, block_attention, elementwise

# Behind the packages of the same names.
sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

import gpu
from measuring import fp8_layers, kernel_checks, model_folder, row_kernels, tiles
from measuring.attention_cases import MISTRAL
from measuring.decoder_systems import TINY, load_ranker, save_config
from measuring.flex_masks import block_mask, rule
from measuring.needles import needles
from measuring.profile import covered
from measuring.report import Report
from measuring.workers import run_tasks

LAYOUTS = [
    [RequestBlocks(5, [7, 0, 1, 40, 130], 9), RequestBlocks(0, [3], 70), RequestBlocks(4, [], 0)],
    [RequestBlocks(300, [128, 200, 5], 151)],
    [RequestBlocks(0, [256, 128], 0), RequestBlocks(128, [], 128)],
    [RequestBlocks(1, [1], 1)],
]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("blocks", LAYOUTS)
def test_the_direct_mask_is_the_one_that_asks_about_every_pair(blocks, causal):
    layout = BlockLayout.build(blocks)
    T = layout.num_tokens
    wanted = create_block_mask(rule(layout, causal), None, None, T, T, device="cpu")
    found = block_mask(layout, causal)
    assert found.shape == wanted.shape
    for side in ("kv", "q"):
        for name in (f"{side}_num_blocks", f"{side}_indices"):
            for kind in ("", "full_"):
                a, b = (getattr(mask, kind + name) for mask in (found, wanted))
                assert torch.equal(a, b), kind + name


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("blocks", LAYOUTS)
def test_flex_attention_with_the_direct_mask_is_block_attention(blocks, causal):
    layout = BlockLayout.build(blocks)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(layout.num_tokens, heads, 16, generator=generator).double()
        for heads in (4, 2, 2)
    )
    wanted = block_attention(q, k, v, layout, causal=causal, implementation="reference")
    head_major = (x.transpose(0, 1)[None] for x in (q, k, v))
    found = flex_attention(*head_major, block_mask=block_mask(layout, causal), enable_gqa=True)
    torch.testing.assert_close(found[0].transpose(0, 1), wanted)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_check_beyond_its_bound_or_not_a_number_fails(tmp_path):
    report = Report(1, tmp_path / "out.jsonl")
    report.check("check", "good", 0.5, 0.5)
    assert report.failures == 0
    report.check("check", "bad", 0.6, 0.5)
    report.check("check", "nan", math.nan, 0.5)
    assert report.failures == 2
    told = [(row["what"], row["check"]) for row in rows(tmp_path / "out.jsonl")]
    assert told == [("good", "ok"), ("bad", "FAILED"), ("nan", "FAILED")]


def test_every_row_is_in_the_file_before_the_next_step(tmp_path):
    report, out = Report(1, tmp_path / "out.jsonl"), tmp_path / "out.jsonl"
    seen = []

    def step():
        seen.append(len(rows(out)) if out.read_text() else 0)
        report.row("part", ms=1.0)

    report.run("part", 0, [("a", step), ("b", step), ("c", step)])
    assert seen == [0, 1, 2]


def test_a_step_that_breaks_is_told_and_the_next_one_runs(tmp_path):
    report = Report(1, tmp_path / "out.jsonl")
    report.run("part", 0, [("broken", lambda: 1 / 0), ("next", lambda: report.row("part", ms=1))])
    broken, following = rows(tmp_path / "out.jsonl")
    assert broken["what"] == "broken"
    assert "ZeroDivisionError" in broken["reason"]
    assert following["ms"] == 1
    assert report.failures == 1


def test_what_does_not_fit_the_budget_is_skipped_and_told(tmp_path):
    report = Report(1, tmp_path / "out.jsonl")
    report.run("part", 61, [("a", pytest.fail), ("b", pytest.fail)])
    (row,) = rows(tmp_path / "out.jsonl")
    assert row["skipped"] == "a, b"
    assert report.failures == 0


def test_a_step_that_never_ends_is_stopped_at_the_end_of_the_budget(tmp_path):
    report = Report(0.005, tmp_path / "out.jsonl")

    def endless():
        while True:
            try:
                while True:
                    pass
            except Exception:  # as a compiler that has another way might
                continue

    report.run("part", 0, [("endless", endless)])
    (row,) = rows(tmp_path / "out.jsonl")
    assert row["skipped"] == "endless"


def test_a_kernel_that_is_wrong_is_found(monkeypatch):
    task = kernel_checks.kernel_tasks("cpu", quick=True)[0]
    assert all(found.error <= found.bound for found in task.check())

    def wrong(*arguments, implementation, **options):
        o, lse = block_attention(*arguments, implementation=implementation, **options)
        return (o if implementation == "reference" else o + 0.01), lse

    monkeypatch.setattr(kernel_checks, "block_attention", wrong)
    failed = [found.what for found in task.check() if found.error > found.bound]
    assert [what.partition(": ")[2] for what in failed] == ["o"]


def test_checks_of_fp8_pass_on_a_cpu_and_find_what_is_wrong(monkeypatch, tmp_path):
    layers = {"tiny": ((64, 48), (96, 32)), "Mistral-7B": ((32, 16),)}
    monkeypatch.setattr(fp8_layers, "LAYERS", layers)
    monkeypatch.setattr(fp8_layers, "ROWS", (1, 17, 40))
    task = fp8_layers.Fp8Task("tiny", "cpu")
    found = task.check()
    assert len(found) == 4
    assert all(one.error <= one.bound for one in found)
    report = Report(1, tmp_path / "out.jsonl")
    fp8_layers.time_products(report, 20, torch.device("cpu"), rounds=1)
    assert [row["what"] for row in rows(tmp_path / "out.jsonl")] == ["bf16", "fp8", "rows to fp8"]
    right = fp8_layers.fp8_linear

    def wrong(x, weight, bias):
        # Rows that look at their neighbours and at their number, and are off.
        return right(x, weight, bias) * 1.1 + x.nan_to_num().float().mean().bfloat16()

    monkeypatch.setattr(fp8_layers, "fp8_linear", wrong)
    failed = {one.what.partition(": ")[2] for one in task.check() if one.error > one.bound}
    assert {"product", "what company changes"} <= failed


def test_a_row_wise_kernel_that_is_wrong_is_found(monkeypatch):
    task = row_kernels.RowTask(row_kernels.TINY[0], "float32", "reference", "cpu")
    assert all(found.error <= found.bound for found in task.check())
    right = elementwise.add_rms_norm

    def wrong(x, *rest, implementation):
        total, normed = right(x, *rest, implementation=implementation)
        return total, normed if x.dtype == torch.float64 else normed + 0.01 * len(x)

    monkeypatch.setattr(elementwise, "add_rms_norm", wrong)
    failed = [found.what for found in task.check() if not found.error <= found.bound]
    names = {what.partition(": ")[2] for what in failed}
    assert names == {"output 2", "numbers that company changes"}


class Broken(kernel_checks.KernelTask):
    """A task whose worker raises."""

    def check(self):
        raise RuntimeError("the kernel went away")


def test_workers_tell_what_they_find_and_what_breaks(tmp_path):
    good = kernel_checks.kernel_tasks("cpu", quick=True)[0]
    report = Report(2, tmp_path / "out.jsonl")
    run_tasks(report, [Broken(*good), good], workers=1, seconds=100)
    broken, *found = rows(tmp_path / "out.jsonl")
    assert broken["reason"] == "RuntimeError: the kernel went away"
    assert {row["check"] for row in found} == {"ok"}
    assert report.failures == 1


def test_what_workers_have_no_time_for_is_told(tmp_path):
    tasks = kernel_checks.kernel_tasks("cpu", quick=True)
    report = Report(1, tmp_path / "out.jsonl")
    run_tasks(report, tasks, workers=1, seconds=0)
    (row,) = rows(tmp_path / "out.jsonl")
    assert row["skipped"].count("(cpu)") == len(tasks)


def test_no_layout_has_a_number_of_tokens_that_triton_compiles_for():
    totals = [BlockLayout.build(blocks).num_tokens for blocks in kernel_checks.LAYOUTS.values()]
    assert len(totals) == 12
    assert all(total > 1 and total % 16 for total in totals)


def test_tiles_are_tried_where_they_fit_the_default_first(monkeypatch):
    cpu, dtype = torch.device("cpu"), torch.bfloat16
    large = tiles.candidates(MISTRAL, dtype, cpu)
    assert large[0] == tiles.forward_tile(128, dtype, 4, 232_448)
    assert len(set(large)) == len(large) > 8
    monkeypatch.setattr(tiles, "shared_memory", lambda _: 101_376)
    small = tiles.candidates(MISTRAL, dtype, cpu)
    assert 0 < len(small) < len(large)
    assert all(tiles.attention_bytes(tile, 2) <= 101_376 for tile in small)


def test_overlapping_kernels_keep_the_gpu_busy_once():
    assert covered([(5, 6), (0, 2), (1, 3), (1.5, 2.5)]) == 4


def test_exported_models_are_found_before_installed_ones(tmp_path, monkeypatch, tiny_encoder):
    from configs.models import MINILM, find_model

    source = next(path.parent for path in tiny_encoder.rglob("model.safetensors"))
    monkeypatch.setattr(model_folder, "find_model", lambda _: str(source))
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "models"
    sizes = model_folder.export_models(folder)
    assert "smollm2/config.json" in sizes
    assert "smollm2/model.safetensors" not in sizes
    model_folder.use_models(folder)
    assert Path(find_model(MINILM)).is_relative_to(folder)
    with pytest.raises(ValueError, match="exists"):
        model_folder.export_models(folder)
    with pytest.raises(ValueError, match="holds no models"):
        model_folder.use_models(tmp_path)


def test_random_weights_are_the_same_each_time_and_rotary_frequencies_stay_exact(tmp_path):
    from configs.models import MINILM, find_model

    save_config(TINY, tmp_path, Path(find_model(MINILM)))
    one, other = (load_ranker(tmp_path, "cpu").backbone.model for _ in range(2))
    assert all(
        torch.equal(a, b) and a.dtype == torch.bfloat16
        for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )
    assert one.rotary_emb.inv_freq.dtype == torch.float32


def test_a_run_without_a_gpu_says_what_it_skips(tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    command = ["--device", "cpu", "--quick", "--parts", "tiles", "--out", str(out), "--json"]
    assert gpu.main(command) == 0
    first, skipped, last = rows(out)
    assert {"device", "torch", "triton", "commit", "date"} <= set(first)
    assert skipped["reason"] == "no CUDA device to time on"
    assert last["failures"] == 0
    assert capsys.readouterr().out == out.read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_missing_gpu_is_a_mistake_of_the_command(capsys):
    assert gpu.main([]) == 2
    assert "--device cpu --quick" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_script_runs_without_a_gpu(tmp_path):
    out = tmp_path / "out.jsonl"
    assert gpu.main(["--device", "cpu", "--quick", "--out", str(out)]) == 0
    told = rows(out)
    assert {row["part"] for row in told} >= {"about", "check", "kernels", "rerank", "mini", "end"}
    assert any("(triton)" in row.get("what", "") for row in told)


def test_needles_and_their_questions_are_all_different():
    found = needles(50)
    assert len({needle.sentence for needle in found}) == 50
    assert len({needle.question for needle in found}) == 50
    assert not any("{" in text for needle in found for text in needle)


def test_every_script_finds_our_packages_before_its_neighbours():
    """Scripts are named like packages, and Python looks into a script's own folder first."""
    folder = Path(gpu.__file__).parent
    ours = re.compile(r"^(?:from|import) (?:configs|eval|index|kernels|rerank|retrieval)\b", re.M)
    scripts = {p.name: p.read_text(encoding="utf-8") for p in folder.glob("*.py")}
    started = {name: code for name, code in scripts.items() if "__main__" in code}
    assert len(started) > 15
    for name, code in started.items():
        assert '"--quick"' in code, f"make bench calls {name} --quick"
        if first := ours.search(code):
            assert "sys.path.insert(" in code[: first.start()], name
