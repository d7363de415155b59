"""A client's pages, as whoever sits before them sees and uses them."""

import uuid
from typing import Any

from playwright.sync_api import Locator, Page, expect

from usercast.testing import eventually

#: Keeps what has gone by when a test comes to look: how sockets closed, each state of the
#: connection, when the last tick came, and which rows flashed. Times in ms, by the page's clocks.
RECORDER = """
window.seen = {
  opened: 0, closed: [], states: [], texts: [], ticks: 0, tickedAt: null, flashed: [],
};
window.WebSocket = class extends WebSocket {
  constructor(...how) {
    super(...how);
    seen.opened += 1;
    this.addEventListener("close", ({ code }) => seen.closed.push(code));
  }
};
addEventListener("DOMContentLoaded", () => {
  const pill = document.getElementById("connection");
  const face = document.querySelector("#clock time");
  if (!pill) return;
  const look = () => {
    const { state, socket } = pill.dataset;
    const last = seen.states.at(-1);
    if (state !== last?.state || socket !== last?.socket) {
      seen.states.push({ state, socket, at: performance.now(), date: Date.now() });
    }
    if (pill.textContent !== seen.texts.at(-1)) seen.texts.push(pill.textContent);
  };
  look();
  const all = { attributes: true, childList: true, subtree: true, characterData: true };
  new MutationObserver(look).observe(pill, all);
  new MutationObserver(() => {
    seen.ticks += 1;
    seen.tickedAt = performance.now();
  }).observe(face, { attributeFilter: ["datetime"] });
  new MutationObserver((records) => {
    const rows = records.map(({ target }) => target);
    const flashed = rows.filter((row) => row.matches("tr.flashed"));
    seen.flashed.push(...flashed.map((row) => row.dataset.id));
  }).observe(document.body, { subtree: true, attributeFilter: ["class"] });
});
"""


def fresh(word: str) -> str:
    """A name nobody has yet, to search for."""
    return f"{word}.{uuid.uuid4().hex[:8]}"


def seen(page: Page) -> dict[str, Any]:
    """What the recorder has."""
    return page.evaluate("seen")


def ticks(page: Page, count: int, *, within: float = 60) -> None:
    """Wait until so many more ticks have come."""
    upto = page.evaluate("seen.ticks") + count
    eventually(lambda: page.evaluate("seen.ticks") >= upto, within=within, what=f"{count} ticks")


def connection(page: Page, state: str) -> Page:
    """Wait until the page says this of its connection."""
    expect(page.locator("#connection")).to_have_attribute("data-state", state)
    return page


def live(page: Page) -> Page:
    """Wait until the page is live; ``stays`` says later whether it is the same document yet."""
    connection(page, "live")
    page.evaluate("window.isTheSame = true")
    return page


def stays(page: Page) -> bool:
    """Whether the page has not been loaded anew since it was live."""
    return bool(page.evaluate("window.isTheSame"))


def row(page: Page, user: dict[str, Any]) -> Locator:
    """The user's row in the table."""
    return page.locator(f'#rows > tr[data-id="{user["id"]}"]')


def field(within: Locator, name: str) -> Locator:
    return within.locator(f'[data-field="{name}"]')


def usernames(page: Page) -> list[str]:
    """Of the rows, from the top."""
    return page.locator("#rows > tr").evaluate_all(
        "rows => rows.map(row => row.querySelector('[data-field=username]').innerText.trim())"
    )


def cursors(page: Page) -> list[int]:
    """Of the feed's entries, from the top."""
    return page.locator("#feed > li").evaluate_all("items => items.map(i => +i.dataset.cursor)")


def entries(page: Page) -> list[str]:
    """What the feed says, from the top; without the times, which "now" changes."""
    return page.locator("#feed > li").evaluate_all(
        """items => items.map(item => [".who", ".parts", ".lag"]
             .map(part => item.querySelector(part).innerText.replace(/\\s+/g, " ").trim())
             .join(" | "))"""
    )


def tops(page: Page, selector: str = "#rows > tr") -> list[float]:
    """Where elements begin in the window, in pixels."""
    return page.locator(selector).evaluate_all(
        "elements => elements.map(element => element.getBoundingClientRect().top)"
    )


def marked(page: Page, user: dict[str, Any]) -> list[str]:
    """The fields of a user's row that are marked as changed."""
    return (
        row(page, user)
        .locator("[data-field].changed")
        .evaluate_all("cells => cells.map(cell => cell.dataset.field)")
    )


def flashes(page: Page, user: dict[str, Any]) -> None:
    """Wait until the user's row has flashed, be it over or not."""
    eventually(lambda: user["id"] in seen(page)["flashed"], within=60, what="a flash of the row")


def fits(page: Page) -> bool:
    """Whether nothing on the page makes it scroll sideways."""
    return bool(
        page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
    )
