//! Frames, without a system call.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::{Bytes, ToWorker};
use super::{HANDOVER_FORMAT, MAX_FRAME, MAX_QUEUE, MAX_QUEUED, PROTOCOL, VERSION, WireError};

/// What the two sides speak, as their greetings say: who says another magic is a stranger.
pub(in crate::server) struct Dialect {
    pub(super) magic: &'static [u8],
    pub(super) version: u16,
    /// The error about another version, which the other side's crate and greeting give.
    pub(super) differs: fn(String, u16) -> WireError,
}

/// Between a supervisor and its workers.
pub(super) const WORKERS: Dialect = Dialect {
    magic: b"aioxide\0",
    version: PROTOCOL,
    differs: |version, protocol| WireError::Version { version, protocol },
};

/// Between a supervisor and its successor.
pub(in crate::server) const HANDOVER: Dialect = Dialect {
    magic: b"aioxide-handover\0",
    version: HANDOVER_FORMAT,
    differs: |version, format| WireError::Handover { version, format },
};

/// A little-endian length of what follows; the top bit says that a descriptor comes along.
const HEADER: usize = 4;
const WITH_DESCRIPTOR: u32 = 1 << 31;

/// What a part of the main value may take of a frame, its message's own bytes left aside.
const PART: usize = MAX_FRAME - 64;

pub(super) fn greeting(dialect: &Dialect) -> Vec<u8> {
    let mut bytes = dialect.magic.to_vec();
    bytes.extend_from_slice(&dialect.version.to_le_bytes());
    bytes.push(VERSION.len() as u8);
    bytes.extend_from_slice(VERSION.as_bytes());
    bytes
}

fn encode<M: Serialize>(message: &M, with_descriptor: bool) -> Result<Vec<u8>, WireError> {
    let mut bytes = vec![0; HEADER];
    message.serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_struct_map())?;
    if bytes.len() > MAX_FRAME {
        return Err(WireError::FrameTooLong(bytes.len()));
    }
    let mut header = (bytes.len() - HEADER) as u32;
    if with_descriptor {
        header |= WITH_DESCRIPTOR;
    }
    bytes[..HEADER].copy_from_slice(&header.to_le_bytes());
    Ok(bytes)
}

/// The descriptor that comes with a message.
#[derive(Debug, PartialEq)]
pub(in crate::server) enum Attached<F> {
    Nothing,
    Descriptor(F),
    /// This process had no room for it: too many open files.
    Lost,
}

/// Takes bytes and descriptors as they arrive and gives the messages they make.
///
/// Descriptors arrive in order and not after their frame's last byte; which frame one belongs to only the
/// frame knows. One that no frame claims is dropped.
pub(super) struct Decoder<F> {
    dialect: &'static Dialect,
    greeted: bool,
    bytes: Vec<u8>,
    /// How many of `bytes` have been decoded.
    done: usize,
    descriptors: VecDeque<Attached<F>>,
}

impl<F> Decoder<F> {
    pub(super) fn new(dialect: &'static Dialect) -> Decoder<F> {
        Decoder {
            dialect,
            greeted: false,
            bytes: Vec::new(),
            done: 0,
            descriptors: VecDeque::new(),
        }
    }

    /// To be followed by [`next`](Self::next) until that gives none, which bounds what is kept.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        descriptors: impl IntoIterator<Item = Attached<F>>,
    ) {
        self.bytes.drain(..self.done);
        self.done = 0;
        self.bytes.extend_from_slice(bytes);
        self.descriptors.extend(descriptors);
    }

    /// The next message that has come in whole. After an error there is no other.
    pub(super) fn next<M: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<(M, Attached<F>)>, WireError> {
        if !self.greeted {
            match greeting_length(&self.bytes, self.dialect)? {
                Some(length) => self.done = length,
                None => {
                    self.descriptors.clear();
                    return Ok(None);
                }
            }
            self.greeted = true;
        }
        let rest = &self.bytes[self.done..];
        let Some((header, rest)) = rest.split_first_chunk::<HEADER>() else {
            self.drop_unclaimed();
            return Ok(None);
        };
        let header = u32::from_le_bytes(*header);
        let length = (header & !WITH_DESCRIPTOR) as usize;
        if length > MAX_FRAME - HEADER {
            return Err(WireError::FrameTooLong(length.saturating_add(HEADER)));
        }
        let Some(payload) = rest.get(..length) else {
            self.drop_unclaimed();
            return Ok(None);
        };
        let message = rmp_serde::from_slice(payload)?;
        let attached = if header & WITH_DESCRIPTOR == 0 {
            Attached::Nothing
        } else {
            self.descriptors
                .pop_front()
                .ok_or(WireError::NoDescriptor)?
        };
        self.done += HEADER + length;
        Ok(Some((message, attached)))
    }

    /// Only a frame that has begun can still claim a descriptor.
    fn drop_unclaimed(&mut self) {
        let begun = self.done < self.bytes.len();
        self.descriptors.truncate(usize::from(begun));
    }
}

/// How long the other side's greeting is, once it is here and ours.
fn greeting_length(bytes: &[u8], dialect: &Dialect) -> Result<Option<usize>, WireError> {
    let seen = bytes.len().min(dialect.magic.len());
    if bytes[..seen] != dialect.magic[..seen] {
        return Err(WireError::Stranger);
    }
    let Some(&[low, high, length]) = bytes[seen..].first_chunk::<3>() else {
        return Ok(None);
    };
    let Some(version) = bytes[seen + 3..].get(..usize::from(length)) else {
        return Ok(None);
    };
    let spoken = u16::from_le_bytes([low, high]);
    if spoken != dialect.version {
        let version = String::from_utf8_lossy(version).into_owned();
        return Err((dialect.differs)(version, spoken));
    }
    Ok(Some(seen + 3 + version.len()))
}

/// How much of an outbox a message may be the last to fill.
#[derive(Clone, Copy, Debug)]
pub(super) enum Room {
    /// Of those that come in any number: the others find room all the same.
    Half,
    Whole,
    /// Nothing comes after it.
    Beyond,
}

/// What is to be sent. Bounded: who doesn't read doesn't cost memory.
pub(super) struct Outbox<F> {
    frames: VecDeque<Frame<F>>,
    /// How much of the first frame is out.
    sent: usize,
    /// The bytes of all frames.
    queued: usize,
    main: Option<Main>,
}

struct Frame<F> {
    bytes: Vec<u8>,
    descriptor: Option<F>,
}

/// Bytes, and the descriptor that goes with the first of them.
type Front<'a, F> = (&'a [u8], Option<&'a F>);

/// A main value of which some is still to be made into frames.
struct Main {
    value: Arc<[u8]>,
    done: usize,
}

impl<F> Outbox<F> {
    /// Begins with the greeting.
    pub(super) fn new(dialect: &Dialect) -> Outbox<F> {
        let mut outbox = Outbox::greeted();
        let bytes = greeting(dialect);
        outbox.queued = bytes.len();
        outbox.frames.push_back(Frame {
            bytes,
            descriptor: None,
        });
        outbox
    }

    /// One whose greeting has been sent.
    pub(super) fn greeted() -> Outbox<F> {
        Outbox {
            queued: 0,
            frames: VecDeque::new(),
            sent: 0,
            main: None,
        }
    }

    pub(super) fn push<M: Serialize>(
        &mut self,
        message: &M,
        descriptor: Option<F>,
    ) -> Result<(), WireError> {
        self.push_within(Room::Whole, message, descriptor)
    }

    pub(super) fn push_within<M: Serialize>(
        &mut self,
        room: Room,
        message: &M,
        descriptor: Option<F>,
    ) -> Result<(), WireError> {
        let bytes = encode(message, descriptor.is_some())?;
        let (frames, queued) = (self.frames.len() + 1, self.queued + bytes.len());
        let fits = match room {
            Room::Half => frames <= MAX_QUEUE / 2 && queued <= MAX_QUEUED / 2,
            Room::Whole => frames <= MAX_QUEUE && queued <= MAX_QUEUED,
            Room::Beyond => true,
        };
        if !fits {
            return Err(WireError::QueueFull);
        }
        self.queued = queued;
        self.frames.push_back(Frame { bytes, descriptor });
        Ok(())
    }

    /// As [`push`](Self::push), unless the same message is waiting already.
    pub(super) fn push_once<M: Serialize>(&mut self, message: &M) -> Result<(), WireError> {
        let bytes = encode(message, false)?;
        let begun = usize::from(self.sent > 0);
        if self
            .frames
            .iter()
            .skip(begun)
            .any(|frame| frame.bytes == bytes)
        {
            return Ok(());
        }
        self.push(message, None)
    }

    /// Sends `value` in parts, whenever nothing else is waiting.
    pub(super) fn push_main(&mut self, value: Arc<[u8]>) {
        self.main = Some(Main { value, done: 0 });
    }

    /// Whether there is room for any message.
    pub(super) fn has_room(&self) -> bool {
        self.frames.len() < MAX_QUEUE && self.queued + MAX_FRAME <= MAX_QUEUED
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.main.is_none()
    }

    /// Only what doesn't answer anything should be pushed.
    pub(super) fn is_half_full(&self) -> bool {
        self.frames.len() >= MAX_QUEUE / 2 || self.queued >= MAX_QUEUED / 2
    }

    /// What to send now.
    pub(super) fn front(&mut self) -> Result<Option<Front<'_, F>>, WireError> {
        if self.frames.is_empty() {
            if let Some(bytes) = self.next_part()? {
                self.queued += bytes.len();
                self.frames.push_back(Frame {
                    bytes,
                    descriptor: None,
                });
            }
        }
        let sent = self.sent;
        Ok(self
            .frames
            .front()
            .map(|frame| (&frame.bytes[sent..], frame.descriptor.as_ref())))
    }

    fn next_part(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        let Some(main) = &mut self.main else {
            return Ok(None);
        };
        let end = main.value.len().min(main.done + PART);
        let last = end == main.value.len();
        let bytes = Bytes(main.value[main.done..end].to_owned());
        main.done = end;
        if last {
            self.main = None;
        }
        encode(&ToWorker::Main { bytes, last }, false).map(Some)
    }

    /// So many bytes of the front are out, and its descriptor with them.
    pub(super) fn advance(&mut self, bytes: usize) {
        let Some(frame) = self.frames.front_mut() else {
            return;
        };
        if bytes > 0 {
            frame.descriptor = None;
        }
        self.sent += bytes;
        if self.sent >= frame.bytes.len() {
            self.queued -= frame.bytes.len();
            self.frames.pop_front();
            self.sent = 0;
        }
    }

    /// Drops everything: nobody will read it.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.sent = 0;
        self.queued = 0;
        self.main = None;
    }
}

#[cfg(test)]
mod tests;
