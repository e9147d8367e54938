"""A stored result in the browser, by viser: the hands in front of what was photographed, over time. The only importer of viser."""

import io
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from PIL import Image
from trimesh.visual.material import PBRMaterial

from twohands.errors import UserError, from_extra
from twohands.geometry.mesh import vertex_normals
from twohands.joints import OPENPOSE21_BONES
from twohands.palette import HAND_RGB
from twohands.view.heat import STEPS, scale_colours, touch_of, touch_share
from twohands.web.stored import StoredHands

SIDES = ("left", "right")
BEHIND_M = 0.03
"""The picture stands this far behind the farthest point of any hand."""
FRUSTUM_M = 0.06
INITIAL_FOV_RAD = 0.9
SCREENSHOT_PX = (1280, 720)


@dataclass
class Shown:
    """What is shown; each a toggle."""

    mesh: bool = True
    joints: bool = False
    picture: bool = True
    camera: bool = True
    heat: bool = False
    before: bool = False


@dataclass
class ResultViewer:
    """A running viewer. `show_frame` and `shown` may be used from a program as well as through the page."""

    stored: StoredHands
    server: Any
    shown: Shown = field(default_factory=Shown)
    frame: int = 0
    _meshes: dict[str, Any] = field(default_factory=dict)
    _busy: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        motion = self.stored.motion
        fx, fy = motion.camera.focal_px.tolist()
        self._fov = 2 * math.atan(motion.height_px / 2 / fy)
        everywhere = motion.keypoints_m[motion.hand_present]
        points = everywhere.flatten(0, 1) if len(everywhere) else torch.tensor([[-0.1, -0.1, 0.5], [0.1, 0.1, 0.7]])
        low, high = points.amin(0).numpy(), points.amax(0).numpy()
        self._middle = (low + high) / 2
        self._far_m = float(high[2] + 0.6 * (high[2] - low[2])) + BEHIND_M
        self._size_m = (motion.width_px / fx * self._far_m, motion.height_px / fy * self._far_m)
        cx, cy = motion.camera.principal_px.tolist()
        self._centre = ((motion.width_px / 2 - cx) / fx * self._far_m, (motion.height_px / 2 - cy) / fy * self._far_m, self._far_m)
        scene = self.server.scene
        scene.set_up_direction("-y")
        # No environment map: it would be fetched, and the light of the pictures here is the same everywhere.
        scene.configure_environment_map(hdri=None)
        scene.configure_default_lights(True, cast_shadow=False)
        scene.add_light_ambient("/light/everywhere", intensity=0.9)
        scene.add_light_directional("/light/lamp", intensity=1.6, position=(-0.5, -0.8, -0.6))
        # From beside the camera, so that the hands, the picture behind them and the camera are seen as three things.
        distance = max(0.7 * float(np.linalg.norm(self._middle)), 1.5 * float(np.linalg.norm(high - low)))
        self.server.initial_camera.position = tuple(self._middle + distance * np.array([0.5, -0.3, -0.8]))
        self.server.initial_camera.look_at = tuple(self._middle)
        self.server.initial_camera.up = (0.0, -1.0, 0.0)
        self.server.initial_camera.fov = INITIAL_FOV_RAD
        self.server.initial_camera.near = 0.01
        self._add_controls()
        self.show_frame(0)

    def show_frame(self, frame: int) -> None:
        """Shows one frame as `shown` says."""
        with self._busy, self.server.atomic():
            self.frame = frame
            self._show_hands()
            self._show_picture()
            self._words.content = self._told()

    def _show_hands(self) -> None:
        motion, model, shown = self.stored.motion, self.stored.model, self.shown
        present = motion.hand_present[self.frame]
        vertices = self.stored.vertices_m(self.frame, shown.before)
        keypoints = motion.keypoints_m[self.frame]
        if shown.before and self.stored.before is not None:
            keypoints = model.pose_hands(self.stored.before[self.frame]).keypoints()
        for n, number in enumerate(motion.person):
            heat = touch_share(touch_of(vertices[n], present[n], model)) if shown.heat and shown.mesh else None
            for hand, side in enumerate(SIDES):
                name, there = f"/hands/person{number}_{side}", bool(present[n, hand])
                own = None if heat is None else heat[hand]
                self._show_mesh(f"{name}/mesh", vertices[n, hand].numpy(), model.faces[hand].numpy(), hand, own, there and shown.mesh)
                self._show_joints(name, keypoints[n, hand].numpy(), hand, there and shown.joints)

    def _show_mesh(
        self,
        name: str,
        vertices: Float[np.ndarray, "vert 3"],
        faces: np.ndarray,
        hand: int,
        heat: Float[np.ndarray, "vert"] | None,
        on: bool,
    ) -> None:
        scene = self.server.scene
        known = self._meshes.get(name)
        if not on:
            if known is not None:
                known[1].visible = False
        elif heat is not None:
            # A strip of colours as texture, along which each vertex has its place: glTF's plain vertex colours come without a material, and
            # would look like metal.
            strip = Image.fromarray(scale_colours(hand)[None])
            material = PBRMaterial(baseColorTexture=strip, metallicFactor=0.0, roughnessFactor=0.7, doubleSided=True)
            uv = np.stack([(heat * (STEPS - 1) + 0.5) / STEPS, np.full_like(heat, 0.5)], 1)
            # trimesh writes normals only if it has them already; without them each face would be flat.
            normals = vertex_normals(torch.from_numpy(vertices), torch.from_numpy(faces)).numpy()
            visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
            mesh = trimesh.Trimesh(vertices, faces, vertex_normals=normals, process=False, visual=visual)
            self._meshes[name] = ("heat", scene.add_mesh_trimesh(name, mesh, cast_shadow=False))
        else:
            if known is None or known[0] != "plain":
                side: Literal["front", "double"] = "double" if self.stored.model.name == "mano" else "front"
                handle = scene.add_mesh_simple(name, vertices, faces, color=HAND_RGB[hand], side=side, cast_shadow=False)
                known = self._meshes[name] = ("plain", handle)
            known[1].vertices, known[1].visible = vertices.astype(np.float32), True
            known[1].opacity = 0.45 if self.shown.joints else None

    def _show_joints(self, name: str, keypoints: Float[np.ndarray, "21 3"], hand: int, on: bool) -> None:
        scene = self.server.scene
        bones = keypoints[np.array(OPENPOSE21_BONES)]
        dark = tuple(int(0.8 * c) for c in HAND_RGB[hand])
        scene.add_line_segments(f"{name}/bones", bones, dark, thickness=0.003, visible=on)
        scene.add_point_cloud(
            f"{name}/joints", keypoints, (255, 255, 255), point_size=0.0035, point_shape="circle", precision="float32", visible=on
        )

    def _show_picture(self) -> None:
        scene, motion = self.server.scene, self.stored.motion
        picture = self.stored.picture(self.frame)
        on = picture is not None and self.shown.picture
        seen = picture if picture is not None else np.full((2, 2, 3), 128, np.uint8)
        scene.add_image("/picture", seen, *self._size_m, format="jpeg", jpeg_quality=85, position=self._centre, visible=on)
        aspect = motion.width_px / motion.height_px
        scene.add_camera_frustum(
            "/camera", self._fov, aspect, scale=FRUSTUM_M, thickness=0.0008, color=(90, 90, 90), image=picture, jpeg_quality=80,
            cast_shadow=False, visible=self.shown.camera,
        )  # fmt: skip

    def _add_controls(self) -> None:
        gui, frames = self.server.gui, len(self.stored.motion.time_s)
        gui.configure_theme(show_logo=False, show_share_button=False)
        self._words = gui.add_markdown("")
        if frames > 1:
            with gui.add_folder("Time"):
                self.timeline = gui.add_slider("Frame", 0, frames - 1, 1, 0)
                self.playing = gui.add_checkbox("Play", False)
                self.speed = gui.add_slider("Speed", 0.1, 2.0, 0.1, 1.0)
            self.timeline.on_update(lambda _: self.show_frame(int(self.timeline.value)))
        hints = {
            "mesh": ("Mesh", "The hands' skin"),
            "joints": ("Joints", "Bones and the 21 keypoints"),
            "picture": ("Picture", "What was photographed, behind the hands"),
            "camera": ("Camera", "Where the picture was taken from, with the picture in it"),
            "heat": ("Contact and penetration", "Yellow: the hands touch. Violet to black: one is inside the other"),
            "before": ("Before refinement", "The hands as stage 1 saw them"),
        }
        with gui.add_folder("Show"):
            for name, (label, hint) in hints.items():
                missing = (name == "before" and self.stored.before is None) or (name == "picture" and not self.stored.pictures)
                box = gui.add_checkbox(label, getattr(self.shown, name) and not missing, disabled=missing, hint=hint)
                box.on_update(self._toggler(name, box))
        shot = gui.add_button("Save a picture", hint="The view as it is, as a PNG")
        shot.on_click(lambda event: self._screenshot(event.client))

    def _toggler(self, name: str, box: Any) -> Callable[[Any], None]:
        def changed(_: Any) -> None:
            setattr(self.shown, name, bool(box.value))
            self.show_frame(self.frame)

        return changed

    def _screenshot(self, client: Any) -> None:
        width, height = SCREENSHOT_PX
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(client.camera.get_render(height, width, "png"))[..., :3]).save(buffer, "PNG")
        client.send_file_download("hands.png", buffer.getvalue())

    def _told(self) -> str:
        """What is known of this frame, in words."""
        motion, t = self.stored.motion, self.frame
        lines = [f"**{self.stored.name}**"]
        if len(motion.time_s) > 1:
            lines.append(f"{float(motion.time_s[t]):.2f} s")
        for n, number in enumerate(motion.person):
            sides = [f"{side} {float(motion.score[t, n, h]):.2f}" for h, side in enumerate(SIDES) if motion.hand_present[t, n, h]]
            if not sides:
                continue
            line = f"person {number}: {', '.join(sides)}"
            if len(sides) == 2:
                line += f"; they share {float(motion.penetration_cm3[t, n]):.2f} cm³"
                if bool(motion.refined[t, n]):
                    line += f" ({float(motion.penetration_before_cm3[t, n]):.2f} before refinement)"
            lines.append(line)
        return "\n\n".join(lines)

    def play(self) -> None:
        """Runs the timeline while "Play" is ticked, until interrupted."""
        times = self.stored.motion.time_s
        while True:
            if len(times) < 2 or not self.playing.value:
                time.sleep(0.1)
                continue
            following = (self.frame + 1) % len(times)
            wait_s = float(times[following] - times[self.frame]) if following else 0.5
            started = time.monotonic()
            self.timeline.value = following  # whose callback shows the frame
            if self.frame != following:
                self.show_frame(following)
            time.sleep(max(0.0, wait_s / float(self.speed.value) - (time.monotonic() - started)))


def open_viewer(stored: StoredHands, host: str = "127.0.0.1", port: int = 8080) -> ResultViewer:
    """A viewer that runs in threads of its own; `viewer.server.stop()` ends it. UserError if viser is missing or the address taken."""
    import socket

    with from_extra("view", "the viewer"):
        import viser

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # viser takes the next free port without a word, and the user would look at another program's page.
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise UserError(f"cannot listen on {host} port {port} ({error}); choose another with --port") from error
        port = probe.getsockname()[1]
    return ResultViewer(stored, viser.ViserServer(host=host, port=port, label="twohands", verbose=False))


def run_viewer(viewer: ResultViewer) -> None:
    """Plays until interrupted, then ends the server."""
    with suppress(KeyboardInterrupt):
        viewer.play()
    viewer.server.stop()
