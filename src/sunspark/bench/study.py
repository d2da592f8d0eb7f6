"""The study of a search: where Optuna keeps it, and its errors as ours.

FOLDER/tune.json tells its name there, and what it is of; a search that has one goes on, or does not start.
"""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import optuna
import sqlalchemy.engine
import sqlalchemy.exc
from optuna.exceptions import OptunaError

from sunspark import run_directory, storage
from sunspark.bench.trials import REDUCTION
from sunspark.errors import ConfigError, RunError, StorageError, first_line_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Searched:
    """What a search is of. It stays the same from start to start: trials of two kinds tell nothing side by side."""

    dataset_id: str
    space: dict[str, Any]
    """As JSON holds it."""
    trials_of: Literal["one worker", "all workers"]
    storage: str
    """The URL that was given (`place_of`); nothing for the file in the folder, which may be moved."""


def search_file(folder: str) -> str:
    """There when a search has begun."""
    return storage.join(folder, "tune.json")


def url_of(folder: str, given: str) -> str:
    """The URL that is `given`, else that of a SQLite file in `folder`; ConfigError where `folder` cannot hold one."""
    if given:
        return given
    path = storage.as_local_path(folder)
    if path is None:
        raise ConfigError(
            f"{folder} is no folder of this machine, and no SQLite file can be there; give --storage the URL of a "
            "database, such as postgresql://user:password@host/name"
        )
    database = str(path / "study.db")
    url = sqlalchemy.engine.URL.create("sqlite", database=database).render_as_string(hide_password=False)
    if sqlalchemy.engine.make_url(url).database != database:  # SQLAlchemy before 2.1 escapes nothing
        raise ConfigError(f"the installed SQLAlchemy takes no path such as {database!r}; choose another folder")
    return url


def place_of(given: str) -> str:
    """A URL without its password, and without its query, which may hold one too. Raises ConfigError when it is none."""
    try:
        return sqlalchemy.engine.make_url(given).set(query={}).render_as_string() if given else ""
    except sqlalchemy.exc.ArgumentError as error:
        raise _unusable(given, error) from error


def open_study(folder: str, searched: Searched, url: str, seed: int) -> optuna.Study:
    """The study of the search in `folder`, at its first start a new one, whose name is written down when it is there.

    What it proposes first differs from start to start, or a second one would propose the same again.
    Raises RunError when another search is there, or its study is gone; ConfigError when `url` is none of a database
    that can be used here; else as `study_errors`.
    """
    if storage.exists(search_file(folder)):
        study = _gone_on_with(folder, _name_of(folder, searched), url)
    else:
        name, there = f"sunspark-{secrets.token_hex(8)}", _storage_at(url)
        with study_errors(url):
            study = optuna.create_study(study_name=name, storage=there, direction="maximize")
        storage.write_json_atomic(search_file(folder), {**asdict(searched), "study": name})
    with study_errors(url):
        study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.get_trials(deepcopy=False)))
    study.pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION)
    return study


def _name_of(folder: str, searched: Searched) -> str:
    """Of the study of the search that is there. Raises RunError when it is not the one that is `searched`."""
    there, now = run_directory.read_object(search_file(folder)), asdict(searched)
    name = str(there.pop("study", ""))
    different = [key for key in now if there.get(key) != now[key]]
    if not name or {"dataset_id", "space"} & set(different):
        raise RunError(f"{folder} holds the search of another space, or on another dataset; choose another folder")
    if "storage" in different:
        before = f"with --storage {there.get('storage')}" if there.get("storage") else "without --storage"
        raise RunError(
            f"the search in {folder} was begun {before}, and what it knows is there; start it like that again, or "
            "choose another folder"
        )
    if different:
        before = (
            "--at-once 1" if searched.trials_of == "one worker" else "--at-once 2 or more, or with Spark without it"
        )
        raise RunError(
            f"the trials in {folder} have {there.get('trials_of')} each, and would have {searched.trials_of} now: they "
            f"are not to be compared; give {before}, or choose another folder"
        )
    return name


def _gone_on_with(folder: str, name: str, url: str) -> optuna.Study:
    there = _storage_at(url)
    try:
        with study_errors(url):
            return optuna.load_study(study_name=name, storage=there)
    except KeyError as error:
        raise RunError(
            f"the storage {_shown(url)} does not hold the study {name} of the search in {folder}: it was deleted or "
            "replaced; put back a copy of it, or choose another folder"
        ) from error


def _storage_at(url: str) -> optuna.storages.RDBStorage:
    with study_errors(url):
        try:
            return optuna.storages.RDBStorage(url)
        except (sqlalchemy.exc.ArgumentError, ImportError, LookupError, RuntimeError, ValueError) as error:
            raise _unusable(url, error) from error


def _unusable(url: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"the storage {_shown(url)} cannot be used: {first_line_of(error)}; give --storage the URL of a "
        "database for which SQLAlchemy has a driver here, or leave it out for a SQLite file in the folder"
    )


@contextlib.contextmanager
def study_errors(url: str) -> Iterator[None]:
    """What Optuna and SQLAlchemy raise becomes a StorageError that names the URL, without its password."""
    try:
        yield
    except (OptunaError, sqlalchemy.exc.SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error, OptunaError) and error.__cause__ else error
        raise StorageError(
            f"the storage of the search, {_shown(url)}, did not answer as it should: {first_line_of(cause)}; "
            "see to it, and give the same command again: the search goes on"
        ) from error


def _shown(url: str) -> str:
    try:
        return sqlalchemy.engine.make_url(url).render_as_string()
    except sqlalchemy.exc.ArgumentError:
        return repr(url)
