"""What can be done to many users at once; each does what it can and says whom it left."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminSelect2Widget

from usercast_master.accounts import history, rights
from usercast_master.accounts.models import User
from usercast_master.outbox import capture, status


@admin.action(description="Deactivate", permissions=["change"])
def deactivate(desk: Any, request: HttpRequest, users: QuerySet[User]) -> None:
    """End their access, here and on every client."""
    _set_active(request, users, is_active=False)


@admin.action(description="Activate", permissions=["change"])
def activate(desk: Any, request: HttpRequest, users: QuerySet[User]) -> None:
    """Let them in again."""
    _set_active(request, users, is_active=True)


def _set_active(request: HttpRequest, users: QuerySet[User], *, is_active: bool) -> None:
    with transaction.atomic():
        chosen = _touchable(request, users).exclude(is_active=is_active)
        ids = list(chosen.order_by().values_list("pk", flat=True))
        with history.recorded(ids, by=request.user, via="the desk"):
            count = User.objects.filter(pk__in=ids).update(is_active=is_active)
    _say(request, count, "activated" if is_active else "deactivated")


@admin.action(description="Send again to the clients", permissions=["retry"])
def send_again(desk: Any, request: HttpRequest, users: QuerySet[User]) -> None:
    """Publish them once more; for what is parked too."""
    count = status.republish(user_ids=list(users.order_by().values_list("pk", flat=True)))
    _say(request, count, "will be sent again")


class GroupForm(forms.Form):
    """Which group."""

    group = forms.ModelChoiceField(
        Group.objects.order_by("name"), widget=UnfoldAdminSelect2Widget, empty_label=None
    )


@admin.action(description="Add to a group…", permissions=["change"])
def add_to_group(desk: Any, request: HttpRequest, users: QuerySet[User]) -> TemplateResponse | None:
    """Ask for the group, then add those who are not in it yet."""
    form = GroupForm(request.POST if "group" in request.POST else None)
    if not form.is_valid():
        context = {
            **desk.admin_site.each_context(request),
            "title": "Add to a group",
            "opts": desk.model._meta,
            "form": form,
            "media": desk.media + form.media,
            "count": users.count(),
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "select_across": request.POST.get("select_across", "0"),
            "checkbox_name": ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "desk/add_to_group.html", context)
    group = form.cleaned_data["group"]
    count = _join(request, group, _touchable(request, users))
    _say(request, count, f"added to {group.name}")
    return None


def _join(request: HttpRequest, group: Group, users: QuerySet[User]) -> int:
    through = User.groups.through
    with transaction.atomic():
        # Before the members, as everywhere; and nobody else lets them in meanwhile.
        Group.objects.select_for_update().get(pk=group.pk)
        joining = users.exclude(groups=group).order_by()
        ids = list(joining.values_list("pk", flat=True))
        with history.recorded(ids, by=request.user, via="the desk"):
            through._base_manager.bulk_create(
                [through(user_id=pk, group_id=group.pk) for pk in ids], batch_size=5000
            )
            # The memberships' table sends no signals of bulk writes.
            capture.mark_changed(ids, capture.Priority.BULK)
    return len(ids)


def _touchable(request: HttpRequest, users: QuerySet[User]) -> QuerySet[User]:
    """Without oneself, and without staff unless one is a superuser."""
    chosen = users.filter(rights.touchable(request.user)).exclude(pk=str(request.user.pk))
    left = users.count() - chosen.count()
    if left:
        messages.warning(
            request,
            f"{_users(left)} left as they are: your own account, or staff, whom only a superuser"
            " changes.",
        )
    return chosen


def _say(request: HttpRequest, count: int, what: str) -> None:
    level = messages.SUCCESS if count else messages.INFO
    text = f"{_users(count)} {what}." if count else f"Nobody had to be changed: 0 {what}."
    messages.add_message(request, level, text)


def _users(count: int) -> str:
    return "1 user" if count == 1 else f"{count:,} users"
