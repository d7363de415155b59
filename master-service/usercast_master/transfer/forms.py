from django import forms
from unfold.widgets import UnfoldAdminFileFieldWidget


class UploadForm(forms.Form):
    """A file to be checked; what it may hold is said beside it."""

    file = forms.FileField(
        label="File",
        widget=UnfoldAdminFileFieldWidget(attrs={"accept": ".csv,.xlsx"}),
        help_text="CSV in UTF-8 or XLSX, up to 50 MB and 1,000,000 rows.",
        error_messages={"empty": "The file is empty."},
    )
