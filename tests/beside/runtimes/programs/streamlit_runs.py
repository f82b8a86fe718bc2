"""Runs a script of Streamlit again and again, as its sessions do."""

from streamlit.testing.v1 import AppTest


def script() -> None:
    import streamlit
    from asking import FOLDER, ask

    from cachewrap import activate

    activate(f"disk:{FOLDER}")  # at each run
    streamlit.text(ask(streamlit.text_input("question", "a")))


app = AppTest.from_function(script, default_timeout=60)
answers = set()
for text in ("a", "b", "a", "b"):
    app.run()
    app.text_input[0].input(text).run()
    assert not app.exception, app.exception
    answers.add(app.text[0].value)
print(len(answers))
