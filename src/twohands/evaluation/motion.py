"""Metrics of hands over time, as pure functions of numpy arrays: how a motion trembles, how its accelerations err, whether hands change places.

Positions in millimetres, times in seconds; frames that are not valid may hold NaN. A mean over nothing is NaN."""

import itertools

import numpy as np
from jaxtyping import Bool, Float

Track = Float[np.ndarray, "frame *batch 3"]


def acceleration_error_m_s2(
    predicted_mm: Track, true_mm: Track, time_s: Float[np.ndarray, " frame"], valid: Bool[np.ndarray, " frame"]
) -> float:
    """Mean distance of the accelerations, by second differences, over the frames whose neighbours are valid too. 1 mm/s2 is 0.001 m/s2."""
    return _mean_norm(_difference(predicted_mm - true_mm, time_s, 2), valid, 2) / 1000


def jitter_m_s3(predicted_mm: Track, time_s: Float[np.ndarray, " frame"], valid: Bool[np.ndarray, " frame"]) -> float:
    """Mean magnitude of the jerk, by third differences: a still hand has none, a trembling one has much (cf. Flash and Hogan 1985). A true
    motion has some: compare with that of the truth."""
    return _mean_norm(_difference(predicted_mm, time_s, 3), valid, 3) / 1000


def swapped_frames(
    predicted_xy: Float[np.ndarray, "frame hand 21 2"], true_xy: Float[np.ndarray, "frame hand 21 2"], valid: Bool[np.ndarray, "frame hand"]
) -> Bool[np.ndarray, " frame"]:
    """Frames in which the hands, sides exchanged, would lie less than half as far from the truth. `valid`: predicted and annotated.

    A frame with one predicted hand counts as swapped if that hand lies nearer to the true hand of the other side by the same rule."""
    distance = np.linalg.norm(predicted_xy[:, :, None] - true_xy[:, None], axis=-1).mean(-1)
    own, other = distance[:, (0, 1), (0, 1)], distance[:, (0, 1), (1, 0)]
    either = valid.any(1)
    cost, exchanged = np.where(valid, own, 0).sum(1), np.where(valid, other, 0).sum(1)
    return either & (exchanged < 0.5 * cost)


def switches(labels: list[int | None]) -> int:
    """How often a label (the person number that a true person is given) changes; None, where there is none, is no change."""
    known = [label for label in labels if label is not None]
    return sum(a != b for a, b in itertools.pairwise(known))


def _difference(values: Track, time_s: Float[np.ndarray, " frame"], order: int) -> Track:
    """Divided differences: derivatives also where frames are unevenly spaced."""
    for k in range(1, order + 1):
        span = (time_s[k:] - time_s[:-k]) / k
        values = np.diff(values, axis=0) / span.reshape(-1, *[1] * (values.ndim - 1))
    return values


def _mean_norm(values: Track, valid: Bool[np.ndarray, " frame"], order: int) -> float:
    whole = np.lib.stride_tricks.sliding_window_view(valid, order + 1).all(-1) if len(valid) > order else np.zeros(0, bool)
    return float(np.linalg.norm(values[whole], axis=-1).mean()) if whole.any() else float("nan")
