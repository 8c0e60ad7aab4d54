"""The labelled examples of a run: those it learns from, those that choose its checkpoint.

Enters: `TrainingSettings`. Leaves: examples, of which each can be learned from or measured on.
"""

from rerank.examples.labelled import Example, read_examples
from rerank.training.settings import TrainingSettings


def training_sources(settings: TrainingSettings) -> tuple[list[list[Example]], int]:
    """The examples of each source that can be learned from, and how many can not."""
    needs_labels = settings.loss.info_nce + settings.loss.listwise + settings.loss.language_model
    sources, skipped = [], 0
    for source in settings.train:
        examples = read_examples(source.path)
        usable = [
            example
            for example in examples
            if (example.positives or not needs_labels)
            and (len(example.scores) > 1 or not settings.loss.distillation)
        ]
        if not usable:
            wanted = "a relevant passage" if needs_labels else "a teacher's scores"
            raise ValueError(f"{source.path} has no example with {wanted}")
        skipped += len(examples) - len(usable)
        sources.append(usable)
    return sources, skipped


def validation_examples(settings: TrainingSettings) -> list[Example]:
    """The examples that choose the checkpoint, evenly spread where there are more than wanted."""
    if settings.validation is None:
        return []
    examples = [e for e in read_examples(settings.validation) if e.positives]
    if not examples:
        raise ValueError(f"{settings.validation} has no example with a relevant passage")
    count = min(settings.max_validation_queries or len(examples), len(examples))
    return [examples[i * len(examples) // count] for i in range(count)]
