"""Tests keep the journal and every cache in a folder of their own, and run on few threads."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    os.environ["NEWSFACTOR_CACHE"] = str(tmp_path_factory.mktemp("cache"))
