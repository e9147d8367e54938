"""Weights on disk: one safetensors file whose header carries the configuration that rebuilds the network.

Nothing here unpickles: safetensors holds numbers only, and the configuration is JSON."""

import dataclasses
import json
import os
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from twohands.errors import UserError

Config = TypeVar("Config")


def save_weights(path: Path, network: nn.Module, config: Any, facts: dict[str, str], half: bool = True) -> None:
    """Writes the network's parameters and buffers with its frozen-dataclass config and some facts about the training.

    `half` stores floating tensors in fp16, but for those that it cannot hold: a batch norm's variance may be above 65,504, and as infinity it would
    silence its channel. The file appears whole or not at all (written beside, then renamed). ValueError for numbers that are not finite."""
    tensors = {name: _stored(name, t, half).contiguous().cpu() for name, t in network.state_dict().items()}
    header = {"kind": type(config).__name__, "config": json.dumps(dataclasses.asdict(config)), **facts}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")  # the processes of a run write the same weights at the same time
    save_file(tensors, beside, metadata=header)
    beside.chmod(0o644)  # safetensors writes for the owner alone; an installed package is read by others
    os.replace(beside, path)


def _stored(name: str, tensor: torch.Tensor, half: bool) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{name} holds numbers that are not finite; the training went wrong, go on from an earlier checkpoint")
    short = tensor.half()
    return short if half and bool(short.isfinite().all()) else tensor


def read_header(path: Path) -> dict[str, str]:
    """The header of a weights file; UserError if it is missing, broken or not ours."""
    if not path.is_file():
        raise UserError(f"no weights at {path}; train them or point to a file that exists")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a safetensors file ({error}); fetch it again") from error
    if not header or "config" not in header:
        raise UserError(f"{path} carries no configuration in its header; it was not written by this package")
    return header


def read_config(path: Path, config_type: type[Config]) -> Config:
    """The configuration that the weights were trained with; UserError if they belong to another kind of network."""
    header = read_header(path)
    if header["kind"] != config_type.__name__:
        raise UserError(f"{path} holds a {header['kind']}, not a {config_type.__name__}; give the other file")
    known = {field.name for field in dataclasses.fields(config_type)}  # type: ignore[arg-type]
    values = json.loads(header["config"])
    if unknown := set(values) - known:
        raise UserError(f"{path} was written by a newer version (unknown settings: {sorted(unknown)}); update the package")
    return config_type(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def load_weights(path: Path, network: nn.Module, new: tuple[str, ...] = ()) -> None:
    """Strict load: a missing or unexpected tensor is an error. Halves become the network's own dtype. `new`: names of parts that the file may lack
    altogether; they stay as they are."""
    with safe_open(path, framework="pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    expected = network.state_dict()
    lacking = tuple(f"{part}." for part in new if not any(name.startswith(f"{part}.") for name in stored))
    absent = {name for name in expected if name.startswith(lacking)}
    if missing := sorted(set(expected) - set(stored) - absent):
        raise UserError(f"{path} lacks {missing[:3]} (and {len(missing) - 1} more); it belongs to another version of the network")
    if extra := sorted(set(stored) - set(expected)):
        raise UserError(f"{path} holds {extra[:3]}, which this network has no place for; it belongs to another version")
    network.load_state_dict({name: t.to(expected[name].dtype) for name, t in stored.items()}, strict=not absent)


def bundled_weights(name: str) -> Path:
    """Path of a weights file that ships with the package, such as "regressor.safetensors"."""
    return Path(str(resources.files("twohands.weights") / name))


def to_device(network: nn.Module, device: str) -> nn.Module:
    """Evaluation mode on a device; UserError if CUDA is asked for and absent."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("device cuda is not available here; use --device cpu")
    return network.to(device).eval()
