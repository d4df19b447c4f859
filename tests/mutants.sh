#!/usr/bin/env bash
# Changes the pure cores line by line, each change by itself, and tells which changes no unit test notices. A command of its
# own, for each change is a build, and not part of .ci/run; needs `cargo install --locked cargo-mutants`:
#
#     tests/mutants.sh CORE.. [-- arguments of `cargo mutants`, as `--shard 0/10`]
#
# A core is tested by the unit tests of the room that it is in. With `-- --in-place` in a clone of its own, in memory for
# example, what is built is kept from core to core.
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

# Of `aioxide`, all that any core is compiled with, so that one target directory serves them all.
features=calendar,monitor,process,scope
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
core() { # core, tests, files
    mutate "$1" aioxide $features "${@:2}"
}

for core in "${cores[@]}"; do
    case $core in
        backoff) core $core backoff runtime/src/backoff.rs -- "$@" ;;
        schedule) core $core timer::schedule 'runtime/src/timer/schedule/*.rs' -- "$@" ;;
        calendar) core $core timer::calendar 'runtime/src/timer/calendar/*.rs' -- "$@" ;;
        # The rest of that directory tells them to wait and to go on.
        places) core $core teardown 'runtime/src/teardown/{ledger,paths,place}.rs' -- "$@" ;;
        policy) core $core policy:: "$server/supervisor/policy/*.rs" -- "$@" ;;
        table) core $core sockets:: "$server/supervisor/sockets/table/*.rs" -- "$@" ;;
        line) core $core server::line "$server/line/**/*.rs" -- "$@" ;;
        # All that reads, judges and writes: what is refused, and the tokens that are left, unit tests see. The functions in
        # lib.rs are rustc's to call, and of one line each; what rustc makes of the tokens, the workspace's tests tell.
        # Expressions and zones are those of the calendar, the very same files.
        macros) mutate $core aioxide-macros calendar '' 'macros/src/**/*.rs' -- \
            --exclude macros/src/lib.rs --exclude 'macros/src/timer/calendar/{expression,zone}.rs' "$@" ;;
        *) echo "no core: $core" >&2 && exit 2 ;;
    esac
done
