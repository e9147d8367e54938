from dataclasses import FrozenInstanceError, dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from twohands.record import Record, stack


@dataclass(frozen=True)
class Inner(Record):
    place: Tensor
    count: Tensor


@dataclass(frozen=True)
class Outer(Record):
    weight: Tensor
    inner: Inner
    missing: Tensor | None
    name: str


def make(batch: int = 4, name: str = "a") -> Outer:
    place = torch.arange(batch * 3.0).reshape(batch, 3)
    return Outer(torch.ones(batch), Inner(place, torch.arange(batch)), None, name)


def test_map_with_the_identity_changes_nothing():
    record = make()
    assert record.map(lambda t: t).arrays().keys() == record.arrays().keys()
    assert all(np.array_equal(a, b) for a, b in zip(record.map(lambda t: t).arrays().values(), record.arrays().values(), strict=True))


def test_map_reaches_nested_tensors_and_leaves_plain_values():
    doubled = make().map(lambda t: t * 2)
    assert torch.equal(doubled.inner.place, make().inner.place * 2)
    assert (doubled.name, doubled.missing) == ("a", None)


def test_to_a_dtype_leaves_integers():
    record = make().to(torch.float64)
    assert (record.weight.dtype, record.inner.place.dtype, record.inner.count.dtype) == (torch.float64, torch.float64, torch.int64)


def test_a_stack_indexes_back_to_its_parts():
    parts = [make(), make().map(lambda t: t + 1), make().map(lambda t: t * 3)]
    stacked = stack(parts)
    for k, part in enumerate(parts):
        assert all(np.array_equal(a, b) for a, b in zip(stacked[k].arrays().values(), part.arrays().values(), strict=True))


def test_records_that_differ_in_a_plain_value_do_not_stack():
    with pytest.raises(ValueError, match="'name'"):
        stack([make(name="a"), make(name="b")])


def test_arrays_join_nested_names_and_leave_out_none():
    assert list(make().arrays()) == ["weight", "inner.place", "inner.count", "name"]


def test_records_are_frozen():
    with pytest.raises(FrozenInstanceError):
        make().name = "b"  # type: ignore[misc]
