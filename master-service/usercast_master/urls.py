from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("api/", include("usercast_master.api.urls")),
]

handler400 = "usercast_master.api.problems.bad_request"
handler500 = "usercast_master.api.problems.server_error"
