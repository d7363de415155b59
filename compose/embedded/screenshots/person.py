"""What there is of one user: their page for staff, their own page, and the way in to both."""

from playwright.sync_api import expect

from embedded.screenshots import looks
from embedded.screenshots.propagation import SUBJECT
from embedded.screenshots.stage import Login, Pages, Stage, are
from embedded.screenshots.system import CLIENT
from embedded.traffic import User

#: What happens to the user, oldest first, and a word of how their page tells it.
LIFE: tuple[tuple[User, str], ...] = (
    ({"groups": ["engineering"]}, "groups"),
    ({"is_active": False}, "deactivated"),
    ({"is_active": True}, "activated"),
    ({"email": "agnes@example.com"}, "agnes@example.com"),
)


def take_sign_in(stage: Stage) -> None:
    """The form that asks who it is."""
    with stage.pages("/login/", login=None, chosen=looks.TWO) as pages:
        stage.take("sign-in", pages)


def take_user(stage: Stage) -> None:
    """A user's page as the client's staff see it, with a change that has just come."""
    subject = stage.master.users()[SUBJECT]
    path = f"/users/{subject['id']}/"
    with stage.pages(path, login=stage.staff, chosen=looks.TWO[:1]) as pages:
        are(pages, "live")
        for fields, word in LIFE:
            _change(stage, subject, fields, pages, word)
    with stage.pages(path, login=stage.staff) as pages:
        are(pages, "live")
        _change(stage, subject, {"groups": ["editors", "engineering"]}, pages, "editors")
        stage.take("user", pages)


def take_own(stage: Stage) -> None:
    """The same user's own page, with a change that has just come."""
    subject = stage.master.users()[SUBJECT]
    with stage.pages("/me/", login=member(stage, subject)) as pages:
        are(pages, "live")
        _change(stage, subject, {"groups": ["engineering", "people"]}, pages, "people")
        stage.take("me", pages)


def _change(stage: Stage, user: User, fields: User, pages: Pages, word: str) -> None:
    """Change the user, and wait until their history begins with it on all pages."""
    stage.master.change(user, fields)
    for page in pages.values():
        expect(page.locator("#history li").first).to_contain_text(word)


def member(stage: Stage, user: User) -> Login:
    """The login of a replicated user, who has a password on the client from now on."""
    login = stage.deployment.create_member(CLIENT, user["username"])
    return {**login, "url": stage.staff["url"]}
