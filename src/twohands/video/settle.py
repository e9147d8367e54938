"""From readings, frame by frame, to one motion: a shape for every person, hands that fit it, no trembling, no gaps, no leap where stage 2
begins."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from twohands.collision.crossing import crossing_volume_cm3
from twohands.engines.threads import cores
from twohands.geometry.camera import Camera
from twohands.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from twohands.hands.fitting import FitConfig, KeypointObservation, fit_hands
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.hands.transfer import transfer_hands
from twohands.joints import MIDDLE_MCP
from twohands.pipeline import Pipeline, Refiner
from twohands.record import Record
from twohands.regress.confidence import error_of_confidence
from twohands.schema import HAND_ABSENT, HAND_FILLED, HAND_SEEN, HandMotion
from twohands.video.hand import Reading
from twohands.video.smooth import HandSeries, SmoothConfig, group_noise, smooth_hands, stretches


@dataclass(frozen=True)
class SettleConfig:
    """What is shared over time, and how stage 2 is spread over it."""

    smooth: SmoothConfig = field(default_factory=SmoothConfig)
    shortest_s: float = 0.12
    """A hand that shows for less is taken for a mistake, unless the video is no longer itself."""
    ramp_s: float = 0.13
    """What stage 2 moves fades in and out over this time before and after the frames that need it."""
    refine_rounds: int = 8
    """After fading, hands may still cross: they are freed again from where they are, at most so often."""
    batch: int = 32


@dataclass(frozen=True)
class Readings(Record):
    """All readings of a video on one time axis. Axes frame, person, hand; what was not seen is zero."""

    time_s: Float[Tensor, "frame"]
    seen: Bool[Tensor, "frame person hand"]
    score: Float[Tensor, "frame person hand"]
    parameters: HandParameters
    keypoint_confidence: Float[Tensor, "frame person hand 21"]
    person: tuple[int, ...]

    @staticmethod
    def of(times_s: list[float], frames: list[list[Reading]]) -> "Readings":
        """Persons in the order in which they came."""
        numbers = list(dict.fromkeys(reading.person for frame in frames for reading in frame))
        size = (len(frames), len(numbers))
        all_ = Readings(
            torch.tensor(times_s, dtype=torch.float64),
            torch.zeros(*size, 2, dtype=torch.bool),
            torch.zeros(*size, 2),
            HandParameters.zeros(*size),
            torch.zeros(*size, 2, 21),
            tuple(numbers),
        )
        for t, frame in enumerate(frames):
            for reading in frame:
                n = numbers.index(reading.person)
                all_.seen[t, n], all_.score[t, n] = reading.seen, reading.score
                all_.keypoint_confidence[t, n] = torch.where(reading.seen[:, None], reading.keypoint_confidence, 0.0)
                for whole, part in _fields(all_.parameters, reading.parameters):
                    whole[t, n] = torch.where(reading.seen.view(2, *[1] * (part.ndim - 1)), part, torch.zeros_like(part))
        return all_

    def only(self, kept: Bool[Tensor, "person"]) -> "Readings":
        """These persons alone."""
        return Readings(
            self.time_s,
            self.seen[:, kept],
            self.score[:, kept],
            self.parameters[:, kept],
            self.keypoint_confidence[:, kept],
            tuple(number for number, keep in zip(self.person, kept.tolist(), strict=True) if keep),
        )


@torch.no_grad()
def settle(
    readings: Readings,
    pipeline: Pipeline,
    camera: Camera,
    camera_source: str,
    width_px: int,
    height_px: int,
    refine: bool = True,
    config: SettleConfig = SettleConfig(),
    shape: Float[Tensor, "person 10"] | None = None,
) -> HandMotion:
    """The motion of everyone, from all readings together. `shape` is that of each person if it is known already."""
    readings = without_flickers(readings, config.shortest_s)
    kept = readings.seen.any(0).any(-1)
    readings = readings.only(kept)
    model = pipeline.network_hand
    shared = shared_shape(readings) if shape is None else shape[kept]
    parameters = refit(readings, shared, model, config.batch)
    if refine and pipeline.refiner is not None:
        parameters = guessed(readings, parameters, pipeline.refiner, model, config.batch)
    parameters, state = smoothed(readings, parameters, model, config.smooth)
    paired = (state != HAND_ABSENT).all(-1)
    confidence = _filled_confidence(readings, state)
    before = volumes_cm3(parameters, paired, model, camera)
    after, refined = before, torch.zeros_like(paired)
    if refine and pipeline.refiner is not None:
        parameters, after, refined = refined_over_time(
            readings.time_s, parameters, paired, confidence, before, pipeline.refiner.projector, model, camera, config
        )
    if pipeline.hand_model is not model:
        parameters = in_other_model(parameters, state != HAND_ABSENT, model, pipeline.hand_model, config.batch)
        after = volumes_cm3(parameters, paired, pipeline.hand_model, camera)
    present = state != HAND_ABSENT
    keypoints = in_batches(parameters, lambda p: pipeline.hand_model.pose_hands(p).keypoints(), config.batch)
    score = torch.where(state == HAND_SEEN, readings.score, torch.where(state == HAND_FILLED, 0.5 * _held(readings.score), 0.0))
    return HandMotion(
        time_s=readings.time_s,
        hand_state=state,
        score=score,
        parameters=parameters.map(lambda t: torch.where(_wide(present, t), t, torch.zeros_like(t))),
        keypoints_m=torch.where(_wide(present, keypoints), keypoints, 0.0),
        keypoint_confidence=confidence,
        penetration_cm3=after,
        penetration_before_cm3=before,
        refined=refined,
        person=readings.person,
        camera=camera,
        camera_source=camera_source,
        prior_source=pipeline.prior_source,
        hand_model=pipeline.hand_model.name,
        width_px=width_px,
        height_px=height_px,
    )


def without_flickers(readings: Readings, shortest_s: float) -> Readings:
    """Without hands that show up for an instant only."""
    seen = readings.seen.clone()
    time_s = readings.time_s.numpy()
    if len(time_s) > 1 and time_s[-1] - time_s[0] > 3 * shortest_s:
        step_s = float(np.median(np.diff(time_s)))
        for n in range(seen.shape[1]):
            for side in (0, 1):
                total_s = float(seen[:, n, side].sum()) * step_s
                if total_s < shortest_s:
                    seen[:, n, side] = False
    return replace(readings, seen=seen)


def shared_shape(readings: Readings) -> Float[Tensor, "person 10"]:
    """Each person's shape, the same for both hands: the median over all readings, surer ones counting more."""
    shapes = []
    for n in range(readings.seen.shape[1]):
        seen = readings.seen[:, n]
        values = readings.parameters.shape[:, n][seen]
        weight = (readings.score[:, n] * readings.keypoint_confidence[:, n].mean(-1))[seen] + 1e-6
        order = values.argsort(0)
        passed = weight[order].cumsum(0) / weight.sum()
        middle = (passed < 0.5).sum(0).clamp(max=len(values) - 1)
        shapes.append(values.gather(0, order)[middle, torch.arange(10)])
    return torch.stack(shapes) if shapes else torch.zeros(0, 10)


def refit(readings: Readings, shape: Float[Tensor, "person 10"], model: HandModel, batch: int) -> HandParameters:
    """The readings with their persons' shape: pose and place that keep the keypoints where they were read in the picture."""
    parameters, seen = readings.parameters, readings.seen
    frame, person = seen.any(-1).nonzero(as_tuple=True)
    if not len(frame):
        return parameters
    rows = parameters[frame, person]
    there = seen[frame, person]
    confidence = readings.keypoint_confidence[frame, person]
    fitted = []
    for k in range(0, len(frame), batch):
        part = slice(k, k + batch)
        fitted.append(_held_to_shape(rows[part], there[part], confidence[part], shape[person[part]], model))
    fixed = parameters.map(torch.clone)
    for which, (whole, _) in enumerate(_fields(fixed, fixed)):
        whole[frame, person] = torch.cat([_fields(f, f)[which][0] for f in fitted])
    return fixed


def _held_to_shape(
    rows: HandParameters, there: Bool[Tensor, "row hand"], confidence: Tensor, shape: Float[Tensor, "row 10"], model: HandModel
) -> HandParameters:
    posed = model.pose_hands(rows)
    keypoints = posed.keypoints()
    # An absent hand is fitted to nothing; it only must not divide by zero.
    keypoints = torch.where(there[..., None, None], keypoints, keypoints.new_tensor([0.0, 0.0, 1.0]))
    target = shape[:, None].expand(-1, 2, -1)
    wrist = keypoints[:, :, 0]
    rest = model.with_shape(target).joints_rest_m[:, :, 0]
    # A larger hand that looks as large is farther away, in the same direction.
    size = _palm_m(model, target) / _palm_m(model, rows.shape)
    start = HandParameters(rows.pose, target, posed.joints_m[:, :, 0] * size[..., None] - rest)
    palm = (keypoints[:, :, MIDDLE_MCP] - wrist).norm(dim=-1).clamp_min(0.01)
    z = keypoints[..., 2].clamp_min(0.05)
    sure = (confidence.clamp(0.1, 1) * there[..., None]).float()
    seen = KeypointObservation(
        ray_xy=keypoints[..., :2] / z[..., None],
        ray_weight=sure * z / 0.002,
        depth=(keypoints[..., 2] - wrist[..., 2:]) / palm[..., None],
        depth_weight=sure * palm[..., None] / 0.006,
    )
    config = FitConfig(orientation_rad=0.2, pose_rad=0.2, shape=1e-3, depth_share=0.3, iterations=4)
    return fit_hands(model, start, seen, config)


def guessed(readings: Readings, parameters: HandParameters, refiner: Refiner, model: HandModel, batch: int) -> HandParameters:
    """The readings, pairs that cross as stage 2 guesses them from this frame alone. Before they are filtered: where it guesses wrong in one frame, the
    others outvote it, and what is filtered needs to be parted no farther than it takes."""
    frame, person = readings.seen.all(-1).nonzero(as_tuple=True)
    found = parameters.map(torch.clone)
    for k in range(0, len(frame), batch):
        rows = frame[k : k + batch], person[k : k + batch]
        guess = refiner.guess(model, parameters[rows], readings.keypoint_confidence[rows])
        # The shape is the person's.
        found.pose[rows], found.translation_m[rows] = guess.pose, guess.translation_m
    return found


def smoothed(readings: Readings, parameters: HandParameters, model: HandModel, config: SmoothConfig) -> tuple[HandParameters, Tensor]:
    """Every hand smoothed over time, and the state of each hand in each frame."""
    state = torch.where(readings.seen, HAND_SEEN, HAND_ABSENT).to(torch.uint8)
    found = parameters.map(torch.clone)
    time_s = readings.time_s.numpy()
    noise = reading_noise(readings)
    for n in range(state.shape[1]):
        rest = model.with_shape(parameters.shape[:, n]).joints_rest_m[:, :, 0]
        sides = readings.seen[:, n].any(0).nonzero()[:, 0].tolist()
        read = [
            HandSeries(
                time_s,
                rotvec_to_matrix(parameters.pose[:, n, side].double()).numpy(),
                (rest[:, side] + parameters.translation_m[:, n, side]).double().numpy(),
                noise[:, n, side],
                readings.seen[:, n, side].numpy(),
            )
            for side in sides
        ]
        for side, calm in zip(sides, smooth_hands(read, config), strict=True):
            # An absent hand's shape is zero; the shape of its neighbours in time is the person's.
            seen = readings.seen[:, n, side]
            known = seen.nonzero()[:, 0]
            nearest = known[(torch.arange(len(seen))[:, None] - known).abs().argmin(1)]
            there = torch.from_numpy(calm.there)
            pose = matrix_to_rotvec(torch.from_numpy(calm.rotation)).float()
            found.pose[:, n, side] = torch.where(there[:, None, None], pose, 0.0)
            found.shape[:, n, side] = torch.where(there[:, None], parameters.shape[nearest, n, side], 0.0)
            place = torch.from_numpy(calm.wrist_m).float() - rest[nearest, side]
            found.translation_m[:, n, side] = torch.where(there[:, None], place, 0.0)
            state[there & ~seen, n, side] = HAND_FILLED
    return found, state


def reading_noise(readings: Readings) -> Float[np.ndarray, "frame person hand 8"]:
    """How noisy each reading is in each of a hand's groups of numbers (`smooth.GROUPS`), as stage 1 has it: what trembles in a reading grows as
    its stated error does, in proportion (docs/VIDEO.md)."""
    return group_noise(error_of_confidence(readings.keypoint_confidence.double()).numpy())


def refined_over_time(
    time_s: Float[Tensor, "frame"],
    parameters: HandParameters,
    paired: Bool[Tensor, "frame person"],
    confidence: Float[Tensor, "frame person hand 21"],
    before_cm3: Float[Tensor, "frame person"],
    refiner: Refiner,
    model: HandModel,
    camera: Camera,
    config: SettleConfig,
) -> tuple[HandParameters, Float[Tensor, "frame person"], Bool[Tensor, "frame person"]]:
    """Stage 2 on the frames that penetrate, with what it moves spread over time: the change fades in before hands meet and out after they
    part, so that nothing leaps. Returns the hands, what they share now, and where they were moved."""
    after, moved = before_cm3, torch.zeros_like(paired)
    for _ in range(config.refine_rounds):
        deep = (after > 0) & paired
        if not deep.any():
            break
        frame, person = deep.nonzero(as_tuple=True)
        rows, sure = parameters[frame, person], confidence[frame, person]
        parts = [slice(k, k + config.batch) for k in range(0, len(frame), config.batch)]
        answers = [refiner.refine(model, rows[part], sure[part]) for part in parts]
        taken = torch.cat([a.refined.cpu() for a in answers])
        cleaner = _joined([a.parameters.to("cpu") for a in answers])
        turn = torch.zeros_like(parameters.pose)
        shift = torch.zeros_like(parameters.translation_m)
        way = matrix_to_rotvec(rotvec_to_matrix(rows.pose).mT @ rotvec_to_matrix(cleaner.pose))
        turn[frame, person] = torch.where(taken[:, None, None, None], way, 0.0)
        shift[frame, person] = torch.where(taken[:, None, None], cleaner.translation_m - rows.translation_m, 0.0)
        asked = torch.zeros_like(paired)
        asked[frame, person] = taken
        if not taken.any():
            break
        weight = torch.stack([_spread(time_s, asked[:, n], paired[:, n], config.ramp_s) for n in range(paired.shape[1])])
        turn = torch.einsum("nft,tnhjc->fnhjc", weight, turn)
        shift = torch.einsum("nft,tnhc->fnhc", weight, shift)
        tried = replace(
            parameters,
            pose=matrix_to_rotvec(rotvec_to_matrix(parameters.pose) @ rotvec_to_matrix(turn)),
            translation_m=parameters.translation_m + shift,
        )
        touched = ((turn.abs().amax((-1, -2, -3)) > 1e-6) | (shift.abs().amax((-1, -2)) > 1e-7)) & paired
        volume = torch.where(touched, volumes_cm3(tried, touched, model, camera), after)
        if float(volume.sum()) >= float(after.sum()):
            break
        parameters, after, moved = tried, volume, moved | touched
    return parameters, after, moved


def _spread(
    time_s: Float[Tensor, "frame"], asked: Bool[Tensor, "frame"], paired: Bool[Tensor, "frame"], ramp_s: float
) -> Float[Tensor, "frame frame"]:
    """Row f: with which weights the changes of all frames make that of frame f. Inside a stretch that needs changes they are averaged over
    time, and around it they fade out like a raised cosine. Nothing crosses a time in which the pair is not there."""
    weight = torch.zeros(len(time_s), len(time_s))
    if not asked.any():
        return weight
    for first, last in stretches(paired.numpy()):
        wanted = asked[first:last]
        if not wanted.any():
            continue
        t = time_s[first:last].float()
        apart = (t[:, None] - t).abs() / ramp_s
        near = torch.where(apart < 1, 0.5 + 0.5 * torch.cos(torch.pi * apart), 0.0) * wanted
        average = near / near.sum(1, keepdim=True).clamp_min(1e-6)
        nearest = apart[:, wanted].amin(1)
        fade = torch.where(nearest < 1, 0.5 + 0.5 * torch.cos(torch.pi * nearest), 0.0)
        weight[first:last, first:last] = average * fade[:, None]
    return weight


def volumes_cm3(
    parameters: HandParameters, paired: Bool[Tensor, "frame person"], model: HandModel, camera: Camera, batch: int = 32
) -> Float[Tensor, "frame person"]:
    """Exact shared volume of every pair that is there; hands whose outlines' boxes are apart in the picture share nothing."""
    volumes = torch.zeros(paired.shape)
    frame, person = paired.nonzero(as_tuple=True)
    for k in range(0, len(frame), batch):
        f, n = frame[k : k + batch], person[k : k + batch]
        vertices = model.pose_hands(parameters[f, n]).mesh().vertices_m
        xy = camera.project(vertices)
        low, high = xy.amin(2), xy.amax(2)
        near = (torch.minimum(high[:, 0], high[:, 1]) > torch.maximum(low[:, 0], low[:, 1])).all(-1)
        if near.any():
            shared = crossing_volume_cm3(model.closed_vertices(vertices[near]), model.closed_faces(), cores())
            volumes[f[near], n[near]] = shared.to(volumes)
    return volumes


def in_other_model(
    parameters: HandParameters, present: Bool[Tensor, "frame person hand"], source: HandModel, target: HandModel, batch: int
) -> HandParameters:
    """The same motion in another hand model: each person's shape is fitted in a few frames, then pose and place in all."""
    found = parameters.map(torch.zeros_like)
    for n in range(present.shape[1]):
        both = present[:, n].sum(-1)
        frames = (both == both.max()).nonzero()[:, 0]
        some = frames[torch.linspace(0, len(frames) - 1, min(5, len(frames))).long()]
        shapes = [transfer_hands(parameters[f, n], source, target, present[f, n]).shape[present[f, n]].mean(0) for f in some.tolist()]
        shape = torch.stack(shapes).median(0).values
        for k in range(0, len(present), batch):
            part = slice(k, k + batch)
            there, rows = present[part, n], parameters[part, n]
            keypoints = source.pose_hands(rows).keypoints()
            fitted = _met_by_keypoints(target, rows.pose, keypoints, there, shape)
            for whole, new in _fields(found, fitted):
                whole[part, n] = new
    return found


def _met_by_keypoints(
    model: HandModel, pose: Tensor, keypoints: Tensor, there: Bool[Tensor, "row hand"], shape: Float[Tensor, "10"]
) -> HandParameters:
    """Hands of this shape whose keypoints meet those given."""
    keypoints = torch.where(there[..., None, None], keypoints, keypoints.new_tensor([0.0, 0.0, 1.0]))
    target = shape.expand(len(pose), 2, -1)
    start = HandParameters(pose, target, keypoints[:, :, 0] - model.with_shape(target).joints_rest_m[:, :, 0])
    z = keypoints[..., 2].clamp_min(0.05)
    palm = (keypoints[:, :, MIDDLE_MCP] - keypoints[:, :, 0]).norm(dim=-1).clamp_min(0.01)
    on = there[..., None].float()
    seen = KeypointObservation(
        ray_xy=keypoints[..., :2] / z[..., None],
        ray_weight=on * z / 0.001,
        depth=(keypoints[..., 2] - keypoints[:, :, :1, 2]) / palm[..., None],
        depth_weight=on * palm[..., None] / 0.001,
    )
    return fit_hands(model, start, seen, FitConfig(orientation_rad=0.5, pose_rad=0.3, shape=1e-3, depth_share=1e-3, iterations=10))


def in_batches(parameters: HandParameters, function, batch: int) -> Tensor:
    """`function` of every frame's parameters, a few frames at a time."""
    parts = [function(parameters[k : k + batch]) for k in range(0, max(1, parameters.shape.shape[0]), batch)]
    return torch.cat(parts)


def _palm_m(model: HandModel, shape: Float[Tensor, "row hand 10"]) -> Float[Tensor, "row hand"]:
    """Wrist to middle knuckle at rest."""
    rest = model.with_shape(shape).joints_rest_m
    return (rest[:, :, 4] - rest[:, :, 0]).norm(dim=-1)


def _filled_confidence(readings: Readings, state: Tensor) -> Float[Tensor, "frame person hand 21"]:
    """Half of what was last known, where a hand was filled in."""
    held = _held(readings.keypoint_confidence)
    known = torch.where((state == HAND_SEEN)[..., None], readings.keypoint_confidence, 0.0)
    return torch.where((state == HAND_FILLED)[..., None], 0.5 * held, known)


def _held(values: Tensor) -> Tensor:
    """Zeros replaced by what was there last."""
    held = values.clone()
    for t in range(1, len(held)):
        held[t] = torch.where(held[t] == 0, held[t - 1], held[t])
    return held


def _wide(present: Bool[Tensor, "frame person hand"], values: Tensor) -> Tensor:
    return present.view(*present.shape, *[1] * (values.ndim - present.ndim))


def _fields(a: HandParameters, b: HandParameters) -> tuple[tuple[Tensor, Tensor], ...]:
    return (a.pose, b.pose), (a.shape, b.shape), (a.translation_m, b.translation_m)


def _joined(parts: list[HandParameters]) -> HandParameters:
    return HandParameters(
        torch.cat([p.pose for p in parts]), torch.cat([p.shape for p in parts]), torch.cat([p.translation_m for p in parts])
    )
