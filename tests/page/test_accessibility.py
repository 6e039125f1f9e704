"""The live page against axe-core's rules, in each of its states, on both grounds and at both sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.page.serving import LONG, SIZES, Server, Window, asked


def violations(page: Page) -> list[str]:
    """What breaks a rule, and where. All of axe's rules count, those of good practice included."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {node['target']} {node.get('failureSummary')}"
        for rule in found
        for node in rule["nodes"]
    ]


WINDOWS = [(size, scheme) for size in SIZES for scheme in ("light", "dark")]


@pytest.fixture(params=WINDOWS, ids="-".join)
def page(request: pytest.FixtureRequest, chromium: Browser, server: Server) -> Iterator[Page]:
    size, scheme = request.param
    window = Window(chromium, *SIZES[size])
    window.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    yield window.open(server.url)
    window.context.close()


def test_idle_with_a_turn_open_and_after_a_chat(page: Page, server: Server) -> None:
    assert violations(page) == []
    page.select_option("#chat-model", "critic")
    page.fill("#chat-text", "Return the even numbers")
    page.press("#chat-text", "Enter")
    expect(page.locator("#chat-send")).to_be_visible()
    page.select_option("#chat-model", "planner")
    page.fill("#chat-text", "numbers " * 1100)
    page.keyboard.press("Control+End")
    page.press("#chat-text", "Enter")
    expect(page.locator(".problem")).to_be_visible()
    assert violations(page) == []
    page.locator("button.turn").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.locator("#turn-prompt")).not_to_be_empty()
    assert violations(page) == []


@pytest.mark.parametrize("page", [WINDOWS[0], WINDOWS[-1]], indirect=True, ids="-".join)
def test_while_turns_run_and_wait(page: Page, server: Server) -> None:
    long = [("coder", LONG)] * 5
    with asked(server, *long, ("critic", {}), ("planner", {}), ("write_code", {})):
        page.wait_for_selector("#waiting li .reason")
        page.wait_for_selector("button.turn[data-state=running]")
        found = violations(page)
        busy = page.locator("button.turn[data-state=running]").count()
    assert found == []
    assert busy, "it ended before it was looked at"


def test_when_it_asks_for_a_key(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    server, window = Server(tmp_path_factory.mktemp("keyed"), AGENTMUX_API_KEY="right"), Window(chromium)
    try:
        window.page.emulate_media(reduced_motion="reduce")
        window.page.goto(server.url)
        window.connected("key")
        assert violations(window.page) == []
    finally:
        window.context.close()
        server.end()


def test_axe_finds_what_is_wrong(chromium: Browser) -> None:
    page = chromium.new_page()
    page.set_content('<p style="color:#ccc;background:#fff">hard to read</p><button></button><img src="data:,">')
    found = {one.split(" ")[0] for one in violations(page)}
    page.close()
    assert {"color-contrast", "button-name", "image-alt"} <= found
