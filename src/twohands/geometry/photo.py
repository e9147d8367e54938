"""Photos as people have them, read right: upright, RGB, 8 bits; and the camera that a photo was most likely taken with."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import ArrayLike
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from twohands.errors import UserError
from twohands.geometry.camera import Camera

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".jp2", ".ppm", ".pgm")
"""What is taken for a photo when a folder is searched; a file that is named outright may have any suffix."""
LARGEST_PHOTO_MP = 60.0
SMALLEST_SIDE_PX = 16
BEHIND_ALPHA = (128, 128, 128)
"""Transparent pixels show this grey: neither end of the scale, so that cut-out hands get no halo of the brightest contrast."""
DEFAULT_FOV_DEG = 60.0
"""Across the longer side, where neither the caller nor EXIF knows better: a 31 mm lens on 36 mm film, between a phone and a webcam."""

_DIAGONAL_35MM_FILM_MM = math.hypot(36.0, 24.0)
_MM_PER_RESOLUTION_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


@dataclass(frozen=True)
class Photo:
    """A photo ready for use."""

    image: UInt8[np.ndarray, "height width 3"]
    """RGB, upright (EXIF orientation applied)."""
    focal_px_exif: float | None
    """Focal length in pixels of `image` as EXIF tells it, None where it does not."""


def read_photo(path: Path | str) -> Photo:
    """The photo at `path`: EXIF orientation applied; transparency laid over mid grey (BEHIND_ALPHA); grey, palette, CMYK and 16-bit
    pictures turned to 8-bit RGB (16-bit grey is scaled by 1/257, not cut); the first frame of an animation.

    UserError, naming the file: missing, empty, cut short, no image, HEIC, more than 60 megapixels, less than 16 pixels a side."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is {'a folder' if path.is_dir() else 'not there'}; give the path of a photo")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is an empty file; copy the photo again")
    try:
        with warnings.catch_warnings():
            # Pillow warns about the large pictures that we refuse below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(path)
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} has more than {LARGEST_PHOTO_MP:.0f} megapixels; scale it down first") from error
    except UnidentifiedImageError as error:
        raise UserError(_why_unknown(path)) from error
    except Exception as error:
        raise UserError(f"{path} cannot be read as an image ({_one_line(error)}); save it again as JPEG or PNG") from error
    with opened:
        width, height = opened.size
        if width * height > LARGEST_PHOTO_MP * 1e6:
            raise UserError(f"{path} has {width * height / 1e6:.0f} megapixels, more than {LARGEST_PHOTO_MP:.0f}; scale it down first")
        if min(width, height) < SMALLEST_SIDE_PX:
            raise UserError(f"{path} is {width} x {height} pixels, too small to show a hand; give the photo in its original size")
        try:
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            image = _rgb(upright)
        except UserError:
            raise
        except Exception as error:
            # Pillow's decoders raise every kind of exception on broken files, from SyntaxError to struct.error.
            raise UserError(f"{path} is damaged or cut short ({_one_line(error)}); copy the photo again") from error
        return Photo(np.array(image), _exif_focal_px(opened))


def as_photo(image: np.ndarray) -> Photo:
    """An array as a photo: uint8, (height, width, 3) RGB or (height, width) grey; ValueError for anything else."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(f"the image must be uint8, (height, width, 3) or (height, width), got {image.dtype} {image.shape}; convert it")
    if min(image.shape[:2]) < SMALLEST_SIDE_PX:
        raise ValueError(f"the image is {image.shape[1]} x {image.shape[0]} pixels, too small to show a hand; give the original")
    return Photo(np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)), None)


def choose_camera(
    width_px: int,
    height_px: int,
    focal_px: float | None = None,
    fov_deg: float | None = None,
    intrinsics: ArrayLike | None = None,
    focal_px_exif: float | None = None,
) -> tuple[Camera, str]:
    """The camera of a photo, and where it comes from: "caller", else "exif", else "default" (DEFAULT_FOV_DEG over the longer side).

    The caller gives at most one of: focal length in pixels, field of view over the longer side, 3 x 3 camera matrix. Without a matrix
    the pixels are square and the principal point is the centre. UserError if they contradict one another or are no pinhole camera's."""
    given = [name for name, value in (("focal_px", focal_px), ("fov_deg", fov_deg), ("intrinsics", intrinsics)) if value is not None]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} were given together; give one of them")
    if intrinsics is not None:
        return _from_intrinsics(intrinsics), "caller"
    if fov_deg is not None:
        try:
            return Camera.from_fov(width_px, height_px, fov_deg), "caller"
        except ValueError as error:
            raise UserError(str(error)) from error
    if focal_px is not None:
        if not (math.isfinite(focal_px) and _plausible(focal_px, width_px, height_px)):
            raise UserError(f"no camera sees {width_px} x {height_px} px with a focal length of {focal_px} px; give pixels, not mm")
        return _centred(focal_px, width_px, height_px), "caller"
    if focal_px_exif is not None:
        return _centred(focal_px_exif, width_px, height_px), "exif"
    return Camera.from_fov(width_px, height_px, DEFAULT_FOV_DEG), "default"


def _centred(focal_px: float, width_px: int, height_px: int) -> Camera:
    return Camera(torch.tensor([focal_px, focal_px], dtype=torch.float32), torch.tensor([width_px / 2, height_px / 2]))


def _from_intrinsics(intrinsics: ArrayLike) -> Camera:
    matrix = np.asarray(intrinsics, dtype=np.float32)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise UserError(f"the camera matrix must be 3 x 3 finite numbers, not {matrix.shape}; give [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
    try:
        return Camera.from_matrix(torch.from_numpy(matrix))
    except ValueError as error:
        raise UserError(str(error)) from error


def _plausible(focal_px: float, width_px: int, height_px: int) -> bool:
    """A field of view between 1 and 170 degrees over the longer side."""
    half = max(width_px, height_px) / 2
    return half / math.tan(math.radians(85)) <= focal_px <= half / math.tan(math.radians(0.5))


def _rgb(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes as 8-bit RGB."""
    if image.mode.startswith("I;16"):
        return _from_levels(np.asarray(image).astype(np.float64) / 65535)
    if image.mode in ("I", "F"):
        levels = np.asarray(image).astype(np.float64)
        # 32-bit pictures do not say where white is: take the least of the usual ranges that holds them.
        whites = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0, 2.0**32 - 1)
        white = next((w for w in whites if levels.max() <= w), None)
        if white is None or not levels.min() >= 0:
            raise UserError(f"the picture's values run from {levels.min():g} to {levels.max():g}, which is no photo; save it with 8 bits")
        return _from_levels(levels / white)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        pasted = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (*BEHIND_ALPHA, 255)), pasted).convert("RGB")
    return image.convert("RGB")


def _from_levels(grey: np.ndarray) -> Image.Image:
    """Grey levels 0..1 as RGB."""
    return Image.fromarray(np.rint(grey * 255).astype(np.uint8)).convert("RGB")


def _exif_focal_px(image: Image.Image) -> float | None:
    """Focal length in pixels of the stored picture, from FocalLengthIn35mmFilm, else FocalLength and FocalPlaneXResolution.

    Equivalent focal lengths compare diagonals (CIPA DCG-001): a 4:3 phone that says 26 mm sees along its diagonal what 26 mm see along
    the 43.3 mm of film. A picture whose proportions are not those that EXIF records was cropped after the shot: its focal length is no
    longer known."""
    try:
        tags = image.getexif().get_ifd(ExifTags.IFD.Exif)
    except Exception:
        return None  # a broken EXIF block is no reason to refuse a photo that decodes; the default camera is used and named as such
    longer, shorter = max(image.size), min(image.size)
    recorded = [_number(tags.get(tag)) for tag in (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)]
    scale = 1.0
    if recorded[0] and recorded[1]:
        if abs(max(recorded) / min(recorded) / (longer / shorter) - 1) > 0.02:
            return None
        scale = longer / max(recorded)
    film_mm, lens_mm = _number(tags.get(ExifTags.Base.FocalLengthIn35mmFilm)), _number(tags.get(ExifTags.Base.FocalLength))
    per_unit, unit = _number(tags.get(ExifTags.Base.FocalPlaneXResolution)), tags.get(ExifTags.Base.FocalPlaneResolutionUnit, 2)
    if film_mm:
        focal_px = film_mm / _DIAGONAL_35MM_FILM_MM * math.hypot(longer, shorter)
    elif lens_mm and per_unit and unit in _MM_PER_RESOLUTION_UNIT:
        focal_px = lens_mm * per_unit / _MM_PER_RESOLUTION_UNIT[unit] * scale
    else:
        return None
    return focal_px if _plausible(focal_px, longer, shorter) else None


def _number(value: object) -> float:
    """A tag as a positive number; 0 where it is missing, not a number, or nonsense."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0


def _why_unknown(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return f"{path} is a HEIC photo, which this program does not read; export it as JPEG"
    return f"{path} is not an image that this program reads; give a JPEG, PNG, WebP or TIFF"


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
