from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("api/", include("usercast_master.api.urls")),
]

admin.site.site_header = admin.site.site_title = "Usercast master"
admin.site.index_title = "Users, and what has yet to reach the clients"
