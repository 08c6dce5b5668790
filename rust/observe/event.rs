// SPDX-License-Identifier: GPL-2.0
//! Events of the control plane: to the kernel's audit subsystem while it is enabled, otherwise to
//! the log; with attestation, also as a record.
//!
//! They are rare in normal use. Each kind of text has a rate limit of its own, so that a flood of one
//! does not hide another; the next text of the kind says how many were suppressed. Records have no limit.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use kernel::fmt;
use kernel::prelude::*;
use kernel::str::CString;

use crate::glue::abi::{self, safe_in_c, Valid};
use crate::observe::attest_control::Control;
use crate::pure::attest::Digest;
use crate::pure::attest_event::{Event, Op};
use crate::pure::audit::ExitKind;
use crate::pure::leaf;
use crate::pure::status::Status;
use crate::pure::tdcall::Registers;

// Their arguments are numbers and a valid string. `vtl_event_flush` sleeps, and is only called in task
// context.
safe_in_c! {
    fn vtl_event_admit(kind: u32) -> bool;
    fn vtl_event_log(kind: u32, text: Valid<'_, c_char> as *const c_char);
    fn vtl_event_storm(cpu: u32, kind: u32, thread: u32, ticks: u64);
    fn vtl_event_flush();
}

/// Kind of an event, each with a rate limit.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Kind {
    /// The module was loaded.
    Loaded = abi::vtl_event_VTL_EVENT_LOADED,
    /// A VTL file descriptor was created.
    VtlCreated = abi::vtl_event_VTL_EVENT_VTL_CREATED,
    /// A lower VTL's rights to a page changed.
    PageAttributes = abi::vtl_event_VTL_EVENT_PAGE_ATTRIBUTES,
    /// The policy refused a TDCALL.
    TdcallRefused = abi::vtl_event_VTL_EVENT_TDCALL_REFUSED,
    /// A hypercall was not in the list of its file, or the policy refused it.
    HypercallRefused = abi::vtl_event_VTL_EVENT_HYPERCALL_REFUSED,
    /// An event of the attested log that was not merely periodic; attestation is broken.
    Attested = abi::vtl_event_VTL_EVENT_ATTESTED,
    /// Userspace has something to say.
    Noted = abi::vtl_event_VTL_EVENT_NOTED,
    // `event.c` itself uses another kind for exit storms.
}

/// With attestation, where the control plane is recorded.
type Records<'a> = Option<&'a Control>;

/// The module is loaded; these are its parameters.
pub(crate) fn loaded(records: Records<'_>, num_l2_vms: u8, audit_records: u32, lower_bytes: u64) {
    let operands = [num_l2_vms.into(), audit_records.into(), lower_bytes];
    record(records, Op::Load, operands, 0);
    log(
        Kind::Loaded,
        fmt!("op=load l2_vms={num_l2_vms} audit_records={audit_records} lower_bytes={lower_bytes:#x}"),
    );
}

/// A VTL file descriptor was created.
pub(crate) fn vtl_created(records: Records<'_>) {
    record(records, Op::CreateVtl, [0; 3], 0);
    log(Kind::VtlCreated, fmt!("op=create_vtl"));
}

/// A TDCALL was executed. It is an event if it changes who may access memory.
pub(crate) fn tdcall_executed(records: Records<'_>, request: &Registers, status: Status) {
    if request.rax != leaf::TDG_MEM_PAGE_ATTR_WR {
        return;
    }
    let Registers { rcx, rdx, r8, .. } = *request;
    let status = status.0;
    record(records, Op::PageAttributes, [rcx, rdx, r8], status);
    log(
        Kind::PageAttributes,
        fmt!("op=page_attr_wr mapping={rcx:#x} attributes={rdx:#x} flags={r8:#x} res={status:#x}"),
    );
}

/// The policy refused a TDCALL.
pub(crate) fn tdcall_refused(records: Records<'_>, request: &Registers, status: Status) {
    let Registers { rax, rcx, rdx, .. } = *request;
    let status = status.0;
    record(records, Op::TdcallRefused, [rax, rcx, rdx], status);
    log(
        Kind::TdcallRefused,
        fmt!("op=tdcall_refused leaf={rax:#x} rcx={rcx:#x} rdx={rdx:#x} res={status:#x}"),
    );
}

/// The host interrupted a lower VTL very often. Called with interrupts disabled; logged by deferred
/// work.
#[cold]
pub(crate) fn exit_storm(cpu: u16, kind: ExitKind, thread: u32, ticks: u64) {
    vtl_event_storm(u32::from(cpu), u32::from(kind.number()), thread, ticks);
}

/// While this exists, deferred events may be logged. Its drop waits for them.
pub(crate) struct Pending(());

impl Pending {
    /// To be created before the first switch.
    pub(crate) const fn new() -> Self {
        Self(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        vtl_event_flush();
    }
}

/// A hypercall was not in the list of its file, or the policy refused it.
pub(crate) fn hypercall_refused(records: Records<'_>, control: u64) {
    record(records, Op::HypercallRefused, [control, 0, 0], 0);
    log(
        Kind::HypercallRefused,
        fmt!("op=hvcall_refused control={control:#x}"),
    );
}

/// Userspace has its own event recorded.
pub(crate) fn noted(records: Records<'_>, words: [u64; 3]) {
    record(records, Op::Note, words, 0);
    let [first, second, third] = words;
    log(
        Kind::Noted,
        fmt!("op=note words={first:#x},{second:#x},{third:#x}"),
    );
}

/// The register has a new event.
pub(crate) fn attested(event: &Event, digest: &Digest) {
    if event.is_routine() {
        return;
    }
    let Event { number, .. } = *event;
    let (kind, flags) = (event.kind(), event.flags());
    let digest = Hex(digest);
    log(
        Kind::Attested,
        fmt!("op=attest event={number} kind={kind} flags={flags} digest={digest}"),
    );
}

/// The register can't have one.
pub(crate) fn attestation_broken(status: Status) {
    let status = status.0;
    log(Kind::Attested, fmt!("op=attest_broken res={status:#x}"));
}

/// Bytes as hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn record(records: Records<'_>, op: Op, operands: [u64; 3], result: u64) {
    if let Some(control) = records {
        control.record(op, operands, result);
    }
}

fn log(kind: Kind, text: fmt::Arguments<'_>) {
    // CAST: its representation.
    let kind = kind as u32;
    if !vtl_event_admit(kind) {
        return;
    }
    // Out of memory the event is lost, as it would be with a full audit queue.
    if let Ok(text) = CString::try_from_fmt(text) {
        vtl_event_log(kind, (&*text).into());
    }
}
