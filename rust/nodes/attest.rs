// SPDX-License-Identifier: GPL-2.0
//! Attestation of the audit, from load to unload, and what userspace asks of it:
//! `MSHV_VTL_AUDIT_CHECKPOINT` and `MSHV_VTL_AUDIT_EVENT`; and `MSHV_VTL_AUDIT_NOTE`.

// UNSAFETY: declares C functions.
#![allow(unsafe_code)]

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::glue::abi::safe_in_c;
use crate::glue::abi::{
    mshv_vtl_audit_checkpoint, mshv_vtl_audit_event, mshv_vtl_audit_note, mshv_vtl_head,
};
use crate::module_parameters;
use crate::nodes::args::{Argument, Growing};
use crate::nodes::c::Checkpoints;
use crate::nodes::kick;
use crate::observe::attest::Settings;
use crate::observe::attest_log::Standing;
use crate::observe::event as control_event;
use crate::pure::attest::{Mode, Parameters, Reason};
use crate::pure::uapi::{checkpoint as operand, event as event_operand, note as note_operand};
use crate::vp::machine::{self, Machine};

// A number that the loader has set.
safe_in_c! {
    fn vtl_attest_mode() -> u32;
}

/// What the module was told about attestation; `None` for none.
///
/// # Errors
///
/// EINVAL for what it can't do.
pub(crate) fn settings() -> Result<Option<Settings>> {
    let settings = Settings {
        mode: Mode::new(vtl_attest_mode()).ok_or(EINVAL)?,
        parameters: Parameters {
            register: module_parameters::attest_rtmr.value(),
            interval_s: module_parameters::attest_interval.value(),
            batch_pages: module_parameters::attest_batch.value(),
            leaves: module_parameters::audit_leaves.value(),
        },
    };
    if settings.mode == Mode::Off {
        return Ok(None);
    }
    if !settings.parameters.are_valid() {
        pr_err!(
            "not loaded: attest_rtmr is 2 or 3, attest_interval at most 86400, attest_batch from 1 to 1024, audit_leaves a power of two from 64 to 65536\n"
        );
        return Err(EINVAL);
    }
    Ok(Some(settings))
}

/// The attested log is open. When this is gone, no event is made any more, and the last one says so.
pub(crate) struct Session {
    machine: Arc<Machine>,
    checkpoints: Option<Checkpoints>,
}

impl Session {
    /// Makes the first event, before anybody can run a lower VTL.
    ///
    /// # Errors
    ///
    /// EIO: attestation is required, and the register can't be extended. ENOMEM.
    pub(crate) fn open(machine: Arc<Machine>) -> Result<Self> {
        let mut checkpoints = None;
        if let Some(attest) = machine.attest() {
            match machine.checkpoint(Reason::Open) {
                Ok(_) => {
                    let interval_s = attest.settings.parameters.interval_s;
                    checkpoints = (interval_s != 0).then(|| Checkpoints::every(interval_s));
                }
                Err(EIO) if !attest.refuses() => {
                    pr_warn!("no attestation: the TDX module does not extend the register\n");
                }
                Err(error) => {
                    pr_err!("not loaded: attestation is required, and there is none\n");
                    return Err(error);
                }
            }
        }
        Ok(Self {
            machine,
            checkpoints,
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.checkpoints = None;
        close(&self.machine);
    }
}

/// Makes the last event, if it is not made yet.
pub(crate) fn close(machine: &Machine) {
    let _ = machine.checkpoint(Reason::Close);
}

/// An interval is over. What goes wrong is told where it does.
pub(super) extern "C" fn tick() {
    if let Some(machine) = machine::machine() {
        let _ = machine.checkpoint(Reason::Interval);
    }
}

/// `MSHV_VTL_AUDIT_CHECKPOINT`.
///
/// # Errors
///
/// EINVAL: a wrong field. EINTR: killed while waiting for a VP. ENOMEM, EFAULT, and those of
/// [`Machine::checkpoint`].
pub(crate) fn checkpoint(machine: &Machine, argument: Argument) -> Result<isize> {
    let request = Growing::<mshv_vtl_audit_checkpoint>::read(argument, operand::SIZE)?;
    let asked: mshv_vtl_audit_checkpoint = argument.read()?;
    let has_unknown = asked.flags & !operand::KICK != 0 || asked.reserved != 0;
    if request.selector != 0 || has_unknown {
        return Err(EINVAL);
    }
    if machine.attest().is_none() {
        return Err(EOPNOTSUPP);
    }
    if asked.flags & operand::KICK != 0 {
        kick::all(machine)?;
    }
    let number = machine.checkpoint(Reason::Asked(asked.nonce))?;
    request.answer(&mshv_vtl_audit_checkpoint { number, ..asked })
}

/// `MSHV_VTL_AUDIT_EVENT`.
///
/// # Errors
///
/// EOPNOTSUPP without attestation. EINVAL: a selector, or too little room. ENXIO: no such event. ENOMEM,
/// EFAULT.
pub(crate) fn event(machine: &Machine, argument: Argument) -> Result<isize> {
    let request = Growing::<mshv_vtl_audit_event>::read(argument, event_operand::SIZE)?;
    let asked: mshv_vtl_audit_event = argument.read()?;
    if request.selector != 0 {
        return Err(EINVAL);
    }
    let attest = machine.attest().ok_or(EOPNOTSUPP)?;
    let size = match asked.size {
        0 => 0,
        room => {
            let event = attest.event(asked.number)?;
            if event.len() > room as usize {
                return Err(EINVAL); // CAST: u32 fits
            }
            let to = Argument::pointer(asked.buffer).bytes(event.len());
            to.writer().write_slice(&event)?;
            event.len() as u32 // CAST: not above `room`
        }
    };
    let Standing { state, first, next } = attest.standing();
    let parameters = attest.settings.parameters;
    request.answer(&mshv_vtl_audit_event {
        head: mshv_vtl_head::default(),
        number: asked.number,
        buffer: asked.buffer,
        size,
        state: state.number(),
        first,
        next,
        mode: attest.settings.mode.number(),
        rtmr: parameters.register,
        streams: attest.streams(),
        leaves: parameters.leaves,
        interval: parameters.interval_s,
        batch: parameters.batch_pages,
    })
}

/// `MSHV_VTL_AUDIT_NOTE`.
///
/// # Errors
///
/// EINVAL: a selector, or too small. E2BIG, EFAULT.
pub(crate) fn note(machine: &Machine, argument: Argument) -> Result<isize> {
    let request = Growing::<mshv_vtl_audit_note>::read(argument, note_operand::SIZE)?;
    if request.selector != 0 {
        return Err(EINVAL);
    }
    // The head has been checked already.
    let mshv_vtl_audit_note { words, .. } = argument.read()?;
    control_event::noted(machine.control(), words);
    Ok(0)
}
