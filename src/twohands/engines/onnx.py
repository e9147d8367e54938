"""Networks written as ONNX, and the proof that ONNX Runtime answers as PyTorch does. The only importer of both."""

import importlib.util
import os
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from twohands.engines.tensors import FlatNetwork, flatten
from twohands.errors import UserError

OPSET = 17
TOLERANCE = 1e-3
"""Largest difference between ONNX Runtime and PyTorch, relative to the largest magnitude in the tensor, or to 1."""


@dataclass(frozen=True)
class OnnxFile:
    """What was written and how well it answers."""

    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    worst: float
    """Largest difference to PyTorch found, in units of the tensor's largest magnitude (or 1)."""
    checked: int
    """How many inputs, of other sizes than that of the export, were compared."""


def export_onnx(
    network: nn.Module,
    example: tuple[Any, ...],
    checks: list[tuple[Any, ...]],
    path: Path,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    free_axes: dict[str, dict[int, str]],
) -> OnnxFile:
    """Writes one network, and runs ONNX Runtime beside PyTorch on `checks`. UserError if a package is missing or an answer differs by more than
    TOLERANCE; nothing is then written. `free_axes` names the axes of inputs whose length may vary; outputs follow."""
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} cannot be imported; run pip install 'twohands[onnx]'")
    import onnxruntime

    tensors, structure = flatten(example)
    flat = FlatNetwork(network, network.forward, structure).eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        part = Path(scratch) / path.name
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns of every size that it takes for constant, as ours are
            torch.onnx.export(
                flat, tuple(tensors), part, input_names=list(inputs), output_names=list(outputs), dynamic_axes=free_axes, opset_version=OPSET,
                dynamo=False,
            )  # fmt: skip
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(part, options, providers=["CPUExecutionProvider"])
        taken = {given.name for given in session.get_inputs()}
        worst = 0.0
        for check in (example, *checks):
            given = flatten(check)[0]
            with torch.no_grad():
                expected = flat(*given)
            feed = {name: np.ascontiguousarray(t.numpy()) for name, t in zip(inputs, given, strict=True) if name in taken}
            for name, a, b in zip(outputs, expected, session.run(list(outputs), feed), strict=True):
                if tuple(a.shape) != b.shape:
                    raise UserError(
                        f"{path.name}: ONNX Runtime gives {name} the shape {b.shape}, PyTorch {tuple(a.shape)}; nothing was written"
                    )
                if a.numel():
                    worst = max(worst, float(np.abs(a.numpy() - b).max() / max(1.0, float(a.abs().max()))))
        if not worst <= TOLERANCE:
            raise UserError(f"{path.name}: ONNX Runtime's answers differ from PyTorch's by {worst:.2g} of their size; nothing was written")
        os.replace(part, path)
    return OnnxFile(path, tuple(inputs), tuple(outputs), worst, len(checks))
