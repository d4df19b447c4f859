//! What stands for a worker's scope where there are none.

use crate::server::line::Failure;

use super::shared::Shared;

pub(super) struct OwnScope;

impl OwnScope {
    pub(super) async fn enter(_: &Shared) -> OwnScope {
        OwnScope
    }

    pub(super) async fn failed(&self) -> Failure {
        std::future::pending().await
    }

    pub(super) fn take_failure(&self) -> Option<Failure> {
        None
    }

    pub(super) async fn end(self, _: bool) -> Option<Failure> {
        None
    }
}
