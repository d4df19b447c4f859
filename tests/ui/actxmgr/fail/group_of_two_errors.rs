use aioxide::{actxmgr, group};

#[actxmgr]
async fn one() -> Result<u32, String> {
    yield_(1).await;
    Ok(())
}

#[actxmgr]
async fn two() -> Result<u32, std::io::Error> {
    yield_(2).await;
    Ok(())
}

async fn user() {
    let _ = group((one(), two()));
}

fn main() {}
