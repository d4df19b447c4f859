use aioxide::{Context, actxmgr};

type Result<T> = ::std::result::Result<T, std::io::Error>;
type DbResult<T, E = String> = ::std::result::Result<T, E>;

#[actxmgr(setup_timeout = 1s)]
async fn one() -> Result<u8> {
    "1".parse::<u8>().map_err(std::io::Error::other)?;
    yield_(1).await;
    Ok(())
}

#[actxmgr]
async fn two() -> DbResult<u8> {
    yield_(1).await;
    Err("two")?
}

fn main() {
    let _: Context<::std::result::Result<u8, std::io::Error>> = one();
    let _: Context<::std::result::Result<u8, String>> = two();
}
