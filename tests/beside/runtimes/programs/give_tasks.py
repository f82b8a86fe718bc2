"""Gives tasks to a worker of Celery, and prints what they return."""

import json

from tasks import answer

results = [answer.delay(text) for text in ("a", "b", "a", "b")]
print(json.dumps([result.get(timeout=100, interval=0.1) for result in results]))
