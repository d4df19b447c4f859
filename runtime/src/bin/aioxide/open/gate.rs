//! Who is let in to the page: decided from the head of a request, without a socket.

use hyper::header::{COOKIE, HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::{Method, Request, StatusCode};

/// What only the user knows who has started it.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// 256 bits that nobody can guess.
    pub(crate) fn random() -> std::io::Result<Secret> {
        let mut bytes = [0; 32];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += rustix::rand::getrandom(
                &mut bytes[filled..],
                rustix::rand::GetRandomFlags::empty(),
            )?;
        }
        Ok(Secret(
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// How long it takes tells nothing of where it differs.
    fn is(&self, given: &str) -> bool {
        let differences = self.0.bytes().zip(given.bytes());
        let differs = differences.fold(0, |differs, (own, given)| differs | (own ^ given));
        self.0.len() == given.len() && differs == 0
    }
}

/// Lets in who comes with the token, once, and from then on who has the cookie.
pub(crate) struct Gate {
    /// Where it listens, as `Host` has to say it.
    authority: String,
    /// Cookies don't differ by port, and there may be several of these.
    cookie: String,
    /// None once it was used.
    token: Option<Secret>,
    session: Secret,
}

/// What is to be done for a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// It came with the token, and gets this cookie for it.
    Exchanged { cookie: String },
    /// It came with the cookie.
    Known,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is meant for somebody else.
    Host,
    /// Another page sends it.
    Origin,
    /// Its token is wrong, or was used before.
    Token,
    /// It has no cookie, or a wrong one.
    Cookie,
}

impl Refused {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Refused::Host => StatusCode::MISDIRECTED_REQUEST,
            Refused::Origin | Refused::Token => StatusCode::FORBIDDEN,
            Refused::Cookie => StatusCode::UNAUTHORIZED,
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Refused::Host => "this host is not served here",
            Refused::Origin => "requests of other pages are not served",
            Refused::Token => {
                "the token is wrong or was used before; `aioxide open` gives another one"
            }
            Refused::Cookie => "this page is open to whoever has started `aioxide open` only",
        }
    }
}

impl Gate {
    pub(crate) fn new(listens: std::net::SocketAddr, token: Secret, session: Secret) -> Gate {
        Gate {
            authority: listens.to_string(),
            cookie: format!("aioxide-{}", listens.port()),
            token: Some(token),
            session,
        }
    }

    /// Where the page is.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.authority)
    }

    pub(crate) fn admit<B>(&mut self, request: &Request<B>) -> Result<Admitted, Refused> {
        let headers = request.headers();
        let uri = request.uri();
        // A name of somebody else's may lead here, too.
        let is_meant = |authority: &str| authority == self.authority;
        let elsewhere = uri.authority().is_some_and(|to| !is_meant(to.as_str()));
        if elsewhere || !only(headers, &HOST).is_some_and(is_meant) {
            return Err(Refused::Host);
        }
        let origin = headers.contains_key(ORIGIN);
        if (origin || !is_safe(request.method())) && only(headers, &ORIGIN) != Some(&self.origin())
        {
            return Err(Refused::Origin);
        }
        if let Some(given) = token(uri.query()) {
            let is_right = self.token.as_ref().is_some_and(|token| token.is(given));
            if !is_right || uri.path() != "/" || request.method() != Method::GET {
                return Err(Refused::Token);
            }
            self.token = None;
            let (name, session) = (&self.cookie, self.session.as_str());
            return Ok(Admitted::Exchanged {
                cookie: format!("{name}={session}; Path=/; HttpOnly; SameSite=Strict"),
            });
        }
        let cookies = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|cookies| cookies.to_str().ok())
            .flat_map(|cookies| cookies.split(';'));
        let mut own = cookies
            .filter_map(|cookie| cookie.trim().split_once('='))
            .filter(|(name, _)| *name == self.cookie);
        match own.any(|(_, value)| self.session.is(value)) {
            true => Ok(Admitted::Known),
            false => Err(Refused::Cookie),
        }
    }
}

/// It changes nothing.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The value of a header that is there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

fn token(query: Option<&str>) -> Option<&str> {
    let mut parts = query?.split('&');
    parts.find_map(|part| part.strip_prefix("token="))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "127.0.0.1:4000";

    fn gate() -> Gate {
        let secret = |text: &str| Secret(text.to_owned());
        Gate::new(HERE.parse().unwrap(), secret("once"), secret("session"))
    }

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn admit(headers: &[(&str, &str)]) -> Result<Admitted, Refused> {
        gate().admit(&request("GET", "/workers", headers))
    }

    const COOKIE: (&str, &str) = ("cookie", "a=b; aioxide-4000=session");

    #[test]
    fn the_token_is_good_for_one_exchange() {
        let mut gate = gate();
        let host = [("host", HERE)];
        let mut admit = |uri: &str| gate.admit(&request("GET", uri, &host));
        assert_eq!(admit("/?token=twice"), Err(Refused::Token));
        assert_eq!(admit("/?token="), Err(Refused::Token));
        assert_eq!(admit("/workers?token=once"), Err(Refused::Token));
        let Ok(Admitted::Exchanged { cookie }) = admit("/?token=once") else {
            panic!("the token is right");
        };
        assert_eq!(
            cookie,
            "aioxide-4000=session; Path=/; HttpOnly; SameSite=Strict"
        );
        assert_eq!(admit("/?token=once"), Err(Refused::Token));
        assert_eq!(admit("/"), Err(Refused::Cookie));
    }

    #[test]
    fn who_has_the_cookie_is_known() {
        assert_eq!(admit(&[("host", HERE), COOKIE]), Ok(Admitted::Known));
        assert_eq!(admit(&[("host", HERE)]), Err(Refused::Cookie));
        for wrong in ["aioxide-4000=sessio", "aioxide-4001=session", "session"] {
            let headers = [("host", HERE), ("cookie", wrong)];
            assert_eq!(admit(&headers), Err(Refused::Cookie), "{wrong}");
        }
    }

    #[test]
    fn the_host_is_what_is_listened_on() {
        for host in ["localhost:4000", "127.0.0.1", "127.0.0.1:80", "evil.test"] {
            assert_eq!(
                admit(&[("host", host), COOKIE]),
                Err(Refused::Host),
                "{host}"
            );
        }
        assert_eq!(admit(&[COOKIE]), Err(Refused::Host));
        let twice = [("host", HERE), ("host", HERE), COOKIE];
        assert_eq!(admit(&twice), Err(Refused::Host));
        let absolute = request("GET", "http://evil.test/workers", &[("host", HERE), COOKIE]);
        assert_eq!(gate().admit(&absolute), Err(Refused::Host));
    }

    #[test]
    fn a_post_comes_from_the_page_itself() {
        let post = |origin: &[(&str, &str)]| {
            let headers = [&[("host", HERE), COOKIE], origin].concat();
            gate().admit(&request("POST", "/stop", &headers))
        };
        assert_eq!(
            post(&[("origin", "http://127.0.0.1:4000")]),
            Ok(Admitted::Known)
        );
        assert_eq!(post(&[]), Err(Refused::Origin));
        for origin in [
            "null",
            "http://127.0.0.1:4001",
            "https://127.0.0.1:4000",
            "http://evil.test",
        ] {
            assert_eq!(post(&[("origin", origin)]), Err(Refused::Origin));
            let get = [("host", HERE), COOKIE, ("origin", origin)];
            assert_eq!(admit(&get), Err(Refused::Origin), "{origin}");
        }
    }

    #[test]
    fn no_two_secrets_are_alike() {
        let [one, other] = [(); 2].map(|()| Secret::random().unwrap());
        assert_eq!(one.as_str().len(), 64);
        assert!(one.is(one.as_str()) && !one.is(other.as_str()) && !one.is(""));
    }
}
