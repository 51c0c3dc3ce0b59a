"""Settings of django-eventstream in one process: neither Redis nor a storage of events."""

from __future__ import annotations

ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django_eventstream"]
ROOT_URLCONF = "tests.bench.peers.eventstream_urls"
SECRET_KEY = "of no use"
