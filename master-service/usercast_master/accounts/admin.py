"""Users and groups at the desk: what they are, how far the clients know it, who changed what."""

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from usercast_master.accounts import actions, history, rights
from usercast_master.accounts.models import User
from usercast_master.clients import standing
from usercast_master.desk.deadlocks import again_after_deadlock
from usercast_master.outbox import delivery
from usercast_master.outbox.delivery import Delivery
from usercast_master.transfer.actions import export_csv, export_xlsx

admin.site.unregister(Group)

#: What only superusers may change.
RIGHTS = ("is_staff", "is_superuser", "user_permissions")


class DeliveryFilter(admin.SimpleListFilter):
    """Users by how far the clients know them."""

    title = "delivery"
    parameter_name = "delivery"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state.value, state.label) for state in Delivery]

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        value = self.value()
        if value in Delivery.values:
            return queryset.filter(delivery.users_in(Delivery(str(value))))
        return queryset


class EditForm(UserChangeForm):
    """A user's form, refused if they have changed since it was opened.

    Otherwise it would put back all that somebody else has changed meanwhile, a dismissal included.
    """

    read_version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.initial["read_version"] = self.instance.version

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        # Read with the row locked; staff have no version.
        if cleaned.get("read_version") != self.instance.version:
            raise ValidationError(
                "Somebody else has changed this user since you opened this page: copy what you "
                "want to keep, then reload it.",
                code="stale",
            )
        return cleaned


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]
    """Create, rename, edit, deactivate and delete users; every change reaches the clients.

    Accounts of staff are changed by superusers only: whoever may edit one could become one.
    """

    form = EditForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "full_name", "active", "shown_version", "shown_delivery")
    list_filter = ("is_active", "is_staff", "groups", DeliveryFilter)
    list_filter_submit = True
    list_per_page = 50
    search_help_text = "Username, name or e-mail address"
    autocomplete_fields = ("groups",)
    filter_horizontal = ("user_permissions",)
    readonly_fields = (
        "id",
        "last_login",
        "date_joined",
        "shown_version",
        "told_delivery",
        "shown_access",
    )
    actions = (
        actions.deactivate,
        actions.activate,
        actions.add_to_group,
        actions.send_again,
        export_csv,
        export_xlsx,
    )
    list_before_template = "transfer/links.html"
    fieldsets = (
        (None, {"fields": ("username", "password", "read_version")}),
        ("Person", {"fields": (("first_name", "last_name"), "email", "is_active", "groups")}),
        ("Delivery", {"fields": (("shown_version", "told_delivery"), "id")}),
        ("Rights at this desk", {"fields": RIGHTS, "classes": ("collapse",)}),
        ("Dates", {"fields": (("date_joined", "last_login"),)}),
    )
    add_fieldsets = (
        (
            None,
            {
                "classes": ("wide",),
                "fields": ("username", "usable_password", "password1", "password2"),
            },
        ),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return delivery.told(super().get_queryset(request))

    @admin.display(description="name", ordering="last_name")
    def full_name(self, user: User) -> str:
        return user.get_full_name()

    @display(description="active", boolean=True, ordering="is_active")
    def active(self, user: User) -> bool:
        return user.is_active

    @admin.display(description="version")
    def shown_version(self, user: Any) -> str:
        """What the clients have, and in parentheses what they do not have yet."""
        return delivery.versions(user) if user.version else "none"

    @display(
        description="delivery",
        label={
            Delivery.DELIVERED: "success",
            Delivery.ON_ITS_WAY: "info",
            Delivery.WAITING: "warning",
            Delivery.PARKED: "danger",
            Delivery.LOCAL: None,
        },
    )
    def shown_delivery(self, user: Any) -> tuple[Delivery, str]:
        state = delivery.state_of(user)
        return state, state.label

    @admin.display(description="delivery")
    def told_delivery(self, user: Any) -> str:
        return str(delivery.state_of(user).label)

    @admin.display(description="access on clients")
    def shown_access(self, user: Any) -> str:
        """How the latest dismissal stands, and the way to all of them."""
        said = f"{standing.what(user.dismissal)}: {standing.said(user.dismissal)}"
        page = standing.address(user.pk)
        return format_html('<a class="desk-proof-user" href="{}">{}</a>', page, said)

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        user: Any = super().get_object(request, object_id, from_field)
        if user is not None:
            user.dismissal = standing.newest(user.pk)
        return user

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Who never lost access has nothing to show of it."""
        fieldsets = super().get_fieldsets(request, obj)
        if getattr(obj, "dismissal", None) is None:
            return fieldsets
        return [
            (name, {**options, "fields": (*options["fields"], "shown_access")})
            if name == "Delivery"
            else (name, options)
            for name, options in fieldsets
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if request.user.is_superuser else (*fields, *RIGHTS)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        may = obj is None or rights.may_touch(request.user, obj)
        return may and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        may = obj is None or rights.may_touch(request.user, obj)
        return may and super().has_delete_permission(request, obj)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """As for the outbox's own action."""
        return request.user.has_perm("outbox.change_outboxentry")

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Who has acted at the desk stays: the log's lines would go with them."""
        deletable, counts, lacking, protected = super().get_deleted_objects(objs, request)
        users = User.objects.filter(pk__in=[user.pk for user in objs])
        actors = users.filter(pk__in=LogEntry.objects.values("user")).order_by("username")
        kept = [f"{user}: has changed users here; deactivate instead" for user in actors[:10]]
        return deletable, counts, lacking, [*protected, *kept]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        view = partial(super().changeform_view, request, object_id, form_url, extra_context)
        if request.method != "POST":
            return view()
        watched = {object_id} if object_id and history.is_id(object_id) else set()

        def recorded() -> HttpResponse:
            with history.recorded(watched, by=request.user, via="the desk") as seen:
                request.watched = seen  # type: ignore[attr-defined]
                return view()

        return again_after_deadlock(recorded)

    def log_addition(self, request: HttpRequest, obj: User, message: Any) -> None:  # type: ignore[override]
        request.watched.add(obj.pk)  # type: ignore[attr-defined]

    def construct_change_message(  # type: ignore[override]
        self,
        request: HttpRequest,
        form: Any,
        formsets: Any,
        add: bool = False,  # noqa: FBT002
    ) -> str:
        """What the history does not say from what to what: permissions, and a new password."""
        changed = {*form.changed_data}
        said = ["Permissions changed."] if "user_permissions" in changed else []
        if not add and not changed.isdisjoint({"password", "password1", "usable_password"}):
            said.append("Password set.")
        return " ".join(said)

    def log_change(self, request: HttpRequest, obj: User, message: Any) -> None:  # type: ignore[override]
        if message:
            super().log_change(request, obj, message)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    """Groups; renaming or deleting one is a change of each of its members."""

    list_display = ("name", "members")

    def changeform_view(self, request: HttpRequest, *args: Any, **options: Any) -> HttpResponse:
        view = partial(super().changeform_view, request, *args, **options)
        return again_after_deadlock(view)

    def get_readonly_fields(self, request: HttpRequest, obj: Group | None = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if request.user.is_superuser else (*fields, "permissions")

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        may = obj is None or rights.may_touch_group(request.user, obj)
        return may and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        may = obj is None or rights.may_touch_group(request.user, obj)
        return may and super().has_delete_permission(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        return super().get_queryset(request).annotate(member_count=Count("user"))

    @admin.display(description="members", ordering="member_count")
    def members(self, group: Any) -> str:
        return format_html(
            '<a href="../../accounts/user/?groups__id__exact={}">{}</a>',
            group.pk,
            f"{group.member_count:,}",
        )
