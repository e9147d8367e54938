"""The whole way of a photo: detector, stage 1, gate, stage 2, and the records that come out.

What each stage must offer is written as a protocol, so that a stage can be replaced by anything that keeps it. Stages are handed tensors on
the CPU and may answer from any device.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy.typing import ArrayLike
from torch import Tensor

from twohands.errors import UserError
from twohands.finding import Finder, Regressor, volumes_cm3
from twohands.geometry.camera import Camera
from twohands.geometry.photo import Photo, as_photo, choose_camera, read_photo
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.mano import load_mano
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.hands.transfer import transfer_hands
from twohands.people import Candidate, keypoint_box
from twohands.record import stack
from twohands.regress.confidence import confidence_of_distance
from twohands.schema import Detection, PhotoResult, TwoHands

PriorChoice = Literal["auto", "encoder", "teacher"]
EngineChoice = Literal["auto", "openvino", "torch"]


class Detector(Protocol):
    """Finds hands in a photo of any size."""

    def __call__(self, image: UInt8[np.ndarray, "height width 3"]) -> Detection: ...


class Refined(Protocol):
    """What stage 2 answers."""

    @property
    def parameters(self) -> HandParameters: ...
    @property
    def refined(self) -> Bool[Tensor, "pair"]: ...


class Refiner(Protocol):
    """Stage 2."""

    @property
    def projector(self) -> "Refiner":
        """One that moves hands no farther than it takes to free them."""
        ...

    def refine(self, model: HandModel, parameters: HandParameters, keypoint_confidence: Float[Tensor, "pair hand 21"]) -> Refined:
        """Plausible hands near the given ones, with less penetration; `refined` says which pairs were changed."""
        ...

    def guess(self, model: HandModel, parameters: HandParameters, keypoint_confidence: Float[Tensor, "pair hand 21"]) -> HandParameters:
        """Plausible hands near given ones that penetrate, which may still do so."""
        ...


@dataclass
class _Clock:
    """Wall time by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class Pipeline:
    """Photo in, hands out. Stateless between photos."""

    detector: Detector
    regressor: Regressor
    refiner: Refiner | None
    """None: stage 2 is never run."""
    network_hand: HandModel
    """The hand whose parameters stages 1 and 2 speak of."""
    hand_model: HandModel
    """The hand of the results; its `faces` join their vertices."""
    prior_source: str = "encoder"
    """"encoder" or "teacher"."""

    @property
    def finder(self) -> Finder:
        """What makes people's hands of detections."""
        return Finder(self.regressor, self.network_hand)

    @torch.no_grad()
    def reconstruct(
        self,
        photo: Path | str | UInt8[np.ndarray, "height width 3"],
        focal_px: float | None = None,
        fov_deg: float | None = None,
        intrinsics: ArrayLike | None = None,
        refine: bool = True,
    ) -> PhotoResult:
        """Every hand in a photo, the two of a person together, in the photo's camera frame (OpenCV axes, metres).

        `photo` is a path, or an RGB array (uint8). The camera is the caller's (`focal_px`, `fov_deg` over the longer side, or a 3 x 3
        matrix `intrinsics`), else EXIF's, else a default. `refine=False` leaves stage 2 out. UserError if the photo cannot be read or the
        camera contradicts itself; an image without hands is no error: `people` is then empty."""
        clock = _Clock()
        with clock.stage("read"):
            read: Photo = as_photo(photo) if isinstance(photo, np.ndarray) else read_photo(photo)
            height, width = read.image.shape[:2]
            camera, source = choose_camera(width, height, focal_px, fov_deg, intrinsics, read.focal_px_exif)
        with clock.stage("detect"):
            detection = self.detector(read.image)
        result = self.from_detection(read.image, camera, detection, source, refine)
        seconds = clock.seconds | result.seconds
        return replace(result, seconds=seconds | {"total": clock.seconds["read"] + clock.seconds["detect"] + result.seconds["total"]})

    @torch.no_grad()
    def from_detection(
        self,
        image: UInt8[np.ndarray, "height width 3"],
        camera: Camera,
        detection: Detection,
        camera_source: str = "caller",
        refine: bool = True,
        certain: bool = False,
    ) -> PhotoResult:
        """The same from hands that were found already, by another detector or in the frame before; `image` is upright RGB. `certain`: somebody
        knows that these hands are there and which side each has, as in an annotation; all of them are then returned."""
        clock = _Clock()
        with clock.stage("stage 1"):
            find = self.finder.certain_candidates if certain else self.finder.candidates
            candidates = find(image, camera, detection)
        people = self._stage_2(candidates, camera, camera_source, clock, refine) if candidates else ()
        seconds = clock.seconds | {"total": sum(clock.seconds.values())}
        return PhotoResult(people, image.shape[1], image.shape[0], seconds, self.prior_source, image)

    def _stage_2(self, candidates: list[Candidate], camera: Camera, source: str, clock: _Clock, refine: bool) -> tuple[TwoHands, ...]:
        """Refines the pairs that penetrate, measures them, and writes the records."""
        parameters = [c.hands.parameters for c in candidates]
        given = list(parameters)
        with clock.stage("mesh"):
            candidates = self.finder.measured(candidates, camera)
            before = [c.shared_cm3 or 0.0 for c in candidates]
        after, refined = list(before), [False] * len(candidates)
        penetrating = [i for i, volume in enumerate(before) if volume > 0]
        if refine and self.refiner is not None and penetrating:
            with clock.stage("stage 2"):
                confidence = torch.stack([candidates[i].hands.keypoint_confidence for i in penetrating])
                answer = self.refiner.refine(self.network_hand, stack([parameters[i] for i in penetrating]), confidence)
                cleaner = [answer.parameters[k].to("cpu") for k in range(len(penetrating))]
                volumes = volumes_cm3(self.network_hand, cleaner, [candidates[i] for i in penetrating], camera)
                for k, i in enumerate(penetrating):
                    if bool(answer.refined[k]) and volumes[k] < before[i]:
                        parameters[i], after[i], refined[i] = cleaner[k], volumes[k], True
        with clock.stage("mesh"):
            if self.hand_model is not self.network_hand:
                present = [c.present for c in candidates]
                parameters = [transfer_hands(p, self.network_hand, self.hand_model, on) for p, on in zip(parameters, present, strict=True)]
                moved = zip(given, present, refined, strict=True)
                given = [transfer_hands(p, self.network_hand, self.hand_model, on) if yes else p for p, on, yes in moved]
                after = volumes_cm3(self.hand_model, parameters, candidates, camera)
            mesh = self.hand_model.pose_hands(stack(parameters)).mesh()
        people = []
        for i, candidate in enumerate(candidates):
            keypoints_xy = camera.project(mesh.keypoints_m[i])
            hands = TwoHands(
                hand_present=candidate.present,
                score=candidate.score,
                parameters=parameters[i],
                vertices_m=mesh.vertices_m[i],
                keypoints_m=mesh.keypoints_m[i],
                keypoints_xy=keypoints_xy,
                keypoint_confidence=confidence_of_distance(candidate.hands.keypoint_confidence),
                box_xyxy_px=keypoint_box(keypoints_xy),
                camera=camera,
                camera_source=source,
                penetration_cm3=after[i],
                penetration_before_cm3=before[i],
                refined=refined[i],
                person=i,
                parameters_before=given[i] if refined[i] else None,
            )
            people.append(_blank_absent(hands))
        return tuple(people)


def load(
    device: str = "cpu",
    prior: PriorChoice = "auto",
    mano: Path | str | None = None,
    engine: EngineChoice = "auto",
    threads: int | None = None,
    align: bool = True,
) -> Pipeline:
    """The pipeline with the weights that ship with the package.

    `prior`: where the 2D prior of stage 1 comes from. "encoder" is the fusion alignment encoder, "teacher" the light teacher (UserError
    if it is not installed), "auto" what is better on real photos: the encoder, which began with the teacher's own numbers. `mano`: folder
    with MANO_LEFT.pkl and MANO_RIGHT.pkl; the hands are then given as MANO parameters and meshes.

    `engine`: what runs the networks on a processor. "torch" is the reference, "openvino" converts them at their first call, "auto" once they have
    been called so often that this pays, where OpenVINO is installed. `threads`: how many PyTorch computes with, in the whole process; by default
    one, unless OMP_NUM_THREADS or OMP_WAIT_POLICY speak (`engines/threads.py` says why).

    `align`: pull the hands' joints to the 2D joints that the network sees in the photo, inside joint limits; without it the hands are what the
    network's parameters say, put where they fit best."""
    from twohands.detector import Detector as HandDetector
    from twohands.engines.openvino import EngineConfig, accelerate, openvino_installed
    from twohands.engines.threads import settle_threads
    from twohands.priors.mediapipe import LandmarkTeacher
    from twohands.refine.refiner import Refiner as Stage2
    from twohands.regress.infer import PlacementConfig, Stage1

    if engine == "openvino" and not (openvino_installed() and device == "cpu"):
        raise UserError(
            f"OpenVINO cannot run the networks on {device} here; run pip install 'twohands[fast]', or choose the engine auto or torch"
        )
    # What is wrong with the caller's own files is said before seconds are spent on loading ours.
    bundled = load_bundled_hand()
    hand_model = bundled if mano is None else load_mano(mano)
    teacher = LandmarkTeacher.load() if prior == "teacher" else None
    detector = HandDetector.load(device=device)
    placement = PlacementConfig() if align else PlacementConfig(iterations=0)
    regressor = Stage1.load(bundled, load_hand_asset().limits, teacher=teacher, device=device, placement=placement)
    refiner = Stage2.load(device=device)
    if device == "cpu":
        settle_threads(threads)
        if engine != "torch" and openvino_installed():
            config = EngineConfig() if engine == "auto" else EngineConfig(calls_before_conversion=1, calls_before_loading=1)
            for network in (detector.network, regressor.network, refiner.denoiser):
                accelerate(network, config)
    return Pipeline(
        detector=detector,
        regressor=regressor,
        refiner=refiner,
        network_hand=bundled,
        hand_model=hand_model,
        prior_source="encoder" if teacher is None else "teacher",
    )


def _blank_absent(hands: TwoHands) -> TwoHands:
    """Zeros in the place of an absent hand: no number there is to be believed."""

    def blank(t: Tensor) -> Tensor:
        return torch.where(hands.hand_present.view(2, *[1] * (t.ndim - 1)), t, torch.zeros((), dtype=t.dtype))

    return replace(
        hands,
        score=blank(hands.score),
        parameters=hands.parameters.map(blank),
        vertices_m=blank(hands.vertices_m),
        keypoints_m=blank(hands.keypoints_m),
        keypoints_xy=blank(hands.keypoints_xy),
        keypoint_confidence=blank(hands.keypoint_confidence),
        box_xyxy_px=blank(hands.box_xyxy_px),
    )
