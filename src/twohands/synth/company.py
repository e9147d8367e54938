"""Other people of a scene."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from twohands.geometry.camera import Camera
from twohands.hands.bundled import load_hand_asset
from twohands.synth.body import load_body, rotation
from twohands.synth.chance import sign
from twohands.synth.figures import ExtraHand, Weld, body_piece, hand_piece, meet_colours
from twohands.synth.headwear import head_wear
from twohands.synth.knobs import BLOCK, SceneKnobs
from twohands.synth.people import HIDDEN, IDLE, SINGLE, Person, pose_person
from twohands.synth.posing import mesh
from twohands.synth.skin import Skin
from twohands.synth.things import Piece
from twohands.synth.two_hands import moved, poses_of_block


@dataclass
class Company:
    """Other people: their pieces, where those are welded, and their hands; numbers of pieces count from their own first one."""

    pieces: list[Piece]
    welds: list[Weld]
    hands: list[ExtraHand]

    def place(self, pieces: list[Piece], welds: list[Weld]) -> list[ExtraHand]:
        """Adds them to a scene's lists; their hands with the numbers that their pieces have there."""
        first = len(pieces)
        pieces.extend(self.pieces)
        welds.extend(replace(w, first=w.first + first, second=w.second + first) for w in self.welds)
        return [replace(hand, piece=hand.piece + first) for hand in self.hands]


def company_of(knobs: SceneKnobs, rng: np.random.Generator, extra: np.random.Generator, seed: int, camera: Camera, depth: float) -> Company:
    """More people, some with their hands behind them, some who do something with them (these are drawn by `extra`)."""
    company = Company([], [], [])
    for _ in range(int(rng.integers(1, 3))):
        shape = torch.from_numpy(rng.normal(0, 0.7, (1, 10))).float().expand(2, 10)
        busy = extra.random() < knobs.others_hands
        if busy:
            pool = poses_of_block(seed // BLOCK, knobs.poses == "simple")
            shares = ((SINGLE, SINGLE), (SINGLE, IDLE), (IDLE, SINGLE))[int(extra.integers(3))]
            person = pose_person(extra, load_body(coarse=True), 0.06, pool[extra.integers(len(pool), size=2)].clone(), shape, shares)
        else:
            person = pose_person(rng, load_body(coarse=True), 0.06, torch.zeros(2, 16, 3), shape, (HIDDEN, HIDDEN))
        if person is None:
            continue
        yaw = rotation(np.array([0, rng.normal(0, 0.45), 0]))
        z = depth * rng.uniform(0.95, 1.8)
        reach = knobs.size_px / 2 / float(camera.focal_px[0]) * z
        x = sign(rng) * (rng.uniform(0.35, 1.1) * reach + 0.15)
        turned = np.diag([1.0, -1, -1]) @ yaw
        place = np.array([x, rng.normal(0, 0.15), z]) - turned @ person.posture.at["chest"]
        skin = Skin.draw(rng, 0)
        if busy:
            _add_hands(replace(knobs, bare=0), extra, person, skin, turned, place, company)
        else:
            company.pieces.append(body_piece(replace(knobs, bare=0), rng, person, skin, (None, None), turned, place, headless=False))
        company.pieces.extend(head_wear(extra, person, turned, place, knobs.glasses, knobs.hat))
    return company


def _add_hands(
    knobs: SceneKnobs, rng: np.random.Generator, person: Person, skin: Skin, R: np.ndarray, offset: np.ndarray, company: Company
) -> None:
    """One of the other people with both hands. Their pieces are no hands of the scene's pair: maps show things there."""
    posed = mesh(moved(person.parameters, torch.from_numpy(R).float(), torch.from_numpy(offset).float()))
    vertices = posed.vertices_m.numpy()
    loop = load_hand_asset().wrist_loop.numpy()
    loops = tuple((vertices[h, loop].astype(np.float64) - offset) @ R for h in (0, 1))
    body, first = body_piece(knobs, rng, person, skin, loops, R, offset, headless=False), len(company.pieces)
    company.pieces.append(body)
    for h in (0, 1):
        own = hand_piece(knobs, rng, vertices[h], h, skin, capped=False)
        meet_colours(person.posture.figure.body, body, own, h, loop)
        company.welds.append(Weld(len(company.pieces), first, loop, person.posture.figure.body.loops[h]))
        company.hands.append(ExtraHand(h, posed.keypoints_m[h].numpy(), len(company.pieces)))
        company.pieces.append(replace(own, hand=-1))
