#!/usr/bin/env bash
# What the attributes cost a build: 200 annotated functions against the same with `#[tracing::instrument]`.
# Only the functions' own crate is timed. Fails when a factor of processor time is above 1.5; the wall-clock time
# is shown beside it, and tells little on a machine that has other things to do. A command of its own, for it takes
# minutes, and not part of .ci/run:
#
#     tests/cost.sh [functions] [rounds]
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
functions=${1:-200}
rounds=${2:-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CARGO_INCREMENTAL=0 CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/cost" CARGO_TERM_COLOR=never

mkdir -p "$work/src/bin"
cp Cargo.lock "$work/"
cat > "$work/Cargo.toml" <<TOML
[package]
name = "cost"
version = "0.0.0"
edition = "2024"
[dependencies]
aioxide = { path = "$root/runtime" }
tokio = { version = "1", features = ["full"] }
tracing = "0.1"
[workspace]
TOML

# `$1`: the crate; `$2`: what stands above each function; `$3`: its first argument; `$4`: its yield; `$5` and
# `$6`: what is around the call that uses it, so that it is compiled to the end.
write() {
    {
        echo "#![allow(dead_code)]"
        echo "fn keep(future: impl Future<Output = bool> + 'static) { drop(Box::pin(future) as std::pin::Pin<Box<dyn Future<Output = bool>>>); }"
        for ((n = 0; n < functions; n++)); do
            cat <<RUST
$2
async fn f$n($3 name: String, peers: std::sync::Arc<Vec<u64>>, limit: u64) -> std::io::Result<()> {
    let mut sum = 0;
    for peer in peers.iter().filter(|peer| **peer < limit) {
        tokio::time::sleep(std::time::Duration::from_millis(*peer)).await;
        sum += peer;
    }
    $4
    if sum > limit {
        return Err(std::io::Error::other(format!("{name}: {sum}")));
    }
    Ok(())
}
RUST
        done
        echo "fn main() {"
        for ((n = 0; n < functions; n++)); do
            echo "    $5 f$n(String::new(), Default::default(), $n) $6;"
        done
        echo "}"
    } > "$work/src/bin/$1.rs"
}
write instrument "#[tracing::instrument(skip_all)]" "" "tokio::task::yield_now().await;" "keep(async {" ".await.is_ok() })"
write actxmgr "#[aioxide::actxmgr]" "" "yield_().await;" "keep(async {" ".await.is_ok() })"
write server "#[aioxide::server]" "_: aioxide::Worker," "yield_().await;" "drop(" ")"
write timer "#[aioxide::timer(100ms)]" "" "tokio::task::yield_now().await;" "drop(" ")"

cd "$work"
cargo build --quiet --offline --bins
TIMEFORMAT='%R %U %S'
# The least time and the least processor time of all rounds, in seconds.
best() {
    for ((round = 0; round < rounds; round++)); do
        touch "src/bin/$1.rs"
        { time cargo build --quiet --offline --bin "$1" 2> /dev/null; } 2>&1
    done | awk 'NR == 1 || $1 < wall { wall = $1 } NR == 1 || $2 + $3 < cpu { cpu = $2 + $3 } END { print wall, cpu }'
}
read -r base_wall base_cpu < <(best instrument)
echo "instrument: $base_wall s, $base_cpu s of processor time"
too_dear=()
for attribute in actxmgr server timer; do
    read -r wall cpu < <(best "$attribute")
    awk -v name="$attribute" -v wall="$wall" -v cpu="$cpu" -v bw="$base_wall" -v bc="$base_cpu" \
        'BEGIN {
            printf "%s: %s s, %s s of processor time: %.2f and %.2f times\n", name, wall, cpu, wall / bw, cpu / bc
            exit cpu > 1.5 * bc
        }' || too_dear+=("$attribute")
done
if ((${#too_dear[@]})); then
    echo "above 1.5 times the processor time: ${too_dear[*]}" >&2
    exit 1
fi
