import runpy
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from twohands import checkpoints
from twohands.checkpoints import load_weights, read_config, read_header, save_weights, to_device
from twohands.errors import UserError


@dataclass(frozen=True)
class TinyConfig:
    width: int = 3
    name: str = "tiny"
    stages: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class OtherConfig:
    width: int = 3


def tiny(config: TinyConfig) -> nn.Module:
    return nn.Sequential(nn.Linear(config.width, config.width), nn.BatchNorm1d(config.width))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, nn.Module]:
    network = tiny(TinyConfig(width=5))
    save_weights(tmp_path / "new" / "tiny.safetensors", network, TinyConfig(width=5), {"steps": "7"})
    return tmp_path / "new" / "tiny.safetensors", network


def test_the_header_rebuilds_the_network(saved):
    path, network = saved
    config = read_config(path, TinyConfig)
    assert config == TinyConfig(width=5)
    rebuilt = tiny(config)
    load_weights(path, rebuilt)
    for name, tensor in network.state_dict().items():
        assert rebuilt.state_dict()[name].dtype == tensor.dtype
        assert torch.allclose(rebuilt.state_dict()[name], tensor, atol=1e-3), name


def test_full_precision_is_exact(tmp_path):
    network, other = tiny(TinyConfig()), tiny(TinyConfig())
    save_weights(tmp_path / "t.safetensors", network, TinyConfig(), {}, half=False)
    load_weights(tmp_path / "t.safetensors", other)
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values(), strict=True))


def test_facts_stay_in_the_header_and_nothing_is_left_beside(saved):
    path, _ = saved
    assert read_header(path)["steps"] == "7"
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_or_extra_tensor_is_an_error(saved):
    path, _ = saved
    with pytest.raises(UserError, match="lacks"):
        load_weights(path, nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Linear(5, 5)))
    with pytest.raises(UserError, match="no place for"):
        load_weights(path, nn.Sequential(nn.Linear(5, 5)))


def test_a_file_may_lack_a_part_that_is_new_but_not_half_of_it(saved):
    path, network = saved
    larger = nn.Sequential(*network, nn.Linear(5, 5))
    load_weights(path, larger, new=("2",))
    torch.testing.assert_close(larger[0].weight, network[0].weight, atol=1e-3, rtol=0)
    with pytest.raises(UserError, match="lacks"):
        load_weights(path, nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Linear(5, 5)), new=("0",))
    halved = tiny(TinyConfig(width=5))
    halved[1].register_buffer("more", torch.zeros(1))
    with pytest.raises(UserError, match="lacks"):
        load_weights(path, halved, new=("1",))


def test_another_kind_of_network_is_refused(saved):
    with pytest.raises(UserError, match="not a OtherConfig"):
        read_config(saved[0], OtherConfig)


@pytest.mark.parametrize(("content", "words"), [(None, "no weights"), (b"", "not a safetensors"), (b"\x80\x04pickle", "not a safetensors")])
def test_what_is_no_weights_file_is_named(tmp_path, content, words):
    path = tmp_path / "broken.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_header(path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_absent_cuda_is_named():
    with pytest.raises(UserError, match="--device cpu"):
        to_device(tiny(TinyConfig()), "cuda")


def test_what_half_a_precision_cannot_hold_is_kept_whole(tmp_path: Path):
    network = tiny(TinyConfig())
    network[1].running_var[1] = 111_733.0
    save_weights(tmp_path / "t.safetensors", network, TinyConfig(), {})
    rebuilt = tiny(TinyConfig())
    load_weights(tmp_path / "t.safetensors", rebuilt)
    assert torch.equal(rebuilt[1].running_var, network[1].running_var)
    assert (tmp_path / "t.safetensors").stat().st_mode & 0o777 == 0o644
    network[1].running_var[1] = torch.inf
    with pytest.raises(ValueError, match=r"1\.running_var"):
        save_weights(tmp_path / "t.safetensors", network, TinyConfig(), {})


def test_the_weights_that_ship_are_finite():
    for path in Path(checkpoints.__file__).parent.glob("weights/*.safetensors"):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                assert bool(file.get_tensor(name).isfinite().all()), f"{path.name}: {name}"


def averaged(folder: Path, configs: dict[str, TinyConfig], monkeypatch: pytest.MonkeyPatch, *more: str) -> dict[str, nn.Module]:
    """Two networks, whose weights files `tools/average_weights.py` is to bring together in mean.safetensors, a quarter of b's."""
    networks = {name: tiny(config) for name, config in configs.items()}
    for name, config in configs.items():
        save_weights(folder / f"{name}.safetensors", networks[name], config, {}, half=False)
    files = [str(folder / f"{name}.safetensors") for name in (*configs, "mean")]
    monkeypatch.setattr(sys, "argv", ["average_weights.py", *files, "--share", "0.25", *more])
    runpy.run_path(str(Path(__file__).parents[1] / "tools" / "average_weights.py"), run_name="__main__")
    return networks


def test_two_files_of_one_network_have_a_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also where something in their configs was fitted to each: here the name."""
    configs = {"a": TinyConfig(5), "b": TinyConfig(5, name="fitted")}
    networks = averaged(tmp_path, configs, monkeypatch)
    path, mean = tmp_path / "mean.safetensors", tiny(configs["b"])
    assert read_config(path, TinyConfig) == configs["b"]
    load_weights(path, mean)
    a, b, m = (n.state_dict()["0.weight"] for n in (networks["a"], networks["b"], mean))
    torch.testing.assert_close(m, 0.75 * a + 0.25 * b)


def test_a_mean_keeps_what_it_is_told_to_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    configs = {"a": TinyConfig(5), "b": TinyConfig(5)}
    networks = averaged(tmp_path, configs, monkeypatch, "--keep", "0.bias")
    mean = tiny(configs["a"])
    load_weights(tmp_path / "mean.safetensors", mean)
    a, b, m = (network.state_dict() for network in (networks["a"], networks["b"], mean))
    assert torch.equal(m["0.bias"], a["0.bias"])
    torch.testing.assert_close(m["0.weight"], 0.75 * a["0.weight"] + 0.25 * b["0.weight"])


def test_a_mean_is_not_made_where_nothing_has_the_name_to_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(SystemExit):
        averaged(tmp_path, {"a": TinyConfig(5), "b": TinyConfig(5)}, monkeypatch, "--keep", "head")
    assert not (tmp_path / "mean.safetensors").exists()


def test_two_networks_have_no_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(SystemExit):
        averaged(tmp_path, {"a": TinyConfig(5), "b": TinyConfig(4)}, monkeypatch)
    assert not (tmp_path / "mean.safetensors").exists()
