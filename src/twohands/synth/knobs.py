"""What scenes may show: every range of the engine, with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

from twohands.errors import UserError

BLOCK = 2000
"""Scenes whose seeds share a block of this size draw from one pool of finger poses and, if they are new, of interacting pairs."""


@dataclass(frozen=True)
class SceneKnobs:
    """Every range of the engine. Shares are probabilities."""

    framing: Literal["close", "wide", "person", "ego"] = "close"
    """close: the hands fill the picture (stage 1); wide: hands somewhere in a larger scene (detector); person: somebody 1 to 3 m away who
    shows or does something with the hands; ego: one's own hands before one's eyes."""
    size_px: int = 256
    """Side of the picture: a crop of 96 to 128 px from it loses nothing."""
    two_hands: float = 0.6
    """Two hands of one person do something; in the rest one does, and the other is absent, hangs or is behind the back."""
    interacting: float = 0.55
    """Of the two-hand scenes: hands in contact or nearly so, from the interaction sampler."""
    bodies: float = 0.5
    """Of the close scenes: hands that belong to a whole body. Networks take faces and shirts for hands unless they have seen them."""
    bodies_wide: float = 0.8
    """The same of wide scenes."""
    no_hand: float = 0.12
    """Wide and person scenes without any hand: faces, feet, elbows and hands behind backs, so that the detector learns to find nothing."""
    others: float = 0.4
    """Of the person scenes: one or two more people, half of whom the border cuts off."""
    fill_close: tuple[float, float] = (0.4, 0.95)
    """Extent of the hands' keypoints over the picture's side; near 1 the border cuts fingers off."""
    fill_wide: tuple[float, float] = (0.06, 0.45)
    """The same for one hand in a wide scene without a body: 15 to 115 px of 256."""
    view_m: tuple[float, float] = (0.42, 2.3)
    """Height of what a person scene shows, log-uniform: from a bust to a standing person; a hand of 18 cm is then 110 to 20 px of 256."""
    fov_deg: tuple[float, float] = (18.0, 75.0)
    """Tele to wide angle over the picture's side, log-uniform."""
    fov_ego_deg: tuple[float, float] = (50.0, 100.0)
    """Head cameras are wide."""
    frontal: float = 0.75
    """Of the person scenes: the body turned to the camera within about 35 degrees; the rest from any side."""
    upright: float = 0.5
    """Hands whose fingers point up, more or less; the rest is turned by anything."""
    forearm: float = 0.88
    """Hands without a body are seldom seen without one."""
    sleeve: float = 0.45
    """Of those forearms."""
    bare: float = 0.2
    """Of the bodies: strapless tops and shorts. Bare arms, shoulders and legs are what a network takes for hands, until it has seen them."""
    held: float = 0.2
    """A cylinder, box, ball, pen, phone or cup in the hand."""
    occluder: float = 0.15
    """A thing in front of the hands."""
    glove: float = 0.03
    ring: float = 0.12
    watch: float = 0.15
    tattoo: float = 0.05
    scar: float = 0.07
    """Of the hands: an old cut or burn. Lines on the skin that are no crease."""
    hair: float = 0.4
    """Of the people: hairs to be seen on the backs of hands and fingers and on forearms, as most men and some women have them; at 256 px dark
    strokes, further away a darker skin."""
    glasses: float = 0.28
    """Of the heads that are seen: a quarter to a half of grown people wear some, a third of these dark here."""
    hat: float = 0.18
    """Of the heads that are seen: caps, hats with brims, woollen ones, helmets; brims and rims are long thin things near faces, as fingers are."""
    others_hands: float = 0.6
    """Of the other people: those who do something with their hands, which are annotated as extra hands; a photo often shows several pairs."""
    shape_sigma: float = 1.0
    """Spread of the hands' shape coefficients."""
    size_noise: float = 0.04
    """Spread (log) of a body's size given its hands'."""
    clutter: tuple[int, int] = (0, 4)
    """Limbs, boxes, balls and poles behind the hands of a scene other than close."""
    pasted: float = 0.18
    """Pictures with a flat patch before everything, over the hands too."""
    poses: Literal["varied", "simple"] = "varied"
    """Fingers of hands that do not come from the interaction sampler; simple: flat, spread, relaxed and fist alone. This and the four below exist to
    measure what a family of variety is worth: the rest of a seed's scene stays as it is."""
    light: Literal["varied", "plain"] = "varied"
    """plain: always the same overcast sky and lamp."""
    lit_from_behind: float = 0.5
    """Scenes lit by what is seen behind them: by the environment map it was taken from, or by a guess from the picture's own light and colours.
    Hands that are lit as their room is are what photos show; the other half keeps networks from relying on it."""
    faults: Literal["varied", "none"] = "varied"
    """Of the camera. none: well exposed, sharp, without noise, motion and JPEG."""
    background: Literal["varied", "plain"] = "varied"
    """plain: a wall of one colour; photos are then not looked at."""
    pairs: Literal["shipped", "fresh"] = "shipped"
    """Interacting pairs. shipped: from some 2,000 that come with the package and their mirror images; they cost nothing and are the same on every
    machine. fresh: from 128 that the sampler makes for each block of 2,000 scenes (2.6 ms a scene), so that no other block shows them: for scenes to
    measure with, as the sealed benchmarks are."""
    finish: Literal["quick", "thorough"] = "quick"
    """quick: surfaces are shaded once a pixel inside and thrice over at borders, and noise is cut from a stock. thorough: everything is shaded
    2.25 times a pixel and noise is new, as the sealed benchmarks were rendered. It changes pixels alone, and most of them by little."""


CLASPED = SceneKnobs(framing="close", two_hands=0.96, interacting=1.0)
"""Hands that touch or hold each other: rare by the usual odds, and what a network finds hardest."""

SHARES = tuple(f.name for f in fields(SceneKnobs) if f.type is float and f.name not in ("shape_sigma", "size_noise"))
"""Knobs that are probabilities."""


def with_shares(knobs: SceneKnobs, shares: Sequence[tuple[str, float]]) -> SceneKnobs:
    """The knobs with other shares. UserError for a name that is none of SHARES, or a value that is no probability."""
    for name, value in shares:
        if name not in SHARES:
            raise UserError(f"scenes have no share {name!r}; choose from {', '.join(SHARES)}")
        if not 0 <= value <= 1:
            raise UserError(f"share {name} ({value:g}) is out of range; give 0 to 1")
    return replace(knobs, **dict(shares))  # type: ignore[arg-type]
