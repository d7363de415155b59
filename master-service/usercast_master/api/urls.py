from django.contrib import admin
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from usercast_master.api.permissions import MayCall
from usercast_master.api.snapshot import SnapshotViewSet
from usercast_master.api.views import GroupViewSet, OutboxStatusView, UnknownView, UserViewSet

router = SimpleRouter()
router.register("users", UserViewSet, basename="user")
router.register("groups", GroupViewSet, basename="group")
router.register("snapshot", SnapshotViewSet, basename="snapshot")

docs = SpectacularSwaggerSplitView.as_view(url_name="schema", template_name="api/docs.html")

urlpatterns = [
    path("v1/", include(router.urls)),
    path("v1/outbox/status/", OutboxStatusView.as_view(), name="outbox-status"),
    path("schema/", SpectacularAPIView.as_view(permission_classes=[MayCall]), name="schema"),
    path("docs/", admin.site.admin_view(docs), name="api-docs"),
    re_path(r"^", UnknownView.as_view()),
]
