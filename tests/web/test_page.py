"""The page in a real browser: it shows hands, turns them, takes photos, and says what is wrong with what is none."""

import threading
import time

import numpy as np
import pytest
from browser import chromium, console_errors, screenshot
from PIL import Image

from scenes import Truth, blank_image, two_hands
from twohands.web.server import make_server


@pytest.fixture(scope="module")
def page():
    truth = Truth([two_hands(0.07)])
    with make_server(truth.pipeline(), port=0) as server, chromium() as driver:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        driver.get(f"http://127.0.0.1:{server.server_address[1]}/")
        yield driver
        server.shutdown()


def wait_for(page, text: str, seconds: float = 30.0) -> str:
    from selenium.webdriver.common.by import By

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = page.find_element(By.ID, "status").text
        if text in status:
            return status
        time.sleep(0.1)
    raise AssertionError(f"waited for {text!r}, the page says {status!r}")


def click(page, selector: str) -> None:
    from selenium.webdriver.common.by import By

    page.execute_script("arguments[0].click()", page.find_element(By.CSS_SELECTOR, selector))


def canvas(page) -> np.ndarray:
    """What the canvas shows, without the page around it, nor the ring that shows where the keyboard is."""
    box = page.execute_script(
        "const b = document.getElementById('view').getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]"
    )
    left, top, right, bottom = (round(v) for v in box)
    return screenshot(page)[top + 6 : bottom - 6, left + 6 : right - 6].astype(int)


def blue(picture: np.ndarray) -> np.ndarray:
    return picture[..., 2] - picture[..., 0] > 60


def orange(picture: np.ndarray) -> np.ndarray:
    return picture[..., 0] - picture[..., 2] > 60


def upload(page, path) -> None:
    from selenium.webdriver.common.by import By

    page.find_element(By.ID, "file").send_keys(str(path))


def test_a_photo_in_hands_out_and_they_turn(page, tmp_path):
    Image.fromarray(blank_image()).save(tmp_path / "photo.png")
    upload(page, tmp_path / "photo.png")
    assert "after refinement" in wait_for(page, "2 hands found")
    front = canvas(page)
    assert blue(front).mean() > 0.01
    assert orange(front).mean() > 0.01
    assert np.abs(front - 90).max(-1).min() < 12, "the photo lies behind"
    # The true left hand is on the left of this photo.
    assert np.nonzero(blue(front))[1].mean() < np.nonzero(orange(front))[1].mean()
    click(page, "[data-yaw='90']")
    side = canvas(page)
    assert (np.abs(side - front).max(-1) > 30).mean() > 0.05
    page.execute_script(
        "const c = document.getElementById('view');"
        "for (const [kind, x] of [['pointerdown', 300], ['pointermove', 420], ['pointerup', 420]])"
        "  c.dispatchEvent(new PointerEvent(kind, { clientX: x, clientY: 200, pointerId: 1, isPrimary: true, bubbles: true }));"
    )
    dragged = canvas(page)
    assert (np.abs(dragged - side).max(-1) > 30).mean() > 0.02, "dragging turns"
    page.execute_script("document.getElementById('view').dispatchEvent(new KeyboardEvent('keydown', { key: '0' }))")
    assert (np.abs(canvas(page) - front).max(-1) > 30).mean() < 0.002, "0 goes back"


def test_toggles_change_what_they_say(page):
    shown = canvas(page)
    click(page, "#show-photo")
    without = canvas(page)
    assert (np.abs(without - shown).max(-1) > 20).mean() > 0.2
    click(page, "#show-before")
    before = canvas(page)
    assert (np.abs(before - without).max(-1) > 20).mean() > 0.01
    click(page, "#show-heat")
    assert (np.abs(canvas(page) - before).max(-1) > 20).mean() > 0.01
    click(page, "#show-mesh")
    assert not (blue(canvas(page)) | orange(canvas(page))).any()
    click(page, "#show-joints")
    assert (canvas(page).min(-1) > 240).any()
    for name in ("photo", "before", "heat", "mesh", "joints"):
        click(page, f"#show-{name}")


def test_downloads_and_times_are_offered(page):
    links = page.execute_script("return [...document.querySelectorAll('#downloads a')].map(a => a.textContent)")
    assert links == ["GLB", "OBJ", "NPZ", "JSON", "Overlay"]
    sizes = page.execute_async_script(
        "const done = arguments[0];"
        "Promise.all([...document.querySelectorAll('#downloads a')].map(async a => (await (await fetch(a.href)).blob()).size)).then(done)"
    )
    assert min(sizes) > 500
    assert "total" in page.execute_script("return document.getElementById('times').textContent")


def test_everything_has_a_name_for_those_who_do_not_see(page):
    nameless = page.execute_script(
        "return [...document.querySelectorAll('button, input, a, canvas')]"
        ".filter(e => !(e.ariaLabel || e.textContent.trim() || (e.labels && e.labels.length))).map(e => e.outerHTML)"
    )
    assert nameless == []
    assert page.execute_script("return document.getElementById('status').getAttribute('aria-live')") == "polite"
    assert page.execute_script("return document.documentElement.lang") == "en"


def test_a_webcam_is_followed_until_it_is_stopped(page):
    click(page, "#again")
    click(page, "#webcam")
    wait_for(page, "2 hands found")
    assert blue(canvas(page)).any()
    click(page, "#stop")
    assert page.execute_script("return document.getElementById('stop').hidden")
    assert console_errors(page) == []


def test_what_is_no_photo_gets_a_message_and_the_next_photo_goes_through(page, tmp_path):
    click(page, "#again")
    (tmp_path / "bad.jpg").write_bytes(b"no photo at all")
    upload(page, tmp_path / "bad.jpg")
    wait_for(page, "This file ")
    assert page.execute_script("return document.getElementById('status').className") == "error"
    # The browser itself notes each refused request in its console; nothing else may stand there.
    assert all("422" in line for line in console_errors(page))
    click(page, "#example")
    wait_for(page, "2 hands found")
    assert console_errors(page) == []
