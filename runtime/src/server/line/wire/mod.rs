//! What supervisor and process worker say to each other, on a pair of connected Unix sockets.
//!
//! Each side sends a greeting (`aioxide\0`, the protocol's version, its crate's version), then frames: a
//! length, a flag that says whether a file descriptor comes along, and a message in MessagePack. The
//! greeting's layout never changes, so that any two versions can tell each other why they part.
//!
//! `frame` is pure: bytes and descriptors in, messages out, and back. `ends` does the system calls.

mod ends;
mod frame;
mod message;

use std::io;

pub(in crate::server) use ends::{Dialogue, Next, Sender, SupervisorEnd, WorkerEnd};
pub(in crate::server) use frame::{Attached, HANDOVER};
pub(in crate::server) use message::{
    Answer, Assembly, Assignment, Bytes, Refusal, ToSupervisor, ToWorker, Wanted, clipped,
    decode_main, encode_main,
};

/// Counts up with every change that an older other side would not understand.
const PROTOCOL: u16 = 14;

/// As [`PROTOCOL`], for what a supervisor and its successor say to each other.
const HANDOVER_FORMAT: u16 = 1;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The most bytes of a frame, its header included.
const MAX_FRAME: usize = 64 * 1024;

/// The most bytes of a main context's value.
const MAX_MAIN: usize = 16 * 1024 * 1024;

/// The most frames that may wait for the other side to read.
const MAX_QUEUE: usize = 256;

/// The most bytes of frames that may wait, parts of the main value aside.
const MAX_QUEUED: usize = 4 * MAX_FRAME;

/// Why the two sides cannot go on.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum WireError {
    #[error("what is at the other end of the control socket is not aioxide")]
    Stranger,
    #[error(
        "the other process uses aioxide {version} (wire protocol {protocol}), this one aioxide {VERSION} (wire \
         protocol {PROTOCOL}): both must use the same protocol"
    )]
    Version { version: String, protocol: u16 },
    #[error(
        "the other process uses aioxide {version} (handover format {format}), this one aioxide {VERSION} (handover \
         format {HANDOVER_FORMAT}): both must use the same format"
    )]
    Handover { version: String, format: u16 },
    #[error("a frame of {0} bytes, where at most {MAX_FRAME} are allowed")]
    FrameTooLong(usize),
    #[error("a main context's value of {0} bytes, where at most {MAX_MAIN} are allowed")]
    MainTooLong(usize),
    #[error("a message cannot be decoded: {0}")]
    Undecodable(#[from] rmp_serde::decode::Error),
    #[error("a message cannot be encoded: {0}")]
    Unencodable(#[from] rmp_serde::encode::Error),
    #[error("a message came without its file descriptor")]
    NoDescriptor,
    #[error("the other process leaves too many messages unread")]
    QueueFull,
    #[error("a flood of messages, more than a worker has to say")]
    Flood,
    #[error("control socket: {0}")]
    Io(#[from] io::Error),
}

#[cfg(test)]
mod tests;
