"""Registering at the desk: the pages that add a client, renew its token, and remove it.

``registration`` does the work; what takes AWS its time is done by ``tasks``.
"""

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from usercast.errors import UsercastError
from usercast_master.accounts.models import User
from usercast_master.clients import registration, tasks
from usercast_master.clients.forms import RegisterForm, RemoveForm
from usercast_master.clients.models import Client

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Client]
else:
    Base = object

_BROKER_AWAY = "Redis is away, so that no worker could be told. On the master, run: {command}"


class Registering(Base):
    """For the admin of ``Client``: its pages to add and remove, and one for a new token.

    Who may use them: ``clients.add_client``, ``clients.delete_client``, ``clients.change_client``.
    """

    # The list's own deletion would leave the queues.
    actions = None

    def get_urls(self) -> list[URLPattern]:
        token = self.admin_site.admin_view(self.token_view)
        return [
            path("<path:object_id>/token/", token, name="clients_client_token"),
            *super().get_urls(),
        ]

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Register a client, and show its environment file: the only page with its token."""
        by = _permitted(request, "clients.add_client")
        form = RegisterForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            try:
                found = registration.register(form.cleaned_data["name"], by=by)
            except UsercastError as error:
                form.add_error("name", str(error))
            else:
                return self._registered(request, found)
        return self._page(request, "register", "Register a client", form=form)

    def token_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Give a client a new token, once that is confirmed, and show it."""
        by = _permitted(request, "clients.change_client")
        client = self._found(request, object_id)
        title = f"New token for {client}"
        if request.method != "POST":
            return self._page(request, "register_token", title, client=client)
        try:
            token = registration.new_token(client, by=by)
        except UsercastError as error:
            messages.error(request, str(error))
            return redirect("admin:clients_client_changelist")
        file = registration.environment_file(client, token, settings.USERCAST_MASTER_URL)
        return self._page(request, "registered", title, client=client, file=file, token=token)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """Remove a client, once its name has been typed."""
        by = _permitted(request, "clients.delete_client")
        client = self._found(request, object_id)
        form = RemoveForm(client, request.POST if request.method == "POST" else None)
        if not form.is_valid():
            receipts = client.receipts.count()
            return self._page(
                request, "remove", f"Remove {client}", form=form, client=client, receipts=receipts
            )
        registration.begin_removal(client, by=by)
        if tasks.enqueue(tasks.remove, client):
            messages.success(request, f"{client} is being removed.")
        else:
            command = f"manage.py clients remove {client}"
            problem = _BROKER_AWAY.format(command=command)
            registration.note(client, "", problem)
            messages.warning(request, problem)
        return redirect("admin:clients_client_changelist")

    def _registered(self, request: HttpRequest, found: registration.Registration) -> HttpResponse:
        client, problem = found.client, ""
        registration.note(client, Client.Setup.DEPLOYING)
        if not tasks.enqueue(tasks.deploy, client):
            problem = _BROKER_AWAY.format(command=f"manage.py clients add {client}")
            registration.note(client, "", problem)
        return self._page(
            request,
            "registered",
            f"{client} is registered",
            client=client,
            file=registration.environment_file(client, found.token, settings.USERCAST_MASTER_URL),
            token=found.token,
            is_deploying=not problem,
            problem=problem,
        )

    def _found(self, request: HttpRequest, object_id: str) -> Client:
        client = self.get_queryset(request).filter(pk=unquote(object_id)).first()
        if client is None:
            raise Http404("There is no such client.")
        return client

    def _page(self, request: HttpRequest, name: str, title: str, **more: Any) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "title": title, "opts": self.opts}
        if client := more.get("client"):
            context["object_id"] = quote(client.pk)
        return TemplateResponse(request, f"clients/{name}.html", context | more)


def _permitted(request: HttpRequest, permission: str) -> User:
    """Who asks, if they may."""
    if not isinstance(request.user, User) or not request.user.has_perm(permission):
        raise PermissionDenied
    return request.user
