// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The attested log: events that a measurement register was extended with, the leaves of their
//! chains, and the records of the control plane. The crate `vtl_audit` verifies what is read here.

use rustix::io::Errno;
use zerocopy::FromZeros as _;

use crate::abi;
use crate::abi::operands::{self, Head};
use crate::audit::Slots;
use crate::sys::Grows;
use crate::{Error, Info, Result, Vtl, sys};

/// Bytes of an event are fewer: there are at most 65536 streams.
const EVENT_MAX: u32 = 8 << 20;

/// State of attestation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Events can be made.
    Open,
    /// The register could not be extended, or something else has extended it.
    Broken,
    /// The last event was made.
    Closed,
    /// A state that this crate does not know.
    Other(u32),
}

/// How attestation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attestation {
    /// State.
    pub state: State,
    /// True if nothing runs in a lower VTL without attestation (`attest=require`).
    pub is_required: bool,
    /// Number of the oldest event that can be read.
    pub first_event: u64,
    /// Number of the next event.
    pub next_event: u64,
    /// Index of the measurement register.
    pub register: u32,
    /// Streams of records.
    pub streams: u32,
    /// Slots in a ring of leaves.
    pub leaves: u32,
    /// Seconds from one checkpoint to the next; 0: only those asked for.
    pub interval_s: u32,
}

/// A ring of the attested log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRing {
    /// Records of a CPU.
    Records(u32),
    /// Leaves of these.
    Leaves(u32),
    /// Records of the control plane.
    Control,
    /// Leaves of these.
    ControlLeaves,
}

impl Vtl {
    /// Returns how attestation stands; `None` if the module was loaded without it, or does not know
    /// of it.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub fn attestation(&self) -> Result<Option<Attestation>> {
        let mut answer = operands::AuditEvent::new_zeroed();
        match sys::query::<{ abi::command::VTL_AUDIT_EVENT }, _>(self, 0, &mut answer) {
            Ok(()) => Ok(Some(Attestation::new(&answer))),
            Err(Errno::OPNOTSUPP | Errno::NOTTY) => Ok(None),
            Err(errno) => Err(query_error("attestation", errno)),
        }
    }

    /// Reads an event; `None` if it does not exist yet, or is no longer kept.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub fn event(&self, number: u64, attestation: &Attestation) -> Result<Option<Vec<u8>>> {
        // Before and after the heads of the streams; the first one has most.
        const REST: u32 = 256 + 272;
        let len = REST.saturating_add(attestation.streams.saturating_mul(64));
        // CAST: u32 fits.
        let mut event = vec![0; len.min(EVENT_MAX) as usize];
        match sys::read_event(self, number, &mut event) {
            Ok(len) => {
                event.truncate(len);
                Ok(Some(event))
            }
            Err(Errno::NXIO) => Ok(None),
            Err(errno) => Err(query_error("an event", errno)),
        }
    }

    /// Has all records so far attested. When this returns, the register was extended. Returns the number
    /// of the event.
    ///
    /// `is_complete` kicks every virtual processor out of its lower VTL first, so that long stays
    /// are recorded, too.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn checkpoint(&self, nonce: &[u8; 32], is_complete: bool) -> Result<u64> {
        const KICK: u32 = 1;
        let mut operand = operands::AuditCheckpoint::new_zeroed();
        operand.nonce = *nonce;
        operand.flags = if is_complete { KICK } else { 0 };
        sys::query::<{ abi::command::VTL_AUDIT_CHECKPOINT }, _>(self, 0, &mut operand).map_err(
            |errno| Error::Command {
                command: "VTL_AUDIT_CHECKPOINT",
                errno: errno.into(),
            },
        )?;
        Ok(operand.number)
    }

    /// Records three words of the caller's own as an event of the control plane, with the
    /// process's number and user.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn note(&self, words: [u64; 3]) -> Result<()> {
        let mut operand = operands::AuditNote {
            head: Head::default(),
            words,
        };
        sys::query::<{ abi::command::VTL_AUDIT_NOTE }, _>(self, 0, &mut operand).map_err(|errno| {
            Error::Command {
                command: "VTL_AUDIT_NOTE",
                errno: errno.into(),
            }
        })
    }

    /// Maps a ring of the attested log.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn map_log_ring(
        &self,
        ring: LogRing,
        info: &Info,
        attestation: &Attestation,
    ) -> Result<Slots> {
        let (kind, cpu, slots) = match ring {
            LogRing::Records(cpu) => (abi::PAGE_KIND_AUDIT, cpu, info.audit_records),
            LogRing::Leaves(cpu) => (abi::PAGE_KIND_LEAVES, cpu, attestation.leaves),
            LogRing::Control => (abi::PAGE_KIND_CONTROL, 0, info.audit_records),
            LogRing::ControlLeaves => (abi::PAGE_KIND_CONTROL_LEAVES, 0, attestation.leaves),
        };
        Slots::map(self, kind, cpu, slots).map_err(|errno| Error::Map {
            what: "a ring of the attested log",
            cpu,
            errno: errno.into(),
        })
    }
}

fn query_error(what: &'static str, errno: Errno) -> Error {
    Error::Query {
        what,
        errno: errno.into(),
    }
}

impl Attestation {
    fn new(answer: &operands::AuditEvent) -> Self {
        Self {
            state: match answer.state {
                1 => State::Open,
                2 => State::Broken,
                3 => State::Closed,
                other => State::Other(other),
            },
            is_required: answer.mode == 2,
            first_event: answer.first,
            next_event: answer.next,
            register: answer.rtmr,
            streams: answer.streams,
            leaves: answer.leaves,
            interval_s: answer.interval,
        }
    }
}

impl Grows for operands::AuditEvent {
    fn head(&mut self) -> &mut Head {
        &mut self.head
    }
}

impl Grows for operands::AuditNote {
    fn head(&mut self) -> &mut Head {
        &mut self.head
    }
}

impl Grows for operands::AuditCheckpoint {
    fn head(&mut self) -> &mut Head {
        &mut self.head
    }
}
