"""What a picture is taken with: a desktop's or a phone's browser, in light or dark colours."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from embedded.errors import StackError

_DEVICES: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 800}},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "is_mobile": True,
        "has_touch": True,
    },
}


@dataclass(frozen=True)
class Look:
    """One of the browsers that a page is looked at with."""

    device: str
    scheme: str

    def __str__(self) -> str:
        return f"{self.device}-{self.scheme}"

    @property
    def options(self) -> dict[str, Any]:
        """The options of its browser context."""
        return {**_DEVICES[self.device], "color_scheme": self.scheme, **PLACE}


#: Where the reader is: pictures do not depend on where they are taken.
PLACE: dict[str, Any] = {"locale": "en-GB", "timezone_id": "UTC"}
ALL = tuple(
    Look(device, scheme) for device, scheme in product(("desktop", "phone"), ("light", "dark"))
)
#: For what needs no more: each device and each scheme once.
TWO = (Look("desktop", "light"), Look("phone", "dark"))


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's Chromium, without a window.

    Raises:
        StackError: there is none.
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise StackError("There is no Chromium here: install it (apt-get install chromium).")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
