// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Hypercalls by TDG.VP.VMCALL with R10 ≠ 0: Hyper-V's calls, in pages that L1 shares.
//!
//! The host has no VMBus and no devices. Calls that it does not offer get
//! HV_STATUS_INVALID_HYPERCALL_CODE, never a made-up success. This file has the registers and
//! pages; messages and events are in `connection`, VTLs in `vtl`.

mod connection;
mod vtl;

use super::{debug_port, map_gpa, msr, synic};
use crate::config::HostKind;
use crate::hyperv::call::{self, Control, InputVtl, result};
use crate::hyperv::{self, status};
use crate::log;
use crate::smp;
use crate::vp::Vp;
use tdx_model::gpa::SHARED_BIT;
use tdx_model::gprs::Gprs;

/// Hypercall codes.
mod code {
    pub(super) const ENABLE_PARTITION_VTL: u16 = 0x0d;
    pub(super) const ENABLE_VP_VTL: u16 = 0x0f;
    pub(super) const GET_VP_REGISTERS: u16 = 0x50;
    pub(super) const SET_VP_REGISTERS: u16 = 0x51;
    pub(super) const POST_MESSAGE: u16 = 0x5c;
    pub(super) const SIGNAL_EVENT: u16 = 0x5d;
    pub(super) const RETARGET_DEVICE_INTERRUPT: u16 = 0x7e;
    pub(super) const SIGNAL_EVENT_DIRECT: u16 = 0xc0;
    pub(super) const POST_MESSAGE_DIRECT: u16 = 0xc1;
    pub(super) const MODIFY_HOST_VISIBILITY: u16 = 0xdb;
}

/// Registers of a virtual processor. [TLFS HV_REGISTER_NAME]
mod register {
    pub(super) const TIME_REF_COUNT: u32 = 0x9_0004;
    pub(super) const PM_TIMER_ASSIST: u32 = 0x9_0032;
    pub(super) const VSM_CAPABILITIES: u32 = 0xd_0006;
    pub(super) const VSM_PARTITION_CONFIG: u32 = 0xd_0007;
    pub(super) const GUEST_VSM_PARTITION_CONFIG: u32 = 0xd_0008;
    pub(super) const SINT0: u32 = 0xa_0000;
    pub(super) const SINT15: u32 = 0xa_000f;
    pub(super) const SIFP: u32 = 0xa_0012;
    pub(super) const SIPP: u32 = 0xa_0013;
}

const SELF_PARTITION: u64 = u64::MAX;
const SELF_VP: u32 = 0xffff_fffe;
const HEADER_BYTES: u64 = 16;
/// Value of a register.
const VALUE_BYTES: u64 = 16;

/// A call that ended early: its status.
type Outcome = Result<(), u16>;

/// One hypercall while it is carried out.
struct Call {
    control: Control,
    input: u64,
    output: u64,
    reps_done: u16,
}

/// Answers a call with R10 ≠ 0.
pub fn vendor_call(vp: &mut Vp, gprs: &mut Gprs) {
    if vp.platform.config.host == HostKind::Generic {
        const NO_SUCH_CALL: i64 = -1000;
        log!(Debug, "vendor call {:#x} is not offered", gprs.r10);
        gprs.r10 = NO_SUCH_CALL as u64; // CAST: two's complement
        return;
    }
    let word = match Control::decode(gprs.r10) {
        Some(control) => {
            let mut call = Call {
                control,
                input: gprs.rdx,
                output: gprs.r8,
                reps_done: control.rep_start,
            };
            let outcome = call.run(vp).err().unwrap_or(status::SUCCESS);
            log!(Debug, "hypercall {control:x?} ends with {outcome:#x}");
            result(outcome, call.reps_done)
        }
        None => result(status::INVALID_HYPERCALL_INPUT, 0),
    };
    (gprs.r10, gprs.r11) = (0, word);
}

impl Call {
    fn run(&mut self, vp: &mut Vp) -> Outcome {
        match self.control.code {
            code::GET_VP_REGISTERS => self.each(vp, [4, VALUE_BYTES], Self::get_register),
            code::SET_VP_REGISTERS => self.each(vp, [32, 0], Self::set_register),
            code::MODIFY_HOST_VISIBILITY => self.each(vp, [8, 0], Self::set_visibility),
            code::POST_MESSAGE => self.post(vp),
            code::SIGNAL_EVENT => self.signal(vp),
            code::POST_MESSAGE_DIRECT => self.post_direct(vp),
            code::SIGNAL_EVENT_DIRECT => self.signal_direct(vp),
            code::ENABLE_PARTITION_VTL => self.enable_partition_vtl(vp),
            code::ENABLE_VP_VTL => self.enable_vp_vtl(vp),
            code::RETARGET_DEVICE_INTERRUPT => self.retarget_device_interrupt(vp),
            _ => Err(status::INVALID_HYPERCALL_CODE),
        }
    }

    /// Carries out the elements that are left, which have so many bytes of input and of output. The
    /// lists are checked before anything is done.
    fn each(
        &mut self,
        vp: &mut Vp,
        [input_bytes, output_bytes]: [u64; 2],
        one: fn(&Self, &mut Vp, u64, u64) -> Outcome,
    ) -> Outcome {
        if self.control.is_fast || self.control.rep_count == 0 {
            return Err(status::INVALID_HYPERCALL_INPUT);
        }
        let count = u64::from(self.control.rep_count);
        if output_bytes != 0 {
            check_list(vp, self.output, output_bytes * count)?;
        }
        check_list(vp, self.input, HEADER_BYTES + input_bytes * count)?;
        for rep in self.control.rep_start..self.control.rep_count {
            let offset = HEADER_BYTES + input_bytes * u64::from(rep);
            one(self, vp, offset, u64::from(rep))?;
            self.reps_done = rep + 1;
        }
        Ok(())
    }

    /// Checks a call without elements, whose input has `bytes` bytes in its page.
    fn check_simple(&self, vp: &Vp, bytes: u64) -> Outcome {
        if self.control.is_fast || self.control.rep_count != 0 {
            return Err(status::INVALID_HYPERCALL_INPUT);
        }
        check_list(vp, self.input, bytes)
    }

    /// Bytes of the input page.
    fn bytes(&self, vp: &Vp, offset: u64, bytes: &mut [u8]) -> Outcome {
        let address = (self.input & !SHARED_BIT) + offset;
        if synic::is_shared(vp, address, bytes.len() as u64)
            && vp.platform.memory.read(address, bytes)
        {
            Ok(())
        } else {
            Err(status::INVALID_PARAMETER)
        }
    }

    /// Writes to the output page.
    fn write_output(&self, vp: &Vp, offset: u64, bytes: &[u8]) -> Outcome {
        let address = (self.output & !SHARED_BIT).saturating_add(offset);
        if synic::is_shared(vp, address, bytes.len() as u64)
            && vp.platform.memory.write(address, bytes)
        {
            Ok(())
        } else {
            Err(status::INVALID_PARAMETER)
        }
    }

    /// An 8-byte word of the input page.
    fn word(&self, vp: &Vp, offset: u64) -> Result<u64, u16> {
        let mut bytes = [0; 8];
        self.bytes(vp, offset, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn check_partition(&self, vp: &Vp) -> Outcome {
        match self.word(vp, 0)? {
            SELF_PARTITION => Ok(()),
            _ => Err(status::INVALID_PARTITION_ID),
        }
    }

    /// Checks the processor after the partition, and returns it.
    fn target(&self, vp: &Vp) -> Result<usize, u16> {
        self.check_partition(vp)?;
        let index = self.word(vp, 8)? as u32; // CAST: the field has 32 bits
        match usize::try_from(index) {
            _ if index == SELF_VP => Ok(vp.index),
            Ok(index) if index < smp::count() => Ok(index),
            _ => Err(status::INVALID_VP_INDEX),
        }
    }

    /// Checks the header of the register calls, and returns processor and VTL.
    fn register_target(&self, vp: &Vp) -> Result<(usize, InputVtl), u16> {
        let index = self.target(vp)?;
        let word = (self.word(vp, 8)? >> 32) as u32; // CAST: the upper half
        let vtl = InputVtl::decode(word).ok_or(status::INVALID_PARAMETER)?;
        Ok((index, vtl))
    }

    /// Those of the partition, which VTL2 reads as its own.
    fn get_register(&self, vp: &mut Vp, offset: u64, rep: u64) -> Outcome {
        let (_, InputVtl::Own) = self.register_target(vp)? else {
            return Err(status::INVALID_PARAMETER);
        };
        // Names have 32 bits, two in each word.
        let pair = self.word(vp, offset & !7)?;
        let name = (pair >> (8 * (offset & 4))) as u32; // CAST: one of the two
        let value: u64 = match name {
            // Of VSM it says what is so on TDX, DR6 is shared; the VTLs of a TD are L2 VMs.
            register::VSM_CAPABILITIES => 1,
            register::VSM_PARTITION_CONFIG => 0,
            // Bits 3:0, MaximumVtl: VTL1 may be enabled for the guest.
            register::GUEST_VSM_PARTITION_CONFIG => 1,
            register::TIME_REF_COUNT => msr::time_ref_count(vp),
            _ => return Err(status::INVALID_PARAMETER),
        };
        let bytes = u128::from(value).to_le_bytes();
        self.write_output(vp, VALUE_BYTES * rep, &bytes)
    }

    /// Accepts the registers that a paravisor sets: those of VTL0's SynIC, which direct messages
    /// and events use, and a configuration that does not apply to a TD.
    fn set_register(&self, vp: &mut Vp, offset: u64, _rep: u64) -> Outcome {
        let (index, vtl) = self.register_target(vp)?;
        let mut element = [0; 32];
        self.bytes(vp, offset, &mut element)?;
        let (name, value) = call::assignment(element).ok_or(status::INVALID_PARAMETER)?;
        let register = match (name, vtl) {
            (register::VSM_PARTITION_CONFIG, InputVtl::Own) => return Ok(()),
            // The host answers none of a lower VTL's port accesses: those of a TD are L1's.
            (register::PM_TIMER_ASSIST, InputVtl::Own) if value == 0 => return Ok(()),
            (register::SIFP, InputVtl::Lower(0)) => hyperv::msr::SIEFP,
            (register::SIPP, InputVtl::Lower(0)) => hyperv::msr::SIMP,
            (register::SINT0..=register::SINT15, InputVtl::Lower(0)) => {
                hyperv::msr::SINT0 + (name - register::SINT0)
            }
            _ => return Err(status::INVALID_PARAMETER),
        };
        synic::write_vtl0(index, register, value).ok_or(status::INVALID_PARAMETER)
    }

    /// A page number, and true if the page is to be visible to the host: for reading and writing,
    /// or not at all.
    fn set_visibility(&self, vp: &mut Vp, offset: u64, _rep: u64) -> Outcome {
        const READ_WRITE: u64 = 3;
        self.check_partition(vp)?;
        let alias = match self.word(vp, 8)? & 0xffff_ffff {
            0 => 0,
            READ_WRITE => SHARED_BIT,
            _ => return Err(status::INVALID_PARAMETER),
        };
        let page = self.word(vp, offset)?;
        if page >= SHARED_BIT >> 12 || debug_port::refuses_conversion() {
            return Err(status::INVALID_PARAMETER);
        }
        match map_gpa::map_gpa(vp, (page << 12) | alias, 4096) {
            (super::status::SUCCESS, _) => Ok(()),
            _ => Err(status::INVALID_PARAMETER),
        }
    }
}

/// Checks where a list of parameters is, and that the host reaches it.
fn check_list(vp: &Vp, pointer: u64, len_bytes: u64) -> Outcome {
    if !call::is_in_place(pointer, len_bytes, SHARED_BIT) {
        Err(status::INVALID_ALIGNMENT)
    } else if !synic::is_shared(vp, pointer, len_bytes) {
        Err(status::INVALID_PARAMETER)
    } else {
        Ok(())
    }
}
