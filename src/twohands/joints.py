"""Named joint orders and the conversions between them.

MANO16 are the rotating joints; OPENPOSE21 are the keypoints that every dataset annotates (16 joints and 5 fingertips). What a
"fingertip" is belongs to the hand model (`tip_vertices`), since conventions differ by up to 5 mm between code bases.
"""

MANO16 = (
    "wrist",
    "index1", "index2", "index3",
    "middle1", "middle2", "middle3",
    "pinky1", "pinky2", "pinky3",
    "ring1", "ring2", "ring3",
    "thumb1", "thumb2", "thumb3",
)  # fmt: skip
MANO16_PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
OPENPOSE21 = ("wrist", *(f"{finger}{k}" for finger in FINGERS for k in (1, 2, 3, 4)))
OPENPOSE21_PARENTS = (-1, *(0 if k == 1 else 4 * f + k - 1 for f in range(5) for k in (1, 2, 3, 4)))
OPENPOSE21_BONES = tuple((OPENPOSE21_PARENTS[j], j) for j in range(1, 21))
MIDDLE_MCP = OPENPOSE21.index("middle1")

# Index into the concatenation of the 16 MANO joints and the 5 fingertips (in FINGERS order), one entry per OPENPOSE21 keypoint.
OPENPOSE21_FROM_MANO16_AND_TIPS = tuple(16 + FINGERS.index(name[:-1]) if name.endswith("4") else MANO16.index(name) for name in OPENPOSE21)

# The orders in which data sets write the joints of one hand. A name means the same joint everywhere; those that OPENPOSE21 lacks have their own.
INTERHAND21 = (*(f"{finger}{k}" for finger in FINGERS for k in (4, 3, 2, 1)), "wrist")
REINTERHAND24 = (
    "wrist",
    *(f"thumb{k}" for k in range(5)),
    *(f"{finger}{k}" for finger in ("index", "middle", "ring") for k in (1, 2, 3, 4)),
    *(f"pinky{k}" for k in range(5)),
    "forearm",
)
"""Re:InterHand's: a fifth joint (0) in the palm for thumb and little finger, and a stub of the forearm that is not annotated."""
HO3D21 = (*MANO16, *(f"{finger}4" for finger in FINGERS))


def order_index(order: tuple[str, ...], wanted: tuple[str, ...] = OPENPOSE21) -> tuple[int, ...]:
    """Where each of the `wanted` joints stands in `order`; ValueError naming a joint that it lacks."""
    if missing := [name for name in wanted if name not in order]:
        raise ValueError(f"the joint order {order[:3]}... has no {missing}; it has {', '.join(order)}")
    return tuple(order.index(name) for name in wanted)
