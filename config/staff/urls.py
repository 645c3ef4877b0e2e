from django.urls import path

from config.staff import views

app_name = "staff"
urlpatterns = [
    path("second-step/", views.code, name="code"),
    path("second-step/set-up/", views.set_up, name="set_up"),
    path("second-step/account/", views.account, name="account"),
]
