"""Faults: receives what a browser reports of its pages; keeps what no page of ours may do.

A script's uncaught error, an error or a warning on the console, a breach of the
Content-Security-Policy, and a request to another origin than the page's own.
"""

import re
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request

#: The console has it too, but without the directive and in words that change.
_REPORT_BREACHES = """
document.addEventListener("securitypolicyviolation", (breach) => {
  console.error(`breach of ${breach.violatedDirective} by ${breach.blockedURI || breach.sample}`);
});
"""
#: What the browser says, and the pages' own requests, where a service does not answer; nginx
#: answers in its place, by 502 or 504.
_CUT_OFF = re.compile(
    r"Failed to load resource|WebSocket connection to|TypeError: Failed to fetch"
    r"|Error: /\S+: 50[24]\b"
)


class Faults:
    """What the pages of some contexts did amiss, in ``found``.

    Args:
        may_be_cut_off: the test lets requests fail, so that they do is no fault.
    """

    def __init__(self, *, may_be_cut_off: bool) -> None:
        self.found: list[str] = []
        self._may_be_cut_off = may_be_cut_off

    def watch(self, context: BrowserContext) -> None:
        """Look at all its pages from now on."""
        context.add_init_script(_REPORT_BREACHES)
        context.on("weberror", lambda error: self.found.append(f"uncaught: {error.error}"))
        context.on("console", self._on_console)
        context.on("request", self._on_request)
        context.on("page", self._on_page)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"}:
            return
        if message.location["url"].endswith("/favicon.ico"):
            return  # the browser's own wish, of a page that names no icon: the master's admin
        # A page that is refused, or that is not there, is what some tests ask for.
        is_of_page = message.page is not None and message.location["url"] == message.page.url
        is_network = bool(_CUT_OFF.match(message.text))
        if not (is_network and (self._may_be_cut_off or is_of_page)):
            self.found.append(f"{message.type}: {message.text} ({message.location['url']})")

    def _on_request(self, request: Request) -> None:
        if not request.is_navigation_request():
            self._must_be_at_home(request.url, request.frame.url)

    def _on_page(self, page: Page) -> None:
        page.on("websocket", lambda socket: self._must_be_at_home(socket.url, page.url))

    def _must_be_at_home(self, url: str, page_url: str) -> None:
        if urlsplit(url).scheme != "data" and urlsplit(url).netloc != urlsplit(page_url).netloc:
            self.found.append(f"foreign: {url} from {page_url}")
