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

from twohands.collision.volume import hands_shared_volume_cm3
from twohands.errors import UserError
from twohands.geometry.camera import Camera
from twohands.geometry.photo import Photo, as_photo, choose_camera, read_photo
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.mano import load_mano
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.hands.transfer import transfer_hands
from twohands.people import (
    DUPLICATE_DISTANCE,
    EXCHANGED_BETTER,
    LOOK_AGAIN,
    PRESENCE_LIMIT,
    READ_BETTER,
    READ_WELL,
    SIDE_LEAST,
    Candidate,
    Sides,
    badly_read,
    boxes_in_one_place,
    completes,
    followed,
    guessed_pair,
    hand_pair,
    in_one_place,
    keypoint_box,
    keypoint_distance,
    known,
    legible,
    log_odds,
    lone_pairs,
    moved_to,
    side_log_odds,
    sides_of_people,
    surer_alone,
    taken_twice,
    turned,
    without_duplicates,
    without_unsure,
)
from twohands.record import stack
from twohands.regress.confidence import confidence_of_distance
from twohands.schema import Detection, HandPair, PhotoResult, Stage1Hands, TwoHands

PriorChoice = Literal["auto", "encoder", "teacher"]
EngineChoice = Literal["auto", "openvino", "torch"]


class Detector(Protocol):
    """Finds hands in a photo of any size."""

    def __call__(self, image: UInt8[np.ndarray, "height width 3"]) -> Detection: ...


class Regressor(Protocol):
    """Stage 1."""

    def infer(
        self, image: UInt8[Tensor, "3 height width"], camera: Camera, pairs: list[HandPair], seen: list[Stage1Hands] | None = None,
        looks: int | None = None,
    ) -> list[Stage1Hands]:  # fmt: skip
        """The hands of each pair in the camera frame, from an RGB image. `looks`: 1 where a quick answer is enough; `seen`: such an answer about
        these pairs, to go on from."""
        ...


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
            candidates = self.certain_candidates(image, camera, detection) if certain else self.candidates(image, camera, detection)
        people = self._stage_2(candidates, camera, camera_source, clock, refine) if candidates else ()
        seconds = clock.seconds | {"total": sum(clock.seconds.values())}
        return PhotoResult(people, image.shape[1], image.shape[0], seconds, self.prior_source, image)

    @torch.no_grad()
    def candidates(self, image: UInt8[np.ndarray, "height width 3"], camera: Camera, detection: Detection) -> list[Candidate]:
        """What stage 1 makes of the detections, surest person first: hands that it finds too, each once, with their sides settled."""
        detection = detection.to("cpu")
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        detection, glanced = self._glanced(pixels, camera, detection)
        kept = self._looked_at(pixels, camera, detection, glanced)
        kept = self._contested(pixels, camera, detection, kept)
        kept = self._parted(pixels, camera, self._completed(pixels, camera, kept))
        return sorted(without_unsure(kept), key=lambda c: -float(c.score.max()))

    @torch.no_grad()
    def certain_candidates(self, image: UInt8[np.ndarray, "height width 3"], camera: Camera, detection: Detection) -> list[Candidate]:
        """What stage 1 makes of hands whose presence and sides are known."""
        detection = detection.to("cpu")
        people = sides_of_people(detection)
        if not people:
            return []
        found = self._infer(torch.from_numpy(image).permute(2, 0, 1), camera, detection, people)
        there = [torch.tensor([i is not None for i in c.sides]) for c in found]
        sure = [replace(c, present=on, score=torch.where(on, c.hands.presence, 0.0)) for c, on in zip(found, there, strict=True)]
        return sorted(sure, key=lambda c: -float(c.score.max()))

    def _glanced(self, pixels: Tensor, camera: Camera, detection: Detection) -> tuple[Detection, list[Candidate]]:
        """What one look of stage 1 makes of the detections: whose hands they may be, each once, as they are read best; and the detections, pointing
        to where that is."""
        people = sides_of_people(detection)
        if not people:
            return detection, []
        first = self._infer(pixels, camera, detection, people, looks=1)
        directions = self._directions(pixels, camera, detection, badly_read(first))
        if directions:
            direction = detection.direction.clone()
            direction[list(directions)] = torch.stack(list(directions.values()))
            detection = replace(detection, direction=direction)
            moved = [i for i, sides in enumerate(people) if not directions.keys().isdisjoint(sides)]
            for i, candidate in zip(moved, self._infer(pixels, camera, detection, [people[i] for i in moved], looks=1), strict=True):
                first[i] = candidate
        glanced = self._one_by_one(pixels, camera, detection, self._exchanged(pixels, camera, detection, first))
        return detection, without_duplicates([c for c in glanced if c.present.any()])

    def _exchanged(self, pixels: Tensor, camera: Camera, detection: Detection, glanced: list[Candidate]) -> list[Candidate]:
        """The same people, left and right exchanged where detector and stage 1 together find that more likely, or where a pair that was read badly is
        read better so: asked for a right and a left hand where a left and a right one clasp, stage 1 finds both, doubts neither side, and hardly
        knows where their keypoints are."""
        badly = set(badly_read(glanced))
        doubted = [i for i, c in enumerate(glanced) if c.side_support < 0 or (None not in c.sides and not badly.isdisjoint(c.sides))]
        swapped = self._infer(pixels, camera, detection, [glanced[i].sides[::-1] for i in doubted], looks=1)
        kept = list(glanced)
        for i, other in zip(doubted, swapped, strict=True):
            likelier = glanced[i].side_support < min(0.0, other.side_support)
            if likelier or float(legible(other.hands).sum()) > EXCHANGED_BETTER * float(legible(glanced[i].hands).sum()):
                kept[i] = other
        return kept

    def _one_by_one(self, pixels: Tensor, camera: Camera, detection: Detection, glanced: list[Candidate]) -> list[Candidate]:
        """The same people; of two hands in one place both of which stage 1 denies when it is asked for both, the one that it finds when it is asked
        for one."""
        denied = [i for i, c in enumerate(glanced) if not c.present.any() and boxes_in_one_place(hand_pair(detection, c.sides))]
        singles: list[Sides] = [sides for i in denied for sides in ((glanced[i].sides[0], None), (None, glanced[i].sides[1]))]
        answers = iter(self._infer(pixels, camera, detection, singles, looks=1))
        kept = list(glanced)
        for i, left, right in zip(denied, answers, answers, strict=True):
            kept[i] = max(left, right, key=lambda c: float((legible(c.hands) * c.present).sum()))
        return kept

    def _directions(self, pixels: Tensor, camera: Camera, detection: Detection, badly: dict[int, float]) -> dict[int, Float[Tensor, "2"]]:
        """Where these detections, whose hands were read so badly, point instead: to where a hand of either side is read much better. In clasped
        hands one detection in seven is off by more than 60 degrees, and stage 1 has learnt hands that are upright within that."""
        asked = [(row, *turned(detection, row, quarters)) for row in badly for quarters in (1, 2, 3)]
        if not asked:
            return {}
        answers = self.regressor.infer(pixels, camera, [pair for _, pair, _ in asked], looks=1)
        best = {row: max(READ_BETTER * worth, READ_WELL) for row, worth in badly.items()}
        found = {}
        for (row, _, direction), answer in zip(asked, answers, strict=True):
            worth = float(legible(answer.to("cpu")).max())
            if worth > best[row]:
                best[row], found[row] = worth, direction
        return found

    def _looked_at(self, pixels: Tensor, camera: Camera, detection: Detection, glanced: list[Candidate]) -> list[Candidate]:
        """Hands that a glance has found, looked at well: with whom they belong. The detector pairs by sides that it only guesses, often a hand with
        its own second box; left and right hands that are left alone are looked at together, and stay apart if stage 1 then finds other hands."""
        pairs = self._together(pixels, camera, detection, glanced, lone_pairs(glanced))
        joined = {k for i, j, _ in pairs for k in (i, j)}
        whole = [c for k, c in enumerate(glanced) if k not in joined and c.as_asked]
        halved = [c for k, c in enumerate(glanced) if k not in joined and not c.as_asked]
        looked = self._infer(pixels, camera, detection, [c.sides for c in whole], seen=[c.hands for c in whole])
        looked += [pair for _, _, pair in pairs]
        alone = [c.sides_present for c in halved]
        looked += self._infer(pixels, camera, followed(detection, glanced), alone)
        return without_duplicates([c for c in looked if c.present.any()])

    def _together(
        self, pixels: Tensor, camera: Camera, detection: Detection, candidates: list[Candidate], pairs: list[tuple[int, int]]
    ) -> list[tuple[int, int, Candidate]]:
        """Left and right hands that are alone (`lone_pairs`), looked at together: (who has the left one, who has the right one, both) where stage 1
        finds the same hands again."""
        sides: list[Sides] = [(candidates[i].sides[0], candidates[j].sides[1]) for i, j in pairs]
        found = self._infer(pixels, camera, followed(detection, candidates), sides)
        same = []
        for (i, j), pair in zip(pairs, found, strict=True):
            moved = [keypoint_distance(pair.keypoints_xy[hand], candidates[k].keypoints_xy[hand]) for hand, k in enumerate((i, j))]
            if bool(pair.present.all()) and max(moved) < DUPLICATE_DISTANCE:
                same.append((i, j, pair))
        return same

    def _contested(self, pixels: Tensor, camera: Camera, detection: Detection, candidates: list[Candidate]) -> list[Candidate]:
        """Hands beside which stage 1 may have made up another one, since the detector gave their place to hands of both sides. The true other one is
        somebody else's surer hand, or where the surer hand sees it: taken is what stage 1 then knows better."""
        surer = {i: alone for i, c in enumerate(candidates) if (alone := surer_alone(c)) is not None}
        if not surer:
            return candidates
        kept: dict[int, Candidate] = dict(enumerate(candidates))
        mixed = [surer.get(k, c) for k, c in kept.items()]
        crossed = [(i, j) for i, j in lone_pairs(mixed) if i in surer or j in surer]
        for i, j, pair in self._together(pixels, camera, detection, mixed, crossed):
            kept[i] = pair
            del kept[j]
        for i, alone in surer.items():
            guess = guessed_pair(alone) if kept.get(i) is candidates[i] else None
            if guess is not None:
                others = [c.keypoints_xy[h] for k, c in kept.items() if k != i for h in (0, 1) if c.present[h]]
                other = self._with_guess(pixels, camera, alone, guess, others)
                if other is not None and known(other).sum() > known(candidates[i]).sum():
                    kept[i] = other
        return list(kept.values())

    def _completed(self, pixels: Tensor, camera: Camera, candidates: list[Candidate]) -> list[Candidate]:
        """Hands that are alone but see the person's other hand beside or behind them get it: the detector gives clasped hands one place. Stage 1
        looks at the two together, and must then find this hand where it was and another one of the other side somewhere else."""
        asked = [(i, guess) for i, c in enumerate(candidates) if (guess := guessed_pair(c)) is not None]
        if not asked:
            return candidates
        kept = list(candidates)
        for i, guess in asked:
            others = [c.keypoints_xy[h] for k, c in enumerate(kept) if k != i for h in (0, 1) if c.present[h]]
            kept[i] = self._with_guess(pixels, camera, candidates[i], guess, others) or candidates[i]
        return kept

    def _with_guess(
        self, pixels: Tensor, camera: Camera, alone: Candidate, guess: Detection, others: list[Float[Tensor, "21 2"]]
    ) -> Candidate | None:
        """A lone hand with the other one that it sees, if stage 1 finds this in one of three places."""
        (pair,) = self._infer(pixels, camera, guess, [(0, 1)], guessed=True)
        if completes(alone, pair, others):
            return pair
        if float(pair.hands.presence.min()) >= LOOK_AGAIN:
            # A guess may be beside the hand, which then is half out of its crop: look where stage 1 has put it.
            (pair,) = self._infer(pixels, camera, moved_to(guess, pair.keypoints_xy), [(0, 1)], guessed=True)
            if completes(alone, pair, others):
                return pair
        # A second look follows what the first one has read: of a hidden hand that may have been the other one.
        (pair,) = self._infer(pixels, camera, guess, [(0, 1)], guessed=True, looks=1)
        return pair if completes(alone, pair, others) else None

    def _measured(self, candidates: list[Candidate], camera: Camera) -> list[Candidate]:
        """Candidates whose shared volume is known."""
        unknown = [c for c in candidates if c.shared_cm3 is None]
        volumes = iter(_volumes_cm3(self.network_hand, [c.hands.parameters for c in unknown], unknown, camera))
        return [replace(c, shared_cm3=next(volumes)) if c.shared_cm3 is None else c for c in candidates]

    def _parted(self, pixels: Tensor, camera: Camera, candidates: list[Candidate]) -> list[Candidate]:
        """Of two hands in one place the likelier, which stage 1 looks at again by itself: the other one has pulled it about."""
        kept = []
        for candidate in self._measured(candidates, camera):
            if not in_one_place(candidate):
                kept.append(candidate)
                continue
            left, right = candidate.sides
            answers = self._infer(pixels, camera, candidate.detection, [(left, None), (None, right)])
            best = max(answers, key=lambda c: float((c.score * c.hands.side_correct * c.hands.keypoint_confidence.mean(-1)).max()))
            kept += [best] if bool(best.present.any()) else []
        return kept

    def _infer(
        self, pixels: Tensor, camera: Camera, detection: Detection, people: list[Sides], guessed: bool = False,
        seen: list[Stage1Hands] | None = None, looks: int | None = None,
    ) -> list[Candidate]:  # fmt: skip
        """What stage 1 says of people's hands, in one look or in all. A detector's box in the place of another is often of the same hand; guesses the
        caller judges."""
        if not people:
            return []
        pairs = [hand_pair(detection, sides) for sides in people]
        answers = self.regressor.infer(pixels, camera, pairs, seen, looks)
        candidates = []
        for sides, pair, answer in zip(people, pairs, answers, strict=True):
            hands = answer.to("cpu")
            chosen = [i for i in sides if i is not None]
            found = torch.zeros(2)
            found[pair.present] = detection.score[chosen]
            odds = [side_log_odds(detection, index, hand) for hand, index in enumerate(sides) if index is not None]
            odds += [log_odds(float(p)) for p in hands.side_correct[pair.present]]
            present = pair.present & (hands.presence >= PRESENCE_LIMIT) & (hands.side_correct >= SIDE_LEAST)
            if not guessed:
                present &= ~taken_twice(pair, hands)
            score = torch.where(present, found * hands.presence, 0.0)
            candidates.append(Candidate(detection, sides, present, score, sum(odds), hands, camera.project(hands.keypoints_m)))
        return candidates

    def _stage_2(self, candidates: list[Candidate], camera: Camera, source: str, clock: _Clock, refine: bool) -> tuple[TwoHands, ...]:
        """Refines the pairs that penetrate, measures them, and writes the records."""
        parameters = [c.hands.parameters for c in candidates]
        given = list(parameters)
        with clock.stage("mesh"):
            candidates = self._measured(candidates, camera)
            before = [c.shared_cm3 or 0.0 for c in candidates]
        after, refined = list(before), [False] * len(candidates)
        penetrating = [i for i, volume in enumerate(before) if volume > 0]
        if refine and self.refiner is not None and penetrating:
            with clock.stage("stage 2"):
                confidence = torch.stack([candidates[i].hands.keypoint_confidence for i in penetrating])
                answer = self.refiner.refine(self.network_hand, stack([parameters[i] for i in penetrating]), confidence)
                cleaner = [answer.parameters[k].to("cpu") for k in range(len(penetrating))]
                volumes = _volumes_cm3(self.network_hand, cleaner, [candidates[i] for i in penetrating], camera)
                for k, i in enumerate(penetrating):
                    if bool(answer.refined[k]) and volumes[k] < before[i]:
                        parameters[i], after[i], refined[i] = cleaner[k], volumes[k], True
        with clock.stage("mesh"):
            if self.hand_model is not self.network_hand:
                present = [c.present for c in candidates]
                parameters = [transfer_hands(p, self.network_hand, self.hand_model, on) for p, on in zip(parameters, present, strict=True)]
                moved = zip(given, present, refined, strict=True)
                given = [transfer_hands(p, self.network_hand, self.hand_model, on) if yes else p for p, on, yes in moved]
                after = _volumes_cm3(self.hand_model, parameters, candidates, camera)
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


def _volumes_cm3(model: HandModel, parameters: list[HandParameters], candidates: list[Candidate], camera: Camera) -> list[float]:
    """Exact shared volume of every pair, 0 for a single hand. The paper's gate comes first: hands whose boxes are apart in the image share
    nothing."""
    volumes = []
    for hands, candidate in zip(parameters, candidates, strict=True):
        volumes.append(0.0)
        if bool(candidate.present.all()):
            vertices_m = model.pose_hands(hands).mesh().vertices_m
            left, right = keypoint_box(camera.project(vertices_m))
            if bool((torch.minimum(left[2:], right[2:]) > torch.maximum(left[:2], right[:2])).all()):
                volumes[-1] = float(hands_shared_volume_cm3(model.closed_vertices(vertices_m), model.closed_faces()))
    return volumes


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
