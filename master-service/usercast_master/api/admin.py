"""API tokens at the desk: made, shown once, listed, and revoked."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminSelectWidget

from usercast_master.accounts.models import User
from usercast_master.api.models import ApiToken, Scope

DEFAULT_DAYS = 90
NEVER = "never"


#: Of a token that is there.
SHOWN = ("name", "user", "shown_scopes", "state", "created", "expiry", "last_used", "begins_with")


class TokenForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new token; it cannot be changed later, only revoked."""

    scopes = forms.MultipleChoiceField(
        choices=Scope.choices,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="Within what its user may do here.",
    )
    days = forms.TypedChoiceField(
        label="Expires",
        choices=[
            (7, "in a week"),
            (30, "in 30 days"),
            (90, "in 90 days"),
            (365, "in a year"),
            (NEVER, "never"),
        ],
        coerce=lambda days: None if days == NEVER else int(days),
        initial=DEFAULT_DAYS,
        widget=UnfoldAdminSelectWidget,
    )

    class Meta:
        model = ApiToken
        fields = ("name", "user")


@admin.register(ApiToken)
class ApiTokenAdmin(ModelAdmin):
    """Superusers see everybody's, others their own. What the token is, nobody sees twice."""

    form = TokenForm
    fields = ("name", "user", "scopes", "days")
    list_display = ("name", "user", "shown_scopes", "state", "expiry", "last_used", "begins_with")
    list_display_links = None
    list_select_related = ("user",)
    list_per_page = 50
    search_fields = ("name", "user__username")
    search_help_text = "Name, or its user's"
    ordering = ("name",)
    nothing = "No program calls the API yet."

    @admin.display(description="scopes")
    def shown_scopes(self, token: ApiToken) -> str:
        return ", ".join(token.scopes)

    @display(description="state", label={"valid": "success", "expired": "danger"})
    def state(self, token: ApiToken) -> str:
        return "expired" if token.is_expired else "valid"

    @admin.display(description="begins with")
    def begins_with(self, token: ApiToken) -> str:
        return f"{token.token_key}…"

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiToken]:
        tokens: QuerySet[ApiToken] = super().get_queryset(request)
        return tokens if request.user.is_superuser else tokens.filter(user=request.user.pk)

    def formfield_for_foreignkey(self, field: Any, request: HttpRequest, **options: Any) -> Any:
        callers = User.objects.filter(is_staff=True, is_active=True).order_by("username")
        if not request.user.is_superuser:
            callers = callers.filter(pk=request.user.pk)
        options |= {"queryset": callers, "initial": request.user.pk}
        return super().formfield_for_foreignkey(field, request, **options)

    def get_form(self, request: HttpRequest, *args: Any, **options: Any) -> Any:
        form = super().get_form(request, *args, **options)
        if "user" in form.base_fields:
            # No links to the pages of the user from here.
            users = form.base_fields["user"].widget
            users.can_add_related = users.can_change_related = users.can_view_related = False
        return form

    def get_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> Any:
        return self.fields if obj is None else SHOWN

    def get_readonly_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> Any:
        return () if obj is None else SHOWN

    def add_view(self, request: HttpRequest, *args: Any, **options: Any) -> HttpResponse:
        only_save = {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().add_view(request, extra_context=only_save)  # type: ignore[no-any-return]

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: Any) -> None:
        days = form.cleaned_data["days"]
        made, token = ApiToken.objects.create(
            obj.user,
            name=obj.name,
            scopes=sorted(form.cleaned_data["scopes"]),
            expiry=days and timedelta(days=days),
        )
        # The log's line and the answer are about the row that was made.
        obj.pk, obj.created = made.pk, made.created
        request.new_token = token  # type: ignore[attr-defined]

    def response_add(
        self, request: HttpRequest, obj: ApiToken, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The only page that ever shows it."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"Token {obj.name}",
            "opts": self.opts,
            "token": request.new_token,  # type: ignore[attr-defined]
        }
        return TemplateResponse(request, "api/new_token.html", context)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
