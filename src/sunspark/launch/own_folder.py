"""Whether a command may write to a folder: it is empty or holds what that command has left, and is no dataset's."""

from collections.abc import Collection
from typing import Final

from sunspark import storage
from sunspark.errors import ConfigError, RunError

_MOST_NAMES: Final = 5


def refuse_other_folders(folder: str, dataset: str, what: str, mark: str, left: Collection[str] = ()) -> None:
    """A run, a search and a sweep (`what`) have a folder of their own, in which is the file `mark` once it is one.

    `left` are the names of what a start that did not come to `mark` may have left. The three URIs are absolute.
    Raises ConfigError where they lie in each other, RunError where something else is in the folder.
    """
    if storage.lie_in_each_other(folder, dataset):
        raise ConfigError(
            f"the {what} {folder} and the dataset {dataset} lie in each other; give the {what} its own folder"
        )
    if storage.exists(mark):
        return
    foreign = [e.name for e in storage.list_directory(folder) if not e.name.startswith(".") and e.name not in left]
    if foreign:
        names = ", ".join(sorted(foreign)[:_MOST_NAMES])
        raise RunError(f"{folder} is not empty and not a {what} (it holds {names}); choose another folder")
