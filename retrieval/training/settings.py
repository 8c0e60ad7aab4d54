"""What decides an encoder's training, besides its pairs.

Enters: options. Leaves: `TrainSettings`, checked.
"""

from dataclasses import dataclass

from configs.formats.checks import check_count
from retrieval.encoder import DEFAULT_ENCODER


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How an encoder is trained.

    `batch_size` pairs, each with `negatives` hard negatives, stand against each other in a step; of
    them `mini_batch` texts are in the model at a time, which changes its memory alone. `margin` is
    how near a negative may come, as a share of the right passage's cosine. `lora` is the rank of
    an update that is trained in place of the weights; None trains them all. `max_pairs` bounds
    training and held-out pairs together, `steps` the training, which is `epochs` long without.
    """

    encoder: str = DEFAULT_ENCODER
    held_out: float = 0.1
    max_pairs: int | None = 20_000
    epochs: int = 1
    steps: int | None = None
    batch_size: int = 64
    mini_batch: int = 16
    negatives: int = 1
    margin: float = 0.95
    rate: float = 2e-5
    temperature: float = 0.05
    lora: int | None = None
    max_length: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_pairs", "epochs", "steps", "batch_size", "mini_batch", "lora"):
            if (value := getattr(self, name)) is not None:
                check_count(name, value)
        if self.batch_size < 2:
            raise ValueError(
                f"batch_size is {self.batch_size}, wanted 2 or more: pairs that differ"
            )
        if self.negatives < 0:
            raise ValueError(f"negatives is {self.negatives}, wanted 0 or more")
        for name in ("rate", "temperature", "margin"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted above 0")
