"""Sign-ins at the desk and second factors, to look at; unlocking and resetting is what to do."""

from typing import Any

from axes.models import AccessAttempt, AccessLog
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django_otp.plugins.otp_totp import admin as _registered  # noqa: F401
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.admin import ModelAdmin

from usercast_master.signin import second_factor
from usercast_master.signin.models import SecondFactor

# Django-otp's page would show the keys.
admin.site.unregister(TOTPDevice)


class ReadOnly(ModelAdmin):
    """For superusers, and unchangeable: the names typed are personal, at times worse."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(AccessAttempt)
class AttemptAdmin(ReadOnly):
    """Failures that still count, by name, address and browser."""

    list_display = ("attempt_time", "username", "ip_address", "failures_since_start")
    search_fields = ("username", "ip_address")
    search_help_text = "User name or address"
    fields = ("attempt_time", "username", "ip_address", "user_agent", "failures_since_start")
    actions = ("unlock",)
    nothing = "No failure counts at present."

    @admin.action(description="Unlock: forget these failures", permissions=["view"])
    def unlock(self, request: HttpRequest, queryset: QuerySet[AccessAttempt]) -> None:
        # Of whatever browser: the lock counts them together.
        pairs = set(queryset.values_list("username", "ip_address"))
        for username, address in pairs:
            AccessAttempt.objects.filter(username=username, ip_address=address).delete()
        messages.success(
            request,
            f"Failures forgotten of {len(pairs):,} names at their addresses; they may try again.",
        )


@admin.register(AccessLog)
class SignInAdmin(ReadOnly):
    """Who signed in and out, from where; kept for 90 days."""

    list_display = ("attempt_time", "username", "ip_address", "logout_time")
    search_fields = ("username", "ip_address")
    search_help_text = "User name or address"
    fields = ("attempt_time", "logout_time", "username", "ip_address", "user_agent")


@admin.register(SecondFactor)
class SecondFactorAdmin(ReadOnly):
    """Who has set up an authenticator app, and when; never its key."""

    list_display = ("user", "created_at", "last_used_at")
    list_display_links = None
    list_select_related = ("user",)
    search_fields = ("user__username",)
    search_help_text = "User name"
    nothing = "Nobody has set up an authenticator app yet."
    fields = ("user", "created_at", "last_used_at")
    actions = ("reset",)

    @admin.action(description="Reset: ask to set up a new one", permissions=["view"])
    def reset(self, request: HttpRequest, queryset: QuerySet[SecondFactor]) -> None:
        """Forget them, and the recovery codes; those who lost theirs sign in anew."""
        users = {device.user for device in queryset.select_related("user")}
        assert request.user.is_authenticated
        count = sum(second_factor.reset(user, by=request.user) for user in users)
        messages.success(request, f"{count:,} reset; they set up a new one at the next sign-in.")
