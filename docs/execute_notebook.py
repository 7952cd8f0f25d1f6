"""Executes docs/notebook.ipynb in an empty folder and writes its outputs back: `python docs/execute_notebook.py`.

It needs nbclient and ipykernel (`pip install nbclient ipykernel`), which nothing else here does. `tests/docs` holds
that the outputs are there and name no folder of a machine; it executes the cells itself, without Jupyter.
"""

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).with_name("notebook.ipynb")


def main() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": folder}}, record_timing=False).execute()
    for cell in notebook.cells:
        cell.metadata.clear()
    # Of the interpreter that happened to execute it, only the language is kept.
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
