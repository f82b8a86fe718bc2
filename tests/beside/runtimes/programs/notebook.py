"""Executes a notebook whose cells share an activated cache."""

from textwrap import dedent

import nbformat
from nbclient import NotebookClient

CELLS = [
    """
    from asking import FOLDER, aask, ask
    from cachewrap import Cache, activate, active_cache, patch_openai
    activate(f"disk:{FOLDER}")
    """,
    "ask('activated'); print('activated', end=', ')",
    """
    import threading
    thread = threading.Thread(target=ask, args=('in a thread',))
    thread.start()
    thread.join()
    print('in a thread', end=', ')
    """,
    "await aask('awaited'); print('awaited', end=', ')",
    """
    block = Cache.disk(cache_path_root=FOLDER).reseed('block')
    with block:
        ask('in a block'); print('in a block', end=' | ')
    print(active_cache() is block or None)
    """,
]
notebook = nbformat.v4.new_notebook()
for cell in CELLS:
    notebook.cells.append(nbformat.v4.new_code_cell(dedent(cell).strip()))
NotebookClient(notebook, timeout=100).execute()
print("".join(output.text for cell in notebook.cells for output in cell.outputs).strip())
