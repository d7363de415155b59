"""The admin's desk: users as Django shows them, with the version the clients will see."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin

from usercast_master.accounts.models import User


@admin.register(User)
class UserAdmin(DjangoUserAdmin):  # type: ignore[type-arg]
    """Create, rename, edit, deactivate and delete users; every change reaches the clients."""

    list_display = ("username", "email", "full_name", "is_active")
    list_filter = ("is_active", "is_staff", "groups")
    list_per_page = 50
    readonly_fields = ("id", "last_login", "date_joined")
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

    @admin.display(description="name", ordering="last_name")
    def full_name(self, user: User) -> str:
        return user.get_full_name()
