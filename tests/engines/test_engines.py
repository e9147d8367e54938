"""Other engines answer as PyTorch does, or are not believed."""

import logging
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from twohands.engines.openvino import Engine, EngineConfig, accelerate, cache_folder
from twohands.engines.tensors import flatten, name_of, tensor_names, unflatten
from twohands.engines.threads import threads_wanted
from twohands.record import Record


@dataclass(frozen=True)
class Answer(Record):
    mean: Tensor
    heat: Tensor
    nothing: Tensor | None = None


class Small(nn.Module):
    """Convolution, a choice of rows that depends on the data, records in and out: what the networks here do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))

    def forward(self, image: Tensor, present: Tensor, extra: Answer | None = None) -> tuple[Answer, Tensor | None]:
        index = present.nonzero()[:, 0]
        heat = self.body(image[index])
        if extra is not None:
            heat = heat + extra.mean[:, None, None, None].mean()
        whole = torch.zeros(image.shape[0], *heat.shape[1:]).index_copy(0, index, heat)
        return Answer(whole.mean((1, 2, 3)), whole), None


def inputs(batch: int, size: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, 3, size, size, generator=generator), torch.arange(batch) % 3 != 1


@torch.no_grad()
def both(network: Small, engine: Engine, *given) -> tuple[Answer, Answer]:
    return engine.reference(*given)[0], network(*given)[0]


def test_flatten_and_back():
    value = (Answer(torch.ones(2), torch.zeros(3)), None, torch.ones(1))
    tensors, structure = flatten(value)
    assert [len(t) for t in tensors] == [2, 3, 1]
    again = unflatten(tensors, structure)
    assert again[1] is None
    assert again[0].heat is value[0].heat
    assert name_of(structure) == "(Answer[ttn]nt)"
    assert tensor_names(value) == ["0.mean", "0.heat", "2"]
    assert tensor_names(value[0]) == ["mean", "heat"]
    with pytest.raises(ValueError, match="no place"):
        unflatten([*tensors, tensors[0]], structure)
    with pytest.raises(TypeError, match="dict"):
        flatten({})


@pytest.fixture
def config(tmp_path) -> EngineConfig:
    pytest.importorskip("openvino", reason="the fast extra is not installed")
    return EngineConfig(calls_before_conversion=2, calls_before_loading=1, folder=tmp_path / "cache")


def test_openvino_answers_as_pytorch_at_every_batch_and_from_the_cache(config):
    network = Small().eval()
    engine = accelerate(network, config)
    with torch.no_grad():
        network(*inputs(2))
    assert not engine.in_use, "one call does not pay"
    for batch, size in ((2, 12), (1, 12), (5, 20)):
        expected, found = both(network, engine, *inputs(batch, size))
        assert engine.in_use
        torch.testing.assert_close(found.heat, expected.heat, atol=1e-5, rtol=1e-5)
        assert found.nothing is None
    kept, first = found.heat.clone(), found.heat
    with torch.no_grad():
        network(*inputs(5, 20))
    assert torch.equal(first, kept), "an answer does not change under its owner"
    assert sorted(path.suffix for path in config.folder.iterdir() if path.is_file()) == [".bin", ".xml"]
    again = accelerate(Small().eval(), replace(config, calls_before_conversion=10**9))
    with torch.no_grad():
        again(*inputs(2))
    assert again.in_use, "what another process converted is taken at once"


def test_other_inputs_are_converted_for_themselves(config):
    network = Small().eval()
    engine = accelerate(network, config)
    extra = Answer(torch.tensor([3.0, 1.0]), torch.zeros(1))
    with torch.no_grad():
        for _ in range(2):
            network(*inputs(2))
        plain = network(*inputs(2))[0]
        for _ in range(3):
            moved = network(*inputs(2), extra)[0]
    torch.testing.assert_close(moved.heat[0], plain.heat[0] + 2)
    assert len(engine._compiled) == 2


def test_other_weights_are_another_network(config):
    networks = [Small().eval(), Small().eval()]
    with torch.no_grad():
        networks[1].body[0].weight.add_(0.1)
        for network in networks:
            engine = accelerate(network, config)
            for _ in range(2):
                expected, found = both(network, engine, *inputs(2))
            torch.testing.assert_close(found.heat, expected.heat, atol=1e-5, rtol=1e-5)
    assert len(list(config.folder.glob("*.xml"))) == 2


def answers_rightly(config: EngineConfig) -> None:
    """A network that is new to this process, by OpenVINO."""
    network = Small().eval()
    engine = accelerate(network, config)
    with torch.no_grad():
        for _ in range(3):
            expected, found = both(network, engine, *inputs(2))
    torch.testing.assert_close(found.heat, expected.heat, atol=1e-5, rtol=1e-5)
    assert engine.in_use


def test_a_stale_or_broken_file_is_made_anew(config):
    for _ in range(2):
        answers_rightly(config)
        (weights,) = config.folder.glob("*.bin")
        weights.write_bytes(b"\1" * weights.stat().st_size)
        for made in (config.folder / "compiled").iterdir():
            made.unlink()


@pytest.mark.parametrize(
    "broken", [lambda whole: b"", lambda whole: b"no network", lambda whole: b"\1" * len(whole), lambda whole: whole[: len(whole) // 2]]
)
def test_what_was_compiled_for_this_processor_is_made_anew_if_it_is_broken(config, broken):
    for _ in range(2):
        answers_rightly(config)
        made = list((config.folder / "compiled").iterdir())
        assert made
        for path in made:
            path.write_bytes(broken(path.read_bytes()))


def test_what_cannot_be_converted_stays_with_pytorch_and_it_is_said(config, caplog):
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.from_numpy(x.numpy() + 1)  # which tracing takes for a constant

    network = Odd().eval()
    engine = accelerate(network, config)
    with torch.no_grad(), caplog.at_level(logging.WARNING):
        for k in range(4):
            torch.testing.assert_close(network(torch.full((2,), float(k))), torch.full((2,), k + 1.0))
    assert engine.refused
    assert "stays with PyTorch" in caplog.text


def test_gradients_still_flow(config):
    network = Small().eval()
    accelerate(network, config)
    for _ in range(3):
        network(*inputs(2))[0].heat.sum().backward()
    assert network.body[0].weight.grad is not None


def test_a_network_in_training_is_refused(config):
    with pytest.raises(ValueError, match="training mode"):
        accelerate(Small().train(), config)


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("TWOHANDS_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "engines"


@pytest.mark.parametrize(
    ("environment", "threads"),
    [({}, 1), ({"OMP_NUM_THREADS": "4"}, None), ({"OMP_WAIT_POLICY": "passive"}, None), ({"OMP_WAIT_POLICY": "ACTIVE"}, 1)],
)
def test_one_thread_unless_the_user_speaks(environment, threads):
    assert threads_wanted(environment) == threads


def test_onnx_runtime_answers_as_pytorch(tmp_path):
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    pytest.importorskip("onnx", reason="the onnx extra is not installed")
    from twohands.engines.onnx import export_onnx
    from twohands.errors import UserError

    network = Small().eval()
    names = ("image", "present"), ("mean", "heat")
    free = {"image": {0: "n", 2: "h", 3: "w"}, "present": {0: "n"}, "mean": {0: "n"}, "heat": {0: "n", 2: "h", 3: "w"}}
    file = export_onnx(network, inputs(2), [inputs(5, 20)], tmp_path / "small.onnx", *names, free)
    assert file.worst < 1e-5
    assert [p.name for p in tmp_path.iterdir()] == ["small.onnx"]
    # An export whose batch is fixed must fail on another batch, and leave nothing.
    with pytest.raises((UserError, Exception)):
        export_onnx(network, inputs(2), [inputs(5, 20)], tmp_path / "fixed.onnx", *names, {})
    assert [p.name for p in tmp_path.iterdir()] == ["small.onnx"]


def test_the_command_writes_both_networks(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    pytest.importorskip("onnx", reason="the onnx extra is not installed")
    from types import SimpleNamespace

    from twohands import pipeline
    from twohands.cli import main
    from twohands.detector import SHIPPED as DETECTOR
    from twohands.detector import DetectorNetwork
    from twohands.regress.network import SHIPPED as REGRESSOR
    from twohands.regress.network import Regressor

    networks = DetectorNetwork(DETECTOR).eval(), Regressor(REGRESSOR).eval()
    loaded = SimpleNamespace(detector=SimpleNamespace(network=networks[0]), regressor=SimpleNamespace(network=networks[1]))
    monkeypatch.setattr(pipeline, "load", lambda prior, engine: loaded)
    assert main(["onnx", "--out", str(tmp_path / "out")]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["detector.onnx", "regressor.onnx"]
    assert "rotation" in capsys.readouterr().out


def test_the_shipped_networks_give_the_same_hands(tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="the fast extra is not installed")
    from twohands import load
    from twohands.bench import as_pixels, engines_apart, scenes
    from twohands.synth.photo import take_photo

    monkeypatch.setenv("TWOHANDS_HOME", str(tmp_path))
    pictures = [as_pixels(take_photo(knobs, seed)) for knobs in scenes(256).values() for seed in (0, 1)]
    told = engines_apart(load(engine="torch"), load(engine="openvino"), pictures)
    assert told["pictures with other hands"] == 0
    assert told["hands"] >= 6
    assert told["most mm"] < 0.5
    assert told["median mm"] < 0.01
