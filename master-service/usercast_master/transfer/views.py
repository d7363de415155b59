"""The pages of import and export, within the admin: ``admin`` says who may see them, and where.

They show what the import's row says; ``tasks`` work on it.
"""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    StreamingHttpResponse,
)
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from usercast_master.accounts.models import User
from usercast_master.transfer import exporting, files, leases, reports, tasks
from usercast_master.transfer.errors import UnusableFile
from usercast_master.transfer.forms import UploadForm
from usercast_master.transfer.models import AT_WORK, OPEN, Import, State
from usercast_master.transfer.tables import FIELDS

#: Of a page; all are in the CSV.
_SHOWN_ERRORS = 50
_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


def upload(request: HttpRequest) -> HttpResponse:
    """Take a file, and go on to its page; or say at once why it cannot be imported."""
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        file = form.cleaned_data["file"]
        try:
            assert isinstance(request.user, User)
            found = files.receive(file.file, file.name, by=request.user)
        except UnusableFile as error:
            form.add_error("file", str(error))
        else:
            tasks.enqueue()
            return redirect(found)
    context = _context(request, "Import users") | {"form": form, "columns": FIELDS}
    return TemplateResponse(request, "transfer/upload.html", context)


@require_GET
def page(request: HttpRequest, import_id: int) -> HttpResponse:
    """One import: how far it is, what it would do, what it did."""
    found = get_object_or_404(Import, pk=import_id)
    context = _context(request, found.file_name) | _status(found)
    return TemplateResponse(request, "transfer/import.html", context)


@require_GET
def status(request: HttpRequest, import_id: int) -> HttpResponse:
    """The part of the page that changes, for the page's script."""
    found = get_object_or_404(Import, pk=import_id)
    return TemplateResponse(request, "transfer/status.html", _status(found))


@require_POST
def confirm(request: HttpRequest, import_id: int) -> HttpResponse:
    """Say yes to what the check found."""
    found = get_object_or_404(Import, pk=import_id)
    if leases.confirm(found.pk):
        tasks.enqueue()
    else:
        messages.warning(request, "This import was not waiting for a yes any more.")
    return redirect(found)


@require_POST
def cancel(request: HttpRequest, import_id: int) -> HttpResponse:
    """End an import where it stands."""
    found = get_object_or_404(Import, pk=import_id)
    if not leases.cancel(found.pk):
        messages.warning(request, "This import had ended already.")
    return redirect(found)


@require_GET
def errors(request: HttpRequest, import_id: int) -> HttpResponseBase:
    """The refused rows as CSV."""
    found = get_object_or_404(Import, pk=import_id)
    return _attached(reports.as_csv(reports.error_rows(found)), f"import-{found.pk}.errors.csv")


@require_GET
def export(request: HttpRequest, kind: str) -> HttpResponseBase:
    """The users that the user list shows by the same search and filters, on all its pages."""
    if kind not in _TYPES:
        raise Http404
    user_admin = admin.site.get_model_admin(User)
    try:
        chosen = user_admin.get_changelist_instance(request).queryset
    except IncorrectLookupParameters:
        raise Http404("These are no filters of the user list.") from None
    return exported(chosen, kind)


def exported(users: QuerySet[User], kind: str) -> HttpResponseBase:
    """Users as a file to be kept; ``kind`` is ``csv`` or ``xlsx``."""
    name = f"users-{timezone.now():%Y-%m-%d}.{kind}"
    # Without what the list joins and annotates for itself.
    chosen = User.objects.filter(pk__in=users.order_by().values("pk"))
    if kind == "xlsx":
        file = exporting.to_xlsx(chosen)
        return FileResponse(file, as_attachment=True, filename=name, content_type=_TYPES[kind])
    return _attached(exporting.to_csv(chosen), name)


def _attached(pieces: Any, name: str) -> StreamingHttpResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(pieces, content_type=_TYPES["csv"], headers=headers)


def _context(request: HttpRequest, title: str) -> dict[str, Any]:
    return {**admin.site.each_context(request), "title": title, "opts": Import._meta}


_HEADINGS = {
    State.CHECKING: "Checking the rows",
    State.CHECKED: "Checked: nothing is changed yet",
    State.IMPORTING: "Importing",
    State.DONE: "Imported",
    State.FAILED: "Failed",
    State.CANCELLED: "Cancelled",
}


def _status(found: Import) -> dict[str, Any]:
    rows = found.row_count
    errors = list(found.errors.all()[: _SHOWN_ERRORS + 1])
    return {
        "found": found,
        "heading": _HEADINGS[State(found.state)],
        "at_work": found.state in AT_WORK,
        "is_open": found.state in OPEN,
        "has_ended_early": found.state in (State.FAILED, State.CANCELLED),
        "percent": min(100 * found.next_row // rows, 100) if rows else None,
        "counts": [
            ("New", found.new),
            ("Changed", found.changed),
            ("Unchanged", found.unchanged),
            ("Refused", found.refused),
        ],
        "errors": errors[:_SHOWN_ERRORS],
        "more_errors": len(errors) > _SHOWN_ERRORS,
        "is_stuck": leases.is_stuck(found),
        "is_behind_another": leases.is_behind_another(found),
        "good": found.new + found.changed,
    }
