"""Finding Java: the right one is taken wherever it is, a wrong one is named, never started."""

from pathlib import Path

import pytest

from sunspark.errors import SetupError
from sunspark.launch import java
from sunspark.launch.java import Java, find_java


def install(home: Path, version: str, *, with_release_file: bool = True) -> Path:
    """A Java that says which version it is, as the real ones do."""
    executable = home / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-01' >&2\n")
    executable.chmod(0o755)
    if with_release_file:
        (home / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\nJAVA_VERSION_DATE="2024-01-01"\n')
    return home


@pytest.fixture(autouse=True)
def usual_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "jvm"
    place.mkdir()
    monkeypatch.setattr(java, "_USUAL_PLACES", (f"{place}/*",))
    return place


@pytest.mark.parametrize(
    ("spark", "version", "fits"),
    [
        ("4.3.0", "1.8.0_402", False),
        ("4.3.0", "11.0.2", False),
        ("4.3.0", "17", True),
        ("4.3.0", "17.0.15", True),
        ("4.3.0", "21.0.3", True),
        ("4.3.0", "25", False),
        ("4.3.0", "25.0.2", False),
        ("4.3.0", "25.0.3", True),
        ("4.3.0", "26-ea", False),
        ("5.0.0.dev1", "25.0.3", True),
        ("", "25.0.3", True),
        ("4.2.0", "25.0.3", True),
        ("4.1.1", "25.0.3", False),
        ("4.0.0", "21.0.3", True),
        ("4.0.0", "11.0.2", False),
        ("3.5.9", "1.7.0_80", False),
        ("3.5.9", "1.8.0_402", True),
        ("3.5.9", "11.0.2", True),
        ("3.5.9", "17.0.15", True),
        ("3.5.9", "21.0.3", False),
    ],
)
@pytest.mark.parametrize("with_release_file", [True, False])
def test_versions_that_spark_takes(
    tmp_path: Path, spark: str, version: str, fits: bool, with_release_file: bool
) -> None:
    home = install(tmp_path / "java", version, with_release_file=with_release_file)
    environment = {"JAVA_HOME": str(home), "PATH": ""}
    if fits:
        assert find_java(spark, environment).home == home
    else:
        with pytest.raises(SetupError, match=str(home)):
            find_java(spark, environment)


def test_java_home_comes_before_the_path_and_the_path_before_the_usual_places(
    tmp_path: Path, usual_places: Path
) -> None:
    named, on_path = install(tmp_path / "named", "17.0.1"), install(tmp_path / "on_path", "21.0.1")
    usual = install(usual_places / "java-17", "17.0.2")
    path = {"PATH": str(on_path / "bin")}
    assert find_java("4.3.0", {"JAVA_HOME": str(named), **path}) == Java(home=named, version=(17, 0, 1))
    assert find_java("4.3.0", path) == Java(home=on_path, version=(21, 0, 1))
    assert find_java("4.3.0", {"PATH": ""}) == Java(home=usual, version=(17, 0, 2))


def test_java_home_that_points_nowhere_is_passed_over(tmp_path: Path) -> None:
    on_path = install(tmp_path / "on_path", "17.0.1")
    environment = {"JAVA_HOME": str(tmp_path / "gone"), "PATH": str(on_path / "bin")}
    assert find_java("4.3.0", environment).home == on_path


def test_no_java_says_what_was_found_and_what_to_install(tmp_path: Path) -> None:
    old = install(tmp_path / "old", "11.0.2")
    with pytest.raises(SetupError) as caught:
        find_java("4.1.1", {"JAVA_HOME": str(tmp_path / "gone"), "PATH": str(old / "bin")})
    message = str(caught.value)
    for words in (
        "Spark 4.1.1 needs Java 17 to 21, ",
        "gone (no Java there)",
        "old (11.0.2)",
        "openjdk-17-jre-headless",
        "JAVA_HOME",
    ):
        assert words in message
