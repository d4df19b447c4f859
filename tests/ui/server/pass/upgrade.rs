use aioxide::{Server, Signal, Upgrade, Worker, server};

#[server(upgrade = new_pid, upgrade_signal = none)]
async fn by_words(worker: Worker) {
    drop(worker);
    yield_().await;
}

#[server(upgrade = notified, upgrade_signal = SIGHUP)]
async fn by_name(worker: Worker) {
    drop(worker);
    yield_().await;
}

#[server(upgrade = upgrade, upgrade_signal = Some(signal))]
async fn by_values(worker: Worker, upgrade: Upgrade, signal: Signal) {
    drop((worker, upgrade, signal));
    yield_().await;
}

fn main() {
    let values = by_values(Upgrade::NewPid, Signal::SIGALRM);
    let _: [Server; 3] = [by_words(), by_name(), values];
}
