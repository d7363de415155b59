from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from usercast_client.dashboard import views

pages = [path("", views.index, name="index")]

urlpatterns = [
    path(
        "login/",
        LoginView.as_view(next_page="dashboard:index", redirect_authenticated_user=True),
        name="login",
    ),
    path("logout/", LogoutView.as_view(next_page="login"), name="logout"),
    path("", include((pages, "dashboard"))),
]
