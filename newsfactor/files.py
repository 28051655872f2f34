"""Files written whole or not at all."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from newsfactor.errors import InvalidValueError


@contextmanager
def replacing(path: Path) -> Iterator[io.BufferedWriter]:
    """Open a stream whose content takes the place of ``path`` when the block ends, and never in part.

    The content is on disk before the name is; a block that fails leaves what was there.

    Raises
    ------
    InvalidValueError
        If the file cannot be written.
    """
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(draft, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
        sync_folder(path.parent)
    except OSError as error:
        raise InvalidValueError("path", str(path), f"must be writable ({error.strerror or error})") from error
    finally:
        draft.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Put a folder's names on disk, as fsync does for a file's content."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
