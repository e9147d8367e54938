"""From detections to people's hands: stage 1 looks at them until it knows whose each is, or that it is none.

The detector guesses: one hand often has a box of either side, two clasped hands one place, and directions and sides are wrong where hands hide
one another. So there is first a glance at all of them, then a look from elsewhere, or at less, at those that were read badly, and what is read
better is taken. The rules are in `people` and `smaller_boxes`."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from twohands.collision.volume import hands_shared_volume_cm3
from twohands.geometry.camera import Camera
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
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
from twohands.schema import Detection, HandPair, Stage1Hands
from twohands.smaller_boxes import SMALLER, is_shown, sides_without, surest_reading, unseen, with_smaller


class Regressor(Protocol):
    """Stage 1."""

    def infer(
        self, image: UInt8[Tensor, "3 height width"], camera: Camera, pairs: list[HandPair], seen: list[Stage1Hands] | None = None,
        looks: int | None = None,
    ) -> list[Stage1Hands]:  # fmt: skip
        """The hands of each pair in the camera frame, from an RGB image. `looks`: 1 where a quick answer is enough; `seen`: such an answer about
        these pairs, to go on from."""
        ...


@dataclass(frozen=True)
class Finder:
    """Makes people's hands of detections. Stateless between photos."""

    regressor: Regressor
    model: HandModel
    """The hand whose parameters the regressor speaks of."""
    searching: bool = True
    """Whether hands that are not seen in a detection's box are looked for in smaller ones."""

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
        if self.searching:
            detection, first = self._in_smaller_boxes(pixels, camera, detection, first)
        glanced = self._one_by_one(pixels, camera, detection, self._exchanged(pixels, camera, detection, first))
        return detection, without_duplicates([c for c in glanced if c.present.any()])

    def _in_smaller_boxes(
        self, pixels: Tensor, camera: Camera, detection: Detection, glanced: list[Candidate]
    ) -> tuple[Detection, list[Candidate]]:
        """The same people, and by themselves hands that are not seen in the detector's box but surely in a smaller one, as hands of one side; and the
        detections with their boxes. Around what it doubts the detector draws large boxes, and of a small hand in a large crop stage 1 sees little."""
        rows = unseen(detection, glanced)
        if not rows:
            return detection, glanced
        wider, first = with_smaller(detection, rows), len(detection.score)
        boxes = range(first, len(wider.score))
        sides: list[Sides] = [sides for box in boxes for sides in ((box, None), (None, box))]
        answers = self._infer(pixels, camera, wider, sides, looks=1)
        kept = list(glanced)
        for k, (row, worth) in enumerate(rows.items()):
            mine = answers[2 * len(SMALLER) * k : 2 * len(SMALLER) * (k + 1)]
            hand = surest_reading(list(zip(mine[::2], mine[1::2], strict=True)), worth)
            if hand is not None and not is_shown(hand, [c for c in glanced if row not in c.sides]):
                rest = [left for c in kept if row in c.sides and (left := sides_without(c, row)) != (None, None)]
                kept = [c for c in kept if row not in c.sides] + self._infer(pixels, camera, wider, rest, looks=1) + [hand]
        return wider, kept

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
        asked = [(row, turned(detection, row, quarters)) for row in badly for quarters in (1, 2, 3)]
        if not asked:
            return {}
        answers = self.regressor.infer(pixels, camera, [pair for _, pair in asked], looks=1)
        best = {row: max(READ_BETTER * worth, READ_WELL) for row, worth in badly.items()}
        found = {}
        for (row, pair), answer in zip(asked, answers, strict=True):
            worth = float(legible(answer.to("cpu")).max())
            if worth > best[row]:
                best[row], found[row] = worth, pair.direction[0]
        return found

    def _looked_at(self, pixels: Tensor, camera: Camera, detection: Detection, glanced: list[Candidate]) -> list[Candidate]:
        """Hands that a glance has found, looked at well: with whom they belong. The detector pairs by sides that it only guesses, often a hand with
        its own second box; left and right hands that are left alone are looked at together, and stay apart if stage 1 then finds other hands."""
        asked = lone_pairs(glanced)
        pairs = self._together(pixels, camera, detection, glanced, asked)
        joined = {k for i, j, _ in pairs for k in (i, j)}
        whole = [c for k, c in enumerate(glanced) if k not in joined and c.as_asked]
        halved = [c for k, c in enumerate(glanced) if k not in joined and not c.as_asked]
        looked = self._infer(pixels, camera, detection, [c.sides for c in whole], seen=[c.hands for c in whole])
        looked += [pair for _, _, pair in pairs]
        alone = [c.sides_present for c in halved]
        looked += self._infer(pixels, camera, followed(detection, glanced), alone)
        kept = without_duplicates([c for c in looked if c.present.any()])
        # Some are alone only now that another one's second box is gone.
        tried = {(glanced[i].sides[0], glanced[j].sides[1]) for i, j in asked}
        late = [(i, j) for i, j in lone_pairs(kept) if (kept[i].sides[0], kept[j].sides[1]) not in tried]
        pairs = self._together(pixels, camera, detection, kept, late)
        joined = {k for i, j, _ in pairs for k in (i, j)}
        return [c for k, c in enumerate(kept) if k not in joined] + [pair for _, _, pair in pairs]

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

    def measured(self, candidates: list[Candidate], camera: Camera) -> list[Candidate]:
        """Candidates whose shared volume is known."""
        unknown = [c for c in candidates if c.shared_cm3 is None]
        volumes = iter(volumes_cm3(self.model, [c.hands.parameters for c in unknown], unknown, camera))
        return [replace(c, shared_cm3=next(volumes)) if c.shared_cm3 is None else c for c in candidates]

    def _parted(self, pixels: Tensor, camera: Camera, candidates: list[Candidate]) -> list[Candidate]:
        """Of two hands in one place the likelier, which stage 1 looks at again by itself: the other one has pulled it about."""
        kept = []
        for candidate in self.measured(candidates, camera):
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


def volumes_cm3(model: HandModel, parameters: list[HandParameters], candidates: list[Candidate], camera: Camera) -> list[float]:
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
