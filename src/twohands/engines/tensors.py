"""Networks that take and give records, seen as functions from tensors to tensors: what OpenVINO and ONNX understand."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

from twohands.record import Record

Structure: TypeAlias = Any
"""How a value is put together from tensors, with None where a tensor was."""


def flatten(value: Any) -> tuple[list[Tensor], Structure]:
    """The tensors of a tensor, record, tuple or None, in order, and how to put them together again. TypeError for anything else."""
    if value is None:
        return [], ("none",)
    if isinstance(value, Tensor):
        return [value], ("tensor",)
    if isinstance(value, tuple):
        parts = [flatten(item) for item in value]
        return [t for tensors, _ in parts for t in tensors], ("tuple", tuple(structure for _, structure in parts))
    if isinstance(value, Record):
        parts = [flatten(getattr(value, field.name)) for field in dataclasses.fields(value)]
        return [t for tensors, _ in parts for t in tensors], (type(value), tuple(structure for _, structure in parts))
    raise TypeError(f"a network may take and give tensors, records, tuples and None, not {type(value).__name__}")


def unflatten(tensors: Sequence[Any], structure: Structure) -> Any:
    """Inverse of `flatten`. ValueError if there are more tensors than places."""
    left = list(tensors)
    value = _take(left, structure)
    if left:
        raise ValueError(f"{len(left)} of {len(tensors)} tensors have no place in {structure}")
    return value


def _take(left: list[Any], structure: Structure) -> Any:
    kind = structure[0]
    if kind == "none":
        return None
    if kind == "tensor":
        return left.pop(0)
    items = tuple(_take(left, part) for part in structure[1])
    return items if kind == "tuple" else kind(*items)


def tensor_names(value: Any, prefix: str = "") -> list[str]:
    """A name for each tensor that `flatten` finds: of its field, or of its place in a tuple; nested names are joined by a dot."""
    if value is None:
        return []
    if isinstance(value, Tensor):
        return [prefix or "output"]
    if isinstance(value, tuple):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        items = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return [name for key, item in items for name in tensor_names(item, f"{prefix}.{key}" if prefix else key)]


def name_of(structure: Structure) -> str:
    """A structure in letters, the same in every process."""
    kind = structure[0]
    if kind in ("none", "tensor"):
        return kind[0]
    inside = "".join(name_of(part) for part in structure[1])
    return f"({inside})" if kind == "tuple" else f"{kind.__name__}[{inside}]"


class FlatNetwork(nn.Module):
    """A network as a function of a flat list of tensors. `result` is the structure of its last answer."""

    def __init__(self, network: nn.Module, forward: Callable[..., Any], structure: Structure) -> None:
        super().__init__()
        self.network, self._forward, self._structure = network, forward, structure
        self.result: Structure | None = None

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        found, self.result = flatten(self._forward(*unflatten(tensors, self._structure)))
        return tuple(found)
