//! echo
use aioxide::{Worker, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn echo(mut s: TcpStream) -> std::io::Result<()> {
    let mut buf = vec![0; 65536];
    loop {
        let n = s.read(&mut buf).await?;
        if n == 0 {
            return Ok(());
        }
        s.write_all(&buf[..n]).await?;
    }
}

#[server(workers = 4)]
async fn main(worker: Worker) -> std::io::Result<()> {
    let listener = worker.listen("127.0.0.1:8888").await?;
    let serving = worker.serve(listener, echo);
    let stop = yield_().await;
    eprintln!("{} {stop}", worker.index());
    serving.drain(&stop).await;
    Ok(())
}
