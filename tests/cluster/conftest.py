"""One cluster for all cases; each says how many worker hosts it needs."""

from collections.abc import Iterator

import pytest

from tests.cluster.namespaces import why_not
from tests.cluster.standalone import Standalone


@pytest.fixture(scope="session")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    if reason := why_not():
        pytest.skip(f"a cluster of network namespaces: {reason}")
    with Standalone(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster
