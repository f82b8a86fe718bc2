"""A script of Streamlit, which activates the cache at each run."""

import streamlit
from asking import FOLDER, ask

from cachewrap import activate

activate(f"disk:{FOLDER}")
streamlit.text(ask("on a server"))
