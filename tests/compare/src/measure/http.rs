//! HTTP on persistent and on fresh connections.

use anyhow::Result;

use super::plan::Plan;
use super::under_load;
use crate::kinds::{ACTIX_WEB, AXUM, HTTP_PROCESSES, HTTP_THREADS, HYPER};
use crate::load::Protocol;
use crate::table::Table;

const LIMITS: &str = "
HTTP/1.1: each request is a GET, which is answered with its query of 64 bytes. All but actix-web serve the same router of
axum's; hyper has it on a hand-written runtime of one thread for each worker, with its timeout for heads. What limits is what limits the echo, and the
parsing of heads.";

pub(super) fn measure(plan: &Plan) -> Result<Vec<Table>> {
    let kinds = [HYPER, HTTP_THREADS, HTTP_PROCESSES, AXUM, ACTIX_WEB];
    let mut tables = under_load::measure(plan, "HTTP", &kinds, Protocol::Http, 2, LIMITS)?;
    let [persistent, _] = &mut tables;
    for kind in [HTTP_THREADS, HTTP_PROCESSES] {
        persistent.bound_on_ratio(kind.name, HYPER.name, 0, 1.03);
        persistent.bound_on_ratio(kind.name, AXUM.name, 0, 1.0);
        persistent.bound_on_ratio(kind.name, ACTIX_WEB.name, 0, 1.0);
    }
    Ok(tables.into())
}
