"""The desk's side bar: what there is, for those who may see it."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.urls import reverse

#: No permission can be given for these.
_SUPERUSER = "superuser"
_SECTIONS: tuple[tuple[str, tuple[tuple[str, str, str, str], ...]], ...] = (
    ("", (("At a glance", "monitoring", "admin:index", ""),)),
    (
        "People",
        (
            ("Users", "person", "admin:accounts_user_changelist", "accounts.view_user"),
            ("Groups", "group", "admin:auth_group_changelist", "auth.view_group"),
            ("Imports", "upload_file", "admin:transfer_import_changelist", "accounts.add_user"),
        ),
    ),
    (
        "Delivery",
        (
            ("Clients", "hub", "admin:clients_client_changelist", "clients.view_client"),
            (
                "Dismissals",
                "person_off",
                "admin:outbox_dismissal_changelist",
                "accounts.view_user",
            ),
            ("Outbox", "outbox", "admin:outbox_outboxentry_changelist", "outbox.view_outboxentry"),
        ),
    ),
    (
        "API",
        (
            ("Tokens", "key", "admin:master_api_apitoken_changelist", "master_api.view_apitoken"),
            ("Documentation", "menu_book", "api-docs", ""),
        ),
    ),
    (
        "Sign-in",
        (
            ("Access attempts", "lock", "admin:axes_accessattempt_changelist", _SUPERUSER),
            ("Access logs", "login", "admin:axes_accesslog_changelist", _SUPERUSER),
            (
                "Second factors",
                "phonelink_lock",
                "admin:signin_secondfactor_changelist",
                _SUPERUSER,
            ),
        ),
    ),
)


def sections(request: HttpRequest) -> list[dict[str, Any]]:
    """The sections as Unfold takes them; an entry names its page and the permission it wants."""
    return [
        {
            "title": title,
            "separator": bool(title),
            "items": [
                {"title": name, "icon": icon, "link": reverse(page), "permission": _has(permission)}
                for name, icon, page, permission in entries
            ],
        }
        for title, entries in _SECTIONS
    ]


def _has(permission: str) -> Callable[[HttpRequest], bool]:
    if permission == _SUPERUSER:
        return lambda request: bool(request.user.is_superuser)
    return lambda request: not permission or request.user.has_perm(permission)
