"""The trunks: the shapes they give, and, where their trained numbers are at hand, that they give what those files give."""

from pathlib import Path

import numpy as np
import pytest
import torch

from twohands.priors.install import LANDMARK, PALM, teachers_folder
from twohands.priors.tflite import fill, fill_landmark_trunk, fill_palm_trunk, read_weights
from twohands.trunks import LandmarkEarly, LandmarkLate, LandmarkReadout, PalmTrunk, SameConv, freeze, parameters_in_order


def at_hand(name: str) -> Path:
    pytest.importorskip("ai_edge_litert", reason="the teachers' engine is not installed")
    path = teachers_folder() / name
    if not path.is_file():
        pytest.skip(f"{name} is not here: `twohands teachers install --trunks`")
    return path


def run(path: Path, image: np.ndarray) -> list[np.ndarray]:
    """The outputs of the file's own network for an image (side, side, 3) in 0..1."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    return [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]


@pytest.fixture
def picture() -> np.ndarray:
    """Smooth noise of 224 px."""
    coarse = torch.rand(1, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(224, 224), mode="bilinear")[0].permute(1, 2, 0).contiguous().numpy()


def test_landmark_network_is_the_files(picture):
    path = at_hand(LANDMARK.name)
    early, late, readout = LandmarkEarly(), LandmarkLate(), LandmarkReadout()
    fill_landmark_trunk(early, late, readout, path)
    with torch.inference_mode():
        presence, side, points, world = readout(late(early(torch.from_numpy(picture).permute(2, 0, 1)[None])[1])[1])
    expected = run(path, picture)
    for ours, theirs in zip((points, presence.sigmoid(), side.sigmoid(), world), expected, strict=True):
        np.testing.assert_allclose(ours.flatten().numpy(), theirs.flatten(), atol=1e-3)


def test_palm_trunk_is_the_files(picture):
    """Seen through the file's own score heads, which the trunk goes without."""
    path = at_hand(PALM.name)
    picture = picture[:192, :192].copy()
    trunk = PalmTrunk()
    fill_palm_trunk(trunk, path)
    kernel, bias = next((w, b) for name, w, b in read_weights(path) if name == "conv" and w.shape[0] == 2)
    with torch.inference_mode():
        features = trunk(torch.from_numpy(picture).permute(2, 0, 1)[None])
        score = torch.nn.functional.conv2d(features, torch.from_numpy(kernel.copy()), torch.from_numpy(bias.copy()))
    expected = run(path, picture)[1].reshape(-1)[: 24 * 24 * 2]
    np.testing.assert_allclose(score.permute(0, 2, 3, 1).reshape(-1).numpy(), expected, atol=1e-3)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (32, 32)])
def test_palm_trunk_takes_any_multiple_of_32(height, width):
    assert PalmTrunk()(torch.rand(2, 3, height, width)).shape == (2, PalmTrunk.WIDTH, height // 8, width // 8)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_padding_keeps_the_size_over_the_stride(kernel, stride):
    assert SameConv(2, 3, kernel, stride)(torch.rand(1, 2, 12, 12)).shape[2:] == (12 // stride, 12 // stride)


def test_padding_of_strided_convolutions_comes_last():
    """With the kernel's first tap alone, a strided 3 x 3 reads every second pixel: no padding stands before the first."""
    convolution = SameConv(1, 1, 3, 2)
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[0, 0, 0, 0] = 1
        convolution.bias.zero_()
    x = torch.arange(36.0).view(1, 1, 6, 6)
    torch.testing.assert_close(convolution(x), x[:, :, ::2, ::2])


def test_weights_of_another_structure_are_refused():
    layers = parameters_in_order(torch.nn.Sequential(torch.nn.Linear(2, 3)))
    with pytest.raises(ValueError, match="do not fit"):
        fill(layers, [("linear", np.zeros((3, 5), np.float32), np.zeros(3, np.float32))])
    with pytest.raises(ValueError, match="belongs to another network"):
        fill(layers, [])


def test_frozen_parameters_get_no_gradient():
    assert not any(p.requires_grad for p in freeze(torch.nn.Linear(2, 2)).parameters())
