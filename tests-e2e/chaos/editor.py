"""Changes as people and other programs make them: over HTTP, through the master's web process."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import httpx

Edit = Callable[["Editor"], int]
TIMEOUT_SECONDS = 5.0
#: Users that are read at once, to be edited one after the other.
PAGE_SIZE = 25


class Editor:
    """Edits users through the REST API with a token, and through the admin's form as signed in.

    Args:
        login: the master's entry in ``credentials.json``.
        group_ids: the groups that the admin's form may set.

    Every method raises ``httpx.HTTPError`` when the master refuses or is away.
    """

    def __init__(
        self, login: dict[str, str], *, group_ids: Sequence[int], rng: random.Random
    ) -> None:
        self._login = login
        self._group_ids = list(group_ids)
        self._rng = rng
        self._paths: list[str] = []
        # Several editors begin at several ends.
        order = rng.choice(("username", "-username", "last_name", "-date_joined"))
        self._first = f"/api/v1/users/?ordering={order}&page_size={PAGE_SIZE}"
        self._next: str | None = None
        common: dict[str, Any] = {
            "base_url": login["url"],
            "timeout": TIMEOUT_SECONDS,
            "trust_env": False,
        }
        self._api = httpx.Client(headers={"Authorization": f"Token {login['api_token']}"}, **common)
        self._admin = httpx.Client(headers={"Referer": login["url"]}, **common)

    def close(self) -> None:
        """Close the connections."""
        self._api.close()
        self._admin.close()

    def patch_over_rest(self) -> int:
        """Change one user."""
        fields = {"email": f"{_word(self._rng)}@example.net", "is_active": self._rng.random() < 0.9}
        self._api.patch(self._any_user(), json=fields).raise_for_status()
        return 1

    def create_over_rest(self) -> int:
        """Create one user."""
        fields = {"username": _word(self._rng), "last_name": "Rest"}
        self._api.post("/api/v1/users/", json=fields).raise_for_status()
        return 1

    def delete_over_rest(self) -> int:
        """Delete one user."""
        self._api.delete(self._any_user()).raise_for_status()
        return 1

    def save_in_the_admin(self) -> int:
        """Fill in the admin's form of one user and save it: name, state and groups at once."""
        user = self._api.get(self._any_user()).raise_for_status().json()
        groups = self._rng.sample(self._group_ids, min(2, len(self._group_ids)))
        form = {name: user[name] for name in ("username", "email", "last_name")} | {
            "first_name": _word(self._rng),
            "groups": [str(group_id) for group_id in groups],
            "is_active": "on",
        }
        self._post_form(f"/admin/accounts/user/{user['id']}/change/", form)
        return 1

    def _any_user(self) -> str:
        """The path of one of the users who were there a moment ago."""
        if not self._paths:
            found = self._api.get(self._next or self._first).raise_for_status().json()
            self._next = found["next"]
            ids = [user["id"] for user in found["results"]]
            self._paths = [f"/api/v1/users/{user_id}/" for user_id in ids]
            self._rng.shuffle(self._paths)
        return self._paths.pop()

    def _post_form(self, path: str, form: dict[str, Any]) -> None:
        if "usercast_master_session" not in self._admin.cookies:
            self._sign_in()
        answer = self._post(path, form)
        if answer.status_code != httpx.codes.FOUND:
            # Shown again with an error, such as a name that was taken meanwhile.
            raise httpx.HTTPStatusError("refused", request=answer.request, response=answer)

    def _sign_in(self) -> None:
        self._admin.get("/admin/login/").raise_for_status()
        form = {"username": self._login["username"], "password": self._login["password"]}
        self._post("/admin/login/", form)

    def _post(self, path: str, form: dict[str, Any]) -> httpx.Response:
        token = self._admin.cookies["usercast_master_csrf"]
        answer = self._admin.post(path, data={**form, "csrfmiddlewaretoken": token})
        if answer.is_error:
            answer.raise_for_status()
        return answer


#: Each edit and how often it is made, in relation to the others.
WEIGHTS: dict[Edit, int] = {
    Editor.patch_over_rest: 6,
    Editor.save_in_the_admin: 5,
    Editor.create_over_rest: 2,
    Editor.delete_over_rest: 2,
}


def _word(rng: random.Random) -> str:
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=12))
