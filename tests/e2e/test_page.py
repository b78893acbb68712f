"""The page on the HTTP port, in a real browser against a real server."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from support.browser import Visit, chromium, needs_chromium
from support.harness import DIGIT_IMAGES, DIGITS, RunningServer, card_predictions, digit_files, repserve, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = needs_chromium
LABELS = (DIGITS / "labels.txt").read_text(encoding="utf-8").split()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    arguments = (
        "--model-control-mode",
        "explicit",
        "--model",
        "repvgg_digits",
        "--precision",
        "f32",
        "--frontends",
        "2",
    )
    with RunningServer(*arguments) as running:
        yield running


@pytest.fixture
def visit(browser: Browser, server: RunningServer) -> Iterator[Visit]:
    found = Visit(browser, server.http_url)
    found.page.locator("#model option").first.wait_for(state="attached")
    yield found
    found.page.close()


def first_classes(visit: Visit) -> list[str]:
    """The best class of each answer, the last one asked first."""
    return visit.page.locator(".answer li:first-child span:first-of-type").all_text_contents()


def test_it_says_what_is_in_an_image(visit: Visit, server: RunningServer) -> None:
    files = digit_files()[:3]
    visit.page.set_input_files("#files", [str(file) for file in files])
    visit.page.locator(".answer li").nth(14).wait_for()
    expected = [LABELS[card_predictions()[file.name]] for file in files]
    assert first_classes(visit) == expected[::-1]
    shares = visit.page.locator(".answer li:first-child span:last-of-type").all_text_contents()
    assert all(50 < float(share.removesuffix(" %")) <= 100 for share in shares)
    assert visit.complaints == []
    assert all(url.startswith((server.http_url, "data:", "blob:")) for url in visit.requests), "nothing from elsewhere"
    assert visit.fits


def test_an_image_can_be_dropped(visit: Visit) -> None:
    file = digit_files()[0]
    transfer = visit.page.evaluate_handle(
        """([name, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, {type: "image/jpeg"}));
            return transfer;
        }""",
        [file.name, list(file.read_bytes())],
    )
    visit.page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    visit.page.locator(".answer li").first.wait_for()
    assert first_classes(visit) == [LABELS[card_predictions()[file.name]]]


def test_figures_of_before_it_was_hidden_are_not_shown_as_those_of_now(visit: Visit) -> None:
    wait_until(lambda: visit.page.locator("#fps").text_content() == "0.0", "figures are shown")
    hide = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
    hide += " document.dispatchEvent(new Event('visibilitychange')); }"
    visit.page.evaluate(hide, True)
    visit.page.evaluate("find('fps').textContent = 'of before'")
    visit.page.evaluate(hide, False)
    wait_until(lambda: visit.page.locator("#fps").text_content() == "\u2013", "there is nothing to compare with yet")
    wait_until(lambda: visit.page.locator("#fps").text_content() == "0.0", "and then there is")


def test_a_file_that_is_no_image_says_why(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "<b>notes.txt"
    file.write_text("no image", encoding="utf-8")
    visit.page.set_input_files("#files", str(file))
    visit.page.locator(".answer .bad").wait_for()
    said = visit.page.locator(".answer .bad").text_content() or ""
    assert "<b>notes.txt: the data is no known image format" in said, "and a name is text, not markup"


def test_it_shows_how_the_server_is_doing(visit: Visit, server: RunningServer, tmp_path: Path) -> None:
    load = subprocess.Popen(
        [
            *(repserve(), "bench", "run", "--server", server.address, "--images", str(DIGIT_IMAGES)),
            *("--rate", "50", "--seconds", "30", "--output", str(tmp_path / "report.json")),
        ],
        stdout=subprocess.DEVNULL,
    )

    def shown(selector: str) -> float:
        text = visit.page.locator(selector).first.text_content() or ""
        digits = "".join(letter for letter in text if letter.isdigit() or letter == ".")
        return float(digits or 0)

    try:
        wait_until(lambda: 30 < shown("#fps") < 80, "the images a second are shown", 30)
        assert 0 < shown("#p50") <= shown("#p99") or "s" in (visit.page.locator("#p99").text_content() or "")
        row = visit.page.locator("#devices tbody tr").first
        assert (row.locator("td").all_text_contents())[:2] == ["cpu", "repvgg_digits 1"]
        assert 30 < shown("#devices tbody td:nth-child(3)") < 80
        assert shown("#devices tbody td:nth-child(4)") >= 1
    finally:
        load.terminate()
        load.wait(30)
    assert visit.complaints == []


def test_models_are_unloaded_and_loaded(visit: Visit) -> None:
    row = visit.page.locator("#models tbody tr", has_text="repvgg_digits")
    row.locator("text=ready").wait_for()
    assert "cpu: openvino, f32" in (row.text_content() or "")
    visit.page.get_by_role("button", name="unload repvgg_digits").click()
    row.locator("text=unloaded").wait_for()
    assert "it is not loaded" in (row.text_content() or ""), "the reason is shown"
    visit.page.locator("#devices", has_text="No model is running.").wait_for()
    visit.page.get_by_role("button", name="load repvgg_digits", exact=True).click()
    row.locator("text=ready").wait_for()


def test_a_load_that_fails_says_why(visit: Visit) -> None:
    visit.page.get_by_role("button", name="load repvgg_a0", exact=True).click()
    visit.page.locator("#alert", has_text="no version").wait_for()


def test_it_fits_a_phone(browser: Browser, server: RunningServer) -> None:
    visit = Visit(browser, server.http_url, width=390)
    visit.page.locator("#model option").first.wait_for(state="attached")
    visit.page.set_input_files("#files", str(digit_files()[0]))
    visit.page.locator(".answer li").first.wait_for()
    assert visit.fits
    visit.page.close()


def test_where_the_repository_rules_there_is_no_button_and_a_lost_server_is_said(browser: Browser) -> None:
    with RunningServer("--model", "repvgg_digits") as server:
        visit = Visit(browser, server.http_url)
        visit.page.locator("#models tbody tr").first.wait_for()
        assert visit.page.locator("#models button").count() == 0
        assert "model_control_mode watch" in (visit.page.locator("#mode").text_content() or "")
    visit.page.locator("#alert", has_text="does not respond").wait_for()
    visit.page.close()


def test_simulated_devices_are_called_so(browser: Browser) -> None:
    with RunningServer("--model", "repvgg_digits", "--device", "sim:310p") as server:
        visit = Visit(browser, server.http_url)
        visit.page.locator("#simulated").wait_for()
        assert "SIMULATED" in (visit.page.locator("#simulated").text_content() or "")
        visit.page.close()
