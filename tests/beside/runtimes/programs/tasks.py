"""Tasks of Celery, in workers that serve a cache as a whole."""

import os

from asking import FOLDER, ask
from celery import Celery

from cachewrap import activate

activate(f"disk:{FOLDER}")

place = os.environ["CELERY_FOLDER"]
app = Celery("tasks", broker="filesystem://", backend=f"file://{place}")
app.conf.update(
    broker_transport_options={
        "data_folder_in": f"{place}/queue",
        "data_folder_out": f"{place}/queue",
        "control_folder": f"{place}/control",
        "polling_interval": 0.05,
    },
    broker_connection_retry_on_startup=True,
    worker_enable_remote_control=False,
)


@app.task
def answer(text: str) -> str:
    """The answer to a question."""
    activate(f"disk:{FOLDER}")  # once more at each task, as some do
    return ask(text)
