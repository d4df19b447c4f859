//! What a tick may return.
use std::error::Error;
use std::io;

use aioxide::timer;

type Alias = Result<(), String>;

#[timer(100ms)]
async fn unit() -> () {}
#[timer(100ms)]
async fn io_result() -> io::Result<()> {
    Ok(())
}
#[timer(100ms)]
async fn alias() -> Alias {
    let n: u8 = "7".parse().map_err(|error: std::num::ParseIntError| error.to_string())?;
    let _ = n;
    Ok(())
}
#[timer(100ms)]
async fn boxed(early: bool) -> Result<(), Box<dyn Error + Send + Sync>> {
    if early {
        return Err(Box::new(io::Error::other("early")));
    }
    "7".parse::<u8>()?;
    Ok(())
}
#[timer(100ms)]
async fn early(early: bool) {
    if early {
        return;
    }
    println!("late");
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    unit().detach();
    io_result().detach();
    alias().detach();
    boxed(true).detach();
    early(true).detach();
}
