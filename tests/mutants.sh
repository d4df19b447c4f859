#!/usr/bin/env bash
# Changes the pure cores line by line, each change by itself, and tells which changes no unit test notices. A command of its
# own, for each change is a build, and not part of .ci/run; needs `cargo install --locked cargo-mutants`:
#
#     tests/mutants.sh CORE.. [-- arguments of `cargo mutants`, as `--shard 0/10`]
#
# A core is tested by its own unit tests and those of the room that it is in, built with what it needs and no more.
# What is missed and changes nothing is excluded in .cargo/mutants.toml, with the reason.
set -euo pipefail
cd "$(dirname "$0")/.."

cores=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    cores+=("$1")
    shift
done
[ "${1:-}" != -- ] || shift
[ ${#cores[@]} -gt 0 ] || cores=(backoff schedule calendar places policy table line macros)

# A test that fails has said enough.
export PROPTEST_MAX_SHRINK_ITERS=0 RUST_BACKTRACE=0

server=runtime/src/server
mutate() { # core, crate, features, tests, files
    printf '\n== %s\n' "$1"
    local output="${CARGO_TARGET_DIR:-target}/mutants/$1" crate=$2 features=$3 tests=$4 files=()
    shift 4
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        files+=(--file "$1")
        shift
    done
    shift
    mkdir -p "$output"
    # 2 are missed mutants, and 3 are tests that hang with one, which catches it.
    cargo mutants --package "$crate" --no-default-features --features "$features" --output "$output" \
        --cargo-arg=--locked --cargo-arg=--lib "${files[@]}" "$@" -- -- "$tests" || [ $? -le 3 ]
}

for core in "${cores[@]}"; do
    case $core in
        backoff) mutate $core aioxide scope,server backoff runtime/src/backoff.rs -- "$@" ;;
        schedule) mutate $core aioxide timer timer:: 'runtime/src/timer/schedule/*.rs' -- "$@" ;;
        calendar) mutate $core aioxide calendar timer:: 'runtime/src/timer/calendar/*.rs' -- "$@" ;;
        places) mutate $core aioxide '' '' 'runtime/src/teardown/*.rs' -- "$@" ;;
        policy) mutate $core aioxide process policy:: "$server/supervisor/policy/*.rs" -- "$@" ;;
        table) mutate $core aioxide process sockets:: "$server/supervisor/sockets/table/*.rs" -- "$@" ;;
        line) mutate $core aioxide process server:: "$server/line/**/*.rs" -- "$@" ;;
        macros) mutate $core aioxide-macros calendar '' 'macros/src/**/*.rs' -- "$@" ;;
        *) echo "no core: $core" >&2 && exit 2 ;;
    esac
done
