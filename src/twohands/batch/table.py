"""The one table that a corpus becomes: a row a hand, and a row for each picture that shows none or could not be done."""

from importlib import metadata
from pathlib import Path
from typing import Any

from twohands.batch.sources import Picture, Unit
from twohands.errors import from_extra
from twohands.manifest import beside
from twohands.schema import PhotoResult

with from_extra("batch", "the table of a corpus"):
    import pyarrow as pa
    import pyarrow.parquet as pq

FORMAT_VERSION = "1"
SIDES = ("left", "right")


def _grid(rows: int, columns: int) -> pa.DataType:
    return pa.list_(pa.list_(pa.float32(), columns), rows)


SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), False, {"about": "the folder that was named"}),
        pa.field("file", pa.string(), False, {"about": "path below it"}),
        pa.field("frame", pa.int32(), True, {"about": "number of the video's frame from 0, null for a photo"}),
        pa.field("time_s", pa.float64(), True, {"about": "the frame's time, null for a photo"}),
        pa.field("width_px", pa.int32(), True, {"about": "of the upright picture"}),
        pa.field("height_px", pa.int32(), True),
        pa.field("error", pa.string(), True, {"about": "why this picture could not be done; all that follows is then null"}),
        pa.field("hands_in_picture", pa.int16(), True, {"about": "0: this row only says that no hand was found"}),
        pa.field("person", pa.int16(), True, {"about": "hands with the same number belong together"}),
        pa.field("side", pa.string(), True, {"about": "left or right, the person's own; null where there is no hand"}),
        pa.field("score", pa.float32(), True, {"about": "confidence, 0 to 1"}),
        pa.field("box_xyxy_px", pa.list_(pa.float32(), 4), True, {"about": "tight box of keypoints_xy"}),
        pa.field("keypoints_xy", _grid(21, 2), True, {"about": "pixels, OPENPOSE21"}),
        pa.field("keypoints_m", _grid(21, 3), True, {"about": "camera frame, OpenCV axes"}),
        pa.field("keypoint_confidence", pa.list_(pa.float32(), 21), True),
        pa.field("pose", _grid(16, 3), True, {"about": "rotation vectors, MANO16, flat rest pose"}),
        pa.field("shape", pa.list_(pa.float32(), 10), True),
        pa.field("translation_m", pa.list_(pa.float32(), 3), True, {"about": "the wrist lies at J0(shape) + translation"}),
        pa.field("focal_px", pa.list_(pa.float32(), 2), True),
        pa.field("principal_px", pa.list_(pa.float32(), 2), True),
        pa.field("camera_source", pa.string(), True, {"about": "caller, exif or default"}),
        pa.field("prior_source", pa.string(), True, {"about": "encoder or teacher"}),
        pa.field("penetration_cm3", pa.float32(), True, {"about": "volume shared with the person's other hand, after refinement"}),
        pa.field("penetration_before_cm3", pa.float32(), True),
        pa.field("refined", pa.bool_(), True, {"about": "stage 2 ran and its result was taken"}),
        pa.field("seconds", pa.float32(), True, {"about": "time that the picture took"}),
    ]
)
"""Columns, types and meanings; docs/BATCH.md prints them."""

Row = dict[str, Any]


def _place(unit: Unit, picture: Picture | None) -> Row:
    row: Row = dict.fromkeys(SCHEMA.names)
    row |= {"source": unit.source, "file": unit.file}
    if picture is not None:
        row |= {"frame": picture.frame, "time_s": picture.time_s}
    return row


def rows_of(unit: Unit, picture: Picture, result: PhotoResult) -> list[Row]:
    """A row a hand, or the one row that says that there is none."""
    place = _place(unit, picture)
    place |= {"width_px": result.width_px, "height_px": result.height_px, "prior_source": result.prior_source}
    place |= {"seconds": result.seconds.get("total")}
    hands = [(person, hand) for person in result.people for hand in (0, 1) if person.hand_present[hand]]
    place["hands_in_picture"] = len(hands)
    rows = []
    for person, hand in hands:
        own = {
            "person": person.person,
            "side": SIDES[hand],
            "score": float(person.score[hand]),
            "pose": person.parameters.pose[hand].tolist(),
            "shape": person.parameters.shape[hand].tolist(),
            "translation_m": person.parameters.translation_m[hand].tolist(),
            "focal_px": person.camera.focal_px.tolist(),
            "principal_px": person.camera.principal_px.tolist(),
            "camera_source": person.camera_source,
            "penetration_cm3": person.penetration_cm3,
            "penetration_before_cm3": person.penetration_before_cm3,
            "refined": person.refined,
        }
        named = ("box_xyxy_px", "keypoints_xy", "keypoints_m", "keypoint_confidence")
        rows.append(place | own | {name: getattr(person, name)[hand].tolist() for name in named})
    return rows or [place]


def row_of_failure(unit: Unit, picture: Picture | None, error: str) -> Row:
    """The row of a picture, or of a whole file, that could not be done."""
    row = _place(unit, picture) | {"error": error}
    if picture is None:
        row["frame"] = unit.first_frame
    return row


def write_rows(path: Path, rows: list[Row]) -> None:
    """One Parquet file; it appears whole or not at all."""
    facts = {b"twohands_format": FORMAT_VERSION.encode(), b"twohands_version": metadata.version("twohands").encode()}
    table = pa.Table.from_pylist(rows, SCHEMA.with_metadata(facts))
    with beside(path) as part:
        pq.write_table(table, part, compression="zstd")


def read_failures(folder: Path) -> list[tuple[str, int | None, str]]:
    """(file, frame, error) of everything in the folder that could not be done."""
    import pyarrow.dataset as ds

    files = sorted(map(str, folder.glob("*.parquet")))
    if not files:
        return []
    table = ds.dataset(files, schema=SCHEMA).to_table(["source", "file", "frame", "error"], filter=ds.field("error").is_valid())
    return [(f"{row['source']}/{row['file']}", row["frame"], row["error"]) for row in table.to_pylist()]
