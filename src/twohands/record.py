"""Records: frozen dataclasses of tensors that move, change and index as one value."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Self = TypeVar("Self", bound="Record")


@dataclasses.dataclass(frozen=True)
class Record:
    """Base of every record. Fields may be tensors, other records, None, or plain values; only tensors (and records of them) are touched by `map`."""

    def map(self: Self, function: Callable[[Tensor], Tensor]) -> Self:
        """The same record with `function` applied to each tensor in it."""
        changed: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = function(value)
            elif isinstance(value, Record):
                changed[field.name] = value.map(function)
        return dataclasses.replace(self, **changed)

    def to(self: Self, target: torch.device | torch.dtype | str) -> Self:
        """Moves every tensor to a device, or every floating tensor to a dtype."""
        if isinstance(target, torch.dtype):
            return self.map(lambda t: t.to(target) if t.is_floating_point() else t)
        return self.map(lambda t: t.to(target))

    def __getitem__(self: Self, index: Any) -> Self:
        """Indexes the leading axes of every tensor."""
        return self.map(lambda t: t[index])

    def arrays(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Flat name -> array view of the record, for NPZ files; nested records join their names with a dot, None is left out."""
        found: dict[str, np.ndarray] = {}
        for field in dataclasses.fields(self):
            value, name = getattr(self, field.name), prefix + field.name
            if isinstance(value, Record):
                found |= value.arrays(name + ".")
            elif isinstance(value, Tensor):
                found[name] = value.detach().cpu().numpy()
            elif value is not None:
                found[name] = np.asarray(value)
        return found


def stack(records: list[Self], axis: int = 0) -> Self:
    """One record whose tensors are those of `records` stacked along a new axis.

    Plain values and None must agree: a stack of records that disagree in them raises ValueError."""
    first = records[0]
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(first):
        values = [getattr(r, field.name) for r in records]
        if isinstance(values[0], Tensor):
            changed[field.name] = torch.stack(values, axis)
        elif isinstance(values[0], Record):
            changed[field.name] = stack(values, axis)
        elif any(v != values[0] for v in values):
            raise ValueError(f"cannot stack records that differ in the plain field {field.name!r}: {values[:3]}; make it equal first")
    return dataclasses.replace(first, **changed)


def concatenate(records: list[Self]) -> Self:
    """One record whose tensors are those of `records`, one after the other along their first axis.

    Plain values and None must agree: records that disagree in them raise ValueError."""
    first = records[0]
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(first):
        values = [getattr(r, field.name) for r in records]
        if isinstance(values[0], Tensor):
            changed[field.name] = torch.cat(values)
        elif isinstance(values[0], Record):
            changed[field.name] = concatenate(values)
        elif any(v != values[0] for v in values):
            raise ValueError(f"cannot join records that differ in the plain field {field.name!r}: {values[:3]}; make it equal first")
    return dataclasses.replace(first, **changed)
