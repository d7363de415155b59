"""Commit on the master → frame in a real browser, over 50 changes: printed, not judged."""

import statistics
from collections.abc import Callable
from datetime import datetime

from playwright.sync_api import BrowserContext, expect

from conftest import Api, sign_in

CHANGES = 50

_RECORD = """
window.frames_seen = [];
const Real = window.WebSocket;
window.WebSocket = class extends Real {
  constructor(...args) {
    super(...args);
    this.addEventListener("message", (event) => {
      const at = performance.timeOrigin + performance.now();
      for (const change of JSON.parse(event.data).changes ?? []) {
        window.frames_seen.push({ at, ...change });
      }
    });
  }
};
"""


def test_commit_to_browser_frame(
    contexts: Callable[..., BrowserContext], master: Api, clients: dict[str, Api]
) -> None:
    page = contexts().new_page()
    page.add_init_script(_RECORD)
    sign_in(page, clients["billing"].login, "/")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    user = master.create(username="+latency")
    row = page.locator("#rows tr", has_text="+latency")
    expect(row).to_have_count(1)
    for number in range(CHANGES):
        master.change(user["id"], first_name=f"change {number}")
        # One at a time, so that each is timed alone.
        expect(row).to_contain_text(f"change {number}")
    seen = [
        change
        for change in page.evaluate("window.frames_seen")
        if change["user_id"] == user["id"] and change["kind"] == "updated"
    ]
    assert len(seen) == CHANGES, "a change came by another way than the socket, or twice"
    master.delete(user["id"])

    applied = [_ms(change["applied_at"]) - _ms(change["changed_at"]) for change in seen]
    framed = [change["at"] - _ms(change["applied_at"]) for change in seen]
    whole = [change["at"] - _ms(change["changed_at"]) for change in seen]
    print(f"\ncommit → browser frame over {CHANGES} changes, ms:")
    for name, values in (
        ("captured → applied on the client", applied),
        ("applied → frame in the browser", framed),
        ("captured → frame", whole),
    ):
        p95 = statistics.quantiles(values, n=20)[18]
        print(f"  {name:34} p50 {statistics.median(values):6.1f}   p95 {p95:6.1f}")


def _ms(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp() * 1000
