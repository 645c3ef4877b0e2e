"""Every address of the service."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", include("config.staff.urls")),
    path("admin/", admin.site.urls),
    path("", include("verification.urls")),
    path("", include("messaging.urls")),
]

handler400 = "messaging.problems.bad_request"
handler404 = "messaging.problems.not_found"
handler500 = "messaging.problems.server_error"
