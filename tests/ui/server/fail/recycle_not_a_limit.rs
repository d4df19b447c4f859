use aioxide::{Server, Worker, server};

#[server(recycle = hourly(1h))]
async fn of_another_name(worker: Worker) {
    drop(worker);
    yield_().await;
}

#[server(recycle = [after(1h), over(512MB)])]
async fn of_another_unit(worker: Worker) {
    drop(worker);
    yield_().await;
}

fn main() {
    let _: (Server, Server) = (of_another_name(), of_another_unit());
}
