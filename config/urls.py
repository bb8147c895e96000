"""Which addresses are there?"""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from config.api import router

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("admin/", admin.site.urls),
    path("api/v1/", include(router.urls)),
]
