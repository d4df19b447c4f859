//! A crate in which every name that an expansion might reach for means something else.
#![allow(dead_code, non_camel_case_types, unused_macros)]

mod core {}
mod std {}
mod tokio {}

struct Box;
struct Option;
struct Some;
struct None;
struct Vec;
struct String;
struct Ok;
struct Err;
trait Future {}
trait Send {}
fn drop() {}
macro_rules! panic {
    () => {
        compile_error!("not this one")
    };
}

struct Result(u8);

#[aioxide::actxmgr]
async fn own_result() -> aioxide::Always<Result> {
    yield_(Result(1)).await;
}

#[aioxide::actxmgr(finish_setup)]
async fn number(value: u8, value2: u8) -> u8 {
    yield_(value + value2).await;
}

#[aioxide::actxmgr(borrowed)]
async fn lent(value: &u8) -> &u8 {
    yield_(value).await;
}

fn main() {
    let _ = own_result();
    let _ = number(1, 2);
    let _ = lent(&1);
}
