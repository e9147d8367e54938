"""The page's server: what it serves, what it refuses, and that nothing of a request reaches the disk."""

import base64
import http.client
import io
import json
import threading
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest
import trimesh
from PIL import Image

from scenes import Truth, blank_image, two_hands
from twohands.errors import UserError
from twohands.palette import HAND_RGB
from twohands.view.heat import DEEP_RGB, touch_colours, touch_of
from twohands.web import server as module
from twohands.web.answer import FILES
from twohands.web.server import PAGE, make_server


def photo_bytes(kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(blank_image()).save(buffer, kind)
    return buffer.getvalue()


class Client:
    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.headers), content

    def photo(self, content: bytes, path: str = "/photo", **headers: str) -> tuple[int, dict]:
        status, _, told = self.ask("POST", path, content, **headers)
        return status, json.loads(told)


@pytest.fixture
def truth() -> Truth:
    return Truth([two_hands(0.07)])


@pytest.fixture
def client(truth) -> Iterator[Client]:
    with make_server(truth.pipeline(), port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield Client(server.server_address[1])
        server.shutdown()
        thread.join()


def test_the_page_is_whole_and_asks_nobody_else(client):
    for path, (_, kind) in PAGE.items():
        status, headers, content = client.ask("GET", path)
        assert (status, headers["Content-Type"]) == (200, kind)
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        text = content.decode()
        assert "http:" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "https:" not in text
    assert client.ask("GET", "/example.jpg")[2][:2] == b"\xff\xd8"


def test_a_photo_comes_back_as_numbers_and_files(client, truth, hand):
    status, told = client.photo(photo_bytes())
    assert status == 200
    (person,) = told["people"]
    assert [h["side"] for h in person["hands"]] == ["left", "right"]
    assert person["refined"]
    assert person["penetration_before_cm3"] > person["penetration_cm3"]
    result = truth.pipeline().reconstruct(blank_image())
    for n, entry in enumerate(person["hands"]):
        vertices = np.frombuffer(base64.b64decode(entry["vertices"]), "<f4").reshape(-1, 3)
        np.testing.assert_allclose(vertices, result.people[0].vertices_m[n], atol=1e-6)
        faces = np.frombuffer(base64.b64decode(told["faces"][n]), "<u4").reshape(-1, 3)
        np.testing.assert_array_equal(faces, hand.faces[n])
        assert len(base64.b64decode(entry["heat"])) == 3 * len(vertices) == len(base64.b64decode(entry["heat_before"]))
        assert entry["vertices_before"] != entry["vertices"]
    assert told["photo"].startswith("data:image/jpeg;base64,")
    files = {name: client.ask("GET", f"/result/{told['id']}/{name}") for name in FILES}
    assert all(status == 200 and "attachment" in headers["Content-Disposition"] for status, headers, _ in files.values())
    assert len(trimesh.load(io.BytesIO(files["hands.glb"][2]), file_type="glb").geometry) == 2
    assert b"person0_right" in files["hands.obj"][2]
    assert "pose.npy" in zipfile.ZipFile(io.BytesIO(files["hands.npz"][2])).namelist()
    assert len(json.loads(files["hands.json"][2])["photo"]["hands"]) == 2
    assert (np.asarray(Image.open(io.BytesIO(files["overlay.png"][2]))) != blank_image()).any()


def test_live_pictures_are_not_kept(client):
    status, told = client.photo(photo_bytes("JPEG"), "/photo?live")
    assert status == 200
    assert "id" not in told
    assert told["photo"] is None


def test_no_hands_is_an_answer_too(client, truth):
    truth.found = []
    status, told = client.photo(photo_bytes())
    assert (status, told["people"], told["camera"]) == (200, [], None)
    assert "id" not in told


@pytest.mark.parametrize("content", [b"", b"no photo at all", photo_bytes()[:60], b"\x00\x00\x00\x18ftypheic"])
def test_what_is_no_photo_gets_a_message_without_a_path(client, content, tmp_path):
    status, told = client.photo(content)
    assert status == 422
    assert told["error"].startswith("this file ")
    assert "/" not in told["error"]


def test_large_uploads_and_uploads_without_length_are_refused(client, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_UPLOAD_BYTES", 1000)
    status, told = client.photo(bytes(1001))
    assert status == 413
    assert "MB" in told["error"]
    status, _, _ = client.ask("POST", "/photo", iter([b"abc"]), Transfer_Encoding="chunked")
    assert status == 411


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/%2e%2e/x",
        "/page/index.html",
        "/result/x/hands.glb",
        "/result/../../etc/passwd",
        "/result/x/../../y",
        "//etc/passwd",
    ],
)
def test_paths_lead_nowhere(client, path):
    status, _, content = client.ask("GET", path)
    assert status == 404
    assert "error" in json.loads(content)


def test_a_result_has_only_its_files(client):
    number = client.photo(photo_bytes())[1]["id"]
    assert client.ask("GET", f"/result/{number}/other.txt")[0] == 404


def test_old_results_go(client, monkeypatch):
    monkeypatch.setattr(module, "RESULTS_KEPT", 2)
    numbers = [client.photo(photo_bytes())[1]["id"] for _ in range(3)]
    assert [client.ask("GET", f"/result/{n}/hands.obj")[0] for n in numbers] == [404, 200, 200]


def test_other_hosts_and_other_pages_are_refused(client):
    assert client.ask("GET", "/", Host="evil.example:80")[0] == 421
    assert client.photo(photo_bytes(), Host="evil.example")[0] == 421
    assert client.photo(photo_bytes(), Origin="http://evil.example")[0] == 403
    assert client.photo(photo_bytes(), Origin=f"http://127.0.0.1:{client.port}")[0] == 200
    assert client.ask("GET", "/", Host=f"localhost:{client.port}")[0] == 200


def test_a_fault_inside_is_said_and_the_page_lives_on(client, truth, monkeypatch, caplog):
    monkeypatch.setattr(truth, "infer", lambda *_: 1 / 0)
    # The pipeline holds the object itself, so the next photo meets the fault.
    monkeypatch.setattr(Truth, "infer", lambda *_: 1 / 0)
    status, told = client.photo(photo_bytes())
    assert status == 500
    assert "terminal" in told["error"]
    monkeypatch.undo()
    assert client.photo(photo_bytes())[0] == 200


def test_too_many_at_once_are_turned_away(truth):
    desk = module.Desk(truth.pipeline(), b"")
    for _ in range(module.LONGEST_QUEUE + 1):
        desk._places.acquire()
    with pytest.raises(UserError, match="waiting"):
        desk.reconstruct(photo_bytes(), keep=False)


def test_it_listens_to_this_machine_only_and_says_what_port_is_taken(truth):
    with make_server(truth.pipeline(), port=0) as server:
        assert server.server_address[0] == "127.0.0.1"
        with pytest.raises(UserError, match="--port"):
            make_server(truth.pipeline(), port=server.server_address[1])


def test_heat_shows_where_hands_touch_and_where_they_overlap(hand):
    apart, deep = (hand.pose_hands(two_hands(gap)).mesh().vertices_m for gap in (0.3, 0.02))
    both = np.array([True, True])
    import torch

    present = torch.from_numpy(both)
    free = touch_of(apart, present, hand)
    assert free.depth_mm.max() == 0
    assert (touch_colours(free)[0] == touch_colours(free)[0, 0]).all(), "one colour where nothing is near"
    assert np.argmax(touch_colours(free)[0, 0]) == np.argmax(HAND_RGB[0])
    inside = touch_of(deep, present, hand)
    assert inside.depth_mm.max() > 5
    assert (touch_colours(inside).reshape(-1, 3) == np.array(DEEP_RGB)).all(1).any()
    alone = touch_of(deep, torch.tensor([True, False]), hand)
    assert alone.depth_mm.max() == 0


def test_commands_say_what_cannot_be_opened(truth, monkeypatch, tmp_path, capsys):
    from twohands import pipeline
    from twohands.cli import main

    monkeypatch.setattr(pipeline, "load", lambda device, prior, mano: truth.pipeline())
    with make_server(truth.pipeline(), port=0) as server:
        port = str(server.server_address[1])
        assert main(["serve", "--port", port]) == 2
        monkeypatch.setattr("twohands.cli.web.serve", lambda device: 7)
        assert main(["demo", "--page"]) == 7
    assert main(["view", str(tmp_path / "missing.npz")]) == 2
    told = capsys.readouterr().err
    assert "--port" in told
    assert "missing.npz is not there" in told
    assert "Traceback" not in told
