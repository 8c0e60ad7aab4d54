"""The parts of `gpu.py` that are timed, the most valuable first.

In: a device, options. Out: per part its steps, which tell rows as they come.

    Times(report, torch.device("cuda"), quick=False, models=None).parts()
"""

from __future__ import annotations

import statistics
import tempfile
import time
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from passages import QUERY, make_passages

from configs.models import MINI
from kernels import block_attention
from measuring.attention_cases import MINILM, MISTRAL, QWEN3, Case, Shape, layout_of, make_case
from measuring.attention_peers import affordable, compiled_flex, peer_calls
from measuring.attention_times import Row, attention_rows, cached_rows, score_row
from measuring.decoder_systems import MISTRAL_7B, PEERS, TINY, Rank, flops, load_ranker, save_config
from measuring.encoder_systems import SYSTEMS, quiet
from measuring.fp8_layers import no_fp8, time_products
from measuring.kernel_checks import TOLERANCE, relative_error
from measuring.model_folder import smollm2_folder
from measuring.profile import host_share
from measuring.report import Report, Step
from measuring.row_kernels import ROWS, Rows, tell_product, tell_rows
from measuring.tiles import SWEPT, sweep
from measuring.timing import host_ms, rates, synchronize, wall_ms
from rerank.backbones.fp8 import FP8

# Our ranker, in the dtype of its peers and in fewer bits.
OURS: dict[str, str | torch.dtype] = {"ours": torch.bfloat16, "ours fp8": FP8}
# The tokens of both lists.
FP8_ROWS = (10_400, 102_400)


class Part(NamedTuple):
    """`reserve_s`, a guess, must be left of the budget for the first step to begin."""

    name: str
    reserve_s: float
    steps: list[Step]


class Times:
    """All that is timed on one device."""

    def __init__(
        self, report: Report, device: torch.device, *, quick: bool, models: Path | None
    ) -> None:
        self.report = report
        self.device = device
        self.quick = quick
        self.models = models
        self.gpu = device.type == "cuda"
        # The CPU multiplies fp32 fastest; a GPU's tensor cores want bf16.
        self.dtype = torch.bfloat16 if self.gpu else torch.float32
        self.rounds = 3 if quick else 7
        # Passages and the mean of their tokens, of a rerank.
        self.lists = ((20, 50),) if quick else ((100, 100), (500, 200))

    def parts(self) -> list[Part]:
        """In the order in which they are worth most."""
        shapes = ((MINILM, 10),) if self.quick else tuple(
            (shape, passages) for passages in (100, 500) for shape in (MISTRAL, MINILM, QWEN3)
        )  # fmt: skip
        swept = ((MISTRAL, 20),) if self.quick else SWEPT
        label = "{0[0].name} {0[1]}".format
        return [
            Part("tiles", 10, [(label(one), partial(self.tiles, *one)) for one in swept]),
            Part("kernels", 10, [(label(one), partial(self.kernels, *one)) for one in shapes]),
            Part("rows", 5, [(rows.name, partial(self.rows, rows)) for rows in ROWS]),
            Part("rerank", 40, [(name, partial(self.decoder, name)) for name in (*OURS, *PEERS)]),
            Part("fp8", 5, [(f"{rows} rows", partial(self.fp8, rows)) for rows in FP8_ROWS]),
            Part("mini", 15, [(dtype, partial(self.mini, dtype)) for dtype in self._mini_dtypes]),
            # Compiled for half a minute, and once seen to hang: last.
            Part("flex", 60, [(label(one), partial(self.flex, *one)) for one in shapes]),
        ]

    @property
    def _mini_dtypes(self) -> tuple[str, ...]:
        return ("bfloat16", "float32", "float16") if self.gpu else ("float32",)

    @cached_property
    def chip(self) -> tuple[float, float]:
        """(flops, bytes) a second, measured when they are first asked for."""
        matrix, copy = rates(self.device, self.dtype, self.quick)
        self.report.row("rates", dtype=_name(self.dtype), matrix_tflops=matrix / 1e12,
                        copy_tbytes=copy / 1e12)  # fmt: skip
        return matrix, copy

    @cached_property
    def _flex(self) -> Any:
        return compiled_flex(self.device)

    def _case(self, shape: Shape, passages: int) -> Case:
        return make_case(shape, passages, self.dtype, self.device)

    def tiles(self, shape: Shape, passages: int) -> None:
        """The forward pass with every tile that fits."""
        if not self.gpu:
            self.report.skipped("tiles", [f"{shape.name} {passages}"], "no CUDA device to time on")
            return
        sweep(self.report, self._case(shape, passages), self.chip, self.rounds)

    def kernels(self, shape: Shape, passages: int) -> None:
        """Every kernel beside the floor, block attention beside SDPA."""
        case, chip, rounds = self._case(shape, passages), self.chip, self.rounds
        for method in affordable(shape, passages, self.device):
            if method != "flex":
                self._beside(case, method)
        self._tell([score_row(case, chip, rounds)])
        for row in cached_rows(case, chip, rounds):
            self._tell([row])
        if self.gpu:
            q, k, v, layout, causal = case.q, case.k, case.v, case.layout, shape.causal
            call = partial(block_attention, q, k, v, layout, causal=causal)
            ms = host_ms(call, self.device, 50)
            self.report.row("kernels", what="host's time", shape=shape.name, N=passages, ms=ms)

    def rows(self, rows: Rows) -> None:
        """A row-wise operation at the tokens of 100 passages, beside eager torch."""
        if not self.gpu:
            self.report.skipped("rows", [rows.name], "no CUDA device to time on")
            return
        tokens = layout_of(100, self.device).num_tokens
        about = (tokens, self.dtype, self.device)
        tell_rows(self.report, rows, *about, self.chip[1], self.rounds)
        if rows.kernel == "bias_gelu":
            tell_product(self.report, *about, self.rounds)

    def flex(self, shape: Shape, passages: int) -> None:
        """Block attention beside FlexAttention, whose mask comes from the blocks."""
        self._beside(self._case(shape, passages), "flex")

    def _beside(self, case: Case, method: str) -> None:
        """A peer that computes the same; one that does not fit the memory is no failure of ours."""
        name = f"{method} {case.shape.name} {case.passages}"
        flex = self._flex if method == "flex" else None
        try:
            (peer,) = peer_calls(case, [method], flex).values()
            self._same(name, case, peer())
            self._tell(attention_rows(case, [method], self.chip, self.rounds, flex))
        except torch.OutOfMemoryError as error:
            self.report.skipped("kernels", [name], " ".join(str(error).split())[:200])

    def _same(self, name: str, case: Case, theirs: torch.Tensor) -> None:
        """Both may be off by what a check of one of them allows."""
        ours = block_attention(case.q, case.k, case.v, case.layout, causal=case.shape.causal)
        found = theirs.reshape(-1, *theirs.shape[-2:]).transpose(0, 1)
        bound = 2 * TOLERANCE[_name(self.dtype)]
        self.report.check("kernels", f"{name} against ours", relative_error(found, ours), bound)

    def _tell(self, rows: list[Row]) -> None:
        for row in rows:
            self.report.row("kernels", **row._asdict(), floor_share=row.floor_ms / row.ms)

    def decoder(self, system: str) -> None:
        """One system of a 7B decoder's shape, from strings to the ranking."""
        if OURS.get(system) == FP8 and (missing := no_fp8(self.device)):
            self.report.skipped("rerank", [system], missing)
            return
        quiet()
        shape, device = TINY if self.quick else MISTRAL_7B, str(self.device)
        work: dict[tuple[int, int], float] = {}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            save_config(shape, folder, smollm2_folder(self.models))
            if system in OURS:
                ranker = load_ranker(folder, device, OURS[system])
                work = {one: flops(ranker, shape, make_passages(*one)) for one in self.lists}
                rank: Rank = partial(ranker.rerank, QUERY)
            else:
                rank = PEERS[system](folder, device)
        # Full attention over 500 passages takes seconds.
        rounds = self.rounds if system in OURS else 2
        for count, mean in self.lists:
            ms = wall_ms(partial(rank, make_passages(count, mean)), self.device, rounds)
            row: dict[str, Any] = {"system": system, "N": count, "tokens": mean, "ms": ms}
            if work:
                rate = work[count, mean] / ms * 1e3
                row |= {"tflops": rate / 1e12, "matrix_share": rate / self.chip[0]}
            self.report.row("rerank", shape="tiny" if self.quick else "7B", **row)
        if system in OURS:
            call = partial(rank, make_passages(*self.lists[0]))
            host_share(self.report, "rerank", system, call, self.device)

    def fp8(self, rows: int) -> None:
        """Linear layers in fp8 beside the same in bf16."""
        if missing := no_fp8(self.device):
            self.report.skipped("fp8", [f"{rows} rows"], missing)
            return
        time_products(self.report, rows, self.device, self.rounds)

    def mini(self, dtype: str) -> None:
        """`mini`, without and with a cache, and a CrossEncoder of its shape, in turns."""
        quiet()
        count, mean = self.lists[0]
        passages = make_passages(count, mean)
        calls = {}
        for name in ("ours", "cached", "cross-encoder"):
            try:
                calls[name] = SYSTEMS[name](MINI, str(self.device), dtype)(passages)
            except ImportError as error:
                self.report.skipped("mini", [name], str(error))
        times: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(2 + self.rounds):
            for name, call in calls.items():
                synchronize(self.device)
                start = time.perf_counter()
                call()
                synchronize(self.device)
                # The first two warm up.
                times[name] += [1000 * (time.perf_counter() - start)] * (turn > 1)
        about: dict[str, Any] = {"dtype": dtype, "N": count, "tokens": mean}
        for name, taken in times.items():
            row = about | {"ms": statistics.median(taken)}
            if peers := times.get("cross-encoder"):
                ratios = (peer / own for peer, own in zip(peers, taken, strict=True))
                row["cross_encoder_ratio"] = statistics.median(ratios)
            self.report.row("mini", system=name, **row)
        for name in ("ours", "cached"):
            host_share(self.report, "mini", f"{name} {dtype}", calls[name], self.device)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
