"""The page in a real Chromium, driven from outside: served by the command, over an emulator.

Where there is no Chromium these tests say that they were left out; where CI is set they fail.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from hailuo_async.emulator import Emulator, Fault, Kind

from ..support.commands import command, environment
from ..support.running_emulator import credentials, emulator_in_thread
from ..support.service import picture

CHROMIUM = Path("/usr/bin/chromium")
#: Nothing of it looks for a network, or needs what a container lacks.
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
PATIENCE_MS = 60_000


def upload(name: str, seed: int) -> Any:
    return {"name": f"{name}.png", "mimeType": "image/png", "buffer": picture(seed=seed)}


CAT, DOG = upload("cat", 1), upload("dog", 2)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not CHROMIUM.exists() and "CI" not in os.environ, reason="left out: there is no /usr/bin/chromium"
    ),
]
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with emulator_in_thread(render=True, generation_s=0.3, requests_per_minute=None) as emulator:
        yield emulator


@attrs.define(eq=False)
class Served:
    """``hailuo-async serve`` in a process of its own, on a port that stays the same."""

    folder: Path
    env: dict[str, str]
    options: tuple[str, ...] = ()
    process: subprocess.Popen[str] | None = None
    url: str = "http://127.0.0.1:0/"

    def start(self) -> None:
        port = self.url.rstrip("/").rpartition(":")[2]
        served = command("serve", "--port", port, "--output", self.folder / "videos", *self.options)
        self.process = subprocess.Popen(served, env=self.env, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.send_signal(number)
        with self.process.stdout:
            return self.process.wait(60)


@pytest.fixture
def served(tmp_path: Path, emulator: Emulator) -> Iterator[Served]:
    served = Served(tmp_path, environment(**credentials(emulator)))
    served.start()
    yield served
    if served.process is not None and served.process.returncode is None:
        assert served.end() == 0


@contextlib.contextmanager
def visit(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """The page, opened. Fails if it complains: a script that raised, or something that the policy forbade."""
    complaints: list[str] = []
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if "Content Security Policy" in line.text else None)
    page.goto(url)
    page.wait_for_selector("#commands button, #token", state="attached")
    yield page
    context.close()
    assert complaints == []


def make(page: Page, prompt: str, *pictures: Any) -> None:
    page.set_input_files("#pictures", list(pictures))
    page.fill("#prompt", prompt)
    page.click("#make")


def card(page: Page, words: str) -> Any:
    return page.locator(".card", has_text=words)


DROP = """(bytes) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], "<b>cat</b>.png", {type: "image/png"}));
    document.getElementById("drop").dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
}"""
PLAY = "async (film) => { film.muted = true; await film.play(); return film.seekable.end(0); }"


#: A background tab, which a browser without a screen does not have.
HIDE = """(isHidden) => {
    Object.defineProperty(document, "hidden", {value: isHidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_tabs_in_the_background_leave_the_connections_to_the_one_that_is_seen(browser: Browser, served: Served) -> None:
    with visit(browser, served.url) as first:
        tabs = [first, *(first.context.new_page() for _ in range(6))]  # each would hold one of six connections
        for tab in tabs:
            tab.goto(served.url)
            expect(tab.locator("#empty")).to_be_visible()
            tab.evaluate(HIDE, tab is not tabs[-1])
        make(tabs[-1], "seen by all", CAT)
        expect(card(tabs[-1], "seen by all").locator(".chip")).to_have_text("Done")
        first.evaluate(HIDE, False)
        expect(card(first, "seen by all").locator(".chip")).to_have_text("Done")
        expect(first.locator("#offline")).to_be_hidden()


def test_a_picture_is_dropped_and_its_film_plays_and_scrubs_also_after_a_reload(
    browser: Browser, served: Served, emulator: Emulator
) -> None:
    with visit(browser, served.url) as page:
        expect(page.locator("#empty")).to_be_visible()
        page.evaluate(DROP, list(CAT["buffer"]))
        page.get_by_role("button", name="Push in").click()
        page.locator("#prompt").press_sequentially("<img src=x onerror=alert(1)>")
        expect(page.locator("#price")).to_contain_text("$0.32 to $0.72")
        page.dblclick("#make")
        made = card(page, "[Push in] <img src=x onerror=alert(1)>")
        expect(made.locator(".chip")).to_have_text("Done")
        page.reload()
        film = made.locator("video")
        assert film.evaluate(PLAY) > 1
        film.evaluate("(film) => { film.pause(); film.currentTime = film.duration / 2; }")
        page.wait_for_function("(film) => !film.seeking && film.readyState >= 2", arg=film.element_handle())
        with page.expect_download() as download:
            page.get_by_role("link", name="Download").click()
        assert download.value.suggested_filename.endswith(".mp4")
        expect(page.locator("#spent")).to_have_text("$0.32")
    assert emulator.ledger.submits_accepted == 1


def test_two_pictures_are_the_ends_of_one_film_and_can_be_swapped(
    browser: Browser, served: Served, emulator: Emulator
) -> None:
    with visit(browser, served.url) as page:
        page.set_input_files("#pictures", [CAT, DOG])
        expect(page.locator("#chosen span")).to_have_text(["first: cat.png", "last: dog.png"])
        page.click("#swap")
        expect(page.locator("#chosen span")).to_have_text(["first: dog.png", "last: cat.png"])
        expect(page.locator("#model")).to_have_value("hailuo-02-fl2v")
        page.select_option("#duration", "10")
        expect(page.locator("#resolution option")).to_have_text(["768P"])
        page.click("#make")
        expect(page.locator(".card .chip")).to_have_text(["Done"])
    assert emulator.ledger.paid_s == 10


def test_what_fails_says_why_and_is_tried_again_and_a_doubt_is_decided(
    browser: Browser, served: Served, emulator: Emulator
) -> None:
    with visit(browser, served.url) as page:
        emulator.next_fault(Kind.SUBMIT, Fault.CUT_AFTER)
        make(page, "lost", CAT)
        card(page, "lost").get_by_role("button", name="Decide").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("paid for a second time")
        ((task_id,),) = emulator.ledger.accepted.values()
        dialog.get_by_label("task id").fill(task_id)
        dialog.get_by_role("button", name="Wait for that task").click()
        expect(card(page, "lost").locator(".chip")).to_have_text("Done")

        emulator.service.fail_rate = 1.0
        make(page, "fails", DOG)
        expect(card(page, "fails").locator(".error")).to_contain_text("the service gave the task up")
        emulator.service.fail_rate = 0.0
        card(page, "fails").get_by_role("button", name="Try again").click()
        expect(card(page, "fails").first.locator(".chip")).to_have_text("Done")
    assert emulator.ledger.submits_accepted == 3


def test_the_server_is_killed_and_comes_back_and_a_browser_goes_off_line(
    browser: Browser, served: Served, emulator: Emulator
) -> None:
    emulator.service.generation_s = 600.0
    with visit(browser, served.url) as page:
        make(page, "outlives", CAT)
        expect(card(page, "outlives").locator(".chip")).to_have_text("Being made")
        emulator.service.generation_s, emulator.clock_offset_s = 0.3, 600.0
        served.end(signal.SIGKILL)
        expect(page.locator("#offline")).to_be_visible()
        make(page, "comes later", DOG)
        expect(page.locator("#problem")).to_contain_text("sent again in a moment")
        served.start()
        expect(page.locator("#offline")).to_be_hidden()
        for prompt in ("outlives", "comes later"):
            expect(card(page, prompt).locator(".chip")).to_have_text("Done")
        page.context.set_offline(True)
        expect(page.locator("#offline")).to_be_visible()
        page.context.set_offline(False)
        expect(page.locator("#offline")).to_be_hidden()
    assert emulator.ledger.submits_accepted == 2


NAMELESS = """[...document.querySelectorAll("button, a, input, select, textarea")]
    .filter((each) => each.checkVisibility() && !(each.textContent.trim() || each.ariaLabel || each.labels?.length))
    .map((each) => each.outerHTML)"""


def test_the_page_works_by_keyboard_on_a_narrow_screen_in_the_dark(browser: Browser, served: Served) -> None:
    small: dict[str, Any] = {"viewport": {"width": 320, "height": 640}, "color_scheme": "dark"}
    with visit(browser, served.url, **small) as page:
        page.set_input_files("#pictures", CAT)
        page.focus("#prompt")
        page.keyboard.type("by keyboard")
        page.keyboard.press("Control+Enter")
        expect(card(page, "by keyboard").locator(".chip")).to_have_text("Done")
        expect(page.locator("#live")).to_have_text("by keyboard: Done")
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        assert page.evaluate(NAMELESS) == []


def test_the_button_and_the_price_are_in_view_where_the_form_is_higher_than_the_window(
    browser: Browser, served: Served
) -> None:
    with visit(browser, served.url, viewport={"width": 1280, "height": 600}) as page:
        page.set_input_files("#pictures", CAT)
        for part in ("#make", "#price"):
            expect(page.locator(part)).to_be_in_viewport(ratio=1)


DROP_500 = """() => {
    const data = new DataTransfer();
    for (let at = 0; at < 500; at++) data.items.add(new File(["x"], `${at}.png`, {type: "image/png"}));
    document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
}"""


def test_500_files_in_one_drop_are_bounded_and_what_is_no_picture_is_named(browser: Browser, served: Served) -> None:
    with visit(browser, served.url) as page:
        page.evaluate(DROP_500)
        expect(page.locator("#chosen li")).to_have_count(100)
        expect(page.locator("#problem")).to_contain_text("100 pictures at most in one go")
        page.reload()
        page.set_input_files("#pictures", {"name": "photo.heic", "mimeType": "image/heic", "buffer": b"x"})
        expect(page.locator("#problem")).to_contain_text("is a HEIC: save it as a JPEG first")


def test_with_a_token_the_page_asks_for_it(browser: Browser, tmp_path: Path, emulator: Emulator) -> None:
    options = ("--host", "0.0.0.0", "--token", "sesame")
    served = Served(tmp_path, environment(**credentials(emulator)), options)
    served.start()
    try:
        with visit(browser, served.url.replace("0.0.0.0", "127.0.0.1")) as page:
            page.get_by_label("Token").fill("sesame")
            page.get_by_role("button", name="Open").click()
            expect(page.locator("#empty")).to_be_visible()
            assert "sesame" not in page.evaluate("document.cookie")
    finally:
        assert served.end(signal.SIGINT) == 0
