"""Stage 2 for users: hands that pass through one another in, hands that do not out, or the same hands and the honest word that it failed."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from twohands.checkpoints import bundled_weights, load_weights, read_config, to_device
from twohands.collision.proxies import SphereProxies
from twohands.collision.volume import hands_shared_volume_cm3
from twohands.hands.model import HandModel, PosedHands
from twohands.hands.parameters import HandParameters
from twohands.joints import MANO16, OPENPOSE21, OPENPOSE21_PARENTS
from twohands.record import Record
from twohands.refine.denoiser import Condition, Denoiser, DenoiserConfig
from twohands.refine.diffusion import STEPS
from twohands.refine.guidance import Energy, bind, energy_and_gradient, guided, paper_energy, sphere_energy
from twohands.refine.sampler import ddim, seeded_noise, start_noisy, steps_down
from twohands.refine.state import TOKENS, WIDTH, PairFrame, along_view, shape_numbers, unpack

FREE_CM3 = 0.001
"""Exact shared volume up to which hands count as not penetrating."""

_KEYPOINT = tuple(OPENPOSE21.index(name) for name in MANO16)
_CHILD = tuple(OPENPOSE21_PARENTS.index(keypoint) for keypoint in _KEYPOINT)
_PALM = tuple(OPENPOSE21.index(name) for name in ("wrist", "index1", "middle1", "ring1", "pinky1"))


def token_confidence(keypoint_confidence: Float[Tensor, "*batch hand 21"]) -> Float[Tensor, "*batch hand 17"]:
    """How sure stage 1 is of each token of the state: a joint's rotation is as sure as the less sure end of its bone, the wrist's as the
    palm's keypoints on average, the place as all keypoints on average."""
    joints = torch.minimum(keypoint_confidence[..., _KEYPOINT], keypoint_confidence[..., _CHILD])
    wrist = keypoint_confidence[..., _PALM].mean(-1, keepdim=True)
    return torch.cat([wrist, joints[..., 1:], keypoint_confidence.mean(-1, keepdim=True)], -1)


@dataclass(frozen=True)
class RefineConfig:
    """How hands are refined. Chosen by measurement on held-out synthetic pairs."""

    steps: int = 1
    """Denoising steps: one gives the mean of what is plausible, which errs least; more give sharper hands, which penetrate less before the
    projection. 0 leaves the network out, and the projection has to do all."""
    start: float = STEPS
    """Noising step at which sampling begins, with X_c noised that far; 1,000 is pure noise around X_c."""
    temperature: float = 0.0
    """Of the noise that sampling begins with: 0 goes from the middle of what is plausible, 1 draws a plausible pair by `seed`."""
    guidance: float = 0.02
    """Strength of collision guidance; beyond about 0.04 deep overlaps overshoot."""
    energy: str = "spheres"
    """"spheres", or "paper" for the paper's vertex rule."""
    projection_steps: int = 12
    """Steps of each round of the final projection."""
    projection_length: float = 1.5
    """Of a step, relative to Polyak's."""
    depth_ease: float = 1.0
    """How much more readily wrists move in depth than a number of confidence 0 moves at all."""
    margin_m: tuple[float, ...] = (0.0008, 0.0016, 0.003)
    """Kept between the spheres in each round of the projection, as long as the exact test still finds penetration."""
    largest_move_m: float = 0.008
    """Mean move across the viewing direction that is allowed to keypoints that stage 1 is sure of; hands that lie deeper in each other than
    this cannot both be right, and may move by as much as the deepest overlap of their spheres."""
    farthest_move_m: float = 0.05
    """Mean move that is allowed to all keypoints, sure or not."""
    sure: float = 0.6
    """Confidence from which a keypoint counts as sure."""
    seed: int = 0


@dataclass(frozen=True)
class RefineResult(Record):
    """Refined hands, and what was measured. Where `refined` is False the hands are those that came in."""

    parameters: HandParameters
    volume_before_cm3: Float[Tensor, "*batch"]
    volume_after_cm3: Float[Tensor, "*batch"]
    refined: Bool[Tensor, "*batch"]


class Refiner:
    """A trained denoiser with everything around it."""

    def __init__(self, denoiser: Denoiser, config: RefineConfig = RefineConfig()) -> None:
        self.denoiser = denoiser.eval().requires_grad_(False)
        self.config = config
        self._known: tuple[HandModel, HandModel, SphereProxies] | None = None

    @staticmethod
    def load(path: Path | None = None, config: RefineConfig = RefineConfig(), device: str = "cpu") -> "Refiner":
        """From a weights file, by default the one that ships with the package. UserError if it is missing or another network's."""
        path = path or bundled_weights("refiner.safetensors")
        denoiser = Denoiser(read_config(path, DenoiserConfig))
        load_weights(path, denoiser)
        to_device(denoiser, device)
        return Refiner(denoiser, config)

    def prepared(self, model: HandModel) -> tuple[HandModel, SphereProxies]:
        """A hand model and its spheres on the denoiser's device, made once as long as it is the same model."""
        if self._known is None or self._known[0] is not model:
            device = self.denoiser.scale.deviation.device
            here = model if model.data.v_template.device == device else model.to(device)
            self._known = (model, here, SphereProxies.of(here.data))
        return self._known[1:]

    def refine(
        self,
        model: HandModel,
        parameters: HandParameters,
        keypoint_confidence: Float[Tensor, "*batch hand 21"] | None = None,
        camera_frame: bool = True,
    ) -> RefineResult:
        """Hands that share no volume, as near to the given ones as what is sure of them asks for.

        `parameters` in the camera's frame, or with `camera_frame` false in any frame. Without `keypoint_confidence` all joints count as half
        sure. A pair is returned changed only if its exact shared volume has fallen and its sure keypoints have moved, across the viewing
        direction, no more than allowed. ValueError if numbers are not finite or shapes do not fit."""
        batch = parameters.shape.shape[:-2]
        if keypoint_confidence is None:
            keypoint_confidence = torch.full((*batch, 2, 21), 0.5)
        _check(parameters, keypoint_confidence)
        model, proxies = self.prepared(model)
        device = proxies.radius_m.device
        flat = HandParameters(
            parameters.pose.reshape(-1, 2, 16, 3), parameters.shape.reshape(-1, 2, 10), parameters.translation_m.reshape(-1, 2, 3)
        ).map(lambda t: t.to(device, torch.float32, copy=True))
        sure = keypoint_confidence.reshape(-1, 2, 21).clamp(0, 1).to(flat.shape)
        with torch.no_grad():
            before = shared_volumes_cm3(model, flat)
            deep = (before > FREE_CM3).nonzero()[:, 0]
            after, refined = before.clone(), torch.zeros_like(before, dtype=torch.bool)
            if len(deep):
                given, known = flat[deep], sure[deep]
                found, volume, good = self._attempt(model, proxies, given, known, camera_frame, sampled=True)
                # What sampling cannot free, or would move too far, may still be freed from where it is.
                again = (~good | (volume > FREE_CM3)).nonzero()[:, 0]
                if len(again) and self.config.steps:
                    plain, plain_volume, plain_good = self._attempt(model, proxies, given[again], known[again], camera_frame, sampled=False)
                    take = plain_good & (~good[again] | (plain_volume < volume[again]))
                    _assign(found, again[take], plain[take])
                    volume[again[take]], good[again[take]] = plain_volume[take], True
                better = good & (volume < before[deep])
                _assign(flat, deep[better], found[better])
                after[deep[better]], refined[deep[better]] = volume[better], True
        result = HandParameters(*(found.view_as(given).to(given) for found, given in _fields(flat, parameters)))
        return RefineResult(result, before.view(batch).cpu(), after.view(batch).cpu(), refined.view(batch).cpu())

    def _attempt(
        self, model: HandModel, proxies: SphereProxies, parameters: HandParameters, sure: Tensor, camera_frame: bool, sampled: bool
    ) -> tuple[HandParameters, Float[Tensor, "batch"], Bool[Tensor, "batch"]]:
        """Hands that were sampled (or not) and projected, their exact volume, and whether they stay near enough to those given."""
        config, denoiser = self.config, self.denoiser
        frame = PairFrame.of(model, parameters)
        condition = Condition.of(model, proxies, parameters, frame, token_confidence(sure), camera_frame)
        scaled = torch.zeros_like(condition.state)
        if sampled and config.steps:
            energy = self._energy(proxies)
            denoise = guided(bind(denoiser, condition), model, denoiser.scale, condition, frame, energy, config.guidance)
            noise = seeded_noise((2, TOKENS, WIDTH), [config.seed] * len(scaled)).to(scaled)
            noise = config.temperature * noise
            scaled = ddim(denoise, start_noisy(scaled, noise, config.start), steps_down(config.steps, config.start))
        found = unpack(model, denoiser.scale.restore(scaled, condition.state), frame)
        volume = shared_volumes_cm3(model, found)
        for margin_m in config.margin_m:
            left = (volume > FREE_CM3).nonzero()[:, 0]
            if not len(left):
                break
            part, part_frame = condition[left], frame[left]
            # Only of the two hands with each other: a fist's spheres overlap whatever one does, and Polyak's step needs a reachable zero.
            energy = sphere_energy(proxies, margin_m, self_weight=0.0)
            scaled[left] = self._projected(scaled[left], model, part, part_frame, energy)
            again = unpack(model, denoiser.scale.restore(scaled[left], part.state), part_frame)
            _assign(found, left, again)
            volume[left] = shared_volumes_cm3(model, again)
        return found, volume, self._stays(model, proxies, parameters, found, sure, camera_frame)

    def _energy(self, proxies: SphereProxies) -> Energy:
        match self.config.energy:
            case "spheres":
                return sphere_energy(proxies)
            case "paper":
                return paper_energy()
            case other:
                raise ValueError(f"there is no energy {other!r}; choose spheres or paper")

    def _projected(self, scaled: Tensor, model: HandModel, condition: Condition, frame: PairFrame, energy: Energy) -> Tensor:
        """Steps of Polyak's length down an energy whose least value is known to be zero. What is sure moves least, and hands move more readily
        along the viewing direction, where the image does not contradict. Each pair for itself."""
        weight = (1.05 - condition.confidence)[..., None].expand_as(scaled).masked_fill(shape_numbers(), 0.0)
        for _ in range(self.config.projection_steps):
            value, gradient = energy_and_gradient(scaled, model, self.denoiser.scale, condition, frame, energy)
            way = weight * gradient + self.config.depth_ease * along_view(gradient, condition.view)
            slope = (gradient * way).sum((1, 2, 3)).clamp_min(1e-12)
            length = torch.where(value > 0, self.config.projection_length * value / slope, torch.zeros_like(value))
            step = length[:, None, None, None] * way
            # No number may leap by more than a standard error.
            scaled = scaled - step / step.abs().amax((1, 2, 3), keepdim=True).clamp_min(1.0)
        return scaled

    def _stays(
        self,
        model: HandModel,
        proxies: SphereProxies,
        before: HandParameters,
        after: HandParameters,
        sure: Tensor,
        camera_frame: bool,
    ) -> Bool[Tensor, "batch"]:
        """Whether the keypoints that stage 1 is sure of stay where the image shows them, and none of the hands goes astray."""
        hands = model.pose_hands(before)
        here, there = hands.keypoints(), model.pose_hands(after).keypoints()
        move = there - here
        near = move.norm(dim=-1).mean((1, 2)) <= self.config.farthest_move_m
        if camera_frame:
            ray = torch.nn.functional.normalize(here, dim=-1)
            move = move - (move * ray).sum(-1, keepdim=True) * ray
        counts = (sure >= self.config.sure).to(move)
        mean_m = (move.norm(dim=-1) * counts).sum((1, 2)) / counts.sum((1, 2)).clamp_min(1)
        allowed_m = _deepest_overlap_m(proxies, hands, before.shape).clamp_min(self.config.largest_move_m)
        return near & (mean_m <= allowed_m)


def _deepest_overlap_m(proxies: SphereProxies, hands: PosedHands, shape: Tensor) -> Float[Tensor, "batch"]:
    """By how much the two most overlapping spheres of the two hands overlap; negative if none do."""
    centres, radius = proxies.centres_posed(hands), proxies.radii(shape)
    gap = torch.cdist(centres[:, 0], centres[:, 1]) - radius[:, 0, :, None] - radius[:, 1, None, :]
    return -gap.flatten(1).amin(1)


def _assign(hands: HandParameters, rows: Tensor, others: HandParameters) -> None:
    """Puts `others` in these rows, in place."""
    hands.pose[rows], hands.shape[rows], hands.translation_m[rows] = others.pose, others.shape, others.translation_m


def _fields(a: HandParameters, b: HandParameters) -> tuple[tuple[Tensor, Tensor], ...]:
    return (a.pose, b.pose), (a.shape, b.shape), (a.translation_m, b.translation_m)


def shared_volumes_cm3(model: HandModel, parameters: HandParameters) -> Float[Tensor, "*batch"]:
    """Exact shared volume of posed hands."""
    vertices = model.closed_vertices(model.pose_hands(parameters).mesh().vertices_m)
    return hands_shared_volume_cm3(vertices, model.closed_faces()).to(parameters.shape)


def _check(parameters: HandParameters, keypoint_confidence: Tensor) -> None:
    batch = parameters.shape.shape[:-2]
    for name, array, shape in (
        ("pose", parameters.pose, (*batch, 2, 16, 3)),
        ("shape", parameters.shape, (*batch, 2, 10)),
        ("translation_m", parameters.translation_m, (*batch, 2, 3)),
        ("keypoint_confidence", keypoint_confidence, (*batch, 2, 21)),
    ):
        if tuple(array.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(array.shape)}; give both hands on the axis (left, right)")
        if not bool(array.isfinite().all()):
            raise ValueError(f"{name} holds NaN or infinite numbers; leave out the frames where a hand was not found")
