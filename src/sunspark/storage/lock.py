"""One holder at a time of a directory."""

import contextlib
import errno
import fcntl
from collections.abc import Iterator

from sunspark.errors import StorageError, SunsparkError, first_line_of
from sunspark.storage.filesystem import storage_errors
from sunspark.storage.uri import as_local_path
from sunspark.storage.writing import make_directory

_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextlib.contextmanager
def only_holder(directory: str, lock_name: str, refusal: SunsparkError) -> Iterator[None]:
    """Make `directory` and hold its lock `lock_name`; raises `refusal` where another holds it already.

    The lock goes with the process that holds it, however that ends. Object stores, hdfs:// and some network file
    systems have no locks: there nobody is refused.
    """
    make_directory(directory)
    local = as_local_path(directory)
    if local is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        with storage_errors(directory):
            lock = stack.enter_context(open(local / lock_name, "a"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal from None
        except OSError as error:
            if error.errno not in _NO_LOCKS_HERE:
                raise StorageError(f"{directory} cannot be locked: {first_line_of(error)}") from error
        yield
