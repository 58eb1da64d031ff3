"""The tests of Ptychodus run where it is installed: in `nox -s ptychodus`, in part in `nox -s tests`."""

from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("ptychodus") else ["test_client.py"]
