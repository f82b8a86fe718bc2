"""Crowds, kills and faults: short here, and for longer with ``tox -e stress``."""
