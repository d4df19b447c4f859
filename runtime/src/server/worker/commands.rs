//! Commands of the program's own, for its operator.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use crate::panic;
use crate::server::Worker;
use crate::server::job::describe;
use crate::server::line::{CommandRow, Ran};

/// The most bytes that are told of what a command prints.
const OUTPUT: usize = 1024 * 1024;

impl Worker {
    /// Adds a command of the program's own to those of its operator: `run flush 3` at the door, or `POST /run/flush/3`,
    /// runs `run` with the words that follow the name, on the event loop of every worker that has the command; with
    /// `--worker 2` in that one alone. `help` lists it with what it `does`.
    ///
    /// It returns `()`, text, or a `Result` of one of these with any error. What it prints is what it returns, of which at
    /// most 1 MiB is told. An error, or a panic, is told to who has asked. It takes as long as it takes: whoever asks may go
    /// away meanwhile, and it runs on until the worker ends. A second command of a name takes the place of the first. Nothing
    /// happens in a server without a [door](crate::Server::monitor). Modelled on aioconsole.
    ///
    /// ```no_run
    /// use std::rc::Rc;
    /// use std::cell::RefCell;
    /// use aioxide::{Worker, server};
    ///
    /// #[server(workers = 2, monitor)]
    /// async fn main(worker: Worker) {
    ///     let cache = Rc::new(RefCell::new(vec!["a", "b"]));
    ///     worker.command("flush", "empties the cache", async move |_args| {
    ///         let entries = cache.take().len();
    ///         format!("{entries} entries are gone")
    ///     });
    ///     yield_().await;
    /// }
    /// ```
    pub fn command<F, T>(&self, name: impl Into<String>, does: impl Into<String>, run: F)
    where
        F: AsyncFn(Vec<String>) -> T + 'static,
        T: CommandOutput + 'static,
    {
        if self.shared.watched.is_none() {
            return;
        }
        let run = Rc::new(run);
        add(name.into(), does.into(), move |args| {
            let run = Rc::clone(&run);
            async move { run(args).await.output() }
        });
    }
}

/// What a command of [`Worker::command`](crate::Worker::command) may return: `()`, text, or a `Result` of one of these.
#[diagnostic::on_unimplemented(
    message = "a command returns `()`, `String`, `&'static str` or a `Result` of one of these, not `{Self}`",
    label = "returns `{Self}`"
)]
pub trait CommandOutput {
    /// What is told to who has asked.
    #[doc(hidden)]
    fn output(self) -> Result<String, String>;
}

impl CommandOutput for () {
    fn output(self) -> Result<String, String> {
        Ok(String::new())
    }
}

impl CommandOutput for String {
    fn output(self) -> Result<String, String> {
        Ok(self)
    }
}

impl CommandOutput for &'static str {
    fn output(self) -> Result<String, String> {
        Ok(self.to_owned())
    }
}

impl<T, E> CommandOutput for Result<T, E>
where
    T: CommandOutput,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    fn output(self) -> Result<String, String> {
        match self {
            Ok(output) => output.output(),
            Err(error) => Err(describe(&*error.into())),
        }
    }
}

type RunCommand = Rc<dyn Fn(Vec<String>) -> LocalBoxFuture<'static, Result<String, String>>>;

thread_local! {
    /// The commands of this thread's worker, each with what it does.
    static COMMANDS: RefCell<BTreeMap<String, (String, RunCommand)>> = const { RefCell::new(BTreeMap::new()) };
}

fn add<F, Fut>(name: String, does: String, run: F)
where
    F: Fn(Vec<String>) -> Fut + 'static,
    Fut: Future<Output = Result<String, String>> + 'static,
{
    let run: RunCommand = Rc::new(move |args| run(args).boxed_local());
    COMMANDS.with_borrow_mut(|commands| commands.insert(name, (does, run)));
}

pub(super) fn list() -> Vec<CommandRow> {
    COMMANDS.with_borrow(|commands| {
        let rows = commands.iter().map(|(name, (does, _))| CommandRow {
            name: name.clone(),
            does: does.clone(),
        });
        rows.collect()
    })
}

pub(super) async fn run(name: &str, args: Vec<String>) -> Ran {
    let command = COMMANDS.with_borrow(|commands| {
        let command = commands.get(name)?;
        Some(Rc::clone(&command.1))
    });
    let Some(command) = command else {
        return Ran::Unknown;
    };
    match AssertUnwindSafe(async { command(args).await })
        .catch_unwind()
        .await
    {
        Ok(Ok(output)) => Ran::Output(cut(output)),
        Ok(Err(error)) => Ran::Failed(cut(error)),
        Err(payload) => Ran::Failed(format!("panicked: {}", cut(panic::into_text(payload)))),
    }
}

/// As much as is told of it.
fn cut(mut text: String) -> String {
    let length = text.len();
    if length > OUTPUT {
        let end = (0..=OUTPUT).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push_str(&format!("\n.. ({OUTPUT} of {length} bytes)\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_is_run_and_none_of_its_faults_goes_further() {
        add(
            "up".into(),
            "in capitals".into(),
            async |args: Vec<String>| Ok(args.join(" ").to_uppercase()),
        );
        add("panics".into(), String::new(), async |_| panic!("no"));
        add("prints".into(), String::new(), async |_| {
            Ok("é".repeat(OUTPUT))
        });
        let output = |ran| match ran {
            Ran::Output(text) => text,
            other => panic!("{other:?}"),
        };
        let words = ["a", "b"].map(str::to_owned).to_vec();
        assert_eq!(output(run("up", words).await), "A B");
        assert_eq!(run("down", Vec::new()).await, Ran::Unknown);
        assert_eq!(
            run("panics", Vec::new()).await,
            Ran::Failed("panicked: no".to_owned())
        );
        let much = output(run("prints", Vec::new()).await);
        assert!(much.ends_with("(1048576 of 2097152 bytes)\n"));
        let names: Vec<String> = list().into_iter().map(|row| row.name).collect();
        assert_eq!(names, ["panics", "prints", "up"]);
    }
}
