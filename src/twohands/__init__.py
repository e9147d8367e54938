"""Two interacting hands in 3D from one photo."""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twohands.errors import UserError
    from twohands.export import read_npz, write_glb, write_npz, write_obj, write_predictions
    from twohands.geometry.camera import Camera
    from twohands.hands.bundled import load_bundled_hand
    from twohands.hands.parameters import HandParameters
    from twohands.pipeline import Pipeline, load
    from twohands.schema import PhotoResult, TwoHands
    from twohands.view.overlay import draw_overlay, draw_view, side_by_side, write_picture

_HOME = {
    "Camera": "twohands.geometry.camera",
    "HandParameters": "twohands.hands.parameters",
    "PhotoResult": "twohands.schema",
    "Pipeline": "twohands.pipeline",
    "TwoHands": "twohands.schema",
    "UserError": "twohands.errors",
    "draw_overlay": "twohands.view.overlay",
    "draw_view": "twohands.view.overlay",
    "load": "twohands.pipeline",
    "load_bundled_hand": "twohands.hands.bundled",
    "read_npz": "twohands.export",
    "side_by_side": "twohands.view.overlay",
    "write_glb": "twohands.export",
    "write_npz": "twohands.export",
    "write_obj": "twohands.export",
    "write_picture": "twohands.view.overlay",
    "write_predictions": "twohands.export",
}
"""Where each public name lives. They are fetched when they are first asked for, since PyTorch alone takes a second to import."""

__all__ = [
    "Camera",
    "HandParameters",
    "PhotoResult",
    "Pipeline",
    "TwoHands",
    "UserError",
    "__version__",
    "draw_overlay",
    "draw_view",
    "load",
    "load_bundled_hand",
    "read_npz",
    "side_by_side",
    "write_glb",
    "write_npz",
    "write_obj",
    "write_picture",
    "write_predictions",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("twohands")
    if name not in _HOME:
        raise AttributeError(f"module 'twohands' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
