from config.wsgi import application as django  # first: it sets Django up

# isort: split
from config.web import Application

application = Application(django)
