"""Whose hands are whose: the rules by which detections become people, each hand once and on its own side.

The detector often gives one hand a box of either side, and two clasped hands one place; stage 1 knows better, and is asked where there is doubt."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from twohands.detector import overlap, pair_people
from twohands.joints import MIDDLE_MCP
from twohands.regress.confidence import confidence_of_distance
from twohands.regress.crops import followed_pair
from twohands.schema import Detection, HandPair, Stage1Hands

Sides = tuple[int | None, int | None]
"""Which detection is the left and which the right hand of one person."""

OTHER_HAND_LIMIT = 0.5
"""Stage 1, looking at a hand, must be that sure to see the other one too, before that one is asked for."""
OTHER_SIDE_LIMIT = 0.5
"""And then find this hand's side more likely right than wrong."""
BELIEVED = 3.0
"""Log odds of the other one's side, and of seeing it in both looks, from which it is there; none of 150 held-out clasps is lost by it."""
LEAST_SURENESS, LEAST_OF_PARTNER = 0.18, 0.06
"""Score times mean probability of its keypoints to be right, below which a hand is not returned, and the same of a hand that the person's other one
sees beside or behind itself: that it is there is not in doubt, only where."""
MADE_UP = 0.85
"""Of two hands with boxes in one place, the one whose keypoints are this much less sure than the other's may be none: asked for a hand of either side
in one place, stage 1 reads one well and makes the other up."""
BADLY_READ = 0.45
"""Mean probability of its keypoints to be right, below which a hand may have been looked at from a wrong direction."""
HARDLY_THERE = 0.1
"""Presence below which it is not worth while to look at a hand again."""
READ_BETTER, READ_WELL = 1.5, 0.2
"""A direction is better from which the hand is read so many times as well, and at least so well (`legible`)."""
EXCHANGED_BETTER = 1.3
"""Left and right are exchanged if both hands together are read so many times as well then."""
NEARER = 0.5
"""How far a box moves from the detector's to that of the keypoints which a glance has found."""
LOOK_AGAIN = 0.05
"""Presence from which a guess that did not hold is looked at once more, where stage 1 has put the hands."""
SIDE_DENIED = 0.5
"""Of two boxes in one place, a hand that less likely than this has the side that was asked for is the other box's hand again."""
SAME_PLACE_IOU, SAME_PLACE_DISTANCE = 0.3, 0.4
"""Boxes of a left and a right hand that overlap more, or whose centres are nearer (larger sides), may be of one hand."""
PRESENCE_LIMIT, SIDE_LEAST = 0.5, 0.1
"""Stage 1 must find it more likely than not that there is a hand; what is neither a left nor a right hand is none."""
DUPLICATE_DISTANCE = 0.25
"""Two hands whose keypoints lie nearer on average than this share of the hand's size may be one hand, found twice."""
SHARED_LIMIT_CM3 = 8.0
"""Hands of a person that share more space than this, while stage 1 doubts either's side, are one hand seen as two."""
ONE_PLACE_DISTANCE = 0.35
"""Sizes of a hand beyond which its keypoints and those of another one are two hands', however badly their depths were guessed: of 160 held-out pairs of
real hands 13 share more than 8 cm3 as stage 1 reads them, and are two; of 80 hands alone none does."""
SURE_SIDE = 0.9
"""Probability from which a side is not doubted there."""
ONE_HAND_CM3 = 30.0
"""More than this two hands in one place never share, however sure their sides: of rendered clasps that stage 1 reads, the deepest true ones share
15."""
NO_HANDS_CM3 = 60.0
"""And more than this no two hands do, wherever their keypoints lie: a sixth of a hand. Of rendered pairs that stage 1 reads rightly none does, of
those of which one hand is seen twice, or is something else, a fifth. Unless the crop of each shows the other one: then it is their depth that is
wrong, which stage 2 mends."""
SURELY_SEEN = 0.9
"""Probability from which a crop shows the person's other hand beyond doubt."""
SAME_HAND_DISTANCE = 0.06
"""Nearer than this they are one hand, however sure their sides look: even palms pressed together do not match so well, finger by finger."""


@dataclass(frozen=True)
class Candidate:
    """One person's hands on their way through the pipeline."""

    detection: Detection
    sides: Sides
    """Which rows of `detection` they are."""
    present: Bool[Tensor, "hand"]
    score: Float[Tensor, "hand"]
    side_support: float
    """Log odds of this choice of sides, detector and stage 1 together."""
    hands: Stage1Hands
    keypoints_xy: Float[Tensor, "hand 21 2"]
    shared_cm3: float | None = None
    """Exact volume that both hands share, once it has been measured."""

    @property
    def sides_present(self) -> Sides:
        """Of the detections those whose hands are there."""
        left, right = (row if there else None for row, there in zip(self.sides, self.present.tolist(), strict=True))
        return left, right

    @property
    def as_asked(self) -> bool:
        """Whether all hands that were asked for are there."""
        return self.sides_present == self.sides


def sides_of_people(detection: Detection) -> list[Sides]:
    """Left and right hand of every person. Of two hands with one person number, one is the left and one the right, whichever way round is
    more likely; hands beyond the best two of a person stand alone."""
    members: dict[int, list[int]] = {}
    for index in detection.score.argsort(descending=True).tolist():
        members.setdefault(detection.person[index], []).append(index)
    people: list[Sides] = []
    for indices in members.values():
        alone = indices
        if len(indices) >= 2:
            a, b, *alone = indices
            a_is_left = side_log_odds(detection, a, 0) + side_log_odds(detection, b, 1) >= 0
            people.append((a, b) if a_is_left else (b, a))
        people += [(i, None) if side_log_odds(detection, i, 0) >= 0 else (None, i) for i in alone]
    return people


def hand_pair(detection: Detection, sides: Sides) -> HandPair:
    """What stage 1 is asked about these two detections. An absent hand borrows the other's box, so that every number is usable."""
    present = [i for i in sides if i is not None]
    index = [present[0] if i is None else i for i in sides]
    return HandPair(detection.box_xyxy_px[index], detection.direction[index], torch.tensor([i is not None for i in sides]))


def without_duplicates(candidates: list[Candidate]) -> list[Candidate]:
    """Drops hands that were found twice: keypoints on top of one another, and either the same side or a side that stage 1 doubts. Hands
    pressed palm to palm lie on top of one another too, but there both sides are sure."""
    dropped: set[tuple[int, int]] = set()
    hands = [(i, hand) for i, c in enumerate(candidates) for hand in (0, 1) if c.present[hand]]
    hands.sort(key=lambda at: -float(candidates[at[0]].score[at[1]]))
    for n, a in enumerate(hands):
        for b in hands[n + 1 :]:
            apart = keypoint_distance(candidates[a[0]].keypoints_xy[a[1]], candidates[b[0]].keypoints_xy[b[1]])
            if a in dropped or b in dropped or apart > DUPLICATE_DISTANCE:
                continue
            if a[1] == b[1]:
                dropped.add(b)
            else:
                sure = {at: float(candidates[at[0]].hands.side_correct[at[1]]) for at in (a, b)}
                if min(sure.values()) < 0.5 or apart < SAME_HAND_DISTANCE:
                    dropped.add(min(sure, key=lambda at: (sure[at], float(candidates[at[0]].score[at[1]]))))
    return _with_hands(candidates, [torch.tensor([(i, hand) not in dropped for hand in (0, 1)]) for i in range(len(candidates))])


def without_unsure(candidates: list[Candidate]) -> list[Candidate]:
    """Drops hands of which stage 1 hardly knows whether they are there nor where."""
    kept = []
    for c in candidates:
        worth = c.score * known(c)
        seen = torch.zeros(2) if c.hands.other is None else (c.hands.other.probability * c.present).flip(0)
        kept.append(worth >= torch.where(seen >= OTHER_HAND_LIMIT, LEAST_OF_PARTNER, LEAST_SURENESS))
    return _with_hands(candidates, kept)


def sureness(hands: Stage1Hands) -> Float[Tensor, "hand"]:
    """Mean probability of each hand's keypoints to be right."""
    return confidence_of_distance(hands.keypoint_confidence).mean(-1)


def known(candidate: Candidate) -> Float[Tensor, "hand"]:
    """How well the keypoints of each hand are known: their mean probability to be right; 0 for a hand that is not there."""
    return sureness(candidate.hands) * candidate.present


def legible(hands: Stage1Hands) -> Float[Tensor, "hand"]:
    """How well each hand can be read: how probable it is that it is there, has its side, and that its keypoints are right."""
    return sureness(hands) * hands.presence * hands.side_correct


def badly_read(candidates: list[Candidate]) -> dict[int, float]:
    """Detections whose hands a glance has not read well, believed or not, and how legible they were. Not those in which there is hardly a hand, nor
    the second box of a hand that is read well and sees no other one."""
    found: dict[int, float] = {}
    for candidate in candidates:
        sure = sureness(candidate.hands)
        other = candidate.hands.other
        alone = candidate.present & (sure >= BADLY_READ) & (other is None or other.probability < OTHER_HAND_LIMIT)
        if bool(alone.any()) and boxes_in_one_place(hand_pair(candidate.detection, candidate.sides)):
            continue
        worth, doubtful = legible(candidate.hands), (sure < BADLY_READ) & (candidate.hands.presence >= HARDLY_THERE)
        found |= {row: float(worth[hand]) for hand, row in enumerate(candidate.sides) if row is not None and doubtful[hand]}
    return found


def turned(detection: Detection, row: int, quarters: int) -> HandPair:
    """A hand of either side in this detection's box, which points so many quarters of a turn elsewhere."""
    x, y = detection.direction[row].tolist()
    for _ in range(quarters):
        x, y = -y, x
    return HandPair(detection.box_xyxy_px[row].expand(2, 4), torch.tensor([x, y]).expand(2, 2), torch.tensor([True, True]))


def surer_alone(candidate: Candidate) -> Candidate | None:
    """A person with only the surer of two hands that have boxes in one place, where the other one may be made up; None where nothing speaks for
    that."""
    if not boxes_in_one_place(hand_pair(candidate.detection, candidate.sides_present)):
        return None
    sure = known(candidate)
    if sure.min() > MADE_UP * sure.max():
        return None
    return _with_hands([candidate], [sure == sure.max()])[0]


def _with_hands(candidates: list[Candidate], kept: list[Bool[Tensor, "hand"]]) -> list[Candidate]:
    """Candidates with those of their hands alone, and of those only who still have one."""
    left = []
    for candidate, stays in zip(candidates, kept, strict=True):
        present = candidate.present & stays
        if torch.equal(present, candidate.present):
            left.append(candidate)
        elif present.any():
            left.append(replace(candidate, present=present, score=torch.where(present, candidate.score, 0.0), shared_cm3=None))
    return left


def guessed_pair(candidate: Candidate) -> Detection | None:
    """A lone hand and the other one that stage 1 saw beside it, left first, as a detector would give them; None if it saw none."""
    other = candidate.hands.other
    if int(candidate.present.sum()) != 1 or other is None:
        return None
    hand = int(candidate.present[1])
    probability = float(other.probability[hand])
    if probability < OTHER_HAND_LIMIT:
        return None
    xy = candidate.keypoints_xy[hand]
    half = other.side_px[hand].clamp_min(4.0) / 2
    centre = other.centre_xy_px[hand]
    box = torch.stack([keypoint_box(xy), torch.cat([centre - half, centre + half])])
    along = torch.stack([functional.normalize(xy[MIDDLE_MCP] - xy[0], dim=0), other.direction[hand]])
    score = torch.stack([candidate.score[hand], candidate.score[hand] * probability])
    order = [hand, 1 - hand]  # the row of the left hand, then of the right one
    return Detection(box[order], score[order], torch.tensor([0.0, 1.0]), along[order], (0, 0))


def completes(alone: Candidate, pair: Candidate, others: list[Float[Tensor, "21 2"]]) -> bool:
    """Whether a second look that was told where the other hand should be found this hand where it was and another one, of the other side, somewhere
    else, where no hand is known (`others`)."""
    hand = int(alone.present[1])
    new = pair.keypoints_xy[1 - hand]
    seen = sum(log_odds(float(c.hands.other.probability[hand])) for c in (alone, pair) if c.hands.other is not None)
    return (
        bool(pair.present.all())
        and float(pair.hands.side_correct[hand]) >= OTHER_SIDE_LIMIT
        and log_odds(float(pair.hands.side_correct[1 - hand])) + seen >= BELIEVED
        and keypoint_distance(pair.keypoints_xy[hand], alone.keypoints_xy[hand]) < DUPLICATE_DISTANCE
        and keypoint_distance(new, pair.keypoints_xy[hand]) > SAME_HAND_DISTANCE
        and all(keypoint_distance(new, other) > DUPLICATE_DISTANCE for other in others)
    )


def moved_to(detection: Detection, keypoints_xy: Float[Tensor, "hand 21 2"]) -> Detection:
    """A pair's two detections, left first, moved to where its keypoints lie."""
    along = functional.normalize(keypoints_xy[:, MIDDLE_MCP] - keypoints_xy[:, 0], dim=-1)
    return replace(detection, box_xyxy_px=keypoint_box(keypoints_xy), direction=along)


def followed(detection: Detection, candidates: list[Candidate]) -> Detection:
    """The detections, those of the candidates' hands nearer to where a glance has found these."""
    box, direction = detection.box_xyxy_px.clone(), detection.direction.clone()
    for c in candidates:
        moved = followed_pair(hand_pair(detection, c.sides), c.keypoints_xy, c.present, NEARER)
        for hand, row in enumerate(c.sides_present):
            if row is not None:
                box[row], direction[row] = moved.box_xyxy_px[hand], moved.direction[hand]
    return replace(detection, box_xyxy_px=box, direction=direction)


def in_one_place(candidate: Candidate) -> bool:
    """Whether a person's two hands, their shared volume measured, are where only one can be. Stage 2 parts hands that clasp deeply, but not one
    hand from itself."""
    other = candidate.hands.other
    if keypoint_distance(*candidate.keypoints_xy) <= ONE_PLACE_DISTANCE:
        limit_cm3 = SHARED_LIMIT_CM3 if float(candidate.hands.side_correct.min()) < SURE_SIDE else ONE_HAND_CM3
    else:
        limit_cm3 = NO_HANDS_CM3 if other is None or float(other.probability.min()) < SURELY_SEEN else math.inf
    return bool(candidate.present.all()) and (candidate.shared_cm3 or 0.0) > limit_cm3


def taken_twice(pair: HandPair, hands: Stage1Hands) -> Bool[Tensor, "hand"]:
    """Of two boxes in one place, the one whose hand has the other's side: a detector often gives one hand a box of either side."""
    denied = hands.side_correct < SIDE_DENIED
    return denied & denied.flip(0).logical_not() & boxes_in_one_place(pair)


def boxes_in_one_place(pair: HandPair) -> bool:
    """Whether both hands have a box, and these may be of one hand."""
    box = pair.box_xyxy_px
    centre, size = (box[:, :2] + box[:, 2:]) / 2, (box[:, 2:] - box[:, :2]).amax(-1)
    near = float((centre[0] - centre[1]).norm() / size.max()) < SAME_PLACE_DISTANCE
    return bool(pair.present.all()) and (near or float(overlap(box[:1], box[1:])) > SAME_PLACE_IOU)


def lone_pairs(candidates: list[Candidate]) -> list[tuple[int, int]]:
    """(candidate with a left hand only, candidate with a right hand only) that are near and large enough to be one person's."""
    lone = [(i, int(c.present[1])) for i, c in enumerate(candidates) if int(c.present.sum()) == 1]
    if len(lone) < 2:
        return []
    boxes = torch.stack([keypoint_box(candidates[i].keypoints_xy[hand]) for i, hand in lone])
    members: dict[int, dict[int, int]] = {}
    for (i, hand), person in zip(lone, pair_people(boxes, torch.tensor([hand for _, hand in lone])), strict=True):
        members.setdefault(person, {})[hand] = i
    return [(hands[0], hands[1]) for hands in members.values() if len(hands) == 2]


def keypoint_distance(a_xy: Float[Tensor, "21 2"], b_xy: Float[Tensor, "21 2"]) -> float:
    """Mean distance of two hands' keypoints over the larger hand's size, at least a pixel."""
    size = max(1.0, *(float((xy.max(0).values - xy.min(0).values).max()) for xy in (a_xy, b_xy)))
    return float((a_xy - b_xy).norm(dim=-1).mean()) / size


def log_odds(probability: float) -> float:
    """Clamped, so that one overconfident network cannot outvote any other evidence."""
    p = min(max(probability, 0.001), 0.999)
    return math.log(p / (1 - p))


def side_log_odds(detection: Detection, index: int, hand: int) -> float:
    """The detector's log odds that a detection is a left (hand 0) or right (hand 1) hand."""
    odds = log_odds(float(detection.right_probability[index]))
    return odds if hand else -odds


def keypoint_box(points_xy: Float[Tensor, "*batch point 2"]) -> Float[Tensor, "*batch 4"]:
    return torch.cat([points_xy.min(-2).values, points_xy.max(-2).values], -1)
