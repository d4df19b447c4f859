use aioxide::{Server, Worker, server};

#[server(upgrade = newpid)]
async fn misspelt(worker: Worker) {
    drop(worker);
    yield_().await;
}

#[server(upgrade = always)]
async fn of_no_such_name(worker: Worker) {
    drop(worker);
    yield_().await;
}

#[server(upgrade = "new_pid")]
async fn as_text(worker: Worker) {
    drop(worker);
    yield_().await;
}

#[server(upgrade)]
async fn without_a_value(worker: Worker) {
    drop(worker);
    yield_().await;
}

fn main() {
    let _: [Server; 4] = [misspelt(), of_no_such_name(), as_text(), without_a_value()];
}
