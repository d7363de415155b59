"""One change at a time: commit on the master → committed on the client → frame in a browser.

A real Chromium shows the client's dashboard; frames are timed as they arrive at its WebSocket.
Beside it, on the same emulator, what one message takes from publish to receive without Usercast.
"""

import json
import os
import random
import shutil
import time
from bisect import bisect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Page, sync_playwright

from bench import calls, system, transport
from bench.report import Findings, Sheet, percentiles
from bench.session import Session
from bench.system import CLIENT, PIPELINE, BenchFailed
from bench.watch import PREFIX, Watch, watching
from embedded.deployment import Deployment
from embedded.ports import http_answers

CHANGES = 300
#: Between two changes, half of it to one and a half times as long: none meets another, and they
#: do not march in step with anything that waits for fixed times.
PAUSE_SECONDS = 0.03

#: The page is live only while it hears ticks.
_PAGES = (f"{CLIENT}-web", f"{CLIENT}-clock")
_ENDED_BY_US = {"handle_sigint": False, "handle_sigterm": False, "handle_sighup": False}
_RECORD = """
window.frames_seen = [];
const Real = window.WebSocket;
window.WebSocket = class extends Real {
  constructor(...args) {
    super(...args);
    this.addEventListener("message", (event) => {
      const at = performance.timeOrigin + performance.now();
      for (const change of JSON.parse(event.data).changes ?? []) {
        window.frames_seen.push([change.user?.first_name, at / 1000]);
      }
    });
  }
};
"""


def run(session: Session) -> Findings:
    """Percentiles over 300 changes of each leg of the way, and of the transport alone."""
    # Playwright keeps an event loop in this thread, beside which Django would refuse to wait.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with system.running(session, (*PIPELINE, *_PAGES)) as deployment:
        url = deployment.clients[CLIENT].url
        system.wait_until(
            lambda: http_answers(url),
            programs=[deployment.process(f"{CLIENT}-web")],
            within=60,
            every=0.1,
        )
        with (
            watching(deployment) as watch,
            _dashboard(deployment) as page,
            session.step(f"{CHANGES} changes"),
        ):
            legs = _legs(*_change(watch), _frames(page))
        size = _message_bytes()
        with session.step(f"{CHANGES} bare messages"):
            floor = transport.floor(messages=CHANGES, size_bytes=size, pause_seconds=PAUSE_SECONDS)
    return _findings({**legs, f"publish → receive, {size} B, bare boto3": floor})


def _change(watch: Watch) -> tuple[dict[str, float], dict[str, float]]:
    """When each change was committed on the master, and when on the client, by its word."""
    from usercast_master.accounts.models import User

    user = User.objects.create(username=f"{PREFIX}one", first_name="first")
    watch.committed(user.username, user.first_name, within=60)
    changed, applied = {}, {}
    for number in range(CHANGES):
        time.sleep(random.uniform(0.5, 1.5) * PAUSE_SECONDS)
        user.first_name = f"change-{number}"
        user.save()
        changed[user.first_name] = time.time()
        applied[user.first_name] = watch.committed(user.username, user.first_name)
    return changed, applied


def _frames(page: Page) -> dict[str, float]:
    """When each change's frame came, by its word, on this process's clock."""
    page.wait_for_function(
        f"frames_seen.some(([word]) => word === 'change-{CHANGES - 1}')", timeout=30_000
    )
    before = time.time()
    browser_now = page.evaluate("(performance.timeOrigin + performance.now()) / 1000")
    ahead = browser_now - (before + time.time()) / 2
    return {word: at - ahead for word, at in page.evaluate("frames_seen")}


def _legs(
    changed: dict[str, float], applied: dict[str, float], framed: dict[str, float]
) -> dict[str, list[float]]:
    if missing := changed.keys() - framed.keys():
        raise BenchFailed(f"{len(missing)} changes came to the browser by no frame of their own.")
    received = _received(applied)

    def between(start: dict[str, float], end: dict[str, float]) -> list[float]:
        return [end[word] - start[word] for word in changed]

    return {
        "commit → received by the client's poller": between(changed, received),
        "received → committed on the client": between(received, applied),
        "commit → committed on the client": between(changed, applied),
        "committed on the client → browser frame": between(applied, framed),
        "commit → browser frame": between(changed, framed),
    }


def _received(applied: dict[str, float]) -> dict[str, float]:
    """When the poller had each change in hand: its last receive before the commit."""
    receives = [
        call.at for call in calls.since(0) if call.operation == "ReceiveMessage" and call.messages
    ]
    return {word: receives[bisect(receives, at) - 1] for word, at in applied.items()}


@contextmanager
def _dashboard(deployment: Deployment) -> Iterator[Page]:
    """The client's dashboard, live, in a browser that notes when frames come."""
    login = json.loads((deployment.state_dir / "credentials.json").read_text())["clients"][CLIENT]
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise BenchFailed("one-change needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"], **_ENDED_BY_US
        )
        page = browser.new_page()
        page.add_init_script(_RECORD)
        page.goto(login["url"])
        page.get_by_label("Username").fill(login["username"])
        page.get_by_label("Password").fill(login["password"])
        page.get_by_role("button", name="Sign in").click()
        page.locator("#connection[data-state=live]").wait_for()
        yield page
        browser.close()


def _message_bytes() -> int:
    """The size of the last message as it was published, attributes included."""
    published = [call for call in calls.since(0) if call.service == "sns"]
    return published[-1].payload_bytes


def _findings(legs: dict[str, list[float]]) -> Findings:
    sheet = Sheet(f"One change, ms, over {CHANGES}", ("", "p50", "p95", "p99", "worst"))
    figures: dict[str, Any] = {"changes": CHANGES, "milliseconds": {}}
    for name, seconds in legs.items():
        found = percentiles([second * 1000 for second in seconds])
        figures["milliseconds"][name] = found
        sheet.rows.append((name, *(f"{value:.1f}" for value in found.values())))
    return Findings([sheet], figures)
