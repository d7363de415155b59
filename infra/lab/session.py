"""A session at a client: ``session.py URL sign-in NAME PASSWORD`` prints its cookie, and
``session.py URL look COOKIE`` ends with 0 if whoever has it is signed in."""

import sys
from http.cookiejar import CookieJar
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener


def sign_in(url: str, name: str, password: str) -> str:
    """The Cookie header of a new session."""
    jar = CookieJar()
    opener = build_opener(HTTPCookieProcessor(jar))
    page = opener.open(f"{url}/login/", timeout=10).read().decode()
    token = page.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]
    form = {"username": name, "password": password, "csrfmiddlewaretoken": token}
    opener.open(f"{url}/login/", urlencode(form).encode(), timeout=10).close()
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)


def is_signed_in(url: str, cookie: str) -> bool:
    """Whether the start page is shown, rather than the sign-in."""
    request = Request(f"{url}/", headers={"Cookie": cookie})
    answer = build_opener().open(request, timeout=10)
    return "/login/" not in str(answer.geturl())


if sys.argv[2] == "sign-in":
    print(sign_in(sys.argv[1], sys.argv[3], sys.argv[4]))
else:
    sys.exit(not is_signed_in(sys.argv[1], sys.argv[3]))
