use aioxide::actxmgr;

macro_rules! contexts {
    ($($name:ident: $ty:ty = $value:expr, $limit:literal;)*) => {$(
        #[actxmgr(setup_timeout = $limit)]
        async fn $name() -> std::io::Result<$ty> {
            let (value, _) = yield_($value).await;
            let _: $ty = value;
            Ok(())
        }
    )*};
}

contexts! {
    one: u8 = 1, "5s";
    two: &'static str = "two", "1h 30m";
}

macro_rules! whole {
    ($($tokens:tt)*) => { $($tokens)* };
}

whole! {
    #[actxmgr]
    async fn three(n: u8) -> u8 {
        yield_(n).await;
    }
}

macro_rules! in_type_position {
    ($ty:ty) => {
        #[actxmgr]
        async fn four() -> $ty {
            yield_(4).await;
            Ok(())
        }
    };
}

in_type_position!(Result<u8, String>);

fn main() {
    let _ = (one(), two(), three(3), four());
}
