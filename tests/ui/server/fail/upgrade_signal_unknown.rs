use aioxide::{Server, Worker, server};

#[server(upgrade_signal = USR2)]
async fn misspelt(worker: Worker) {
    drop(worker);
    yield_().await;
}

#[server(upgrade_signal = [SIGUSR2])]
async fn as_a_list(worker: Worker) {
    drop(worker);
    yield_().await;
}

fn main() {
    let _: [Server; 2] = [misspelt(), as_a_list()];
}
