// SPDX-License-Identifier: GPL-2.0
//! The attested log: its checkpoints, each an event that a measurement register is extended with before
//! anybody can read it.
//!
//! All of a checkpoint happens under one lock, so events are in the register in their order. Each
//! commits to a secret that only the next one reveals: who does not know it can't make that event, and
//! whoever extends the register with something else ends the log. [Documentation/audit-format.rst]

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use kernel::prelude::*;
use kernel::sync::atomic::{AtomicFlag, Relaxed};
use kernel::sync::{new_mutex, Mutex};

use super::attest::Settings;
use super::attest_control::Control;
use super::event;
use crate::cpu::measure::Measurements;
use crate::glue::abi::{self, safe_in_c};
use crate::glue::ffi;
use crate::pure::attest::{commitment, extended, kept_events, Digest, Hash, Reason, State, Stream};
use crate::pure::attest_event::{
    head, put_boot_registers, Event, Opening, EVENT_BYTES, HEAD_BYTES, HEAD_OFFLINE, OPENING_BYTES,
};
use crate::pure::status::Status;

// They look at clocks, CPUs and the kernel itself.
safe_in_c! {
    fn vtl_boot_ns() -> u64;
    fn vtl_is_online(cpu: u32) -> bool;
    fn vtl_attest_facts(facts: &mut Facts as *mut Facts);
}

use abi::vtl_attest_facts as Facts;

/// Attestation of the audit, while the module is loaded.
#[pin_data]
pub(crate) struct Attest {
    /// Parameters of the module.
    pub(crate) settings: Settings,
    /// Records of the control plane.
    pub(crate) control: Pin<KBox<Control>>,
    /// Streams of CPUs.
    num_cpus: u32,
    audit_records: u32,
    l2_vms: u32,
    /// No lower VTL may run.
    refuses: AtomicFlag,
    #[pin]
    log: Mutex<Log>,
}

/// How it stands, for userspace.
pub(crate) struct Standing {
    /// The state.
    pub(crate) state: State,
    /// Number of the oldest event that is kept.
    pub(crate) first: u64,
    /// Number of the next event.
    pub(crate) next: u64,
}

impl Attest {
    /// Before the first event.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(crate) fn new(
        settings: Settings,
        num_cpus: u32,
        audit_records: u32,
        l2_vms: u8,
    ) -> Result<Pin<KBox<Self>>> {
        let control = Control::new(audit_records, &settings.parameters)?;
        let log = Log::new(settings.parameters.register, num_cpus + 1)?;
        KBox::pin_init(
            pin_init!(Self {
                settings,
                control,
                num_cpus,
                audit_records,
                l2_vms: l2_vms.into(),
                refuses: AtomicFlag::new(false),
                log <- new_mutex!(log, "mshv_vtl_tdx::attest"),
            }),
            GFP_KERNEL,
        )
    }

    /// Returns true if no lower VTL may run, because there has to be attestation and it is broken.
    pub(crate) fn refuses(&self) -> bool {
        // ORDERING: callers have a barrier, see `Machine::refuse`.
        self.refuses.load(Relaxed)
    }

    /// Streams there are: one for each CPU, and the control plane's.
    pub(crate) fn streams(&self) -> u32 {
        self.num_cpus + 1
    }

    /// How it stands.
    pub(crate) fn standing(&self) -> Standing {
        self.log.lock().standing()
    }

    /// A copy of an event.
    ///
    /// # Errors
    ///
    /// ENXIO for one that is not made yet, or not kept any more. ENOMEM.
    pub(crate) fn event(&self, number: u64) -> Result<KVec<u8>> {
        let mut copy = KVec::new();
        copy.extend_from_slice(self.log.lock().event(number).ok_or(ENXIO)?, GFP_KERNEL)?;
        Ok(copy)
    }

    /// Makes an event of all that is recorded, and returns its number. `seal` hashes what the stream of a
    /// CPU has.
    ///
    /// # Errors
    ///
    /// ENOMEM: nothing has happened. EIO: attestation is broken. ENXIO: it is closed.
    pub(crate) fn checkpoint(&self, reason: Reason, seal: impl Fn(u32) -> Stream) -> Result<u64> {
        // Logged without the lock: a line for auditd waits where auditd is slow, others need not.
        match self.make(reason, seal)? {
            Ok((event, digest)) => {
                event::attested(&event, &digest);
                Ok(event.number)
            }
            Err(status) => {
                event::attestation_broken(status);
                Err(EIO)
            }
        }
    }

    /// Makes an event. The inner error is the status of the TDX module.
    fn make(
        &self,
        reason: Reason,
        seal: impl Fn(u32) -> Stream,
    ) -> Result<Result<(Event, Digest), Status>> {
        let mut log = self.log.lock();
        match log.state {
            state if state.takes(reason) => (),
            State::Broken => return Err(EIO),
            _ => return Err(ENXIO),
        }
        let mut bytes = self.room(&mut log, reason)?;
        self.fill(&mut bytes, reason, seal)?;
        let made = log.make(reason, self.streams(), bytes);
        if log.state.refuses(self.settings.mode) {
            self.refuses.store(true, Relaxed);
        }
        Ok(made)
    }

    /// An event without content yet, and a place to keep it in.
    fn room(&self, log: &mut Log, reason: Reason) -> Result<KVec<u8>> {
        log.events.reserve(1, GFP_KERNEL)?;
        let trailer_bytes = match reason {
            Reason::Open => OPENING_BYTES,
            _ => 0,
        };
        let streams = self.streams() as usize; // CAST: u32 fits
        let len_bytes = EVENT_BYTES + streams * HEAD_BYTES + trailer_bytes;
        Ok(KVec::with_capacity(len_bytes, GFP_KERNEL)?)
    }

    /// All of an event that `Log::make` does not put there, for which it leaves room.
    fn fill(&self, bytes: &mut KVec<u8>, reason: Reason, seal: impl Fn(u32) -> Stream) -> Result {
        bytes.extend_from_slice(&[0; EVENT_BYTES], GFP_KERNEL)?;
        for cpu in 0..self.num_cpus {
            let flags = if vtl_is_online(cpu) { 0 } else { HEAD_OFFLINE };
            bytes.extend_from_slice(&head(&seal(cpu), flags), GFP_KERNEL)?;
        }
        bytes.extend_from_slice(&head(&self.control.seal_all(), 0), GFP_KERNEL)?;
        if let Reason::Open = reason {
            bytes.extend_from_slice(&self.opening().bytes(), GFP_KERNEL)?;
        }
        Ok(())
    }

    fn opening(&self) -> Opening {
        let mut facts = Facts::default();
        vtl_attest_facts(&mut facts);
        Opening {
            audit_records: self.audit_records,
            l2_vms: self.l2_vms,
            interval_s: self.settings.parameters.interval_s,
            batch_pages: self.settings.parameters.batch_pages,
            build_id: facts.build_id,
            release: facts.release,
        }
    }
}

/// The events so far, and what the next one needs.
struct Log {
    state: State,
    /// Index of the register.
    index: u32,
    /// The register as the events make it.
    register: Digest,
    session: Hash,
    /// Number of the next event.
    number: u64,
    /// What the last event has committed to.
    secret: Hash,
    measurements: Measurements,
    /// The last ones; that with number `n` is in place `n % kept`.
    events: KVec<KVec<u8>>,
    kept: u64,
}

impl Log {
    fn new(index: u32, streams: u32) -> Result<Self> {
        Ok(Self {
            state: State::Opening,
            index,
            register: [0; 48],
            session: ffi::random(),
            number: 0,
            secret: [0; 32],
            measurements: Measurements::new()?,
            events: KVec::new(),
            kept: kept_events(streams),
        })
    }

    fn standing(&self) -> Standing {
        Standing {
            state: self.state,
            first: self.number.saturating_sub(self.kept),
            next: self.number,
        }
    }

    fn event(&self, number: u64) -> Option<&[u8]> {
        let Standing { first, next, .. } = self.standing();
        let place = (number % self.kept) as usize; // CAST: usize has 64 bits
        let event = self.events.get(place)?;
        (first..next).contains(&number).then_some(event)
    }

    /// Completes an event, extends the register with it and keeps it.
    ///
    /// # Errors
    ///
    /// The status of the TDX module; then attestation is broken.
    fn make(
        &mut self,
        reason: Reason,
        streams: u32,
        mut bytes: KVec<u8>,
    ) -> Result<(Event, Digest), Status> {
        let next_secret = ffi::random();
        let made = self
            .describe(reason, streams, &next_secret)
            .and_then(|event| {
                for (to, from) in bytes.iter_mut().zip(event.bytes()) {
                    *to = from;
                }
                if let Reason::Open = reason {
                    // As of the report that told what the register holds.
                    let registers = [0, 1, 2].map(|index| self.measurements.reported(index));
                    put_boot_registers(&mut bytes, &registers);
                }
                let digest = ffi::sha384(&bytes);
                self.measurements.extend(self.index, &digest)?;
                Ok((event, digest))
            });
        match &made {
            Ok((event, digest)) => {
                self.register = ffi::sha384(&extended(&event.seen, digest));
                self.state = self.state.after(reason, event.is_foreign());
                self.keep(bytes);
            }
            Err(_) => self.state = State::Broken,
        }
        self.secret = match self.state {
            State::Open => next_secret,
            _ => [0; 32],
        };
        made
    }

    fn describe(&mut self, reason: Reason, streams: u32, next: &Hash) -> Result<Event, Status> {
        let seen = self.measurements.register(self.index)?;
        Ok(Event {
            reason,
            streams,
            number: self.number,
            boot_ns: vtl_boot_ns(),
            tsc: ffi::tsc(),
            session: self.session.first_chunk().copied().unwrap_or_default(),
            register: self.index,
            replayed: match reason {
                Reason::Open => seen,
                _ => self.register,
            },
            seen,
            reveal: self.secret,
            commit: ffi::sha256(&commitment(next)),
        })
    }

    /// Keeps an event instead of the oldest one. There is room for it.
    fn keep(&mut self, bytes: KVec<u8>) {
        let place = (self.number % self.kept) as usize; // CAST: usize has 64 bits
        if let Some(oldest) = self.events.get_mut(place) {
            *oldest = bytes;
        } else if self.events.push_within_capacity(bytes).is_err() {
            return; // never: `Attest::room` has made some
        }
        self.number += 1;
    }
}
