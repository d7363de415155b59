from django.contrib.auth.views import LogoutView
from django.urls import include, path

from usercast_client.dashboard import views
from usercast_client.dashboard.accounts import ChangePassword, ChoosePassword, SignIn
from usercast_client.dashboard.guard import visible_to
from usercast_client.live.access import View

pages = [
    path("", views.index, name="index"),
    path("refresh/", views.refresh, name="refresh"),
    path("users/<uuid:user_id>/", views.user, name="user"),
    path("me/", views.me, name="me"),
]

urlpatterns = [
    path("login/", SignIn.as_view(), name="login"),
    path("logout/", LogoutView.as_view(next_page="login"), name="logout"),
    path(
        "me/password/",
        visible_to(View.OWN)(ChangePassword.as_view()),
        name="password",
    ),
    path("password/<uidb64>/<token>/", ChoosePassword.as_view(), name="password-link"),
    path("", include((pages, "dashboard"))),
]
