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

#[derive(Debug)]
struct Failure;

impl ::core::convert::From<aioxide::Elapsed> for Failure {
    fn from(_: aioxide::Elapsed) -> Failure {
        Failure
    }
}

impl ::core::fmt::Display for Failure {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.write_str("failed")
    }
}

#[aioxide::actxmgr(setup_timeout = 5s)]
async fn in_time() -> ::core::result::Result<u8, Failure> {
    yield_(1).await;
    ::core::result::Result::Ok(())
}

fn main() {
    let _ = own_result();
    let _ = in_time();
    let _ = number(1, 2);
    let _ = lent(&1);
}
