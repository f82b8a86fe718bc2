"""Runs a script on a server of Streamlit's, in two sessions at once and twice in each."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

SCRIPT = Path(__file__).with_name("streamlit_script.py")
OPTIONS = {
    "server.address": "127.0.0.1",
    "server.headless": "true",
    "server.port": sys.argv[1],
    "browser.gatherUsageStats": "false",
}


@contextmanager
def server() -> Iterator[None]:
    """A server, from when it says where it is."""
    options = [f"--{name}={value}" for name, value in OPTIONS.items()]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(SCRIPT), *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert any("URL" in line for line in process.stdout), "it ended"
        yield
    finally:
        process.terminate()
        process.wait(60)


def run(session: ClientConnection) -> str:
    """Have the script run, and give the text that it shows."""
    message = BackMsg()
    message.rerun_script.query_string = ""
    session.send(message.SerializeToString())
    shown = ""
    while True:
        came = ForwardMsg.FromString(session.recv(timeout=100))
        if came.delta.new_element.HasField("text"):
            shown = came.delta.new_element.text.body
        if came.delta.new_element.HasField("exception"):
            raise RuntimeError(came.delta.new_element.exception.message)
        if came.HasField("script_finished"):
            return shown


with server():
    place = f"ws://127.0.0.1:{sys.argv[1]}/_stcore/stream"
    with (
        connect(place, subprotocols=["streamlit"]) as one,
        connect(place, subprotocols=["streamlit"]) as other,
    ):
        answers = {run(one), run(other), run(one), run(other)}
print(len(answers), all(answers))
