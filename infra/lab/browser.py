"""A real browser at a client's dashboard sees a change that is made on the master.

``browser.py MASTER CLIENT LOGINS``: addresses, and what ``docker compose run logins`` printed.
"""

import json
import re
import shutil
import sys
import time
import uuid
from pathlib import Path
from urllib.request import Request, urlopen

from playwright.sync_api import expect, sync_playwright


def logins(path: Path) -> dict[str, dict[str, str]]:
    """By the service's name."""
    parts = re.findall(r"==> (\w+)\.login <==\n(\{.*\})", path.read_text())
    return {name: json.loads(text) for name, text in parts}


def create(url: str, token: str, username: str) -> None:
    """A user on the master."""
    request = Request(
        f"{url}/api/v1/users/",
        method="POST",
        headers={"Authorization": f"Token {token}", "Content-Type": "application/json"},
        data=json.dumps({"username": username}).encode(),
    )
    urlopen(request, timeout=10).close()


def main(master: str, client: str, path: Path) -> None:
    """Sign in, wait until the page is live, change something, wait for its entry."""
    known = logins(path)
    name = f"ana.{uuid.uuid4().hex[:8]}"
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(client)
        page.get_by_label("Username").fill(known["billing"]["username"])
        page.get_by_label("Password").fill(known["billing"]["password"])
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#connection")).to_have_attribute("data-state", "live", timeout=30_000)
        began = time.monotonic()
        create(master, known["master"]["api_token"], name)
        expect(page.locator("#feed > li").first).to_contain_text(name, timeout=30_000)
        print(f"seen {1000 * (time.monotonic() - began):.0f} ms after it was asked for")
        browser.close()


main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
