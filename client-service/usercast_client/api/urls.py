from django.urls import include, path
from rest_framework.routers import SimpleRouter

from usercast_client.api.views import LiveChangesView, LiveStateView, OwnView, UserViewSet

router = SimpleRouter()
router.register("users", UserViewSet, basename="user")

urlpatterns = [
    path("", include(router.urls)),
    path("me/", OwnView.as_view(), name="me"),
    path("live/state/", LiveStateView.as_view(), name="live-state"),
    path("live/changes/", LiveChangesView.as_view(), name="live-changes"),
]
