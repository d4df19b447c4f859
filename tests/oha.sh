#!/usr/bin/env bash
# Rolling restarts under the load of oha, a load generator that nobody here wrote: no request may fail. On connections that are
# kept, on a fresh one for each request, and by HTTP/2; with thread and with process workers. What oha hasn't sent yet when a
# connection of HTTP/2 goes away it gives up ("operation was canceled"), where other clients send it on the next one; the
# server has never seen it, and it is told apart. A command of its own, for it takes minutes, and not part of .ci/run:
#
#     tests/oha.sh [seconds of each]
#
# It takes the `oha` of the PATH, or builds it below the target folder.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-20}
target=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TERM_COLOR=never
if ! command -v oha > /dev/null; then
    cargo install --quiet --locked --root "$target/tools/oha" oha
    PATH="$target/tools/oha/bin:$PATH"
fi
cargo build --quiet --release --locked -p aioxide-compare
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2> /dev/null; rm -rf "$work"' EXIT

# Waits until the server has told this so often.
told() {
    for ((tries = 0; tries < 600; tries++)); do
        if [ "$(grep -c "$1" "$work/log")" -ge "$2" ]; then return; fi
        sleep 0.1
    done
    echo "the server never told: $1" >&2
    exit 1
}

failed=0
for isolation in threads processes; do
    for kind in kept fresh http2; do
        case $kind in
            kept) options=(-c 64) ;;
            fresh) options=(-c 64 --disable-keepalive) ;;
            http2) options=(-c 16 -p 4 --http2) ;;
        esac
        # Emptied before the server starts: the words of the one before it count for nothing.
        : > "$work/log"
        port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        "$target/release/aioxide-compare" serve "http-$isolation" "$port" 2 >> "$work/log" &
        server=$!
        told "ready, listening" 1
        # What is under way at the end is waited for, so that it isn't counted as failed.
        oha --no-tui --output-format json -z "${seconds}s" -w "${options[@]}" "http://127.0.0.1:$port/?oha" > "$work/told" &
        oha=$!
        rolls=0
        while kill -0 "$oha" 2> /dev/null; do
            kill -HUP "$server"
            told "rolling restart done" $((++rolls))
            sleep 0.2
        done
        wait "$oha"
        kill "$server"
        wait "$server"
        server=
        python3 - "$isolation, $kind" "$rolls" "$work/told" << 'PYTHON' || failed=1
import json, sys
what, rolls, path = sys.argv[1:]
told = json.load(open(path))
statuses, errors = told["statusCodeDistribution"], told["errorDistribution"]
answered = statuses.pop("200", 0)
unsent = errors.pop("operation was canceled", 0) if what.endswith("http2") else 0
print(f"{what}: {rolls} restarts, {answered} requests answered, {unsent} never sent; failed: {statuses | errors or 'none'}")
sys.exit(bool(statuses or errors) or not answered)
PYTHON
    done
done
exit "$failed"
