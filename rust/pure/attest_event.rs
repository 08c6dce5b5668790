// SPDX-License-Identifier: GPL-2.0
//! Events of an attested log: the bytes that a register is extended with the hash of.
//! [Documentation/audit-format.rst]

use super::attest::{put, Digest, Hash, Reason, Stream};

/// Bytes before the heads.
pub const EVENT_BYTES: usize = 256;
/// Bytes of the head of a stream.
pub const HEAD_BYTES: usize = 64;
/// Bytes after the heads of the first event.
pub const OPENING_BYTES: usize = 128 + BOOT_REGISTERS * 48;
/// RTMR0 to 2 belong to who measures the boot; the first event has what they hold when the module is loaded.
pub const BOOT_REGISTERS: usize = 3;

const MAGIC: &[u8; 8] = b"VTLATEVT";
const VERSION: u16 = 1;

/// Flags of an event.
pub mod flag {
    /// Asked for, with a nonce.
    pub const ASKED: u32 = 1 << 0;
    /// The register is not what the events make it.
    pub const FOREIGN: u32 = 1 << 1;
    /// There is none after it.
    pub const LAST: u32 = 1 << 2;
}

/// Flag of a head: the CPU is not online.
pub const HEAD_OFFLINE: u32 = 1 << 0;

/// What an event says, but for the heads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Why it was made.
    pub reason: Reason,
    /// How many heads.
    pub streams: u32,
    /// Its number, from 0.
    pub number: u64,
    /// Nanoseconds since the start of this Linux.
    pub boot_ns: u64,
    /// TSC.
    pub tsc: u64,
    /// The same in all events of a load.
    pub session: [u8; 16],
    /// Index of the register.
    pub register: u32,
    /// The register as the events before make it; in the first event, as `seen`.
    pub replayed: Digest,
    /// The register as the TDX module tells.
    pub seen: Digest,
    /// The secret that the event before has committed to.
    pub reveal: Hash,
    /// The commitment to the next one.
    pub commit: Hash,
}

impl Event {
    /// Returns true if somebody else has extended the register.
    pub fn is_foreign(&self) -> bool {
        self.replayed != self.seen
    }

    /// Returns true if no event comes after this one.
    pub fn is_last(&self) -> bool {
        matches!(self.reason, Reason::Close) || self.is_foreign()
    }

    /// Its bytes before the heads.
    pub fn bytes(&self) -> [u8; EVENT_BYTES] {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 8, &VERSION.to_le_bytes());
        put(&mut bytes, 10, &self.kind().to_le_bytes());
        put(&mut bytes, 12, &self.streams.to_le_bytes());
        put(&mut bytes, 16, &self.number.to_le_bytes());
        put(&mut bytes, 24, &self.boot_ns.to_le_bytes());
        put(&mut bytes, 32, &self.tsc.to_le_bytes());
        put(&mut bytes, 40, &self.session);
        put(&mut bytes, 56, &self.flags().to_le_bytes());
        put(&mut bytes, 60, &self.register.to_le_bytes());
        put(&mut bytes, 64, &self.replayed);
        put(&mut bytes, 112, &self.seen);
        put(&mut bytes, 160, &self.reveal);
        if !self.is_last() {
            put(&mut bytes, 192, &self.commit);
        }
        if let Reason::Asked(nonce) = &self.reason {
            put(&mut bytes, 224, nonce);
        }
        bytes
    }

    /// Returns true if only time is the reason, and all is well.
    pub fn is_routine(&self) -> bool {
        self.reason == Reason::Interval && !self.is_foreign()
    }

    /// The kind, as a number.
    pub const fn kind(&self) -> u16 {
        match self.reason {
            Reason::Open => 1,
            Reason::Interval | Reason::Asked(_) => 2,
            Reason::Close => 3,
        }
    }

    /// Flags, see [`flag`].
    pub fn flags(&self) -> u32 {
        let mut flags = 0;
        if let Reason::Asked(_) = self.reason {
            flags |= flag::ASKED;
        }
        if self.is_foreign() {
            flags |= flag::FOREIGN;
        }
        if self.is_last() {
            flags |= flag::LAST;
        }
        flags
    }
}

/// The head of a stream.
pub fn head(stream: &Stream, flags: u32) -> [u8; HEAD_BYTES] {
    let mut bytes = [0; HEAD_BYTES];
    put(&mut bytes, 0, &stream.id.to_le_bytes());
    put(&mut bytes, 4, &flags.to_le_bytes());
    put(&mut bytes, 8, &stream.next.to_le_bytes());
    put(&mut bytes, 24, &stream.segments.to_le_bytes());
    put(&mut bytes, 32, &stream.chain);
    bytes
}

/// What the first event has after the heads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opening {
    /// Records in each ring.
    pub audit_records: u32,
    /// L2 VMs of the TD.
    pub l2_vms: u32,
    /// Seconds between checkpoints.
    pub interval_s: u32,
    /// Pages after which a VP has them hashed.
    pub batch_pages: u32,
    /// Of the module; zeros if the kernel keeps none.
    pub build_id: [u8; 20],
    /// Of the kernel, padded with zeros.
    pub release: [u8; 64],
}

impl Opening {
    /// Its bytes, with room for what [`put_boot_registers`] puts there.
    pub fn bytes(&self) -> [u8; OPENING_BYTES] {
        let mut bytes = [0; OPENING_BYTES];
        put(&mut bytes, 0, &self.audit_records.to_le_bytes());
        put(&mut bytes, 4, &self.l2_vms.to_le_bytes());
        put(&mut bytes, 8, &self.interval_s.to_le_bytes());
        put(&mut bytes, 12, &self.batch_pages.to_le_bytes());
        put(&mut bytes, 16, &self.build_id);
        put(&mut bytes, 48, &self.release);
        bytes
    }
}

/// Completes the first event by what RTMR0 to 2 hold.
pub fn put_boot_registers(event: &mut [u8], registers: &[Digest; BOOT_REGISTERS]) {
    let registers = registers.as_flattened();
    let at = event.len().saturating_sub(registers.len());
    put(event, at, registers);
}

/// What happened in the control plane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// The module was loaded.
    Load,
    /// A VTL file descriptor was made.
    CreateVtl,
    /// TDG.MEM.PAGE.ATTR.WR was executed.
    PageAttributes,
    /// The policy refused a TDCALL.
    TdcallRefused,
    /// A hypercall was refused.
    HypercallRefused,
    /// Userspace had three words recorded.
    Note,
}

impl Op {
    /// The number in a record.
    pub const fn number(self) -> u16 {
        match self {
            Self::Load => 1,
            Self::CreateVtl => 2,
            Self::PageAttributes => 3,
            Self::TdcallRefused => 4,
            Self::HypercallRefused => 5,
            Self::Note => 6,
        }
    }
}

/// A record of the control plane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    /// When.
    pub tsc: u64,
    /// What happened,
    pub op: Op,
    /// to what,
    pub operands: [u64; 3],
    /// and with which result.
    pub result: u64,
    /// Process that caused it.
    pub process: u32,
    /// Whose it is.
    pub user: u32,
}

impl Control {
    /// The words of the record after the sequence number.
    pub const fn words(&self) -> [u64; 7] {
        let [first, second, third] = self.operands;
        [
            self.tsc,
            self.result,
            first,
            second,
            third,
            self.process as u64 | ((self.op.number() as u64) << 32),
            self.user as u64,
        ]
    }
}

#[cfg(test)]
#[path = "attest_event_tests.rs"]
mod tests;
