"""The hook of the site, which is no module of a package."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("docs_site", Path(__file__).parents[2] / "docs" / "site.py")
assert _spec is not None
assert _spec.loader is not None
site = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(site)
