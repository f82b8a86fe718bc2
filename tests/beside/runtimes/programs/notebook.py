"""Executes a notebook whose cells share an activated cache."""

from textwrap import dedent

import nbformat
from nbclient import NotebookClient

CELLS = [
    """
    from asking import FOLDER, aask, ask
    from cachewrap import Cache, activate, active_cache, deactivate, llm_cached, patch_openai
    activate(f"disk:{FOLDER}")
    """,
    "activate(f'disk:{FOLDER}')",
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
    print(active_cache() is block or None, end=' | ')
    """,
    """
    thread = threading.Thread(target=lambda: print(active_cache(), end=' '))
    deactivate(); print(active_cache(), end=' ')
    thread.start()
    thread.join()
    """,
    "block",
    "block.stats",
    "patch_openai()",
    "llm_cached(ask).explain('never asked', cache=block)",
    """
    def offered(text):
        from IPython.core.completer import provisionalcompleter
        with provisionalcompleter():
            found = get_ipython().Completer.completions(text, len(text))
            return {completion.text.lstrip('.') for completion in found}

    print('| offered:', 'disk' in offered('Cache.'), 'serve' in offered('Cache.'),
          'explain' in offered('block.'), 'hold' in offered('block.'))
    """,
]
notebook = nbformat.v4.new_notebook()
for cell in CELLS:
    notebook.cells.append(nbformat.v4.new_code_cell(dedent(cell).strip()))
NotebookClient(notebook, timeout=100).execute()
outputs = [output for cell in notebook.cells for output in cell.outputs]
print("".join(output.text for output in outputs if output.output_type == "stream").strip())
shown = [output.data for output in outputs if output.output_type == "execute_result"]
assert len(shown) == 6, shown
assert all(one["text/html"].startswith("<div") and one["text/plain"] for one in shown)
