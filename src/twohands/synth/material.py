"""What things are made of: a colour, a pattern on it, and how it shines. Patterns live in rest coordinates, so they move with the skin."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from twohands.synth.chance import pick

PLAIN, STRIPES, CHECKS, DOTS, BLOTCHES, STRANDS, PRINT, LINE, HAIRS = range(9)
WIDTH = 16
"""Numbers a material is packed into."""
LAYERS = 5
"""Most layers that lie on the ground material of a piece."""


@dataclass(frozen=True)
class Material:
    """One kind of surface; colours are linear light."""

    colour: Float[np.ndarray, "3"] | None
    """None: the vertices have colours of their own."""
    second: Float[np.ndarray, "3"] | None = None
    pattern: int = PLAIN
    per_m: float = 40.0
    """Periods of the pattern a metre."""
    axis: Float[np.ndarray, "3"] | None = None
    grain: float = 0.0
    """Amplitude of fine noise."""
    grain_per_m: float = 150.0
    specular: float = 0.02
    gloss: float = 8.0
    soft: float = 0.0
    """How far red light runs under the surface (skin)."""

    def pack(self, out: Float32[np.ndarray, "16"]) -> None:
        """Writes the form that the shading reads."""
        out[:3] = 1 if self.colour is None else self.colour
        out[3:6] = out[:3] if self.second is None else self.second
        out[8:11] = (0, 1, 0) if self.axis is None else self.axis
        out[6], out[7] = self.pattern, self.per_m
        out[11:] = self.grain, self.grain_per_m, self.specular, self.gloss, self.soft


GREYS = (0.02, 0.05, 0.12, 0.3, 0.55, 0.8)


def cloth_colour(rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """A dye: greys, blacks, whites, blues, and now and then anything; some close to skin."""
    kind = rng.random()
    if kind < 0.38:
        colour = np.repeat(GREYS[rng.integers(6)] * rng.uniform(0.7, 1.25), 3) * rng.uniform(0.94, 1.06, 3)
    elif kind < 0.58:
        colour = np.array([0.03, 0.06, 0.15]) * rng.uniform(0.4, 3.2) * rng.uniform(0.8, 1.2, 3)
    elif kind < 0.7:
        colour = np.array([0.6, 0.38, 0.26]) * rng.uniform(0.25, 1.4) * rng.uniform(0.9, 1.1, 3)
    else:
        colour = rng.random(3) ** 1.8
    return colour.clip(0.008, 0.92)


def cloth(rng: np.random.Generator) -> Material:
    """Cotton, wool, denim, prints."""
    colour = cloth_colour(rng)
    kind = rng.random()
    pattern = PLAIN if kind < 0.6 else (STRIPES, CHECKS, DOTS, BLOTCHES, PRINT)[int(rng.integers(5))]
    per_m = float(np.exp(rng.uniform(np.log(8), np.log(60))))
    axis = [np.array([0, 1.0, 0]), np.array([1.0, 0, 0]), np.array([0.7, 0.7, 0])][pick(rng, (0.5, 0.35, 0.15))]
    return Material(
        colour, cloth_colour(rng), pattern, per_m, axis, rng.uniform(0.03, 0.16), rng.uniform(40, 400), rng.uniform(0, 0.04), 6.0
    )
