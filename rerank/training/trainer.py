"""Train a ranker, in one go or in pieces: the weights that come out are the same.

Enters: `TrainingSettings`. Leaves: a folder with the log, the last checkpoint, and the model.

    train(read_settings(TrainingSettings, "rerank/train/minilm", out="run"))
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from configs.models import find_model
from rerank.backbones.low_rank import with_earlier
from rerank.examples.labelled import Example
from rerank.ranker import BlockRanker
from rerank.training.accelerator import forget_accelerator, make_accelerator
from rerank.training.checkpoints import (
    Progress,
    load_checkpoint,
    plain,
    remove_unfinished,
    save_checkpoint,
)
from rerank.training.export import export_model, export_update
from rerank.training.lora import low_rank_pairs, merged_weights
from rerank.training.model import load_untrained, prepare_model
from rerank.training.objective import Objective
from rerank.training.order import Order
from rerank.training.passes import make_pass
from rerank.training.run_folder import MODEL, Log, run_record, write_record
from rerank.training.schedule import learning_rate
from rerank.training.settings import TrainingSettings
from rerank.training.sources import training_sources, validation_examples
from rerank.training.validation import mean_ndcg


@dataclass(frozen=True)
class Trained:
    """How far a run came: its model's folder when it is done, else None.

    `skipped` counts the examples that no term could learn from.
    """

    progress: Progress
    steps: int
    skipped: int
    model: Path | None


def train(
    settings: TrainingSettings,
    *,
    resume: bool = False,
    minutes: float | None = None,
    export: Path | None = None,
    last: bool = False,
) -> Trained:
    """Train as `settings` say; stop at a checkpoint after `minutes`, to be resumed.

    With `export` what the run has learned so far is written to that folder, and nothing trained:
    another process may go on with it meanwhile. It is what validated best, or with `last` what the
    newest checkpoint holds: of weights that validate worse than the start a share may be better.

    On a CPU the weights are the same bits, for the same seed and number of threads, however often
    the run was stopped or killed. Raises `ValueError` for files and models that can't be read, for
    a folder that holds a run unless `resume` is given, and for a loss the model does not allow.
    """
    sources, skipped = training_sources(settings)
    validation = validation_examples(settings)
    record = run_record(settings, resume)
    try:
        run = _Run(settings, sources, validation)
        if export is not None:
            if not run.progress.step:
                raise ValueError(f"{settings.out} has no checkpoint of a run to export")
            if last:
                run.best = None
            _export(run, record, export)
            return Trained(run.progress, run.steps, skipped, export)
        if run.is_main:
            write_record(settings, record)
        done = run.until_done(None if minutes is None else time.monotonic() + 60 * minutes)
        model = Path(settings.out) / MODEL
        if done and run.is_main and not model.exists():
            _export(run, record, model)
        return Trained(run.progress, run.steps, skipped, model if done else None)
    finally:
        forget_accelerator()


class _Run:
    """What changes while training goes on."""

    def __init__(
        self,
        settings: TrainingSettings,
        sources: Sequence[Sequence[Example]],
        validation: Sequence[Example],
    ) -> None:
        accelerator = make_accelerator(settings)
        self.settings, self.validation, self._accelerator = settings, validation, accelerator
        self.is_main: bool = accelerator.is_main_process
        self.backbone, language_model = load_untrained(settings, accelerator.device)
        prepare_model(self.backbone, settings)
        self.objective = Objective(self.backbone, settings, language_model)
        if settings.lora and language_model is not None:
            self.objective.head.requires_grad_(False)
        for name, parameter in self.objective.named_parameters():
            if any(part in name for part in settings.freeze):
                parameter.requires_grad_(False)
        self.parameters = self.objective.trained()
        if not self.parameters:
            raise ValueError("freeze leaves no parameter to train")
        optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        if settings.loss.start:
            self.objective.remember_start()
        shared = self.parameters if settings.update_share < 1 else {}
        self.start = plain(shared)
        self.progress, self.best = load_checkpoint(Path(settings.out), self.parameters, optimizer)
        self._plain_optimizer = optimizer
        self._model, self._optimizer = accelerator.prepare(self.objective, optimizer)
        weights = [source.weight for source in settings.train]
        self._order = Order(sources, weights, passages=settings.passages, seed=settings.seed)
        per_epoch = -(-self._order.epoch_length // settings.prompts_per_step)
        self.steps = settings.steps or settings.epochs * per_epoch
        self._log: Log | None = None

    def until_done(self, deadline: float | None) -> bool:
        """Train to the last step, or to the first checkpoint behind `deadline` (monotonic)."""
        if self.is_main:
            remove_unfinished(Path(self.settings.out))
            self._log = Log(self.settings.out, self.progress.step)
        saved = time.monotonic()
        if not self.progress.step:
            self._validate()
        bar = tqdm(
            total=self.steps,
            initial=self.progress.step,
            unit="step",
            disable=not self.is_main or None,
        )
        with bar:
            while self.progress.step < self.steps:
                values = self._step()
                bar.update()
                bar.set_postfix(loss=f"{values['total']:.3f}")
                step = self.progress.step
                validated = step % self.settings.validate_every == 0 or step == self.steps
                if validated:
                    self._validate()
                now = time.monotonic()
                late = deadline is not None and now >= deadline
                if (
                    late
                    or (validated and self.validation)
                    or step == self.steps
                    or now - saved > 60 * self.settings.checkpoint_minutes
                ):
                    self._save()
                    saved = now
                if late and step < self.steps:
                    return False
        return True

    def result(self) -> dict[str, torch.Tensor]:
        """The trained tensors that are to be kept, on the host."""
        return plain(self.best or self.parameters)

    def _step(self) -> dict[str, float]:
        """One step of the optimizer; the mean of each term over its prompts."""
        settings, step = self.settings, self.progress.step
        began = time.monotonic()
        rate = learning_rate(step, self.steps, settings)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        prompts = self._order.prompts(step * settings.prompts_per_step, settings.prompts_per_step)
        process, processes = self._accelerator.process_index, self._accelerator.num_processes
        mine = prompts[process::processes]
        sums: dict[str, float] = {}
        tokens = 0
        norm = 0.0
        for first in range(0, len(mine), settings.prompts_per_pass):
            part = mine[first : first + settings.prompts_per_pass]
            with self._accelerator.accumulate(self._model):
                batch = make_pass(part, self.backbone, settings)
                terms = self._model(batch)
                self._accelerator.backward(terms["total"] / len(part))
                if self._accelerator.sync_gradients:
                    norm = float(
                        self._accelerator.clip_grad_norm_(
                            list(self.parameters.values()), settings.max_gradient_norm
                        )
                    )
                self._optimizer.step()
                self._optimizer.zero_grad()
            tokens += batch.packed.layout.num_tokens
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / len(mine)
        if not all(map(_is_finite, (*sums.values(), norm))):
            raise ValueError(
                f"step {step + 1} gave a loss of {sums['total']} and a gradient of norm {norm}: "
                f"lower the learning rate"
            )
        self.progress = replace(self.progress, step=step + 1)
        if self._log is not None:
            self._log.add(
                step=step + 1,
                epoch=step * settings.prompts_per_step // self._order.epoch_length,
                **{name: round(value, 6) for name, value in sums.items()},
                learning_rate=rate,
                gradient_norm=round(norm, 6),
                tokens=tokens,
                seconds=round(time.monotonic() - began, 3),
            )
        return sums

    def _validate(self) -> None:
        """Measure, and remember the parameters if they are the best so far."""
        if not self.validation:
            return
        began = time.monotonic()
        with self._accelerator.autocast():
            value = mean_ndcg(BlockRanker(self.backbone), self.validation)
        if self._log is not None:
            tqdm.write(f"step {self.progress.step}: nDCG@10 {value:.4f}", file=sys.stderr)
            self._log.add(
                step=self.progress.step,
                validation_ndcg=round(value, 6),
                seconds=round(time.monotonic() - began, 3),
            )
        if self.progress.best_value is None or value > self.progress.best_value:
            self.best = plain(self.parameters)
            self.progress = replace(self.progress, best_step=self.progress.step, best_value=value)

    def _save(self) -> None:
        if self.is_main:
            save_checkpoint(
                Path(self.settings.out),
                self.progress,
                self.parameters,
                self._plain_optimizer,
                self.best,
            )


def _export(run: _Run, record: dict[str, Any], folder: Path) -> None:
    with torch.no_grad():
        for name, tensor in run.result().items():
            start = run.start.get(name)
            # Of a low-rank pair one factor carries the share for both; it starts at 0.
            if start is not None and "lora_A" not in name:
                tensor = torch.lerp(start, tensor, run.settings.update_share)
            run.parameters[name].copy_(tensor)
    record |= {
        "kept_step": run.progress.best_step if run.best is not None else run.progress.step,
        "steps": run.steps,
        "validation_ndcg": run.progress.best_value,
        "update_share": run.settings.update_share,
    }
    model, backbone = run.settings.model, run.backbone
    if run.settings.export == "update":
        pairs = with_earlier(low_rank_pairs(backbone.model), Path(find_model(model)))
        export_update(folder, backbone.settings.base or model, pairs, backbone, record)
        return
    if run.settings.lora:
        merged = merged_weights(backbone.model)
        tensors = {f"model.{name}": tensor for name, tensor in merged.items()}
    else:
        parts = ("model.", "head.")
        tensors = {n: p.detach() for n, p in run.parameters.items() if n.startswith(parts)}
    export_model(folder, model, tensors, backbone, record)


def _is_finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")
