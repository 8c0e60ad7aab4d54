"""Train an encoder on pairs, by sentence-transformers' own trainer.

Enters: a sentence-transformers model, texts in columns. Leaves: the same model, trained in place.

The loss is multiple negatives ranking, every other passage of a batch a negative (Henderson et al.,
arXiv 1705.00652), with gradients cached so that a large batch fits any memory (Gao et al., arXiv
2101.06983). Checkpoints of transformers are pickles, so none are written: a run that is killed
begins anew.
"""

import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from retrieval.training.settings import TrainSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_EXTRA = "training an encoder needs the extra `train`: pip install 'blockseek[train]'"


def check_installed(lora: bool) -> None:
    """Raise `ValueError` where the trainer's libraries are missing, before anything is read."""
    from importlib.util import find_spec

    needed = ("accelerate", "datasets", *(["peft"] if lora else []))
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} is not installed; {_EXTRA}")


def fit(
    model: "SentenceTransformer",
    columns: Mapping[str, Sequence[str]],
    prompts: Mapping[str, str],
    settings: TrainSettings,
) -> int:
    """Train `model` on the texts in `columns` and return the number of steps.

    The first column holds queries, the second what answers them, any others negatives; `prompts`
    are put before the texts of a column. On a CPU the same texts, settings, versions and number of
    threads give the same weights, bit for bit.
    """
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.sampler import BatchSamplers
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
    )
    from transformers import PrinterCallback, set_seed

    class Trainer(SentenceTransformerTrainer):
        def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
            """Describe the model to no hub."""

    set_seed(settings.seed)
    if settings.lora is not None:
        _add_adapters(model, settings.lora)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=scratch,
            num_train_epochs=settings.epochs,
            max_steps=settings.steps or -1,
            per_device_train_batch_size=settings.batch_size,
            learning_rate=settings.rate,
            warmup_steps=0.1,
            prompts={name: text for name, text in prompts.items() if text} or None,
            # One batch holds no text twice: it would be a negative of what it answers.
            batch_sampler=BatchSamplers.NO_DUPLICATES,
            seed=settings.seed,
            data_seed=settings.seed,
            use_cpu=model.device.type == "cpu",
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_dict({name: list(texts) for name, texts in columns.items()}),
            loss=CachedMultipleNegativesRankingLoss(
                model, scale=1 / settings.temperature, mini_batch_size=settings.mini_batch
            ),
            callbacks=[_progress()],
        )
        # It prints to stdout, which is the result's.
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    if settings.lora is not None:
        _merge_adapters(model)
    model.eval()
    return int(trainer.state.global_step)


def _progress() -> Any:
    from tqdm import tqdm
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        """A bar on stderr, where that is a terminal."""

        bar: Any = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar = tqdm(desc="train", unit=" steps", total=state.max_steps, disable=None)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.update(1)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.close()

    return Progress()


def _add_adapters(model: "SentenceTransformer", rank: int) -> None:
    """Put low-rank updates (LoRA, arXiv 2106.09685) into the linear layers; freeze the rest."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    inject_adapter_in_model(config, _body(model))


def _merge_adapters(model: "SentenceTransformer") -> None:
    """Add the updates to the weights, and leave the layers as they were before."""
    from peft.tuners.lora import LoraLayer

    body = _body(model)
    for name, module in list(body.named_modules()):
        if isinstance(module, LoraLayer):
            layer: Any = module
            layer.merge()
            parent, _, own = name.rpartition(".")
            setattr(body.get_submodule(parent), own, layer.get_base_layer())
    body.requires_grad_(True)


def _body(model: "SentenceTransformer") -> Any:
    """The transformers model inside."""
    if model.transformers_model is None:
        raise ValueError("lora needs an encoder that is a transformers model; leave --lora out")
    return model.transformers_model
