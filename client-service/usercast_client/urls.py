from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("usercast_client.dashboard.urls")),
    path("admin/", admin.site.urls),
    path("api/v1/", include("usercast_client.api.urls")),
]

admin.site.site_header = admin.site.site_title = "Usercast client"
