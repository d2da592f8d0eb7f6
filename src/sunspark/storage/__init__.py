"""Files by URI: local paths, `file://`, `s3://`, `gs://` and `hdfs://`, all through `pyarrow.fs`.

This is the one place where the errors of file systems and object stores become sunspark's own. A URI is a
plain path (relative paths are allowed) or `scheme://host/path?options`; the options are those that Arrow
knows, for instance `s3://bucket/data?endpoint_override=minio:9000&scheme=http`. Credentials come from the
environment, as Arrow reads it; URIs are printed and stored, so keep them out of there.
"""

from sunspark.storage.blocks import open_in_blocks
from sunspark.storage.filesystem import storage_errors
from sunspark.storage.listing import FileEntry, entry_at, exists, list_directory, list_tree, without_links
from sunspark.storage.lock import is_held, only_holder
from sunspark.storage.reading import open_random_access, read_bytes, read_json, read_whole
from sunspark.storage.unique_names import attempt_name, final_name
from sunspark.storage.uri import (
    absolute,
    as_local_path,
    beside,
    in_letters,
    join,
    lie_in_each_other,
    name_of,
    parent,
    refuse_other_suffix,
    scheme_of,
    with_endpoint,
)
from sunspark.storage.writing import (
    append_text,
    delete,
    delete_abandoned,
    make_directory,
    open_atomic,
    write_bytes,
    write_bytes_atomic,
    write_json_atomic,
)

__all__ = [
    "FileEntry",
    "absolute",
    "append_text",
    "as_local_path",
    "attempt_name",
    "beside",
    "delete",
    "delete_abandoned",
    "entry_at",
    "exists",
    "final_name",
    "in_letters",
    "is_held",
    "join",
    "lie_in_each_other",
    "list_directory",
    "list_tree",
    "make_directory",
    "name_of",
    "only_holder",
    "open_atomic",
    "open_in_blocks",
    "open_random_access",
    "parent",
    "read_bytes",
    "read_json",
    "read_whole",
    "refuse_other_suffix",
    "scheme_of",
    "storage_errors",
    "with_endpoint",
    "without_links",
    "write_bytes",
    "write_bytes_atomic",
    "write_json_atomic",
]
