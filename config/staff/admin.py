"""Devices are in no admin page: a key that can be read there is no second step."""

from django.contrib import admin
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

admin.site.unregister(StaticDevice)
admin.site.unregister(TOTPDevice)
