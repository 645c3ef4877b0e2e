from django.urls import path

from verification import views

urlpatterns = [
    path("api/v1/verifications", views.VerificationsView.as_view()),
    path("api/v1/verifications/redeem", views.RedeemView.as_view()),
    path("api/v1/verifications/<str:reference>", views.VerificationView.as_view()),
    path("api/v1/verifications/<str:reference>/check", views.VerificationCheckView.as_view()),
    path("api/v1/verifications/<str:reference>/resend", views.VerificationResendView.as_view()),
    path("api/v1/verifications/<str:reference>/cancel", views.VerificationCancelView.as_view()),
]
