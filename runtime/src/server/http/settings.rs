//! What a service is served with.

use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;

use super::draining::Limits;
use super::service::OnRequest;
use super::streams::Executor;

/// By when a request's head has arrived.
const HEAD: Duration = Duration::from_secs(30);

/// What is set up once and used by every connection.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) http1: http1::Builder,
    pub(super) set_up_http2: Vec<SetUpHttp2>,
    pub(super) on_request: Option<OnRequest>,
}

pub(super) type SetUpHttp2 = Rc<dyn Fn(&mut http2::Builder<Executor>)>;

impl Settings {
    pub(super) fn http2(&self, executor: Executor) -> http2::Builder<Executor> {
        let mut builder = http2::Builder::new(executor);
        builder.timer(TokioTimer::new());
        for set_up in &self.set_up_http2 {
            set_up(&mut builder);
        }
        builder
    }
}

impl Default for Settings {
    fn default() -> Settings {
        let mut http1 = http1::Builder::new();
        // Its own limit counts the time between two requests too.
        http1.timer(TokioTimer::new()).header_read_timeout(None);
        Settings {
            limits: Limits {
                head: HEAD,
                idle: None,
            },
            http1,
            set_up_http2: Vec::new(),
            on_request: None,
        }
    }
}
