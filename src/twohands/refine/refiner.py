"""Stage 2 for users: hands that pass through one another in, hands that do not out, or the same hands and the honest word that it failed."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from twohands.checkpoints import bundled_weights, load_weights, read_config, to_device
from twohands.collision.crossing import crossing_volume_cm3, hands_cross
from twohands.collision.proxies import SphereProxies
from twohands.collision.volume import hands_shared_volume_cm3
from twohands.hands.model import HandModel, PosedHands
from twohands.hands.parameters import HandParameters
from twohands.joints import MANO16, OPENPOSE21, OPENPOSE21_PARENTS
from twohands.record import Record
from twohands.refine.denoiser import Condition, Denoiser, DenoiserConfig
from twohands.refine.diffusion import STEPS
from twohands.refine.evidence import EvidenceConfig, held, moved_scales, share_believed
from twohands.refine.give_way import give_way
from twohands.refine.guidance import Energy, bind, guided, paper_energy, sphere_energy
from twohands.refine.projection import ProjectionConfig, brought_together, drawn_apart, ways_out
from twohands.refine.sampler import ddim, seeded_noise, start_noisy, steps_down
from twohands.refine.state import TOKENS, WIDTH, PairFrame, unpack

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
    """How hands are refined. Chosen by measurement on synthetic pairs that are not of the benchmark."""

    steps: int = 1
    """Denoising steps: one gives the mean of what is plausible, which errs least; more give sharper hands, which penetrate less before the
    projection. 0 leaves the network out, and the projection has to do all."""
    start: float = STEPS
    """Noising step at which sampling begins, with X_c noised that far; 1,000 is pure noise around X_c."""
    temperature: float = 0.0
    """Of the noise that sampling begins with: 0 goes from the middle of what is plausible, 1 draws a plausible pair by `seed`."""
    guidance: float = 0.02
    """Strength of collision guidance; with one step from the middle, much of it only bends fingers that the projection would spare."""
    energy: str = "spheres"
    """"spheres", or "paper" for the paper's vertex rule."""
    spheres: int = 96
    """Proxies of each hand; 48, 96 and 192 are ready."""
    project: bool = True
    """End free of penetration. Off, the hands are those that were sampled."""
    projection: ProjectionConfig = field(default_factory=ProjectionConfig)
    touch_gap_m: float = 0.0005
    """Hands that come in each other's way do touch: those that sampling parts are brought together up to this gap."""
    touch_reach_m: float = 0.03
    """Beyond this gap they stay apart."""
    evidence: EvidenceConfig = field(default_factory=EvidenceConfig)
    """How far the picture lets sampling go."""
    farthest_move_m: float = 0.12
    """Mean move that is allowed to all keypoints, sure or not."""
    seed: int = 0


@dataclass(frozen=True)
class RefineResult(Record):
    """Refined hands, and what was measured. Where `refined` is False the hands are those that came in."""

    parameters: HandParameters
    volume_before_cm3: Float[Tensor, "*batch"]
    volume_after_cm3: Float[Tensor, "*batch"]
    refined: Bool[Tensor, "*batch"]
    self_overlap_before_m: Float[Tensor, "*batch hand"]
    """By how much the two most overlapping spheres of one hand that may not overlap (finger and finger, tip and palm) do; 0 if none does."""
    self_overlap_after_m: Float[Tensor, "*batch hand"]

    @property
    def resolved(self) -> Bool[Tensor, "*batch"]:
        """The hands that came out share no volume."""
        return self.volume_after_cm3 <= FREE_CM3


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

    @cached_property
    def projector(self) -> "Refiner":
        """The same without the network: hands give way no farther than frees them. For hands that are known better than one photo tells, as those
        of a film are once they are filtered."""
        return Refiner(self.denoiser, replace(self.config, steps=0))

    def prepared(self, model: HandModel) -> tuple[HandModel, SphereProxies]:
        """A hand model and its spheres on the denoiser's device, made once as long as it is the same model."""
        if self._known is None or self._known[0] is not model:
            device = self.denoiser.scale.deviation.device
            here = model if model.data.v_template.device == device else model.to(device)
            self._known = (model, here, SphereProxies.of(here.data, self.config.spheres))
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
        sure. A pair is returned changed only if its exact shared volume has fallen. Where sampling would move keypoints across the viewing
        direction by more than their confidence makes likely, they move no more than it takes to free the hands. ValueError if numbers are not
        finite or shapes do not fit."""
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
            hands = model.pose_hands(flat)
            vertices, faces = model.closed_vertices(hands.mesh().vertices_m).cpu(), model.closed_faces()
            deep = hands_cross(vertices, faces).nonzero()[:, 0]
            before, refined = torch.zeros(len(vertices)), torch.zeros(len(vertices), dtype=torch.bool)
            self_before = _deepest_self_overlap_m(proxies, hands, flat.shape)
            after, self_after = before.clone(), self_before.clone()
            if len(deep):
                # The volume is only reported, and measured outside the interpreter: that waits for nothing, and nothing waits for it.
                with ThreadPoolExecutor(1) as aside:
                    measured = aside.submit(hands_shared_volume_cm3, vertices[deep], faces)
                    found, volume, good = self._refined(model, proxies, flat[deep], sure[deep], camera_frame)
                before[deep] = after[deep] = measured.result().float()
                better = (good & (volume < before[deep])) & (before[deep] > FREE_CM3)
                _assign(flat, deep[better], found[better])
                after[deep[better]], refined[deep[better]] = volume[better], True
                self_after = _deepest_self_overlap_m(proxies, model.pose_hands(flat), flat.shape)
        result = HandParameters(*(found.view_as(given).to(given) for found, given in _fields(flat, parameters)))
        return RefineResult(
            result,
            before.view(batch),
            after.view(batch),
            refined.view(batch),
            self_before.view(*batch, 2).cpu(),
            self_after.view(*batch, 2).cpu(),
        )

    def _refined(
        self, model: HandModel, proxies: SphereProxies, given: HandParameters, sure: Tensor, camera_frame: bool
    ) -> tuple[HandParameters, Float[Tensor, "batch"], Bool[Tensor, "batch"]]:
        """Hands that crossed, parted; their exact volume now, and whether they may be taken (CPU tensors)."""
        found, volume, moved = self._attempt(model, proxies, given, sure, camera_frame, sampled=True)
        # What sampling has moved too far, or could not free, may still be freed from where it is.
        again = ((moved > self.config.evidence.farthest) | (volume > FREE_CM3)).nonzero()[:, 0]
        if len(again) and self.config.steps:
            plain, plain_volume, plain_moved = self._attempt(model, proxies, given[again], sure[again], camera_frame, sampled=False)
            free, was_free = plain_volume <= FREE_CM3, volume[again] <= FREE_CM3
            take = torch.where(free == was_free, plain_moved < moved[again], free)
            _assign(found, again[take], plain[take])
            volume[again[take]] = plain_volume[take]
        move = model.pose_hands(found).joints_and_tips() - model.pose_hands(given).joints_and_tips()
        return found, volume, (move.norm(dim=-1).mean((1, 2)) <= self.config.farthest_move_m).cpu()

    def sample(
        self, model: HandModel, parameters: HandParameters, keypoint_confidence: Float[Tensor, "batch hand 21"], camera_frame: bool = True
    ) -> HandParameters:
        """What the (guided) denoiser says, without projection, gate or fallback; one batch axis."""
        model, proxies = self.prepared(model)
        with torch.no_grad():
            frame = PairFrame.of(model, parameters)
            condition = Condition.of(model, proxies, parameters, frame, token_confidence(keypoint_confidence), camera_frame)
            return unpack(model, self._sampled(model, proxies, condition, frame), frame)

    def guess(self, model: HandModel, parameters: HandParameters, keypoint_confidence: Float[Tensor, "batch hand 21"]) -> HandParameters:
        """Hands as the denoiser alone has them, as far as it is believed, where they cross; the others as they came. They still penetrate a little,
        and nothing is measured: this is for the readings of a film, which are filtered over time before they are parted. In the camera's frame.
        ValueError as of `refine`."""
        _check(parameters, keypoint_confidence)
        model, proxies = self.prepared(model)
        found = parameters.map(lambda t: t.to(proxies.radius_m.device, torch.float32, copy=True))
        with torch.no_grad():
            deep = crossing(model, found).nonzero()[:, 0].to(found.shape.device)
            if len(deep) and self.config.steps:
                given, sure = found[deep], keypoint_confidence.to(found.shape)[deep].clamp(0, 1)
                frame = PairFrame.of(model, given)
                condition = Condition.of(model, proxies, given, frame, token_confidence(sure), True)
                _assign(found, deep, self._believed(model, proxies, given, condition, frame, sure, True))
        return HandParameters(*(new.to(given) for new, given in _fields(found, parameters)))

    def _sampled(
        self, model: HandModel, proxies: SphereProxies, condition: Condition, frame: PairFrame
    ) -> Float[Tensor, "batch hand 17 13"]:
        """State of the hands that were sampled."""
        config, denoiser = self.config, self.denoiser
        nothing = torch.zeros_like(condition.state)
        denoise = bind(denoiser, condition)
        if config.guidance:
            denoise = guided(denoise, model, denoiser.scale, condition, frame, self._energy(proxies), config.guidance)
        noise = nothing
        if config.temperature:
            noise = config.temperature * seeded_noise((2, TOKENS, WIDTH), [config.seed] * len(nothing)).to(nothing)
        scaled = ddim(denoise, start_noisy(nothing, noise, config.start), steps_down(config.steps, config.start))
        return denoiser.scale.restore(scaled, condition.state)

    def _attempt(
        self, model: HandModel, proxies: SphereProxies, parameters: HandParameters, sure: Tensor, camera_frame: bool, sampled: bool
    ) -> tuple[HandParameters, Float[Tensor, "batch"], Float[Tensor, "batch"]]:
        """Hands that were sampled (or not) and projected, their exact volume, and how far they went from the picture (CPU tensors)."""
        config = self.config
        frame = PairFrame.of(model, parameters)
        condition = Condition.of(model, proxies, parameters, frame, token_confidence(sure), camera_frame)
        found = parameters
        if sampled and config.steps:
            found = self._believed(model, proxies, parameters, condition, frame, sure, camera_frame)
        if config.project:
            ray = torch.nn.functional.normalize(frame.origin_m, dim=-1) if camera_frame else None
            found = self._projected(model, proxies, found.map(torch.clone), condition.confidence, ray)
        moved = moved_scales(model, parameters, found, sure, camera_frame)
        return found, _volumes_where_crossing(model, found), moved.cpu()

    def _believed(
        self,
        model: HandModel,
        proxies: SphereProxies,
        given: HandParameters,
        condition: Condition,
        frame: PairFrame,
        sure: Tensor,
        camera_frame: bool,
    ) -> HandParameters:
        """Hands that were sampled, as far as they may be believed: held where the picture shows them, less of the way where that is too far."""
        config = self.config.evidence
        state = self._sampled(model, proxies, condition, frame)

        def placed(state: Tensor) -> HandParameters:
            found = unpack(model, state, frame)
            return held(model, given, found, sure, config) if camera_frame else found

        found = placed(state)
        deepest_m = _deepest_overlap_m(proxies, model.pose_hands(given), given.shape)
        share = share_believed(moved_scales(model, given, found, sure, camera_frame), deepest_m, config)
        if bool((share < 1).any()):
            found = placed(torch.lerp(condition.state, state, share[:, None, None, None]))
        return found

    def _projected(
        self,
        model: HandModel,
        proxies: SphereProxies,
        found: HandParameters,
        confidence: Float[Tensor, "batch hand 17"],
        ray: Float[Tensor, "batch 3"] | None,
    ) -> HandParameters:
        """Hands that touch and do not cross: brought together, then made to give way, then drawn apart, each only where needed. In place."""
        config = self.config
        projection = config.projection
        closer = brought_together(*_spheres(proxies, model, found), config.touch_gap_m, config.touch_reach_m)
        found.translation_m.add_(_halves(closer))
        left = crossing(model, found).nonzero()[:, 0].to(found.shape.device)
        for margin_m in projection.margin_m:
            if not len(left):
                return found
            sight = None if ray is None else ray[left]
            _assign(found, left, give_way(model, proxies, found[left], confidence[left], sight, margin_m, projection.give_way))
            left = left[crossing(model, found[left]).to(left.device)]
        for margin_m in projection.apart_m:
            if not len(left):
                return found
            caught = found[left]
            vertices = model.closed_vertices(model.pose_hands(caught).mesh().vertices_m)

            def crosses(shift: Tensor, rows: Tensor, vertices: Tensor = vertices) -> Tensor:
                moved = vertices[rows] + _halves(shift)[:, :, None]
                return hands_cross(moved, model.closed_faces())

            sight = None if ray is None else ray[left]
            way, length_m = ways_out(*_spheres(proxies, model, caught), sight, margin_m, projection)
            shift, free = drawn_apart(crosses, way, length_m, projection)
            apart = HandParameters(caught.pose, caught.shape, caught.translation_m + _halves(shift))
            # Who is not free yet is drawn another, longer way; the last one stays.
            done = free if margin_m != projection.apart_m[-1] else torch.ones_like(free)
            _assign(found, left[done], apart[done])
            left = left[~free]
        return found

    def _energy(self, proxies: SphereProxies) -> Energy:
        match self.config.energy:
            case "spheres":
                return sphere_energy(proxies)
            case "paper":
                return paper_energy()
            case other:
                raise ValueError(f"there is no energy {other!r}; choose spheres or paper")


def _deepest_overlap_m(proxies: SphereProxies, hands: PosedHands, shape: Tensor) -> Float[Tensor, "batch"]:
    """By how much the two most overlapping spheres of the two hands overlap; negative if none do."""
    centres, radius = proxies.centres_posed(hands), proxies.radii(shape)
    gap = torch.cdist(centres[:, 0], centres[:, 1]) - radius[:, 0, :, None] - radius[:, 1, None, :]
    return -gap.flatten(1).amin(1)


def _deepest_self_overlap_m(proxies: SphereProxies, hands: PosedHands, shape: Tensor) -> Float[Tensor, "batch hand"]:
    """By how much the two most overlapping spheres of one hand overlap, of those that may collide; 0 if none do."""
    centres, radius = proxies.centres_posed(hands), proxies.radii(shape)
    overlap = radius[..., :, None] + radius[..., None, :] - torch.cdist(centres, centres)
    return torch.where(proxies.may_collide, overlap, 0.0).flatten(2).amax(2).clamp_min(0)


def _spheres(proxies: SphereProxies, model: HandModel, parameters: HandParameters) -> tuple[Tensor, Tensor]:
    """Centres and radii."""
    return proxies.centres_posed(model.pose_hands(parameters)), proxies.radii(parameters.shape)


def _halves(shift: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch hand 3"]:
    """A shift of the left hand relative to the right one, as moves of both."""
    return torch.stack([shift / 2, -shift / 2], 1)


def crossing(model: HandModel, parameters: HandParameters) -> Bool[Tensor, "batch"]:
    """Whether posed hands pass through one another, by the exact test (a CPU tensor)."""
    return hands_cross(model.closed_vertices(model.pose_hands(parameters).mesh().vertices_m), model.closed_faces())


def _volumes_where_crossing(model: HandModel, parameters: HandParameters) -> Float[Tensor, "batch"]:
    """Exact shared volume (a CPU tensor); computed only where hands cross, zero elsewhere."""
    return crossing_volume_cm3(model.closed_vertices(model.pose_hands(parameters).mesh().vertices_m), model.closed_faces()).float()


def _assign(hands: HandParameters, rows: Tensor, others: HandParameters) -> None:
    """Puts `others` in these rows, in place."""
    hands.pose[rows], hands.shape[rows], hands.translation_m[rows] = others.pose, others.shape, others.translation_m


def _fields(a: HandParameters, b: HandParameters) -> tuple[tuple[Tensor, Tensor], ...]:
    return (a.pose, b.pose), (a.shape, b.shape), (a.translation_m, b.translation_m)


def shared_volumes_cm3(model: HandModel, parameters: HandParameters) -> Float[Tensor, "*batch"]:
    """Exact shared volume of posed hands."""
    batch = parameters.shape.shape[:-2]
    flat = HandParameters(*(t.reshape(-1, *t.shape[len(batch) :]) for t in (parameters.pose, parameters.shape, parameters.translation_m)))
    return _volumes_where_crossing(model, flat).view(batch)


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


def refine_pairs(
    refiner: Refiner,
    model: HandModel,
    parameters: HandParameters,
    keypoint_confidence: Float[Tensor, "n hand 21"] | None,
    both: Bool[Tensor, "n"],
    camera_frame: bool = True,
    batch: int = 64,
) -> RefineResult:
    """`Refiner.refine` of the pairs that have both hands, some at a time; the others are handed through with volume 0."""
    count = len(both)
    result = RefineResult(
        parameters.map(torch.clone),
        torch.zeros(count),
        torch.zeros(count),
        torch.zeros(count, dtype=torch.bool),
        torch.zeros(count, 2),
        torch.zeros(count, 2),
    )
    for rows in both.nonzero()[:, 0].split(batch):
        known = None if keypoint_confidence is None else keypoint_confidence[rows]
        part = refiner.refine(model, parameters[rows], known, camera_frame)
        _assign(result.parameters, rows, part.parameters)
        for name in ("volume_before_cm3", "volume_after_cm3", "refined", "self_overlap_before_m", "self_overlap_after_m"):
            getattr(result, name)[rows] = getattr(part, name)
    return result
