use aioxide::actxmgr;

struct Url<'a>(&'a str);

#[actxmgr]
async fn connection<'a>(url: Url<'a>) -> usize {
    yield_(url.0.len()).await;
}

async fn user() {
    let url = String::from("localhost");
    connection(Url(&url)).await.exit().await;
}

fn main() {}
