"""The live page in a real browser, on a real server whose models are paged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.page.serving import LONG, SIZES, Server, Window, artefacts, asked, free_port
from tests.server.live import Live
from tests.unit.loads import HeldLoads, opened


@pytest.fixture
def window(chromium: Browser) -> Iterator[Window]:
    """A window; nothing may have been complained of at the end."""
    one = Window(chromium)
    yield one
    one.context.close()
    assert one.complaints == []


def test_it_shows_models_memory_and_what_the_blocks_mean(window: Window, server: Server) -> None:
    page = window.open(server.url)
    expect(page).to_have_title("agentmux")
    expect(page.locator("#summary")).to_have_text("3 models, idle")
    expect(page.locator("#models .name")).to_have_text(["planner", "coder", "critic"])
    expect(page.locator("#models .model").nth(1).locator(".unit")).to_have_count(9)
    expect(page.locator("#legend li")).to_have_text(
        ["on the device", "arriving", "in host memory", "computed by the CPU"]
    )
    expect(page.locator("#arena-text")).to_contain_text("of 9.0 MiB used on CPU")
    expect(page.locator("#waiting")).to_have_text("Nobody waits.")
    expect(page.locator("#chat-model option")).to_have_text(["planner", "coder", "critic", "write_code (pipeline)"])


def test_it_names_models_that_are_on_their_way(window: Window) -> None:
    engine = HeldLoads(("first", "second", "third"), free={"first"})
    with Live(lambda observers: opened(engine, config=False, observers=observers)) as server:
        page = window.open(server.url)
        expect(page.locator("#summary")).to_have_text("1 model, loading second and third, idle")
        engine.let("second")
        expect(page.locator("#summary")).to_have_text("2 models, loading third, idle")
        engine.let("third")
        expect(page.locator("#summary")).to_have_text("3 models, idle")
        expect(page.locator("#models .name")).to_have_text(["first", "second", "third"])
        page.close()  # before the server, whose end it would complain of


def test_it_follows_while_turns_wait_and_layers_arrive(window: Window, server: Server) -> None:
    page = window.open(server.url)
    before = page.locator("button.turn").count()
    long = [("coder", LONG)] * 2
    with asked(server, *long, ("critic", {}), ("planner", {}), ("write_code", {})):
        expect(page.locator("#waiting li .reason").first).not_to_be_empty()
        page.wait_for_selector(".unit[data-state=a], .block[data-state=a]", state="attached")
        page.wait_for_selector("button.turn[data-state=running]")
        expect(page.locator("#summary")).to_contain_text("running")
    expect(page.locator("#summary")).to_have_text("3 models, idle")
    expect(page.locator("#waiting")).to_have_text("Nobody waits.")
    expect(page.locator("button.turn")).to_have_count(before + 6)
    run = page.get_by_role("group", name="Run of write_code, finished")
    expect(run).to_have_count(1)
    for chart in ("Tokens a second", "Copied to the device", "Time to first token"):
        picture = page.get_by_role("img", name=chart)
        assert "at most" in str(picture.get_attribute("aria-label"))
        assert picture.locator("path").get_attribute("d")


def test_a_turn_opens_by_keyboard_and_shows_what_was_asked_and_said(window: Window, server: Server) -> None:
    server.ask("critic")
    said = [server.ask("planner", f"Double every number of list {number}") for number in range(2)]
    page = window.open(server.url)
    page.locator("button.turn").first.wait_for()
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('button.turn')"):
            break
    assert page.evaluate("document.querySelectorAll('button.turn[tabindex=\"0\"]').length") == 1
    lane = page.get_by_role("group", name="Requests to model planner")
    lane.locator("button.turn").first.focus()
    page.keyboard.press("End")
    last = page.evaluate("document.activeElement.dataset.key")
    page.keyboard.press("ArrowLeft")
    assert int(page.evaluate("document.activeElement.dataset.key")) == int(last) - 1
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=f"Turn {last}: chat on planner")
    expect(dialog).to_be_visible()
    expect(page.locator("#turn-state")).to_contain_text("finished")
    expect(page.locator("#turn-prompt")).to_contain_text("Double every number of list 1")
    expect(page.locator("#turn-output")).to_have_text(said[1]["choices"][0]["message"]["content"])
    expect(page.locator("#turn-numbers")).to_contain_text(f"{said[1]['usage']['completion_tokens']} tokens")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    lanes = "[...document.querySelectorAll('#lanes .lane')].indexOf(document.activeElement.closest('.lane'))"
    place = page.evaluate(lanes)
    page.keyboard.press("ArrowUp" if place else "ArrowDown")
    assert page.evaluate(lanes) != place
    page.keyboard.press("ArrowDown" if place else "ArrowUp")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.key") == last


def test_the_chat_talks_to_a_model_and_to_a_pipeline(window: Window, server: Server) -> None:
    page = window.open(server.url)
    for model in ("coder", "write_code"):
        wanted = server.ask(model, "Return the even numbers")["choices"][0]["message"]["content"]
        page.select_option("#chat-model", model)
        page.focus("#chat-text")
        page.keyboard.type("Return the even numbers")
        page.keyboard.press("Enter")
        expect(page.locator("#chat-send")).to_be_visible()
        expect(page.locator(".message.user .text")).to_have_text("Return the even numbers")
        assert page.locator(".message.assistant .text").text_content() == wanted


def test_a_conversation_that_is_too_long_and_one_that_is_stopped_say_so(chromium: Browser, server: Server) -> None:
    window = Window(chromium)
    page = window.open(server.url)
    page.select_option("#chat-model", "coder")
    page.fill("#chat-text", "numbers " * 1100)
    page.keyboard.press("Control+End")
    page.press("#chat-text", "Enter")
    expect(page.locator(".problem")).to_contain_text("1024")
    assert all("400" in one for one in window.complaints), window.complaints  # which browsers tell of by themselves
    with asked(server, *[("critic", {}), ("coder", LONG)] * 3):
        page.wait_for_selector("#waiting .reason")
        page.select_option("#chat-model", "coder")
        page.fill("#chat-text", "Return the even numbers")
        page.press("#chat-text", "Enter")
        page.click("#chat-stop")
        expect(page.locator(".problem").last).to_have_text("stopped")
    window.context.close()


def test_it_comes_back_when_the_server_does(chromium: Browser, tmp_path: Path) -> None:
    window, port = Window(chromium), free_port()
    first = Server(tmp_path, port)
    try:
        first.ask("planner")
        page = window.open(first.url)
        expect(page.locator("button.turn")).to_have_count(1)
    finally:
        first.end()
    window.connected("reconnecting")
    expect(page.locator("#connection")).to_have_text("connection lost, trying again")
    expect(page.locator("#models .name")).to_have_count(3)  # what was last known stays to be seen
    second = Server(tmp_path, port)
    try:
        window.connected("live")
        expect(page.locator("button.turn")).to_have_count(0)
        second.ask("critic")
        expect(page.locator("button.turn")).to_have_count(1)
    finally:
        second.end()
    window.context.close()
    assert all("net::ERR_" in one for one in window.complaints), window.complaints


def test_it_asks_for_the_key_and_keeps_it_for_the_tab(chromium: Browser, tmp_path: Path) -> None:
    server, window = Server(tmp_path, AGENTMUX_API_KEY="right"), Window(chromium)
    try:
        page = window.page
        page.goto(server.url)
        for key in ("wrong", "right"):
            window.connected("key")
            expect(page.get_by_role("dialog", name="API key")).to_be_visible()
            page.fill("#key-text", key)
            page.keyboard.press("Enter")
        window.connected("live")
        page.fill("#chat-text", "Return the even numbers")
        page.press("#chat-text", "Enter")
        expect(page.locator(".message.assistant .text")).not_to_be_empty()
        page.locator("button.turn").first.click()
        expect(page.locator("#turn-prompt")).to_contain_text("Return the even numbers")
        page.reload()
        window.connected("live")
    finally:
        window.context.close()
        server.end()
    assert len(window.complaints) == 2
    assert all("401" in one for one in window.complaints)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen_in_light_and_dark(
    chromium: Browser, server: Server, tmp_path: Path, size: str, scheme: str
) -> None:
    window = Window(chromium, *SIZES[size])
    window.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
    page = window.open(server.url)
    with asked(server, ("critic", {}), ("coder", LONG), ("write_code", {}), ("planner", {})):
        page.wait_for_selector("button.turn[data-state=running]")
        page.screenshot(path=artefacts(tmp_path) / f"busy-{size}-{scheme}.png", full_page=True)
        assert page.evaluate("document.getAnimations().length") == 0
    expect(page.locator("#summary")).to_have_text("3 models, idle")
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(246, 246, 243)", "dark": "rgb(21, 23, 26)"}[scheme]
    page.screenshot(path=artefacts(tmp_path) / f"idle-{size}-{scheme}.png", full_page=True)
    window.context.close()
    assert window.complaints == []
