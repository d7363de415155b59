"""The form for a code of an app, or a recovery code."""

from collections.abc import Callable
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminTextInputWidget


class CodeForm(forms.Form):
    """Asks for a code, and ``check`` what to make of it: valid, its answer is ``outcome``."""

    code = forms.CharField(
        max_length=40,
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "one-time-code", "autofocus": "", "spellcheck": "false"}
        ),
    )

    def __init__(self, *args: Any, check: Callable[[str], Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._check = check
        self.outcome: Any = None

    def clean_code(self) -> str:
        """As it was given, without what people put between."""
        code: str = self.cleaned_data["code"].replace(" ", "").replace("-", "").lower()
        self.outcome = self._check(code)
        return code
