// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Events: what the module extends the register with, once for each checkpoint.

use core::fmt;

use crate::bytes::{array, is_zero, length, word16, word32, word64};
use crate::hash::{self, Digest, Hash};

/// Id of the stream of the control plane. The others have the number of their CPU.
pub const CONTROL: u32 = 0xffff;
/// Number that a load of the module is known by.
pub type Session = [u8; 16];

const MAGIC: [u8; 8] = *b"VTLATEVT";
const VERSION: u16 = 1;
const HEADS: usize = 256;
const HEAD_LEN: usize = 64;
const OPEN_LEN: usize = 128 + 3 * 48;
/// Offset in what the first event has after the heads.
const BOOT: usize = 128;
const FOREIGN: u32 = 1 << 1;
const ASKED: u32 = 1 << 0;
const LAST: u32 = 1 << 2;

/// What an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The module was loaded.
    Open,
    /// Time had passed, or somebody asked.
    Checkpoint,
    /// The module is unloaded, or the system ends.
    Close,
}

/// Why something is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadEvent {
    /// It does not begin like one.
    Magic,
    /// A format that this program does not know.
    Version(u16),
    /// An event of a kind that this program does not know.
    Kind(u16),
    /// It is not as long as its number of streams says.
    Length,
    /// A field has a value that the module never writes; its offset.
    Field(usize),
    /// The streams do not come by rising number; the one that does not.
    Order(u32),
}

impl fmt::Display for BadEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("it does not begin like an event"),
            Self::Version(version) => write!(f, "its format is {version}, not {VERSION}"),
            Self::Kind(kind) => write!(f, "its kind {kind} is not known"),
            Self::Length => f.write_str("its length is not that of its streams"),
            Self::Field(at) => write!(f, "its byte {at} is not as the kernel writes it"),
            Self::Order(stream) => write!(f, "its stream {stream} is out of order"),
        }
    }
}

/// What an event says of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Id of the stream.
    pub stream: u32,
    /// True if its CPU was not online.
    pub is_offline: bool,
    /// Number of the first record that the event does not cover.
    pub next: u64,
    /// Records that the module itself lost; always 0.
    pub lost: u64,
    /// Segments so far.
    pub segments: u64,
    /// Chain after the last of them.
    pub chain: Hash,
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            stream: word32(bytes, 0)?,
            is_offline: word32(bytes, 4)? != 0,
            next: word64(bytes, 8)?,
            lost: word64(bytes, 16)?,
            segments: word64(bytes, 24)?,
            chain: array(bytes, 32)?,
        })
    }

    /// Returns true if the stream has not begun.
    pub(crate) fn is_start(&self) -> bool {
        self.next == 1 && self.segments == 0 && is_zero(&self.chain)
    }
}

/// An event, with its form checked: what only its neighbours can tell is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// As it is hashed.
    pub bytes: &'a [u8],
    /// What it is for.
    pub kind: Kind,
    /// Its place in the session, from 0.
    pub number: u64,
    /// Nanoseconds since the start of the Linux at VTL2.
    pub boot_ns: u64,
    /// TSC.
    pub tsc: u64,
    /// The load of the module.
    pub session: Session,
    /// True if the register had a value that the module could not explain.
    pub is_foreign: bool,
    /// True if no event of this session follows.
    pub is_last: bool,
    /// Index of the register.
    pub register: u32,
    /// The register as the events before make it.
    pub before: Digest,
    /// The register as the TDX module reported it.
    pub seen: Digest,
    /// The secret that the event before has committed to.
    pub reveal: Hash,
    /// Commitment to the secret of the next one.
    pub commit: Hash,
    /// What the caller gave, if somebody asked for this event.
    pub nonce: Option<Hash>,
    heads: &'a [u8],
}

impl<'a> Event<'a> {
    /// Reads an event.
    ///
    /// # Errors
    ///
    /// What makes it none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadEvent> {
        if !bytes.starts_with(&MAGIC) {
            return Err(BadEvent::Magic);
        }
        let version = word16(bytes, 8).ok_or(BadEvent::Length)?;
        if version != VERSION {
            return Err(BadEvent::Version(version));
        }
        let kind = match word16(bytes, 10).ok_or(BadEvent::Length)? {
            1 => Kind::Open,
            2 => Kind::Checkpoint,
            3 => Kind::Close,
            other => return Err(BadEvent::Kind(other)),
        };
        let event = Self::fields(bytes, kind).ok_or(BadEvent::Length)?;
        event.check()?;
        Ok(event)
    }

    fn fields(bytes: &'a [u8], kind: Kind) -> Option<Self> {
        let heads_len = length(word32(bytes, 12)?).checked_mul(HEAD_LEN)?;
        let end = HEADS.checked_add(heads_len)?;
        let trailer = match kind {
            Kind::Open => OPEN_LEN,
            Kind::Checkpoint | Kind::Close => 0,
        };
        if bytes.len() != end.checked_add(trailer)? {
            return None;
        }
        let flags = word32(bytes, 56)?;
        let nonce = array(bytes, 224)?;
        Some(Self {
            bytes,
            kind,
            number: word64(bytes, 16)?,
            boot_ns: word64(bytes, 24)?,
            tsc: word64(bytes, 32)?,
            session: array(bytes, 40)?,
            is_foreign: flags & FOREIGN != 0,
            is_last: flags & LAST != 0,
            register: word32(bytes, 60)?,
            before: array(bytes, 64)?,
            seen: array(bytes, 112)?,
            reveal: array(bytes, 160)?,
            commit: array(bytes, 192)?,
            nonce: (flags & ASKED != 0).then_some(nonce),
            heads: bytes.get(HEADS..end)?,
        })
    }

    fn check(&self) -> Result<(), BadEvent> {
        let flags = word32(self.bytes, 56).unwrap_or(0);
        let is_open = self.kind == Kind::Open;
        let rules = [
            (16, (self.number == 0) == is_open),
            (56, flags & !(ASKED | FOREIGN | LAST) == 0),
            (56, self.kind != Kind::Close || self.is_last),
            (56, !self.is_foreign || self.is_last),
            (56, self.is_foreign == (self.before != self.seen)),
            (60, matches!(self.register, 2 | 3)),
            (160, !is_open || is_zero(&self.reveal)),
            (192, !self.is_last || is_zero(&self.commit)),
            (224, self.nonce.is_some() || self.has_no_nonce()),
        ];
        if let Some((at, _)) = rules.into_iter().find(|(_, holds)| !holds) {
            return Err(BadEvent::Field(at));
        }
        self.check_heads()?;
        match is_open {
            true => self.check_open(),
            false => Ok(()),
        }
    }

    fn has_no_nonce(&self) -> bool {
        self.bytes.get(224..HEADS).is_some_and(is_zero)
    }

    fn check_heads(&self) -> Result<(), BadEvent> {
        let mut before = None;
        for (index, chunk) in self.heads.chunks_exact(HEAD_LEN).enumerate() {
            let stream = word32(chunk, 0).unwrap_or(0);
            if before.is_some_and(|before| before >= stream) || stream > CONTROL {
                return Err(BadEvent::Order(stream));
            }
            if word32(chunk, 4).is_none_or(|flags| flags > 1) {
                return Err(BadEvent::Field(HEADS + index * HEAD_LEN + 4));
            }
            before = Some(stream);
        }
        Ok(())
    }

    /// Zeros of the first event: streams that have not begun, and what is reserved.
    fn check_open(&self) -> Result<(), BadEvent> {
        if let Some(index) = self.heads().position(|head| !head.is_start()) {
            return Err(BadEvent::Field(HEADS + index * HEAD_LEN + 8));
        }
        let end = HEADS + self.heads.len();
        for (from, to) in [(36, 48), (112, 128)] {
            if !self.bytes.get(end + from..end + to).is_some_and(is_zero) {
                return Err(BadEvent::Field(end + from));
            }
        }
        Ok(())
    }

    /// What it says of each stream, by rising id.
    pub fn heads(&self) -> impl ExactSizeIterator<Item = Head> + use<'a> {
        let nothing = Head {
            stream: CONTROL,
            is_offline: false,
            next: 0,
            lost: 0,
            segments: 0,
            chain: [0; 32],
        };
        let heads = self.heads.chunks_exact(HEAD_LEN);
        heads.map(move |chunk| Head::read(chunk).unwrap_or(nothing))
    }

    /// The kernel that it was, as `uname -r` says; only the first event tells.
    #[must_use]
    pub fn release(&self) -> Option<&'a str> {
        let at = HEADS + self.heads.len() + 48;
        let text = self.bytes.get(at..at + 64)?;
        let text = text.split(|byte| *byte == 0).next()?;
        core::str::from_utf8(text).ok()
    }

    /// RTMR0 to 2 when the module was loaded: what was measured until then, whoever has extended them since.
    /// Only the first event tells.
    #[must_use]
    pub fn boot_registers(&self) -> Option<[Digest; 3]> {
        let at = HEADS + self.heads.len() + BOOT;
        let register = |index: usize| array(self.bytes, at + 48 * index);
        Some([register(0)?, register(1)?, register(2)?])
    }

    /// What the register is extended with.
    #[must_use]
    pub fn digest(&self) -> Digest {
        hash::digest(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Module;

    #[test]
    fn events_of_the_module_are_events() {
        let mut module = Module::load(&[0, 1, CONTROL]);
        module.checkpoint(Some([7; 32]));
        module.close();
        let events = module.events();
        let read = |index: usize| Event::parse(&events[index]).unwrap();
        let (open, asked, close) = (read(0), read(1), read(2));
        assert_eq!((open.kind, open.number, open.nonce), (Kind::Open, 0, None));
        assert_eq!(open.release(), Some("7.3.4-test"));
        assert_eq!(asked.nonce, Some([7; 32]));
        assert_eq!((close.kind, close.is_last), (Kind::Close, true));
        let streams: Vec<_> = close.heads().map(|head| head.stream).collect();
        assert_eq!(streams, [0, 1, CONTROL]);
        assert_eq!(hash::commitment(&asked.reveal), open.commit);
    }

    /// What is fixed or reserved: no other value is an event.
    #[test]
    fn fields_that_are_never_so_are_refused() {
        let mut module = Module::load(&[0, 1, CONTROL]);
        module.checkpoint(None);
        module.close();
        let cases: &[(usize, usize, u8, BadEvent)] = &[
            (0, 0, 1, BadEvent::Magic),
            (0, 8, 3, BadEvent::Version(2)),
            (0, 10, 17, BadEvent::Kind(16)),
            (0, 12, 1, BadEvent::Length),
            (0, 15, 0x80, BadEvent::Length),
            (0, 16, 1, BadEvent::Field(16)),
            (1, 16, 1, BadEvent::Field(16)),
            (1, 56, 8, BadEvent::Field(56)),
            (1, 56, 2, BadEvent::Field(56)),
            (1, 64, 1, BadEvent::Field(56)),
            (2, 56, 4, BadEvent::Field(56)),
            (1, 60, 2, BadEvent::Field(60)),
            (0, 160, 1, BadEvent::Field(160)),
            (2, 192, 1, BadEvent::Field(192)),
            (1, 56, 4, BadEvent::Field(192)),
            (1, 255, 1, BadEvent::Field(224)),
            (1, 256 + 64, 1, BadEvent::Order(0)),
            (1, 256 + 128 + 2, 1, BadEvent::Order(0x1_ffff)),
            (1, 256 + 4, 2, BadEvent::Field(260)),
            (0, 256 + 8, 2, BadEvent::Field(264)),
            (0, 256 + 64 + 32, 1, BadEvent::Field(256 + 64 + 8)),
            (0, 256 + 192 + 40, 1, BadEvent::Field(256 + 192 + 36)),
            (0, 256 + 192 + 127, 1, BadEvent::Field(256 + 192 + 112)),
        ];
        for (event, at, flip, expected) in cases {
            let mut bytes = module.events()[*event].clone();
            bytes[*at] ^= flip;
            assert_eq!(
                Event::parse(&bytes).err(),
                Some(*expected),
                "event {event}, byte {at}"
            );
        }
    }

    #[test]
    fn an_event_of_any_other_length_is_none() {
        let module = Module::load(&[0, CONTROL]);
        let bytes = &module.events()[0];
        for len in 0..bytes.len() {
            assert!(Event::parse(&bytes[..len]).is_err(), "{len}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Event::parse(&longer).err(), Some(BadEvent::Length));
    }
}
