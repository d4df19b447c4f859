use aioxide::{Server, Worker, server};

#[server(upgrade_signal = SIGUSR1)]
async fn with_a_meaning_of_its_own(worker: Worker) {
    drop(worker);
    yield_().await;
}

#[server(upgrade_signal = SIGKILL)]
async fn that_nobody_catches(worker: Worker) {
    drop(worker);
    yield_().await;
}

#[server(upgrade_signal = None)]
async fn in_capitals(worker: Worker) {
    drop(worker);
    yield_().await;
}

#[server(upgrade_signal = 12)]
async fn by_number(worker: Worker) {
    drop(worker);
    yield_().await;
}

fn main() {
    let _: [Server; 2] = [with_a_meaning_of_its_own(), that_nobody_catches()];
    let _: [Server; 2] = [in_capitals(), by_number()];
}
