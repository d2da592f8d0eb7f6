"""Where temporary files go, also when the disk is full.

`tempfile.gettempdir` tries to write, and on a full disk goes elsewhere or fails. Here nothing is written: what becomes
of a full disk is for whoever writes to decide.
"""

import os
import tempfile


def temporary_directory() -> str:
    """The first that may be written to of TMPDIR, TEMP, TMP, /tmp, /var/tmp; else what `tempfile` finds."""
    if tempfile.tempdir:
        return str(tempfile.tempdir)
    for folder in (*(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")), "/tmp", "/var/tmp"):
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return os.path.abspath(folder)
    return tempfile.gettempdir()
