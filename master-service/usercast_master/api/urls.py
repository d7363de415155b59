from django.contrib import admin
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from usercast_master.api.clients import ClientStatusViewSet
from usercast_master.api.digests import DigestsViewSet
from usercast_master.api.permissions import MayCall
from usercast_master.api.snapshot import SnapshotViewSet
from usercast_master.api.views import GroupViewSet, OutboxStatusView, UnknownView, UserViewSet

router = SimpleRouter()
router.register("users", UserViewSet, basename="user")
router.register("groups", GroupViewSet, basename="group")
router.register("snapshot", SnapshotViewSet, basename="snapshot")
router.register("digests", DigestsViewSet, basename="digests")

docs = SpectacularSwaggerSplitView.as_view(url_name="schema", template_name="api/docs.html")

urlpatterns = [
    path("v1/", include(router.urls)),
    path("v1/outbox/status/", OutboxStatusView.as_view(), name="outbox-status"),
    path(
        "v1/clients/<str:name>/status/",
        ClientStatusViewSet.as_view({"put": "report"}),
        name="client-status",
    ),
    path("schema/", SpectacularAPIView.as_view(permission_classes=[MayCall]), name="schema"),
    path("docs/", admin.site.admin_view(docs), name="api-docs"),
    re_path(r"^", UnknownView.as_view()),
]
