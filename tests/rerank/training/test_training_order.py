import numpy as np
import pytest

from rerank.examples.labelled import Example
from rerank.prompt.candidates import as_candidates
from rerank.training.order import Order, sampled


def _example(name, positives=1, negatives=6):
    passages = [{"id": f"p{i}", "text": f"{name} {i}"} for i in range(positives + negatives)]
    relevant = {f"p{i}": i + 1 for i in range(positives)}
    scores = {"p0": 0.5}
    return Example(name, f"query {name}", tuple(as_candidates(passages)), relevant, scores)


def _order(sizes=(5, 3), weights=(1.0, 1.0), **options):
    sources = [[_example(f"s{s}e{i}") for i in range(size)] for s, size in enumerate(sizes)]
    return Order(sources, weights, **({"passages": 4, "seed": 7} | options))


def test_the_order_is_a_function_of_the_seed_alone():
    order = _order()
    whole = order.prompts(0, 40)
    again = _order()
    pieces = [prompt for start in (35, 20, 0, 5) for prompt in again.prompts(start, 5)]
    wanted = whole[35:40] + whole[20:25] + whole[0:5] + whole[5:10]
    assert repr(pieces) == repr(wanted)  # NaN is not equal to itself
    assert repr(_order(seed=8).prompts(0, 40)) != repr(whole)


def test_an_epoch_reads_every_example_once_and_epochs_differ():
    order = _order()
    assert order.epoch_length == 8
    first, second = order.prompts(0, 8), order.prompts(8, 8)
    assert len({prompt.query for prompt in first}) == 8
    assert {prompt.query for prompt in first} == {prompt.query for prompt in second}
    assert [prompt.query for prompt in first] != [prompt.query for prompt in second]
    drawn = {prompt.query: prompt.passages for prompt in first}
    assert any(drawn[prompt.query] != prompt.passages for prompt in second)


def test_weights_say_how_often_a_source_is_read():
    order = _order(sizes=(4, 10), weights=(2.5, 0.5))
    queries = [prompt.query for prompt in order.prompts(0, order.epoch_length)]
    assert order.epoch_length == 15
    counts = [queries.count(f"query s0e{i}") for i in range(4)]
    assert sorted(counts) == [2, 2, 3, 3]
    assert len({query for query in queries if "s1" in query}) == 5


@pytest.mark.parametrize(
    ("positives", "negatives", "wanted"), [(1, 9, 1), (5, 9, 2), (5, 1, 3), (9, 0, 4), (1, 1, 1)]
)
def test_relevant_passages_fill_no_more_than_half_if_others_can_fill_the_rest(
    positives, negatives, wanted
):
    example = _example("x", positives, negatives)
    prompt = sampled(example, 4, np.random.default_rng(0))
    assert len(prompt.passages) == min(4, positives + negatives)
    assert sum(grade > 0 for grade in prompt.grades) == wanted
    for passage, grade, teacher in zip(prompt.passages, prompt.grades, prompt.teacher, strict=True):
        assert grade == example.relevant.get(passage.id, 0)
        assert (teacher == 0.5) if passage.id == "p0" else np.isnan(teacher)
