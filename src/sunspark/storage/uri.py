"""The names of files, without a look at them: plain paths, `file://`, `s3://`, `gs://` and `hdfs://`."""

import os
import re
from pathlib import Path
from urllib.parse import unquote

from sunspark.errors import ConfigError

_SCHEMES = ("file", "s3", "gs", "gcs", "hdfs", "viewfs")
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_OPTIONS = re.compile(r"\?([a-z_]+=[^?]*)?\Z")
_NO_TEXT = re.compile(r"\\x([89a-f][0-9a-f])")


def join(uri: str, *parts: str) -> str:
    """The URI of something below `uri`; options behind a `?` stay at the end."""
    base, options = parted(uri)
    for part in parts:
        base = f"{base.rstrip('/')}/{part.strip('/')}"
    is_mistakable = not options and parted(base)[1] != ""
    return base + ("?" if is_mistakable else options)


def parent(uri: str) -> str:
    """The folder that holds a file or folder."""
    base, options = parted(uri)
    return (base.rstrip("/").rpartition("/")[0] or "/") + options


def name_of(uri: str) -> str:
    """The last part of a URI."""
    return parted(uri)[0].rstrip("/").rpartition("/")[2]


def beside(folder: str, reference: str) -> str:
    """What a file in `folder` means by `reference`: a path relative to the folder, an absolute one, or a URI."""
    if scheme_of(reference) is not None:
        options = parted(folder)[1] if scheme_of(reference) == scheme_of(folder) else ""
        return reference if parted(reference)[1] else reference + options
    return reference if reference.startswith("/") else join(folder, reference)


def with_endpoint(uri: str, endpoint_url: str) -> str:
    """An s3:// URI at the store that answers at `endpoint_url`; every other URI as it is."""
    if scheme_of(uri) != "s3":
        return uri
    match = re.fullmatch(r"(https?)://([^/?]+)/?", endpoint_url)
    if match is None:
        raise ConfigError(f"an endpoint is given as http://HOST:PORT or https://HOST, got {endpoint_url!r}")
    if "endpoint_override=" in uri:
        raise ConfigError(f"{uri} names an endpoint itself; leave that, or --endpoint-url {endpoint_url}, out")
    place, options = parted(uri)
    mark = "&" if len(options) > 1 else "?"
    return f"{place}{options.removesuffix('?')}{mark}endpoint_override={match[2]}&scheme={match[1]}"


def as_local_path(uri: str) -> Path | None:
    """The path of a URI on this machine's own file system, absolute; None for every other URI.

    Its bytes are the file's own: `\\xe9` in the URI is the byte 0xe9, which is no UTF-8 (see `in_letters`).
    """
    if not uri:
        raise ConfigError("a path or URI is empty; give a directory, for instance ./dataset or s3://bucket/dataset")
    scheme = scheme_of(uri)
    if scheme is None:
        return Path(os.path.abspath(_with_bytes(uri)))
    if scheme == "file":
        path = unquote(re.sub("^file://(localhost(?=/))?", "", uri, flags=re.IGNORECASE))
        return Path(os.path.abspath(_with_bytes("/" + path.lstrip("/"))))
    return None


def in_letters(name: str) -> str:
    """The name of a local file as text that can be stored and printed: a byte that is no UTF-8 as `\\xe9`.

    Read back by `as_local_path`. So a name that holds such letters itself, `\\x80` to `\\xff`, cannot be told from one
    that holds the byte.
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def parted(uri: str) -> tuple[str, str]:
    """A URI without its options, and these with their `?`.

    They are what follows the last `?`, if that is `name=value` or nothing: names of objects have a `?` too.
    """
    found = None if scheme_of(uri) in (None, "file") else _OPTIONS.search(uri)
    return (uri, "") if found is None else (uri[: found.start()], found[0])


def store_and_path(uri: str) -> tuple[str, str, str]:
    """Of a URI that is not local: its bucket or name node (`s3://bucket`), the path in there, the options."""
    place, options = parted(uri)
    scheme, _, rest = place.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority}", slash + path, options


def _with_bytes(name: str) -> str:
    """The opposite of `in_letters`: as Python holds names that are no UTF-8."""
    return _NO_TEXT.sub(lambda found: chr(0xDC00 + int(found[1], 16)), name) if "\\x" in name else name


def refuse_other_suffix(uri: str, suffix: str) -> None:
    """ConfigError where a file that is to be written does not end in `suffix`: it may be one of something else."""
    if not name_of(uri).lower().endswith(suffix):
        raise ConfigError(f"{uri} is to be written, and does not end in {suffix}; give a name that does")


def absolute(uri: str) -> str:
    """`uri` in a form that means the same from every working directory."""
    path = as_local_path(uri)
    return uri if path is None else in_letters(str(path))


def lie_in_each_other(one: str, other: str) -> bool:
    """Whether one of two absolute URIs is the other, or a folder above it."""
    inner, outer = (re.sub("/+", "/", f"{parted(uri)[0]}/").replace("gcs:/", "gs:/", 1) for uri in (one, other))
    return inner.startswith(outer) or outer.startswith(inner)


def is_hdfs(uri: str) -> bool:
    """Whether it is a place of Hadoop's, where files are appended to and moved, but none is replaced."""
    return scheme_of(uri) in ("hdfs", "viewfs")


def is_google(uri: str) -> bool:
    """Whether it is a place in Google's storage."""
    return scheme_of(uri) in ("gs", "gcs")


def scheme_of(uri: str) -> str | None:
    """What stands before `://`; None for a plain path."""
    match = _SCHEME.match(uri)
    if match is None:
        return None
    scheme = match.group(1).lower()
    if scheme not in _SCHEMES:
        allowed = ", ".join(f"{name}://" for name in _SCHEMES)
        raise ConfigError(f"{uri}: {scheme}:// is not supported; use a local path or one of {allowed}")
    return scheme
