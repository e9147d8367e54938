"""Networks on the processor by OpenVINO, which runs them in half of PyTorch's time. Its only importer.

A network is converted when it has been called so often that this pays: converting takes seconds, so that one photo is done sooner without. What
was converted is kept in the user's cache folder and taken from there by the next process. Nothing is believed: each process runs the converted
network beside PyTorch's on a real input, and stays with PyTorch where the two differ.
"""

import hashlib
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from twohands.engines.tensors import FlatNetwork, flatten, name_of, unflatten

CALLS_BEFORE_CONVERSION = 40
"""Calls of a network after which it is converted: about a dozen photos, or a second of video."""
CALLS_BEFORE_LOADING = 8
"""Calls after which a network that an earlier process converted is loaded, which takes a sixth of a second, and OpenVINO itself with the first of them
half of one: a single photo is done sooner without."""
LARGEST_DIFFERENCE = 2e-3
"""Of any output, relative to the largest magnitude in its tensor (or 1): a hundred times what rounding gives, and well below half a millimetre."""

_log = logging.getLogger(__name__)


def openvino_installed() -> bool:
    return importlib.util.find_spec("openvino") is not None


def cache_folder() -> Path:
    """Where converted networks are kept: `engines` in $TWOHANDS_HOME if that is set, else in this platform's folder for caches."""
    home = os.environ.get("TWOHANDS_HOME")
    if home:
        return Path(home).expanduser() / "engines"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "twohands" / "engines"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "twohands" / "engines"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "twohands" / "engines"


@dataclass(frozen=True)
class EngineConfig:
    """When and how networks are handed to OpenVINO."""

    calls_before_conversion: int = CALLS_BEFORE_CONVERSION
    calls_before_loading: int = CALLS_BEFORE_LOADING
    precision: str = "f32"
    """"f32"; "bf16" is twice as fast where the processor has it, and off by more than half a millimetre."""
    threads: int = 0
    """0 leaves the number to OpenVINO. Its threads wait without spinning, so that a core that others use costs its share and no more."""
    folder: Path | None = None
    """Of the cache; the user's by default."""


class Engine:
    """What stands in for a network's `forward`: PyTorch at first, then OpenVINO once that pays, for each combination of inputs by itself."""

    def __init__(self, network: nn.Module, config: EngineConfig = EngineConfig()) -> None:
        self.network, self.config = network, config
        self.reference: Callable[..., Any] = network.forward
        self.refused: str | None = None
        """Why the network stays with PyTorch, if it does."""
        self._compiled: dict[str, _Compiled] = {}
        self._calls: dict[str, int] = {}
        self._key: str | None = None

    @property
    def in_use(self) -> bool:
        """Some inputs are answered by OpenVINO."""
        return bool(self._compiled)

    def __call__(self, *inputs: Any) -> Any:
        if self.refused is not None or (torch.is_grad_enabled() and any(p.requires_grad for p in self.network.parameters())):
            return self.reference(*inputs)
        tensors, structure = flatten(inputs)
        kind = name_of(structure) + "".join(f"_{t.dtype}"[7:] + f"x{t.ndim}" for t in tensors)
        if (compiled := self._compiled.get(kind)) is not None:
            return compiled(tensors)
        calls = self._calls[kind] = self._calls.get(kind, 0) + 1
        if calls >= self.config.calls_before_loading and (calls >= self.config.calls_before_conversion or self._path(kind).is_file()):
            return self._compile(kind, inputs)
        return self.reference(*inputs)

    def _compile(self, kind: str, inputs: tuple[Any, ...]) -> Any:
        """Converts (or loads) the network for inputs like these, believes it if it answers them as PyTorch does, and answers them."""
        with torch.inference_mode(False), torch.no_grad():
            tensors, structure = flatten(inputs)
            tensors = [t.clone() for t in tensors]
            answer = self.reference(*unflatten(tensors, structure))
            expected, result = flatten(answer)
            path = self._path(kind)
            for known in (True, False):
                if known and not path.is_file():
                    continue
                try:
                    if not known:
                        # Traced with other numbers than it is judged by: a number that tracing took for constant would else look right.
                        other = [t * 0.5 + 0.1 if t.is_floating_point() else t for t in tensors]
                        _convert(FlatNetwork(self.network, self.reference, structure), other, path)
                    compiled = _Compiled(path, result, self.config)
                    worst = _difference(expected, compiled.tensors(tensors))
                    fault = "" if worst <= LARGEST_DIFFERENCE else f"its answers differ from PyTorch's by {worst:.2g} of their size"
                except Exception as error:
                    # The converter raises whatever its parts raise. It only makes things faster: without it all works, and the user is told.
                    fault = f"it cannot be converted ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
                if not fault:
                    self._compiled[kind] = compiled
                    return answer
                path.unlink(missing_ok=True)  # broken, or of another version of the code
            self.refused = fault
        _log.warning("%s stays with PyTorch: %s", type(self.network).__name__, self.refused)
        return answer

    def _path(self, kind: str) -> Path:
        if self._key is None:
            self._key = _fingerprint(self.network)
        name = hashlib.sha256(f"{self._key} {kind}".encode()).hexdigest()[:20]
        return (self.config.folder or cache_folder()) / f"{type(self.network).__name__}-{name}.xml"


def accelerate(network: nn.Module, config: EngineConfig = EngineConfig()) -> Engine:
    """Lets OpenVINO answer for this network from when that pays, in place: callers go on calling the network. The network must be in
    evaluation mode, on the processor, and stay as it is."""
    if network.training:
        raise ValueError(f"{type(network).__name__} is in training mode; call .eval() first")
    engine = Engine(network, config)
    network.forward = engine
    return engine


def _fingerprint(network: nn.Module) -> str:
    """Of weights, make and the programs involved."""
    digest = hashlib.sha256(repr(network).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for package in ("twohands", "openvino", "torch"):
        digest.update(metadata.version(package).encode())
    return digest.hexdigest()


def _convert(network: FlatNetwork, tensors: list[Tensor], path: Path) -> None:
    """Writes OpenVINO's two files, the .xml last and both by renaming, so that whoever finds the .xml finds all."""
    import warnings

    import openvino

    network.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of every size that it takes for constant, as ours are
        model = openvino.convert_model(network, example_input=tuple(tensors))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        part = Path(scratch) / path.name
        openvino.save_model(model, part, compress_to_fp16=False)
        os.replace(part.with_suffix(".bin"), path.with_suffix(".bin"))
        os.replace(part, path)


class _Compiled:
    """A converted network, ready to run."""

    def __init__(self, path: Path, result: Any, config: EngineConfig) -> None:
        import openvino

        core = openvino.Core()
        # What OpenVINO has made of the file for this processor is kept beside it: it is read in a quarter of the time that making it takes.
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": config.precision, "CACHE_DIR": str(path.parent / "compiled"),
        }  # fmt: skip
        if config.threads:
            options["INFERENCE_NUM_THREADS"] = config.threads
        self._request = core.compile_model(str(path), "CPU", options).create_infer_request()
        self._result = result

    def tensors(self, tensors: list[Tensor]) -> list[Tensor]:
        inputs = [np.ascontiguousarray(t.detach().numpy()) for t in tensors]
        # Results are copied, since the next call writes where these are.
        return [torch.from_numpy(np.array(value)) for value in self._request.infer(inputs, share_inputs=True).values()]

    def __call__(self, tensors: list[Tensor]) -> Any:
        return unflatten(self.tensors(tensors), self._result)


def _difference(expected: list[Tensor], found: list[Tensor]) -> float:
    """The largest difference of any number relative to the largest of its tensor, or to 1; infinite if shapes differ."""
    if [t.shape for t in expected] != [t.shape for t in found]:
        return float("inf")
    worst = 0.0
    for a, b in zip(expected, found, strict=True):
        if a.numel():
            difference = float((a.double() - b.double()).abs().max() / a.double().abs().max().clamp_min(1))
            worst = max(worst, difference if difference == difference else float("inf"))
    return worst
