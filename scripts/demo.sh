#!/usr/bin/env bash
# The whole way on two Spark workers: images -> dataset -> training -> evaluation -> verification -> report, in ./demo.
# demo.sh [FOLDER OF IMAGES]: without one, sample scenes are drawn. What an earlier demo finished is taken as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
JAVA_HOME=$(cat $venv/.java-home)
export JAVA_HOME PATH="$PWD/$venv/bin:$PATH"

# Show a command as a user would type it, then run it.
step() { printf '\n$ %s\n' "$(python -c 'import shlex, sys; print(shlex.join(sys.argv[1:]))' "$@")"; "$@"; }

# The split whose name starts so; lists of SUN397's kind have names like Training_01.
split_named() {
    sunspark inspect "$dataset" --json | python -c '
import json, sys
names = json.load(sys.stdin)["splits"]
found = [name for name in names if name.lower().startswith(sys.argv[1])]
sys.exit(f"demo: the dataset has no split named {sys.argv[1]}...; it has " + ", ".join(names)) if not found else print(found[0])
' "$1"
}

images=${1:-}
if [ -n "$images" ]; then
    [ -d "$images" ] || { echo "demo: there is no folder $images; DATA=... must name a folder of images" >&2; exit 2; }
    images=$(cd "$images" && pwd)
    home=demo/$(basename "$images")-$(cksum <<<"$images" | cut -d' ' -f1)
else
    images=demo/images home=demo
fi
dataset=$home/dataset run=$home/run

mkdir -p "$home"
if [ "$home" = demo ] && [ ! -e demo/images/.finished ]; then
    step sunspark sample demo/images
    touch demo/images/.finished
fi
[ -e "$dataset/manifest.json" ] || step sunspark ingest "$images" "$dataset" --master 'local[2]'
step sunspark inspect "$dataset"
train_split=$(split_named train) test_split=$(split_named test)
[ -e "$run/result.json" ] || \
    step sunspark train "$dataset" "$run" --config recipes/demo.toml --split "$train_split" --master 'local[2]' --workers 2
[ -e "$run/evaluation-$test_split.json" ] || step sunspark evaluate "$run" --split "$test_split"
step sunspark verify "$run"
step sunspark report "$run" --out "$home/report.html"

printf '\nThe demo is done; the command is %s/bin/sunspark. Look at\n' $venv
printf '  %-36s %s\n' \
    "$home/report.html" "the report: open it in a browser" \
    "$images" "the images" \
    "$dataset" "the dataset that Spark made of them" \
    "$run" "the run: configuration, records, checkpoints, ledger, the model"
