"""Filtering of hands over time: a fast move is followed, a still hand is still, and a reading counts as much as it is sure of itself.

A hand's numbers are taken to move with an acceleration that lasts a little while (Singer 1970), and how lively that is nobody knows: several
answers, each ten times as lively as the one before, are filtered side by side (Kalman 1960), and each counts by how well it foresaw the last
instants (Magill 1965). So nothing is tuned to a speed, uneven time stamps and gaps need no special care, and from one frame to the
next nothing switches. How noisy a reading is, stage 1 says itself, joint by joint; on what scale, the readings tell. One that was foreseen
much worse than others counts less (as under Student's t). Live, an answer is changed by one later frame at most; offline, by all of them
(Rauch, Tung and Striebel 1965)."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from twohands.geometry.rotations import matrix_to_rotvec, nearest_rotation, rotvec_to_matrix
from twohands.joints import FINGERS, MANO16, OPENPOSE21

FINGER_ORDER = tuple(name[:-1] for name in MANO16[1::3])
"""Fingers as their joints follow one another in MANO16."""
GROUPS = ("turn", *FINGER_ORDER, "ray", "depth")
"""Numbers that move together and err together: the hand's rotation (9), each finger's three (27), where its wrist is seen (2), and how far away
that is (1)."""
NUMBERS = (9, 27, 27, 27, 27, 27, 2, 1)
HAND_M = 0.18
"""About a hand's length."""
TINY = 1e-20
"""Of squares: readings without any noise are allowed."""


@dataclass(frozen=True)
class SmoothConfig:
    """What moves are thought possible, and what gaps are filled."""

    liveliness: tuple[float, ...] = (3.0, 30.0, 300.0, 3e3, 3e4, 3e5, 3e6, 3e7)
    """How fast the variance of a speed grows, in the noise's variance a second cubed: from hands that rest to hands that shake."""
    accelerates_s: float = 0.15
    """How long an acceleration lasts,"""
    moves_s: float = 0.5
    """and how long a speed."""
    foresight_s: float = 0.4
    """What was foreseen counts for so long,"""
    foresight_frames: int = 3
    """and for no fewer frames."""
    alert: float = 0.02
    """Share of the weight that is given to every liveliness alike, so that none is ruled out for good."""
    tail: float = 2.0
    """Degrees of freedom of Student's t: the fewer, the less a reading counts that nobody foresaw."""
    rounds: int = 2
    """Offline, the second round knows from what comes later which readings were slips."""
    longest_gap_s: float = 0.4
    """Shorter gaps are filled."""
    longest_gap_live_s: float = 0.15
    """A live hand that was missed for longer begins anew."""
    piece: int = 1000
    """Frames that are smoothed at once; more take too much memory."""
    overlap: int = 120


@dataclass(frozen=True)
class HandSeries:
    """One hand over time: orientation and fingers as matrices, and where its wrist is."""

    time_s: Float[np.ndarray, " frame"]
    rotation: Float[np.ndarray, "frame 16 3 3"]
    wrist_m: Float[np.ndarray, "frame 3"]
    noise: Float[np.ndarray, "frame 8"]
    """Of each group's readings (GROUPS), relative: how one frame's compares to another's counts; about one, give or take a factor of ten."""
    there: Bool[np.ndarray, " frame"]
    """Read, or filled in."""


def group_noise(keypoint_noise: Float[np.ndarray, "*frame 21"]) -> Float[np.ndarray, "*frame 8"]:
    """What the errors of a hand's keypoints say of the groups': those of a finger of that finger, all of them of the hand as a whole."""
    whole = keypoint_noise.mean(-1)
    of_finger = {name: keypoint_noise[..., [OPENPOSE21.index(f"{name}{k}") for k in (1, 2, 3, 4)]].mean(-1) for name in FINGERS}
    return np.stack([of_finger.get(group, whole) for group in GROUPS], -1)


def smooth_hand(series: HandSeries, config: SmoothConfig = SmoothConfig()) -> HandSeries:
    """The hand smoothed in both directions, short gaps filled, long ones left as they were."""
    return smooth_hands([series], config)[0]


def smooth_hands(hands: Sequence[HandSeries], config: SmoothConfig = SmoothConfig()) -> list[HandSeries]:
    """Each hand as `smooth_hand` has it; all on one time axis. Those that are there at the same times are gone through together: a step takes
    hardly longer for two."""
    filled = [fill_gaps(series, config.longest_gap_s) for series in hands]
    rotation, wrist = [f.rotation.copy() for f in filled], [f.wrist_m.copy() for f in filled]
    values = [_numbers(f.rotation, f.wrist_m) for f in filled]
    there: dict[tuple[int, int, int], list[int]] = {}
    for k, series in enumerate(filled):
        for first, last in stretches(series.there):
            for piece in _pieces(first, last, config):
                there.setdefault(piece, []).append(k)
    for (begin, end, ahead), who in there.items():
        part, kept = slice(begin, end), slice(ahead, end)
        most = np.concatenate([_most(float(np.median(filled[k].wrist_m[part, 2]))) for k in who])
        together = np.concatenate([values[k][part] for k in who], 1)
        noise = np.concatenate([filled[k].noise[part] for k in who], 1)
        calm = smooth_numbers(filled[who[0]].time_s[part], together, noise, NUMBERS * len(who), config, most)
        for k, own in zip(who, np.split(calm[ahead - begin :], len(who), 1), strict=True):
            rotation[k][kept], wrist[k][kept] = _hands(own)
    return [HandSeries(f.time_s, R, w, f.noise, f.there) for f, R, w in zip(filled, rotation, wrist, strict=True)]


def fill_gaps(series: HandSeries, longest_s: float) -> HandSeries:
    """Readings put into gaps between readings that are at most `longest_s` apart, on the straight way between them (rotations about one
    axis). They are four times as noisy as their neighbours."""
    known = np.flatnonzero(series.there)
    rotation, wrist, noise, there = series.rotation.copy(), series.wrist_m.copy(), series.noise.copy(), series.there.copy()
    for before, after in itertools.pairwise(known):
        if after - before < 2 or series.time_s[after] - series.time_s[before] > longest_s:
            continue
        share = (series.time_s[before + 1 : after] - series.time_s[before]) / (series.time_s[after] - series.time_s[before])
        a, b = (torch.from_numpy(series.rotation[k]) for k in (before, after))
        way = matrix_to_rotvec(a.mT @ b)
        rotation[before + 1 : after] = (a @ rotvec_to_matrix(torch.from_numpy(share)[:, None, None] * way)).numpy()
        wrist[before + 1 : after] = series.wrist_m[before] + share[:, None] * (series.wrist_m[after] - series.wrist_m[before])
        noise[before + 1 : after] = 4 * np.maximum(series.noise[before], series.noise[after])
        there[before + 1 : after] = True
    return HandSeries(series.time_s, rotation, wrist, noise, there)


class LiveHand:
    """One hand as it comes, frame by frame."""

    def __init__(self, config: SmoothConfig = SmoothConfig()) -> None:
        self.config = config
        self._filter: Filter | None = None
        self._seen_s = -np.inf

    def push(
        self, time_s: float, rotation: Float[np.ndarray, "16 3 3"], wrist_m: Float[np.ndarray, "3"], noise: Float[np.ndarray, "8"]
    ) -> None:
        """A frame in which the hand was read."""
        values = _numbers(rotation[None], wrist_m[None])[0]
        if self._filter is None:
            self._filter = Filter(time_s, values, noise, NUMBERS, self.config, _most(wrist_m[2]))
        else:
            self._filter.step(time_s, values, noise)
        self._seen_s = time_s

    def miss(self, time_s: float) -> None:
        """A frame in which it was not."""
        if time_s - self._seen_s > self.config.longest_gap_live_s + 1e-3:
            self._filter = None
        if self._filter is not None:
            self._filter.step(time_s, None, None)

    def hand(self, time_s: float) -> tuple[Float[np.ndarray, "16 3 3"], Float[np.ndarray, "3"]] | None:
        """The hand at the last time that was told, or at the one before, which then is known better; None if it was not there, or is not any
        more."""
        if self._filter is None or self._seen_s < time_s:
            return None
        values = self._filter.at(time_s)
        if values is None:
            return None
        rotation, wrist_m = _hands(values[None])
        return rotation[0], wrist_m[0]


@dataclass
class _Belief:
    """What every liveliness thinks of every number: value, speed and acceleration."""

    mean: Float[np.ndarray, "model 3 number"]
    spread: Float[np.ndarray, "model group 3 3"]


class Filter:
    """Numbers in groups, filtered forwards. Numbers of a group share noise and liveliness, and each group finds its own."""

    def __init__(
        self, time_s: float, values: Float[np.ndarray, " number"], noise: Float[np.ndarray, " group"], numbers: tuple[int, ...],
        config: SmoothConfig, most: Float[np.ndarray, " group"] | float = np.inf,
    ) -> None:  # fmt: skip
        """`most`: the variance of readings whose noise is one is no larger than this."""
        self.config, self.time_s, self.most = config, time_s, most
        self.count = np.array(numbers)
        self.first = np.concatenate([[0], np.cumsum(self.count)[:-1]])
        self.group = np.repeat(np.arange(len(numbers)), self.count)
        self.liveliness = np.array(config.liveliness)
        models, groups = len(self.liveliness), len(numbers)
        mean = np.zeros((models, 3, len(values)))
        mean[:, 0] = values
        spread = np.zeros((models, groups, 3, 3))
        spread[..., 0, 0] = noise**2
        spread[..., 1, 1] = self.liveliness[:, None] * config.accelerates_s
        spread[..., 2, 2] = self.liveliness[:, None] / (2 * config.accelerates_s)
        self.belief = _Belief(mean, spread)
        self.expected, self.before, self.transition = self.belief, self.belief, np.eye(3)
        self.before_s = time_s
        self._last, self._usual = values, noise**2
        # Of the innovations, fading: how wide they were expected, how wide they were, and how many there are.
        self._wide, self._found, self._seen = np.zeros((models, groups)), np.zeros((models, groups)), 0.0
        self._frames = 0

    def step(
        self,
        time_s: float,
        values: Float[np.ndarray, " number"] | None,
        noise: Float[np.ndarray, " group"] | None,
        trust: Float[np.ndarray, " group"] | None = None,
    ) -> None:
        """On to the next frame; None where nothing was read. `trust` (0 to 1) if it is known how far the reading is to be believed."""
        c, step_s = self.config, abs(time_s - self.time_s)
        F, Q = _motion(round(step_s, 5), c.moves_s, c.accelerates_s)
        expected = _Belief(F @ self.belief.mean, F @ self.belief.spread @ F.T + self.liveliness[:, None, None, None] * Q)
        self.before, self.before_s, self.expected, self.transition, self.time_s = self.belief, self.time_s, expected, F, time_s
        if values is None or noise is None:
            self.belief = expected
            return
        off = values - expected.mean[:, 0]
        square = np.add.reduceat(off**2, self.first, axis=1) / self.count
        if trust is None:
            ratio = square / (expected.spread[..., 0, 0] + noise**2)
            # Two frames tell no scale yet.
            scale = np.minimum(self._found / self._seen, self.most) + TINY if self._frames > 2 else np.inf
            trust = believed(np.minimum(ratio, self._since_last(values, noise)) / scale, c.tail)
        self._last, self._frames = values, self._frames + 1
        # A reading that is not believed is a noisier one, and says as little of how lively the hand is.
        width = expected.spread[..., 0, 0] + noise**2 / trust
        share = expected.spread[..., :, 0] / width[..., None]
        mean = expected.mean + share[:, self.group].transpose(0, 2, 1) * off[:, None]
        self.belief = _Belief(mean, expected.spread - share[..., None] * expected.spread[..., None, 0, :])
        fading = float(np.exp(-min(step_s / c.foresight_s, 1 / c.foresight_frames)))
        self._wide = fading * self._wide + np.log(width)
        self._found = fading * self._found + square / width
        self._seen = fading * self._seen + 1
        self._usual = np.exp(fading * np.log(self._usual) + (1 - fading) * np.log(noise**2))

    def _since_last(self, values: Float[np.ndarray, " number"], noise: Float[np.ndarray, " group"]) -> Float[np.ndarray, " group"]:
        """How far this reading is from the last one, squared, over twice the noise that is usual: two that agree are no slip, however little they were
        foreseen. Unsure ones must agree as well as sure ones do, or a hidden hand's would always."""
        return np.add.reduceat((values - self._last) ** 2, self.first) / self.count / (2 * np.minimum(noise**2, self._usual))

    @property
    def evidence(self) -> Float[np.ndarray, "model group"]:
        """Log likelihood of each liveliness, with the noise's scale that suits it best."""
        if self._seen == 0:
            return np.zeros_like(self._found)
        scale = np.minimum(self._found / self._seen, self.most) + TINY
        return -0.5 * (self._wide + self._seen * np.log(scale) + self._found / scale)

    def foreseen(self, time_s: float) -> Float[np.ndarray, " number"]:
        """What is expected of a time to come, or believed of the last one."""
        transition, _ = _motion(round(abs(time_s - self.time_s), 5), self.config.moves_s, self.config.accelerates_s)
        return mixed(np.einsum("j,mjn->mn", transition[0], self.belief.mean), self.evidence, self.group, self.config.alert)

    def at(self, time_s: float) -> Float[np.ndarray, " number"] | None:
        """The numbers at this time, which is that of the last frame or of the one before it; None at another."""
        if time_s == self.time_s:
            each = self.belief.mean[:, 0]
        elif time_s == self.before_s:
            gain = back_gain(self.before.spread, self.expected.spread, self.transition)
            each = smoothed_back(self.before.mean, self.expected.mean, gain, self.belief.mean, self.group)[:, 0]
        else:
            return None
        return mixed(each, self.evidence, self.group, self.config.alert)


def mixed(
    each: Float[np.ndarray, "model number"], evidence: Float[np.ndarray, "model group"], group: np.ndarray, alert: float
) -> Float[np.ndarray, " number"]:
    """The mean of what every liveliness says, by its evidence."""
    weight = np.exp(evidence - evidence.max(0))
    weight = (1 - alert) * weight / weight.sum(0) + alert / len(weight)
    return (weight[:, group] * each).sum(0)


def back_gain(
    before: Float[np.ndarray, "*frame model group 3 3"], expected: Float[np.ndarray, "*frame model group 3 3"],
    transition: Float[np.ndarray, "*frame 3 3"],
) -> Float[np.ndarray, "*frame model 3 3 group"]:  # fmt: skip
    """How far what is learnt of a frame speaks of the one before it, from that one's spread and the spread that was expected then."""
    gain = np.linalg.solve(expected, transition[..., None, None, :, :] @ before)
    return np.moveaxis(gain, -3, -1).swapaxes(-2, -3)


def smoothed_back(
    before: Float[np.ndarray, "model 3 number"], expected: Float[np.ndarray, "model 3 number"], gain: Float[np.ndarray, "model 3 3 group"],
    mean: Float[np.ndarray, "model 3 number"], group: np.ndarray,
) -> Float[np.ndarray, "model 3 number"]:  # fmt: skip
    """What was believed of a frame, given what is believed of the next one now (`mean`) and was expected of it then."""
    return before + (gain[..., group] * (mean - expected)[:, None]).sum(2)


@dataclass
class _Step:
    """What a filter thought of one frame."""

    belief: _Belief
    expected: _Belief
    transition: Float[np.ndarray, "3 3"]
    evidence: Float[np.ndarray, "model group"]


def smooth_numbers(
    time_s: Float[np.ndarray, " frame"],
    values: Float[np.ndarray, "frame number"],
    noise: Float[np.ndarray, "frame group"],
    numbers: tuple[int, ...],
    config: SmoothConfig,
    most: Float[np.ndarray, " group"] | float = np.inf,
) -> Float[np.ndarray, "frame number"]:
    """Numbers in groups, smoothed in both directions."""
    if len(time_s) < 3:
        return values.copy()
    trust: np.ndarray | None = None
    group, calm = np.repeat(np.arange(len(numbers)), numbers), values
    for _ in range(config.rounds):
        past = list(_passed(time_s, values, noise, trust, numbers, config, most))
        backwards = _passed(time_s[::-1], values[::-1], noise[::-1], None if trust is None else trust[::-1], numbers, config, most)
        future = [step.evidence for step in backwards][::-1]
        gain = back_gain(
            np.stack([a.belief.spread for a in past[:-1]]),
            np.stack([b.expected.spread for b in past[1:]]),
            np.stack([b.transition for b in past[1:]]),
        )
        calm, mean = np.empty_like(values), past[-1].belief.mean
        for k in range(len(past) - 1, -1, -1):
            if k < len(past) - 1:
                mean = smoothed_back(past[k].belief.mean, past[k + 1].expected.mean, gain[k], mean, group)
            calm[k] = mixed(mean[:, 0], past[k].evidence + future[k], group, config.alert)
        trust = _trust(time_s, values, calm, noise, numbers, config)
    return calm


def stretches(there: Bool[np.ndarray, " frame"]) -> list[tuple[int, int]]:
    """First and one past the last frame of every unbroken run."""
    edge = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(np.int8)))
    return list(zip(edge[::2].tolist(), edge[1::2].tolist(), strict=True))


def _passed(
    time_s: Float[np.ndarray, " frame"],
    values: Float[np.ndarray, "frame number"],
    noise: Float[np.ndarray, "frame group"],
    trust: Float[np.ndarray, "frame group"] | None,
    numbers: tuple[int, ...],
    config: SmoothConfig,
    most: Float[np.ndarray, " group"] | float,
) -> Iterator[_Step]:
    """One pass of a filter, in the order in which the frames are given."""
    walk = Filter(time_s[0], values[0], noise[0], numbers, config, most)
    yield _Step(walk.belief, walk.expected, walk.transition, walk.evidence)
    for k in range(1, len(time_s)):
        walk.step(time_s[k], values[k], noise[k], None if trust is None else trust[k])
        yield _Step(walk.belief, walk.expected, walk.transition, walk.evidence)


def _trust(
    time_s: Float[np.ndarray, " frame"],
    values: Float[np.ndarray, "frame number"],
    calm: Float[np.ndarray, "frame number"],
    noise: Float[np.ndarray, "frame group"],
    numbers: tuple[int, ...],
    config: SmoothConfig,
) -> Float[np.ndarray, "frame group"]:
    """How far each reading is to be believed: by its distance from the smooth way and from its neighbours, and what is usual around it."""
    first = np.concatenate([[0], np.cumsum(numbers)[:-1]])
    off = np.add.reduceat((values - calm) ** 2, first, axis=1) / numbers / noise**2
    sure = np.minimum(noise, np.median(noise, axis=0))
    step = np.add.reduceat(np.diff(values, axis=0) ** 2, first, axis=1) / numbers / (sure[1:] ** 2 + sure[:-1] ** 2)
    alone = np.minimum(np.pad(step, ((1, 0), (0, 0)), constant_values=np.inf), np.pad(step, ((0, 1), (0, 0)), constant_values=np.inf))
    near = np.exp(-np.abs(time_s[:, None] - time_s) / config.foresight_s)
    # The median of a square is .6 of its mean, or less where slips are many; those must not make themselves usual.
    usual = near @ np.minimum(off, 15 * np.median(off, axis=0)) / near.sum(1, keepdims=True) + TINY
    return believed(np.minimum(off, alone) / usual, config.tail)


def believed(off: Float[np.ndarray, "*n"], tail: float) -> Float[np.ndarray, "*n"]:
    """How far a reading is believed that is off by this, squared, where 1 is usual."""
    return np.minimum((tail + 1) / (tail + off), 1.0)


@functools.lru_cache(4096)
def _motion(step_s: float, moves_s: float, accelerates_s: float) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 3"]]:
    """How value, speed and acceleration go on for a time, and what uncertainty comes in for a liveliness of one (Van Loan 1978)."""
    drift = np.array([[0, 1, 0], [0, -1 / moves_s, 1], [0, 0, -1 / accelerates_s]])
    both = np.zeros((6, 6))
    both[:3, :3], both[3:, 3:], both[2, 5] = -drift, drift.T, accelerates_s**-2
    grown = torch.linalg.matrix_exp(torch.from_numpy(both * step_s)).numpy()
    transition = grown[3:, 3:].T
    return transition, transition @ grown[:3, 3:]


def _pieces(first: int, last: int, config: SmoothConfig) -> list[tuple[int, int, int]]:
    """A long stretch in pieces that overlap: where each begins, where it ends, and from where on it is taken."""
    step = config.piece - 2 * config.overlap
    starts = range(first, max(first + 1, last - 2 * config.overlap), step)
    return [(k, min(k + config.piece, last), k if k == first else k + config.overlap) for k in starts]


def _most(distance_m: float) -> Float[np.ndarray, "8"]:
    """Where a hand is seen errs by no more than stage 1 says, whose unit is a tenth of the hand: a hand that seems to leap about does. Of the other
    groups nothing is known."""
    return np.array([(0.1 * HAND_M / max(distance_m, 1e-3)) ** 2 if group == "ray" else np.inf for group in GROUPS])


def _numbers(rotation: Float[np.ndarray, "frame 16 3 3"], wrist_m: Float[np.ndarray, "frame 3"]) -> Float[np.ndarray, "frame 147"]:
    """A hand's numbers as GROUPS has them. Along a ray and across it a picture tells with very different certainty."""
    z = wrist_m[:, 2:].clip(1e-3)
    return np.concatenate([rotation.reshape(-1, 144), wrist_m[:, :2] / z, np.log(z)], 1)


def _hands(numbers: Float[np.ndarray, "frame 147"]) -> tuple[Float[np.ndarray, "frame 16 3 3"], Float[np.ndarray, "frame 3"]]:
    z = np.exp(numbers[:, 146:])
    rotation = nearest_rotation(torch.from_numpy(numbers[:, :144].reshape(-1, 16, 3, 3))).numpy()
    return rotation, np.concatenate([numbers[:, 144:146] * z, z], 1)
