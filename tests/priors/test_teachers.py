"""Teachers: each says what it should of pictures whose answer is known."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from twohands.errors import UserError
from twohands.geometry.camera import Camera
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.parameters import HandParameters
from twohands.joints import MANO16, OPENPOSE21
from twohands.priors.labelled import LabelledTeacher
from twohands.priors.mediapipe import LATENT, LATENT_MAP, LandmarkReading, LandmarkTeacher
from twohands.priors.rendered import RenderedTeacher
from twohands.priors.sapiens import SapiensTeacher
from twohands.priors.teacher import Question
from twohands.priors.trust import LOOKS, TrustedLandmarks
from twohands.schema import Detection

WIDTH, HEIGHT = 400, 300


def posed(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints in pixels and relative to the wrist of a hand at rest, 60 cm before a default camera, fingers up."""
    hand = load_bundled_hand()
    parameters = HandParameters.zeros(1)
    up = torch.tensor([0.0, 0.0, 1.5708 if side else -1.5708])
    parameters.pose[0, side, 0] = up
    parameters.translation_m[0, :, 2] = 0.6
    points = hand.pose_hands(parameters).keypoints()[0, side]
    xy = Camera.from_fov(WIDTH, HEIGHT, 60.0).project(points)
    return xy.numpy(), (points - points[:1]).numpy()


class KnowingReader:
    """Stands for the landmark network: knows where the hand is in the photo, and whether it is shown the photo mirrored (bright left edge)."""

    keeps_latents = False
    latent_width = 0

    def __init__(
        self,
        side: int = 1,
        error_px: float = 1.0,
        mirrored_error_px: float = 0.0,
        flips_sides: bool = True,
        shape: np.ndarray | None = None,
    ):
        self.xy, self.world = posed(side)
        self.side, self.error_px, self.mirrored_error_px, self.flips_sides = side, error_px, mirrored_error_px, flips_sides
        if shape is not None:
            self.xy = shape
        self.rng = np.random.default_rng(0)

    def __call__(self, image: np.ndarray, boxes: np.ndarray, directions: np.ndarray) -> LandmarkReading:
        mirrored = image[0, 0, 0] > 128
        xy = self.xy + self.rng.normal(0, self.error_px, (len(boxes), 21, 2))
        world = np.repeat(self.world[None], len(boxes), 0)
        right = float(self.side)
        if mirrored:
            xy = (xy + self.rng.normal(0, 1, 2) * 0 + [self.mirrored_error_px, 0]) * [-1, 1] + [image.shape[1], 0]
            world = world * [-1, 1, 1]
            right = 1 - right if self.flips_sides else right
        n = len(boxes)
        return LandmarkReading(
            xy.astype(np.float32), np.zeros((n, 21), np.float32), world.astype(np.float32), np.full(n, 0.95, np.float32),
            np.full(n, 0.1 + 0.8 * right, np.float32),
        )  # fmt: skip


def photo() -> np.ndarray:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:, -1] = 255
    return image


def lesson_of(reader: KnowingReader, found: int = 1):
    xy = reader.xy
    box = torch.tensor([[*xy.min(0), *xy.max(0)]], dtype=torch.float32).expand(found, 4)
    detection = Detection(box, torch.ones(found), torch.full((found,), 0.5), torch.tensor([[0.0, -1.0]]).expand(found, 2), (0,) * found)
    teacher = TrustedLandmarks(reader, lambda _: detection, load_bundled_hand(), load_hand_asset().limits)  # type: ignore[arg-type]
    return teacher(Question("a.jpg", photo()))


@pytest.mark.parametrize("side", [0, 1])
def test_a_reading_that_stays_is_believed(side):
    reader = KnowingReader(side)
    lesson = lesson_of(reader, found=2)
    assert lesson.trust[side] > 0.8
    assert lesson.trust[1 - side] == 0, "found twice, it is still one hand"
    assert np.abs(lesson.maps.keypoints_xy[side].numpy() - reader.xy).max() < 2.5
    depth = reader.world[:, 2] / np.linalg.norm(reader.world[9])
    np.testing.assert_allclose(lesson.maps.keypoint_depth[side], depth, atol=1e-5)


@pytest.mark.parametrize(
    "reader",
    [
        KnowingReader(error_px=25.0),
        KnowingReader(mirrored_error_px=30.0),
        KnowingReader(flips_sides=False),
        KnowingReader(shape=posed(1)[0][np.random.default_rng(1).permutation(21)]),
    ],
    ids=["jumps", "jumps when mirrored", "calls both mirror images right", "is no hand"],
)
def test_a_reading_that_cannot_be_is_not_believed(reader):
    assert not lesson_of(reader).trust.any()


def test_looks_include_flips_scales_turns_and_shifts():
    assert {look.flipped for look in LOOKS} == {False, True}
    assert len({look.scale for look in LOOKS}) > 2
    assert any(look.turn_deg for look in LOOKS)
    assert any(look.shift != (0.0, 0.0) for look in LOOKS)


class KeepingInterpreter:
    """An interpreter that keeps two tensors: the crop's mean, wherever it is asked for a feature."""

    shapes = ((1, 63), (1, 1), (1, 1), (1, 63))

    def allocate_tensors(self): ...
    def get_input_details(self):
        return [{"index": 9, "shape": np.array([1, 224, 224, 3])}]

    def get_output_details(self):
        return [{"index": k, "shape": np.array(s)} for k, s in enumerate(self.shapes)]

    def get_tensor_details(self):
        return [{"name": LATENT, "index": 4, "shape": (1, 1152)}, {"name": LATENT_MAP, "index": 5, "shape": (1, 7, 7, 192)}]

    def set_tensor(self, index, value):
        self.mean = value.mean()

    def invoke(self): ...
    def get_tensor(self, index):
        shape = {4: (1, 1152), 5: (1, 7, 7, 192)}.get(index) or self.shapes[index]
        return np.full(shape, self.mean if index > 3 else 0.4, np.float32)


def test_the_landmark_network_gives_its_features():
    teacher = LandmarkTeacher(KeepingInterpreter(), keeps_latents=True)
    crops = np.stack([np.full((224, 224, 3), v, np.float32) for v in (0.25, 0.75)])
    pooled, maps = teacher.latents(crops)
    np.testing.assert_allclose(pooled[:, 7], [0.25, 0.75], rtol=1e-5)
    assert maps.shape == (2, 7, 7, 192)
    reading = teacher(np.full((50, 50, 3), 255, np.uint8), [[20, 20, 22, 22]], [[0, -1]])
    np.testing.assert_allclose(reading.latent[0], 1.0, rtol=1e-5)
    with pytest.raises(ValueError, match="keeps no latents"):
        LandmarkTeacher(KeepingInterpreter()).latents(crops)


class Pose(torch.nn.Module):
    """Heat with peaks at given input pixels (x, y), on cells as unbiased coordinates place them."""

    def __init__(self, xy: Tensor, sure: Tensor):
        super().__init__()
        self.register_buffer("cell", (xy - 0.5) / torch.tensor([767.0, 1023.0]) * torch.tensor([191.0, 255.0]))
        self.register_buffer("sure", sure)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.arange(192.0) - self.cell[:, 0, None]
        y = torch.arange(256.0) - self.cell[:, 1, None]
        heat = torch.exp(-(y[:, :, None] ** 2 + x[:, None, :] ** 2) / 18.0) * self.sure[:, None, None]
        return heat[None] + 0.0 * image.mean()


class Segment(torch.nn.Module):
    """Left hand in the left half of the input, right hand in the right one, background in the lower half."""

    def forward(self, image: Tensor) -> Tensor:
        logits = torch.zeros(1, 28, 512, 384)
        logits[:, 5, :256, :192] = 5.0
        logits[:, 14, :256, 192:] = 5.0
        logits[:, 0, 256:] = 5.0
        return logits


class Slope(torch.nn.Module):
    """Depth that grows to the right."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.linspace(3.0, 5.0, 768)[None, None, None].repeat(1, 1, 1024, 1)


@pytest.fixture(scope="module")
def sapiens(tmp_path_factory) -> tuple[SapiensTeacher, Tensor, Path]:
    """Generated TorchScript files with the releases' inputs and outputs; the left hand's keypoints are sure, the right hand's are not."""
    folder = tmp_path_factory.mktemp("sapiens")
    torch.manual_seed(0)
    xy = torch.rand(308, 2) * torch.tensor([200.0, 200.0]) + torch.tensor([100.0, 250.0])
    sure = torch.full((308,), 0.1)
    sure[42:63] = 0.9
    for name, module in {"pose": Pose(xy, sure), "seg": Segment(), "depth": Slope()}.items():
        torch.jit.script(module).save(str(folder / f"{name}_torchscript.pt2"))
    paths = [folder / f"{name}_torchscript.pt2" for name in ("pose", "seg", "depth")]
    return SapiensTeacher.load(*paths), xy, folder


def test_sapiens_maps_come_back_to_the_photo(sapiens):
    teacher, xy, _ = sapiens
    # 300 x 200: scaled by 2.56 to 768 x 512 and put in the middle, from row 256.
    lesson = teacher(Question("a.jpg", np.zeros((200, 300, 3), np.uint8)))
    left = lesson.maps.keypoints_xy[0]
    order = {name: 62 if name == "wrist" else 42 + 4 * ("thumb", "index", "middle", "ring", "pinky").index(name[:-1]) + 4 - int(name[-1])
             for name in OPENPOSE21}  # fmt: skip
    expected = torch.stack([(xy[order[name]] - torch.tensor([0.0, 256.0])) / 2.56 for name in OPENPOSE21])
    torch.testing.assert_close(left, expected, atol=0.15, rtol=0)
    assert lesson.trust[0] > 0.8
    assert lesson.trust[1] == 0
    parts, depth = lesson.maps.segmentation, lesson.maps.depth_m
    assert parts.shape == depth.shape == (512, 768)
    assert set(parts[:255, 384:].unique().tolist()) == {17}, "a hand whose keypoints are not known is one part"
    assert parts[300:].max() == 0
    assert len(parts[:255, :384].unique()) > 8
    tip = expected[8] * 2.56
    if 0 <= tip[1] < 255:
        assert int(parts[int(tip[1]), int(tip[0])]) == 1 + MANO16.index("index3")
    seen = parts > 0
    assert (depth[~seen] == 0).all()
    assert depth[10, 10] < depth[10, 300] < depth[10, 700], "larger is farther"


def test_sapiens_files_that_are_something_else_are_refused(sapiens, tmp_path):
    _, _, folder = sapiens
    with pytest.raises(UserError, match="at least one"):
        SapiensTeacher.load()
    with pytest.raises(UserError, match="no file"):
        SapiensTeacher.load(tmp_path / "none.pt2")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "checkpoint.pth")
    with pytest.raises(UserError, match="no TorchScript file"):
        SapiensTeacher.load(tmp_path / "checkpoint.pth")
    wrong = SapiensTeacher.load(keypoints=folder / "seg_torchscript.pt2")
    with pytest.raises(UserError, match=r"answers \(1, 28, 512, 384\), not \(1, 308"):
        wrong(Question("a.jpg", np.zeros((20, 30, 3), np.uint8)))


def test_rendered_maps_are_those_of_the_photographer():
    from twohands.synth.photo import take_photo
    from twohands.synth.scene import SceneKnobs

    sample = take_photo(SceneKnobs(interacting=0.0), 3)
    image = sample.image.permute(1, 2, 0).numpy()
    lesson = RenderedTeacher(load_bundled_hand())(Question("a", image, sample))
    assert torch.equal(lesson.trust > 0, sample.hand_valid)
    theirs, ours = sample.priors.segmentation, lesson.maps.segmentation
    assert theirs.shape == ours.shape
    both = (theirs > 0) & (ours > 0)
    assert both.sum() > 0.8 * (theirs > 0).sum()
    assert (theirs == ours)[both].float().mean() > 0.95
    torch.testing.assert_close(
        lesson.maps.depth_m[both & (theirs == ours)], sample.priors.depth_m[both & (theirs == ours)], atol=2e-3, rtol=0
    )
    assert not RenderedTeacher(load_bundled_hand())(Question("a", image)).trust.any()


def test_labels_of_the_full_mediapipe_are_a_teacher(tmp_path):
    points = np.arange(126, dtype=np.float32).reshape(3, 21, 2)
    arrays = {
        "file_name": np.array(["a.jpg", "b/c.jpg"]), "photo": np.array([0, 0, 0]), "side": np.array([0, 1, 1], np.int8), "keypoints_px": points,
        "keypoints_world_m": np.ones((3, 21, 3), np.float32), "trust": np.array([0.9, 0.5, 0.7], np.float32),
    }  # fmt: skip
    np.savez(tmp_path / "labels.npz", **arrays)
    teacher = LabelledTeacher(tmp_path / "labels.npz")
    lesson = teacher(Question("a.jpg", photo()))
    np.testing.assert_array_equal(lesson.maps.keypoints_xy, points[[0, 2]])
    torch.testing.assert_close(lesson.trust, torch.tensor([0.9, 0.7]))
    assert not teacher(Question("b/c.jpg", photo())).trust.any()
    with pytest.raises(UserError, match="not among the labels"):
        teacher(Question("d.jpg", photo()))
    Image.new("L", (2, 2)).save(tmp_path / "no.png")
    with pytest.raises(UserError, match="no file of labels"):
        LabelledTeacher(tmp_path / "no.png")
    assert SimpleNamespace(**teacher.describe()).teacher == "mediapipe"
