"""A stored result with all that a viewer shows of it: motion, meshes before and after refinement, and pictures."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from twohands.errors import UserError
from twohands.export import motion_of_photo, read_motion, read_npz
from twohands.export.photo import jpeg, read_arrays
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.mano import load_mano
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.schema import HandMotion

FILM_PX = 640
"""Longer side of a film's pictures in the viewer."""
LONGEST_FILM = 3000
"""Pictures of a film that are kept; of a longer one every second, third, ..."""


@dataclass(frozen=True)
class StoredHands:
    """What `twohands photo` or `twohands video` wrote, ready to be shown."""

    name: str
    motion: HandMotion
    model: HandModel
    before: HandParameters | None
    """Axes (frame, person, hand): before stage 2, where that is known and differs."""
    pictures: tuple[bytes, ...]
    """JPEGs; none, one for all frames, or more."""
    picture_of: tuple[int, ...]
    """Which of them belongs to each frame."""

    def picture(self, frame: int) -> UInt8[np.ndarray, "height width 3"] | None:
        """What was photographed, if it is known."""
        if not self.pictures:
            return None
        return np.asarray(Image.open(io.BytesIO(self.pictures[self.picture_of[frame]])).convert("RGB"))

    def vertices_m(self, frame: int, before: bool = False) -> Float[Tensor, "person hand vert 3"]:
        """Meshes of a frame, absent hands' included."""
        parameters = self.before if before and self.before is not None else self.motion.parameters
        return self.model.pose_hands(parameters[frame]).mesh().vertices_m


def open_result(path: Path, film: Path | None = None, mano: Path | None = None) -> StoredHands:
    """A result's NPZ. `film` is the video that it was made from, `mano` the folder of MANO's files where the hands are MANO's. UserError if a file
    is missing or does not belong."""
    if path.suffix.lower() != ".npz" or path.is_dir():
        raise UserError(f"{path} is no result; give the NPZ file that `twohands photo` or `twohands video` wrote")
    is_film = str(read_arrays(path).get("kind", "photo")) == "video"
    before: HandParameters | None = None
    pictures: tuple[bytes, ...] = ()
    if is_film:
        motion = read_motion(path)
    else:
        photo = read_npz(path)
        motion = motion_of_photo(photo)
        if photo.pose_before is not None and bool(photo.refined.any()):
            assert photo.shape_before is not None
            assert photo.translation_before_m is not None
            numbers = (photo.pose_before, photo.shape_before, photo.translation_before_m)
            before = HandParameters(*(torch.from_numpy(np.ascontiguousarray(n))[None] for n in numbers))
        if photo.photo_jpeg is not None:
            pictures = (photo.photo_jpeg.tobytes(),)
    if motion.hand_model == "mano" and mano is None:
        raise UserError(f"the hands in {path} are MANO's; say with --mano where MANO_LEFT.pkl and MANO_RIGHT.pkl are")
    model = load_bundled_hand() if motion.hand_model != "mano" or mano is None else load_mano(mano)
    picture_of = (0,) * len(motion.time_s)
    if film is not None:
        if not is_film:
            raise UserError(f"{path} is the result of a photo, which it holds already; leave --film out")
        pictures, picture_of = _pictures(film, motion)
    return StoredHands(path.name, motion, model, before, pictures, picture_of)


def _pictures(film: Path, motion: HandMotion) -> tuple[tuple[bytes, ...], tuple[int, ...]]:
    """A film's pictures, small, and the nearest in time to each frame of the motion."""
    from twohands.video.media import open_source

    step = max(1, -(-len(motion.time_s) // LONGEST_FILM))
    pictures, times = [], []
    for index, frame in enumerate(open_source(str(film)).frames()):
        if frame.image is None or index % step:
            continue
        height, width = frame.image.shape[:2]
        if abs(width * motion.height_px - height * motion.width_px) > 0.02 * width * motion.height_px:
            raise UserError(
                f"{film} has {width} x {height} pixels, the result {motion.width_px} x {motion.height_px}; give the film it was made from"
            )
        pictures.append(jpeg(frame.image, FILM_PX, 80))
        times.append(frame.time_s)
        if index >= len(motion.time_s):
            break
    if not pictures:
        raise UserError(f"there is no picture in {film}; give the film that the result was made from")
    nearest = np.abs(np.array(times)[None] - motion.time_s.numpy()[:, None]).argmin(1)
    return tuple(pictures), tuple(nearest.tolist())
