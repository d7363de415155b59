from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminTextInputWidget

from usercast.errors import UsercastError
from usercast_master.clients import registration
from usercast_master.clients.models import Client

_TYPED = {"autocapitalize": "none", "autocomplete": "off", "spellcheck": "false"}


class RegisterForm(forms.Form):
    """The name of a client to be registered."""

    name = forms.CharField(
        label="Name",
        max_length=40,
        widget=UnfoldAdminTextInputWidget(attrs=_TYPED),
        help_text="1 to 40 of a-z, 0-9 and -, starting with a letter: its queues are called by it.",
    )

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        try:
            registration.require_name(name)
        except UsercastError as error:
            raise forms.ValidationError(str(error)) from error
        return name


class RemoveForm(forms.Form):
    """A yes to a removal: the client's name, typed."""

    name = forms.CharField(label="Its name", widget=UnfoldAdminTextInputWidget(attrs=_TYPED))

    def __init__(self, client: Client, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.client = client

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if name != self.client.name:
            raise forms.ValidationError("This is not its name: nothing was removed.")
        return name
