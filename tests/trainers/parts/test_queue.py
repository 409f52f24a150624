"""The queue holds exactly the last K keys in order, whatever was pushed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.parts.queue import Queue


def _numbered(first: int, count: int) -> torch.Tensor:
    return torch.arange(first, first + count, dtype=torch.float32)[:, None].repeat(1, 2)


def test_the_pointer_wraps_and_the_third_batch_replaces_the_first() -> None:
    queue = Queue(8, 2)
    pointers = []
    for step in range(3):
        queue.push(_numbered(4 * step, 4))
        pointers.append(queue.pointer)
    assert pointers == [4, 0, 4]
    assert queue.keys[:, 0].tolist() == [8, 9, 10, 11, 4, 5, 6, 7]
    assert queue.ordered()[:, 0].tolist() == [4, 5, 6, 7, 8, 9, 10, 11]


@given(st.integers(1, 9), st.lists(st.integers(1, 9), max_size=8))
def test_it_holds_the_last_keys_in_order_for_any_batches(size: int, batches: list[int]) -> None:
    queue, pushed = Queue(size, 2), 0
    for count in (min(size, batch) for batch in batches):
        queue.push(_numbered(pushed, count))
        pushed += count
    assert queue.ordered()[:, 0].tolist() == list(range(max(0, pushed - size), pushed))
    assert queue.is_full == (pushed >= size)


def test_batches_that_do_not_divide_it_are_refused_where_that_is_declared() -> None:
    with pytest.raises(ValueError, match="whole number of batches of 3"):
        Queue(8, 2, whole_batches=True).push(_numbered(0, 3))
    with pytest.raises(ValueError, match="9 keys do not fit"):
        Queue(8, 2).push(_numbered(0, 9))


def test_a_random_queue_is_full_of_unit_vectors_and_follows_from_its_seed() -> None:
    first, second, other = Queue(16, 8), Queue(16, 8), Queue(16, 8)
    for queue, seed in ((first, 1), (second, 1), (other, 2)):
        queue.fill_random(seed)
    assert first.is_full
    assert torch.allclose(first.keys.norm(dim=1), torch.ones(16))
    assert torch.equal(first.keys, second.keys)
    assert not torch.equal(first.keys, other.keys)


def test_keys_are_kept_in_float32_and_without_a_graph() -> None:
    queue = Queue(4, 2)
    queue.push(torch.ones(2, 2, dtype=torch.bfloat16, requires_grad=True) * 2)
    assert queue.keys.dtype == torch.float32
    assert not queue.keys.requires_grad


def test_its_state_comes_back() -> None:
    queue, other = Queue(5, 2), Queue(5, 2)
    queue.push(_numbered(0, 4))
    queue.push(_numbered(4, 3))
    other.load_state_dict(queue.state_dict())
    other.push(_numbered(7, 2))
    queue.push(_numbered(7, 2))
    assert torch.equal(queue.ordered(), other.ordered())
