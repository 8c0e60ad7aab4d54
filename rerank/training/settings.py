"""What a training run is made of, as data.

Enters: a YAML file of `TrainingSettings`. Leaves: the frozen settings.

    read_settings(TrainingSettings, "rerank/train/minilm", out="my-model")
"""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Source:
    """A training file; of its examples an epoch draws `weight` times as many as there are."""

    path: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"weight of {self.path} is {self.weight}, wanted more than 0")


@dataclass(frozen=True)
class LossSettings:
    """How much each term counts; a term of weight 0 is not computed.

    Scores are divided by `temperature`, a teacher's by `teacher_temperature`. `answer` is what the
    language model learns to write after the query block, filled from the first of the best graded
    passages and cut to `answer_tokens`.
    """

    info_nce: float = 1.0
    listwise: float = 0.0
    distillation: float = 0.0
    language_model: float = 0.0
    start: float = 0.0
    temperature: float = 0.05
    teacher_temperature: float = 0.05
    answer: str = "{text}"
    answer_tokens: int = 16

    def __post_init__(self) -> None:
        weights = [getattr(self, name) for name in TERMS]
        if min(weights) < 0 or sum(weights) == self.start:
            raise ValueError(
                f"the weights of {', '.join(TERMS)} are {weights}: wanted 0 or more, "
                f"and one besides start above 0"
            )
        for name in ("temperature", "teacher_temperature", "answer_tokens"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted more than 0")

    @property
    def needs_scores(self) -> bool:
        """Whether any term reads the passages' scores."""
        return self.info_nce + self.listwise + self.distillation > 0


TERMS = ("info_nce", "listwise", "distillation", "language_model", "start")


@dataclass(frozen=True)
class LoraSettings:
    """A low-rank update (LoRA, arXiv 2106.09685); no `targets`: every linear layer."""

    rank: int = 16
    alpha: int = 32
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}, wanted at least 1")


@dataclass(frozen=True)
class TrainingSettings:
    """A whole run.

    `ranker` is the settings file the model is trained and saved with (None: the model's own), and
    `max_passage_tokens` cuts passages shorter than that in training alone. A prompt has `passages`
    passages: all relevant ones, as long as they fill no more than half, and others drawn anew in
    every epoch. With `in_batch` the passages of a pass are packed once and every query of the pass
    scores all of them; without, it also scores the relevant ones of the `borrowed` next prompts. A
    step is `prompts_per_step` prompts, read `prompts_per_pass` at a time.

    Training lasts `steps`, or `epochs` where that is None. The learning rate rises over
    `warmup_share` of the steps and falls to `final_share` of its height by a cosine. Parameters
    whose names hold one of `freeze` are left alone.

    `export` writes the whole model, or as an `update` of the model the low-rank update alone.

    Of what was learned an `update` keeps `update_share`, the rest of the way staying at the start:
    most of the gain on what was trained for, little loss elsewhere (arXiv 2109.01903).

    With a `validation` file the model that is kept is that of the best nDCG@10 there, measured at
    the start and every `validate_every` steps.
    """

    out: str
    model: str = "minilm"
    ranker: str | None = None
    train: tuple[Source, ...] = ()
    validation: str | None = None
    validate_every: int = 100
    max_validation_queries: int | None = None
    loss: LossSettings = field(default_factory=LossSettings)
    passages: int = 30
    in_batch: bool = False
    borrowed: int = 0
    max_passage_tokens: int | None = None
    prompts_per_step: int = 8
    prompts_per_pass: int = 1
    epochs: int = 1
    steps: int | None = None
    learning_rate: float = 3e-6
    warmup_share: float = 0.05
    final_share: float = 0.0
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    freeze: tuple[str, ...] = ()
    lora: LoraSettings | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    device: str | None = None
    export: Literal["whole", "update"] = "whole"
    update_share: float = 1.0
    checkpoint_minutes: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.train:
            raise ValueError("train is empty: name a training file, here or with --train")
        for name in ("validate_every", "prompts_per_step", "prompts_per_pass", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted at least 1")
        if self.passages < 2 and not self.in_batch:
            raise ValueError(f"passages is {self.passages}, wanted at least 2 to tell apart")
        if self.passages < 1:
            raise ValueError(f"passages is {self.passages}, wanted at least 1")
        if self.borrowed < 0 or (self.borrowed and self.in_batch):
            raise ValueError(
                f"borrowed is {self.borrowed}, wanted at least 0, and 0 with in_batch: there every "
                f"query scores the passages of all prompts"
            )
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps is {self.steps}, wanted at least 1")
        if self.prompts_per_step % self.prompts_per_pass:
            raise ValueError(
                f"prompts_per_step ({self.prompts_per_step}) must be a multiple of "
                f"prompts_per_pass ({self.prompts_per_pass})"
            )
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}, wanted more than 0")
        if not 0 <= self.warmup_share < 1 or not 0 <= self.final_share <= 1:
            raise ValueError("warmup_share and final_share are shares, wanted from 0 to 1")
        if self.in_batch and self.loss.language_model:
            raise ValueError("in_batch packs one prompt for all queries: no language_model loss")
        if not 0 < self.update_share <= 1:
            raise ValueError(f"update_share is {self.update_share}, wanted above 0, at most 1")
        if self.update_share < 1 and self.export != "update":
            raise ValueError("update_share scales an update: it needs export: update")
        if self.export == "update" and not self.lora:
            raise ValueError("export: update writes a low-rank update: it needs lora")
        if self.lora and self.loss.start:
            raise ValueError("loss.start pulls whole weights; a lora update has none to pull")
