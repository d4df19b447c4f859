//! The worker as a field of everything that it logs.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::{OnceLock, PoisonError, RwLock};

use tracing::callsite::Identifier;
use tracing::dispatcher::WeakDispatch;
use tracing::field::{Field, FieldSet, Value, Visit};
use tracing::metadata::Kind;
use tracing::{Dispatch, Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::worker_index;

const WORKER: &str = "worker";
/// The most fields that an event may have, with the worker.
const FIELDS: usize = 32;

/// A layer that adds the field `worker` to events: [`layer`] makes it.
#[derive(Debug, Default)]
pub struct WorkerField {
    dispatch: OnceLock<WeakDispatch>,
    known: RwLock<HashMap<Identifier, &'static Metadata<'static>>>,
}

/// A layer that adds the index of the worker, as the field `worker`, to every event that a worker logs.
///
/// All other layers of the subscriber see that field, whatever their format, and wherever this one stands among
/// them: `"fields":{"message":"hello","worker":3}` in JSON, `hello worker=3` as text. An event that has a field
/// `worker` keeps it. Nothing is added where [`worker_index`] is `None`, nor to an event with more than 31 fields.
///
/// The layer keeps a few hundred bytes, for good, for each place in the program that logs.
///
/// ```
/// use tracing_subscriber::prelude::*;
///
/// fn init() {
///     let _taken = tracing_subscriber::registry()
///         .with(tracing_subscriber::EnvFilter::from_default_env())
///         .with(aioxide::logging::layer())
///         .with(tracing_subscriber::fmt::layer().json().with_writer(aioxide::logging::stderr))
///         .try_init();
/// }
/// # init();
/// ```
pub fn layer() -> WorkerField {
    WorkerField::default()
}

impl<S: Subscriber> Layer<S> for WorkerField {
    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        // One layer belongs to one subscriber, which is registered once.
        let _ = self.dispatch.set(subscriber.downgrade());
    }

    /// A layer can't change an event, but it can keep it from the others, and have the subscriber take another one
    /// in its place. That one comes here too, and has the field.
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let Some(index) = worker_index() else {
            return true;
        };
        let fields = event.metadata().fields();
        if fields.field(WORKER).is_some() || fields.len() >= FIELDS {
            return true;
        }
        let Some(dispatch) = self.dispatch.get().and_then(WeakDispatch::upgrade) else {
            return true;
        };
        self.dispatch_with_worker(&dispatch, event, index);
        false
    }
}

impl WorkerField {
    fn dispatch_with_worker(&self, dispatch: &Dispatch, event: &Event<'_>, index: usize) {
        let metadata = self.metadata(event.metadata());
        let fields = metadata.fields();
        let mut values = Values(Vec::with_capacity(fields.len()));
        event.record(&mut values);
        if let Some(worker) = fields.field(WORKER) {
            values.push(&worker, index);
        }
        let Some((first, _)) = values.0.first() else {
            return;
        };
        // Without a value a field counts as not there.
        let mut array: [(&Field, Option<&dyn Value>); FIELDS] = [(first, None); FIELDS];
        for (place, (field, value)) in array.iter_mut().zip(&values.0) {
            *place = (field, Some(&**value));
        }
        let values = fields.value_set(&array);
        let event = if event.is_contextual() {
            Event::new(metadata, &values)
        } else {
            Event::new_child_of(event.parent().cloned(), metadata, &values)
        };
        dispatch.event(&event);
    }

    /// That of an event, with the worker as one field more. It is still said to be of the same place, so that
    /// what is known of that place holds for it.
    fn metadata(&self, of: &Metadata<'static>) -> &'static Metadata<'static> {
        let place = of.callsite();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(metadata) = known.get(&place) {
            return metadata;
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(place.clone()).or_insert_with(|| {
            let names = of.fields().iter().map(|field| field.name());
            let names: Vec<&str> = names.chain([WORKER]).collect();
            Box::leak(Box::new(Metadata::new(
                of.name(),
                of.target(),
                *of.level(),
                of.file(),
                of.line(),
                of.module_path(),
                FieldSet::new(names.leak(), place),
                Kind::EVENT,
            )))
        })
    }
}

/// What an event says, to be said again.
struct Values(Vec<(Field, Box<dyn Value>)>);

impl Values {
    fn push(&mut self, field: &Field, value: impl Value + 'static) {
        self.0.push((field.clone(), Box::new(value)));
    }
}

impl Visit for Values {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.push(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.push(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let copy: Box<dyn Error> = Box::new(Told::of(value));
        self.push(field, copy);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, tracing::field::display(format!("{value:?}")));
    }
}

/// What an error says, and its causes.
#[derive(Debug)]
struct Told {
    text: String,
    source: Option<Box<Told>>,
}

impl Told {
    fn of(error: &(dyn Error + 'static)) -> Told {
        Told {
            text: error.to_string(),
            source: error.source().map(|source| Box::new(Told::of(source))),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Told {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use serde_json::{Value as Json, json};
    use tracing::subscriber::with_default;
    use tracing_subscriber::filter::{LevelFilter, filter_fn};
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::fmt::format::{DefaultFields, Format};
    use tracing_subscriber::prelude::*;
    use tracing_subscriber::registry::LookupSpan;
    use tracing_subscriber::{EnvFilter, fmt, registry};

    use super::*;
    use crate::server::set_thread_index;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Memory {
        fn text(&self) -> String {
            String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
        }

        fn json(&self) -> Json {
            let text = self.text();
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
        }
    }

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Memory {
        type Writer = Memory;

        fn make_writer(&'a self) -> Memory {
            self.clone()
        }
    }

    fn lines<S>(log: &Memory) -> fmt::Layer<S, DefaultFields, Format, Memory>
    where
        S: Subscriber + for<'s> LookupSpan<'s>,
    {
        fmt::layer().with_writer(log.clone()).with_ansi(false)
    }

    fn in_worker(index: usize, code: impl FnOnce()) {
        set_thread_index(Some(index));
        code();
        set_thread_index(None);
    }

    #[test]
    fn any_format_names_the_worker() {
        let log = Memory::default();
        let hello = || in_worker(3, || tracing::info!(size = 7, "hello"));

        with_default(registry().with(layer()).with(lines(&log)), hello);
        let text = log.text();
        assert!(text.ends_with("tests: hello size=7 worker=3\n"), "{text}");
        with_default(registry().with(lines(&log).compact()).with(layer()), hello);
        let text = log.text();
        assert!(text.ends_with("tests: hello size=7 worker=3\n"), "{text}");
        with_default(registry().with(layer()).with(lines(&log).pretty()), hello);
        let text = log.text();
        assert!(
            text.contains("tests: hello, size: 7, worker: 3\n"),
            "{text}"
        );
        with_default(registry().with(lines(&log).json()).with(layer()), hello);
        assert_eq!(
            log.json()["fields"],
            json!({"message": "hello", "size": 7, "worker": 3})
        );
    }

    #[test]
    fn an_event_stays_as_it_is_but_for_the_worker() {
        #[derive(Debug, thiserror::Error)]
        #[error("the file is missing")]
        struct Missing(#[source] io::Error);

        let log = Memory::default();
        let lines = lines(&log).json();
        let lines = lines.with_file(true).with_line_number(true);
        with_default(registry().with(layer()).with(lines), || {
            let event = || {
                let error = Missing(io::Error::other("no disk"));
                tracing::warn!(
                    target: "elsewhere",
                    error = &error as &(dyn Error + 'static),
                    big = u128::MAX,
                    wide = i128::MIN,
                    long = u64::MAX,
                    debug = ?Some("a"),
                    yes = true,
                    half = 0.5,
                    text = "b",
                    none = tracing::field::Empty,
                    "{} events", 2
                );
            };
            event();
            let mut outside = log.json();
            in_worker(0, event);
            let mut inside = log.json();
            assert_eq!(inside["fields"]["worker"].take(), json!(0));
            inside["fields"].as_object_mut().unwrap().remove("worker");
            for line in [&mut outside, &mut inside] {
                line["timestamp"].take();
            }
            assert_eq!(inside, outside);
            assert_eq!(inside["fields"]["long"], json!(u64::MAX));
        });
    }

    #[test]
    fn causes_of_an_error_are_told() {
        let log = Memory::default();
        let lines = lines(&log);
        with_default(registry().with(layer()).with(lines), || {
            in_worker(1, || {
                let error = io::Error::other(Told {
                    text: "outer".to_owned(),
                    source: Some(Box::new(Told::of(&io::Error::other("inner")))),
                });
                tracing::error!(error = &error as &(dyn Error + 'static), "failed");
            });
        });
        let text = log.text();
        let told = "failed error=outer error.sources=[inner] worker=1\n";
        assert!(text.ends_with(told), "{text}");
    }

    #[test]
    fn an_event_keeps_its_span() {
        let log = Memory::default();
        with_default(registry().with(layer()).with(lines(&log)), || {
            in_worker(2, || {
                let one = tracing::info_span!("one");
                let _two = tracing::info_span!("two").entered();
                tracing::info!("within");
                tracing::info!(parent: &one, "beside");
                tracing::info!(parent: None, "outside");
            });
        });
        let text = log.text();
        let spans = text.lines().map(|line| {
            let (head, _) = line.split_once(module_path!()).unwrap();
            head.split_once("INFO ").unwrap().1
        });
        let spans: Vec<&str> = spans.collect();
        assert_eq!(spans, ["two: ", "one: ", ""]);
    }

    #[test]
    fn a_worker_that_is_named_already_stays() {
        let log = Memory::default();
        let lines = lines(&log).json();
        with_default(registry().with(layer()).with(layer()).with(lines), || {
            in_worker(2, || tracing::info!(worker = "another", "hello"));
            assert_eq!(log.json()["fields"]["worker"], "another");
            in_worker(2, || tracing::info!("hello"));
            assert_eq!(log.json()["fields"]["worker"], 2);
            tracing::info!("in no worker");
            assert_eq!(log.json()["fields"].get("worker"), None);
        });
    }

    #[test]
    fn filters_do_what_they_do_without_it() {
        let (all, some, whole) = (Memory::default(), Memory::default(), Memory::default());
        let even = filter_fn(|event| event.fields().field("even").is_some());
        let subscriber = registry()
            .with(lines(&all).json().with_filter(LevelFilter::INFO))
            .with(layer())
            .with(lines(&some).json().with_filter(even))
            .with(lines(&whole).json())
            .with(EnvFilter::new("debug"));
        with_default(subscriber, || {
            in_worker(5, || {
                for _ in 0..3 {
                    tracing::trace!("told by none");
                    tracing::debug!(even = true, "told by two");
                    assert_eq!(some.json()["fields"]["worker"], 5);
                    assert_eq!(whole.json()["fields"]["worker"], 5);
                    tracing::info!("told by two");
                    assert_eq!(all.json()["fields"]["worker"], 5);
                    assert_eq!(whole.json()["fields"]["worker"], 5);
                    assert_eq!([all.text(), some.text(), whole.text()], [""; 3]);
                }
            });
        });
    }
}
