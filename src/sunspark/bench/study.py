"""The study of a search: where Optuna keeps it, and its errors as ours."""

import contextlib
from collections.abc import Iterator

import optuna
import sqlalchemy.engine
import sqlalchemy.exc
from optuna.exceptions import OptunaError

from sunspark import storage
from sunspark.bench.trials import REDUCTION
from sunspark.errors import ConfigError, StorageError, first_line_of


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


def open_study(url: str, name: str, seed: int) -> optuna.Study:
    """The study; what it proposes first differs from start to start, or a second one would propose the same again.

    Raises ConfigError when `url` is none of a database that can be used here, else as `study_errors`.
    """
    with study_errors(url):
        try:
            study = optuna.create_study(study_name=name, storage=url, load_if_exists=True, direction="maximize")
        except (sqlalchemy.exc.ArgumentError, ImportError, LookupError, RuntimeError, ValueError) as error:
            raise ConfigError(
                f"the storage {_shown(url)} cannot be used: {first_line_of(error)}; give --storage the URL of a "
                "database for which SQLAlchemy has a driver here, or leave it out for a SQLite file in the folder"
            ) from error
        study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.get_trials(deepcopy=False)))
    study.pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION)
    return study


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
