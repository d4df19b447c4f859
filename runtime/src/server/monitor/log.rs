//! The command `log`: another filter for the log of a worker, or of the whole server.

use super::desk::{Asker, Desk, name_of, place};
use super::reply::{Refused, Reply};
use crate::server::Isolation;
use crate::server::line::{Query, Ran};
use crate::server::supervisor::WorkerView;

pub(super) async fn change(
    desk: &Desk,
    filter: &str,
    worker: Option<String>,
    asker: Asker,
) -> Result<Reply, Refused> {
    own::check(filter)?;
    let threads = desk.about.isolation == Isolation::Thread;
    if threads && worker.is_some() {
        return Err(Refused::wrong(
            "the workers are threads of one process, which has one filter: leave out the worker",
        ));
    }
    let view = desk.view().await?;
    let role = worker
        .as_deref()
        .map(|worker| place(&view, worker).map(|place| place.role));
    let role = role.transpose()?;
    desk.log_act(asker, &format!("log {filter}"));
    if role.is_none() {
        own::change(filter)?;
    }
    if threads {
        return Ok(done(filter, "the server"));
    }
    let asked = |worker: &WorkerView| role.is_none_or(|role| worker.role == role);
    let told: Vec<(_, Option<Ran>)> = desk
        .told
        .ask(&view, asked, &Query::Log(filter.to_owned()))
        .await;
    let mut failed = Vec::new();
    for (worker, told) in &told {
        let why = match told {
            Some(Ran::Failed(why)) => why,
            Some(_) => continue,
            None => "it does not answer",
        };
        failed.push(format!("{}: {why}", name_of(&view, worker.role)));
    }
    if told.is_empty() && role.is_some() {
        failed.push(format!("{}: it does not run", worker.unwrap_or_default()));
    }
    match (failed.is_empty(), role) {
        (false, _) => Err(Refused::failed(failed.join("\n"))),
        (true, Some(role)) => Ok(done(filter, &name_of(&view, role))),
        (true, None) => Ok(done(filter, "the server")),
    }
}

fn done(filter: &str, of: &str) -> Reply {
    Reply::Done {
        done: format!("{of} logs `{filter}`"),
    }
}

/// Of the supervisor's process.
#[cfg(feature = "logging")]
mod own {
    use super::Refused;
    use crate::logging;

    pub(super) fn check(filter: &str) -> Result<(), Refused> {
        logging::check(filter).map_err(Refused::wrong)
    }

    pub(super) fn change(filter: &str) -> Result<(), Refused> {
        logging::change(filter).map_err(|why| Refused::failed(format!("the server: {why}")))
    }
}

#[cfg(not(feature = "logging"))]
mod own {
    use super::Refused;

    pub(super) fn check(_: &str) -> Result<(), Refused> {
        Err(Refused::failed(
            "the program is built without the feature `logging`",
        ))
    }

    pub(super) fn change(_: &str) -> Result<(), Refused> {
        Ok(())
    }
}
