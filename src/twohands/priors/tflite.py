"""Reads the trained numbers out of a TensorFlow Lite file into a PyTorch module of the same structure.

Only the numbers are read, by the flatbuffer schema that ai-edge-litert ships; nothing in the file is run."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from twohands.errors import UserError, from_extra
from twohands.trunks import LandmarkEarly, LandmarkLate, LandmarkReadout, PalmTrunk, parameters_in_order

PALM_HEADS = (6, 108, 2, 36)
"""Channels of the palm detector's own heads, which its trunk goes without."""


def read_weights(path: Path) -> list[tuple[str, np.ndarray, np.ndarray | None]]:
    """(operation, weights, bias) of every convolution ("conv": out, in, height, width; "depthwise": the same with in = 1), fully connected
    layer ("linear": out, in) and PReLU ("prelu": channels), in the file's order. UserError if it is no such file."""
    with from_extra("teachers", f"reading {path.name}"):
        from ai_edge_litert import schema_py_generated as schema
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise UserError(f"{path} is no TensorFlow Lite file; run `twohands teachers install`")
    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    kind = schema.BuiltinOperator
    # Weights are stored in half precision, each behind an operation that widens it.
    stored = {}
    operations = [graph.Operators(i) for i in range(graph.OperatorsLength())]
    codes = [model.OperatorCodes(o.OpcodeIndex()).BuiltinCode() for o in operations]
    for operation, code in zip(operations, codes, strict=True):
        if code == kind.DEQUANTIZE:
            stored[operation.Outputs(0)] = operation.Inputs(0)

    def values(index: int) -> np.ndarray:
        tensor = graph.Tensors(stored.get(index, index))
        dtype = {schema.TensorType.FLOAT16: np.float16, schema.TensorType.FLOAT32: np.float32}[tensor.Type()]
        data = model.Buffers(tensor.Buffer()).DataAsNumpy()
        return np.frombuffer(data.tobytes(), dtype).astype(np.float32).reshape(tensor.ShapeAsNumpy())

    found: list[tuple[str, np.ndarray, np.ndarray | None]] = []
    for operation, code in zip(operations, codes, strict=True):
        if code == kind.CONV_2D:
            found.append(("conv", values(operation.Inputs(1)).transpose(0, 3, 1, 2), values(operation.Inputs(2))))
        elif code == kind.DEPTHWISE_CONV_2D:
            found.append(("depthwise", values(operation.Inputs(1)).transpose(3, 0, 1, 2), values(operation.Inputs(2))))
        elif code == kind.FULLY_CONNECTED:
            found.append(("linear", values(operation.Inputs(1)), values(operation.Inputs(2))))
        elif code == kind.PRELU:
            found.append(("prelu", values(operation.Inputs(1)).reshape(-1), None))
    return found


def fill(layers: list[nn.Module], weights: list[tuple[str, np.ndarray, np.ndarray | None]]) -> None:
    """Copies weights into layers, one after the other. ValueError where a shape does not fit: then the structure is another one."""
    if len(layers) != len(weights):
        raise ValueError(f"{len(layers)} layers but {len(weights)} sets of weights; the file belongs to another network")
    with torch.no_grad():
        for layer, (name, weight, bias) in zip(layers, weights, strict=True):
            target = layer.get_parameter("weight")
            if tuple(target.shape) != weight.shape:
                raise ValueError(f"{name} weights of shape {weight.shape} do not fit a layer of {tuple(target.shape)}")
            target.copy_(torch.from_numpy(weight.copy()))
            if bias is not None:
                layer.get_parameter("bias").copy_(torch.from_numpy(bias.copy()))


def fill_palm_trunk(trunk: PalmTrunk, path: Path) -> None:
    """The palm detector's trained numbers, without its heads'."""
    weights = [row for row in read_weights(path) if not (row[0] == "conv" and row[1].shape[0] in PALM_HEADS)]
    fill(parameters_in_order(trunk), weights)


def fill_landmark_trunk(early: LandmarkEarly, late: LandmarkLate, readout: LandmarkReadout, path: Path) -> None:
    """The landmark network's trained numbers."""
    fill(parameters_in_order(early, late, readout), read_weights(path))
