import pytest
import torch

from rerank.answers.prefix_tree import answer_log_probabilities, prefix_tree


def test_shared_beginnings_are_one_node():
    tree = prefix_tree([[1, 9], [1, 2, 9], [3, 9]])
    assert tree.tokens == (1, 9, 2, 9, 3, 9)
    assert tree.parents == (-1, 0, 0, 2, -1, 4)
    assert tree.ends == (1, 3, 5)
    assert tree.depths() == [0, 1, 1, 2, 0, 1]
    assert tree.inner == [0, 2, 4]
    assert tree.sees()[3].tolist() == [True, False, True, True, False, False]


def test_probabilities_by_hand_add_up_to_one():
    """Of the children 1 and 3 of the root, 9 and 2 of node 1; all else has no say."""
    tree = prefix_tree([[1, 9], [1, 2, 9], [3, 9]])
    logits = torch.zeros(4, 10)
    logits[3, 1] = torch.tensor(3.0).log()  # the root: 3 to 1
    logits[0, 2] = torch.tensor(2.0).log()  # after 1: 2 to 1
    logits[:, 7] = 50  # a token that no answer has
    found = answer_log_probabilities(tree, logits).exp()
    torch.testing.assert_close(found, torch.tensor([0.25, 0.5, 0.25]))


def test_one_answer_is_certain():
    assert answer_log_probabilities(prefix_tree([[5]]), torch.randn(1, 10)).tolist() == [0.0]


@pytest.mark.parametrize("answers", [[[1], [1, 2]], [[1, 2], [1]], [[1], [1]], [[]]])
def test_an_answer_that_begins_another_is_refused(answers):
    with pytest.raises(ValueError, match="begins another"):
        prefix_tree(answers)
