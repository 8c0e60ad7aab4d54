import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import MIXED, requests

from kernels import BlockLayout, RequestBlocks


def test_offsets_worked_by_hand():
    layout = BlockLayout.build([RequestBlocks(2, [3, 0, 1], 2), RequestBlocks(0, [], 4)])
    assert layout.block_offsets.tolist() == [0, 2, 5, 5, 6, 8, 8, 12]
    assert layout.request_offsets.tolist() == [0, 5, 7]
    assert layout.passage_offsets.tolist() == [0, 3, 3]
    assert layout.passage_starts.tolist() == [2, 5, 5]
    assert layout.passage_ends.tolist() == [5, 5, 6]
    assert layout.token_block.tolist() == [0, 0, 1, 1, 1, 3, 4, 4, 6, 6, 6, 6]
    assert layout.token_passage.tolist() == [-1, -1, 0, 0, 0, 2, *[-1] * 6]
    assert layout.token_request.tolist() == [0] * 8 + [1] * 4
    assert layout.passage_request.tolist() == [0, 0, 0]
    assert layout.block_offsets.dtype == torch.int32
    assert (layout.num_tokens, layout.num_blocks, layout.num_passages) == (12, 7, 3)


def test_passages_share_their_positions_and_the_query_starts_where_it_is_told():
    layout = BlockLayout.build([RequestBlocks(2, [3, 0, 1], 2), RequestBlocks(0, [], 3)])
    expected = [0, 1, 2, 3, 4, 2]
    assert layout.positions(100).tolist() == [*expected, 100, 101, 100, 101, 102]
    assert layout.positions().tolist() == [*expected, 5, 6, 0, 1, 2]


@given(requests)
def test_spans_tile_the_tokens(blocks):
    layout = BlockLayout.build(blocks)
    spans = [s for r in layout.spans for s in (r.instruction, *r.passages, r.query)]
    assert [token for span in spans for token in range(*span)] == list(range(layout.num_tokens))
    owner = torch.full((layout.num_tokens,), -1)
    for flat, (start, end) in enumerate(s for r in layout.spans for s in r.passages):
        owner[start:end] = flat
    assert torch.equal(layout.token_passage, owner)
    assert torch.equal(layout.passage_tokens, (owner >= 0).nonzero()[:, 0])


@settings(max_examples=30)
@given(requests, st.sampled_from([None, 0, 500]))
def test_the_last_position_is_known_without_the_tensor(blocks, query_start):
    layout = BlockLayout.build(blocks)
    positions = layout.positions(query_start)
    assert layout.last_position(query_start) == max(positions.tolist(), default=-1)


def test_equal_counts_make_equal_layouts():
    layout, same = BlockLayout.build(MIXED), BlockLayout.build(MIXED)
    assert layout == same
    assert hash(layout) == hash(same)
    assert len({layout, same, BlockLayout.build(MIXED[:1])}) == 2
    assert layout.to("cpu") is layout
    assert layout.to("meta").device.type == "meta"


def test_memo_builds_once():
    layout, built = BlockLayout.build(MIXED), []
    for _ in range(2):
        layout.memo("key", lambda: built.append(1))
    assert built == [1]


def test_a_negative_length_is_refused():
    with pytest.raises(ValueError, match="request 1 has a block of negative length"):
        BlockLayout.build([RequestBlocks(1, [2], 3), RequestBlocks(1, [-2], 3)])


def test_no_requests_at_all():
    layout = BlockLayout.build([])
    assert layout.num_tokens == layout.num_passages == 0
    assert layout.positions().shape == (0,)
