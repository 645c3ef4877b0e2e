import os

from django.core.wsgi import get_wsgi_application

from messaging import lifecycle

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()
lifecycle.started()
