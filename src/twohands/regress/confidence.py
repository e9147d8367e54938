"""What an error scale says about a keypoint's distance."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_NODES, _WEIGHTS = (torch.from_numpy(a).float() for a in np.polynomial.legendre.leggauss(24))


def laplace_distance_within(radius: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Probability that a point whose x and y err independently, each by a Laplace of scale 1, lies nearer than `radius`: what a keypoint's predicted
    error scale says of its distance. (1 - exp(-radius), a single coordinate's, is more than that.)

    1 - exp(-r) - the integral over a from 0 to pi / 2 of r sin a exp(-r (cos a + sin a)), by 24 Gauss points."""
    angle = (_NODES + 1) * torch.pi / 4
    r = radius[..., None]
    rest = (r * angle.sin() * torch.exp(-r * (angle.cos() + angle.sin())) * _WEIGHTS).sum(-1) * torch.pi / 4
    return 1 - torch.exp(-radius) - rest


def confidence_of_distance(of_coordinate: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """From the probability that one coordinate errs by less than some radius, as stage 1 states it and stage 2 reads it, to the probability that
    the keypoint lies within that radius."""
    return laplace_distance_within(-torch.log((1 - of_coordinate).clamp_min(1e-6)))


def error_of_confidence(of_coordinate: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The error scale, in tenths of the hand's size, of a keypoint of which stage 1 states that one coordinate errs by less than a tenth with this
    probability."""
    return -1 / torch.log1p(-of_coordinate.clamp(0.02, 0.9999))
