"""Print, as shell `export` lines, what lets uv use the package indexes that pip is set to use here.

uv reads neither pip's configuration files nor pip's environment variables. What it was told itself wins.
"""

import ast
import os
import shlex
import subprocess
import sys

# variable of uv -> (setting of pip, what separates several values)
SETTINGS = {
    "UV_DEFAULT_INDEX": ("index-url", " "),
    "UV_INDEX": ("extra-index-url", " "),
    "UV_FIND_LINKS": ("find-links", ","),
    "UV_INSECURE_HOST": ("trusted-host", " "),
    "UV_HTTP_TIMEOUT": ("default-timeout", " "),
    "SSL_CERT_FILE": ("cert", " "),
    "ALL_PROXY": ("proxy", " "),
}


def settings_of_pip() -> dict[str, str]:
    """pip's own view of its settings: files first, environment last, so that the environment wins."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listing = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in found:
            found[section][key] = ast.literal_eval(value)
    return {**found["global"], **found["install"], **found[":env:"]}


def main() -> None:
    settings = settings_of_pip()
    # pip takes the best match of all its indexes; the lock's hashes say what may come from any of them.
    exports = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    for variable, (setting, separator) in SETTINGS.items():
        if settings.get(setting):
            exports[variable] = separator.join(settings[setting].split())
    for variable, value in exports.items():
        if not os.environ.get(variable):
            print(f"export {variable}={shlex.quote(value)}")
    if settings.get("no-index", "").lower() in ("1", "on", "true", "yes"):
        print("uv_options+=(--no-index)")


if __name__ == "__main__":
    main()
