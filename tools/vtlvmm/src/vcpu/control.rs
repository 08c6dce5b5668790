// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Control registers, NMIs, and instructions that this machine does not have.

use vtl::exit::{Cr, CrAccess, CrOperation, Instruction};
use vtl::field::L2Field;
use vtl::{Event, Exception, Flush, Vp};

use super::start::{CR0_CD, CR0_NE, CR0_NW, CR4_MCE, CR4_VMXE};
use super::{Next, basic_reason};
use crate::board::End;
use crate::cpuid::XCR0_MOST;

const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const CR0_WP: u64 = 1 << 16;
pub(super) const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const ENTRY_IA32E: u64 = 1 << 9;

/// Returns true if XSETBV takes this value.
pub(super) const fn is_xcr0(value: u64) -> bool {
    const X87: u64 = 1;
    const SSE: u64 = 1 << 1;
    const AVX: u64 = 1 << 2;
    value & !XCR0_MOST == 0 && value & X87 != 0 && (value & AVX == 0 || value & SSE != 0)
}

/// An access that changes bits which the guest does not own.
pub(super) fn access_cr(exit: CrAccess<'_>) -> vtl::Result<()> {
    let vp = exit.vp();
    let Cr { number, operation } = exit.access();
    let is_done = match (number, operation) {
        (0, CrOperation::Write(gpr)) => write_cr0(vp, vp.page().gpr(gpr))?,
        (4, CrOperation::Write(gpr)) => write_cr4(vp, vp.page().gpr(gpr))?,
        // Others do not exit with the masks of `start`.
        _ => false,
    };
    if is_done {
        exit.complete();
        return Ok(());
    }
    exit.fault(Exception::GeneralProtection)
}

/// MOV to CR0, and the change of mode that it causes. Caches can't be disabled: the guest only sees
/// the bits.
fn write_cr0(vp: &Vp, value: u64) -> vtl::Result<bool> {
    const DEFINED: u64 = 0xe005_003f;
    let is_impossible = value >> 32 != 0
        || value & (CR0_PG | CR0_PE) == CR0_PG
        || value & (CR0_NW | CR0_CD) == CR0_NW;
    if is_impossible {
        return Ok(false);
    }
    let old = vp.read(L2Field::GUEST_CR0)?;
    if (old ^ value) & CR0_PG != 0 && !change_paging(vp, value & CR0_PG != 0)? {
        return Ok(false);
    }
    let value = (value & DEFINED) | CR0_ET;
    vp.write(L2Field::CR0_READ_SHADOW, value)?;
    vp.write(L2Field::GUEST_CR0, (value & !(CR0_NW | CR0_CD)) | CR0_NE)?;
    if is_translated_anew_by_cr0(old, value) {
        vp.page().request_flush(Flush::Linear);
    }
    Ok(true)
}

/// Enters or leaves long mode, according to EFER.LME.
fn change_paging(vp: &Vp, is_on: bool) -> vtl::Result<bool> {
    let efer = vp.read(L2Field::GUEST_IA32_EFER)?;
    if efer & EFER_LME == 0 {
        return Ok(true);
    }
    if is_on && vp.read(L2Field::GUEST_CR4)? & CR4_PAE == 0 {
        return Ok(false);
    }
    let (lma, ia32e) = if is_on {
        (EFER_LMA, ENTRY_IA32E)
    } else {
        (0, 0)
    };
    vp.write(L2Field::GUEST_IA32_EFER, (efer & !EFER_LMA) | lma)?;
    vp.write_masked(L2Field::ENTRY_CONTROLS, ia32e, ENTRY_IA32E)?;
    Ok(true)
}

/// MOV to CR4. The guest has no VMX; it may enable machine checks, but never gets one.
fn write_cr4(vp: &Vp, value: u64) -> vtl::Result<bool> {
    if value & CR4_VMXE != 0 {
        return Ok(false);
    }
    let old = vp.read(L2Field::GUEST_CR4)?;
    // The TDX module checks which bits exist.
    if vp
        .write(L2Field::GUEST_CR4, value | CR4_MCE | CR4_VMXE)
        .is_err()
    {
        return Ok(false);
    }
    vp.write(L2Field::CR4_READ_SHADOW, value)?;
    if is_translated_anew_by_cr4(old, value) {
        vp.page().request_flush(Flush::Linear);
    }
    Ok(true)
}

const NMI_WINDOW_EXITING: u64 = 1 << 22;

/// Injects an NMI at the next entry. Returns false if the guest can't accept it yet; then it exits
/// as soon as it can.
pub(super) fn deliver_nmi(vp: &Vp) -> vtl::Result<bool> {
    const BLOCKED: u64 = 0b1011;
    let is_blocked = vp.read(L2Field::GUEST_INTERRUPTIBILITY)? & BLOCKED != 0;
    if is_blocked || vp.pending_event()?.is_some() {
        vp.write_masked(
            L2Field::PRIMARY_CONTROLS,
            NMI_WINDOW_EXITING,
            NMI_WINDOW_EXITING,
        )?;
        return Ok(false);
    }
    vp.inject(Event::Nmi)?;
    Ok(true)
}

/// The guest can take an NMI now.
pub(super) fn ignore_nmi_window(vp: &Vp) -> vtl::Result<()> {
    vp.write_masked(L2Field::PRIMARY_CONTROLS, 0, NMI_WINDOW_EXITING)
}

/// An instruction without a service here: the fault of a processor that does not have it.
pub(super) fn refuse(exit: Instruction<'_>) -> vtl::Result<Next> {
    let (basic, name) = basic_reason(exit.info().rax);
    if let Some(exception) = fault_of(basic) {
        exit.fault(exception)?;
        return Ok(Next::Run);
    }
    let (rax, rcx) = (exit.info().rax, exit.info().rcx);
    Ok(Next::End(End::Failed(format!(
        "exit {name} is not supported (reason {rax:#x}, qualification {rcx:#x})"
    ))))
}

/// The fault that an instruction gets; `None` for an exit that no instruction causes.
///
/// Some instructions exit before the processor checks the privilege level [SDM3 26.1.1], so the
/// guest's userspace must not be able to end the machine by any of them: #UD is the rule.
fn fault_of(basic: u16) -> Option<Exception> {
    match basic {
        // Exceptions, events, failed entries, and what the processor does by itself.
        0..=9 | 33..=35 | 37 | 38 | 41..=45 | 48 | 49 | 52 | 56 | 62 | 66 | 71..=75 => None,
        // INVD and RDPMC; SGDT, SLDT and the like, as with UMIP.
        13 | 15 | 46 | 47 => Some(Exception::GeneralProtection),
        _ => Some(Exception::InvalidOpcode),
    }
}

/// Returns true if a change of CR0 makes translations stale: PE, WP and PG are part of how a linear
/// address is translated. [SDM3 4.10.4.1]
const fn is_translated_anew_by_cr0(old: u64, new: u64) -> bool {
    (old ^ new) & (CR0_PE | CR0_WP | CR0_PG) != 0
}

/// Returns true if a change of CR4 makes translations stale.
const fn is_translated_anew_by_cr4(old: u64, new: u64) -> bool {
    /// PSE, PAE, PGE, LA57, PCIDE, SMEP, SMAP, PKE, CET, PKS.
    const OF_PAGING: u64 = (1 << 4)
        | CR4_PAE
        | (1 << 7)
        | (1 << 12)
        | (1 << 17)
        | (1 << 20)
        | (1 << 21)
        | (1 << 22)
        | (1 << 23)
        | (1 << 24);
    (old ^ new) & OF_PAGING != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use vtl::reason;

    #[test]
    fn every_instruction_exit_that_ring_3_can_cause_is_a_fault() {
        // GETSEC, RSM, the VMX instructions, MWAIT, MONITOR, INVEPT, INVVPID, VMFUNC, ENCLS, PCONFIG,
        // LOADIWKEY, ENCLV, SEAMCALL, TDCALL.
        let undefined = [11, 17]
            .into_iter()
            .chain(19..=27)
            .chain([36, 39, 50, 53, 59, 60, 65, 69, 70, 76, 77]);
        for basic in undefined {
            assert_eq!(fault_of(basic), Some(Exception::InvalidOpcode), "{basic}");
        }
        for basic in [13, 15, 46, 47] {
            assert_eq!(
                fault_of(basic),
                Some(Exception::GeneralProtection),
                "{basic}"
            );
        }
        // What a later processor adds is an instruction that CPUID does not show.
        assert_eq!(fault_of(84), Some(Exception::InvalidOpcode));
    }

    #[test]
    fn an_exit_that_is_no_instruction_is_not_answered_by_a_fault() {
        for basic in [
            reason::EXCEPTION_NMI,
            reason::TRIPLE_FAULT,
            reason::INIT_SIGNAL,
            reason::ENTRY_FAILURE_GUEST_STATE,
            reason::EPT_VIOLATION,
            reason::PREEMPTION_TIMER,
            reason::VIRTUALIZED_EOI,
            reason::APIC_WRITE,
            9,
            49,
            74,
        ] {
            assert_eq!(fault_of(basic), None, "{basic}");
        }
    }

    #[test]
    fn a_write_of_cr0_that_exits_forgets_translations() {
        let old = CR0_PE | CR0_PG | CR0_ET;
        for changed in [CR0_PG, CR0_WP, CR0_PE] {
            assert!(
                is_translated_anew_by_cr0(old, old ^ changed),
                "{changed:#x}"
            );
        }
        assert!(!is_translated_anew_by_cr0(old, old | CR0_CD | CR0_NE));
        for changed in [1 << 7, CR4_PAE, 1 << 17, 1 << 20, 1 << 21] {
            assert!(is_translated_anew_by_cr4(CR4_PAE, CR4_PAE ^ changed));
        }
        assert!(!is_translated_anew_by_cr4(CR4_PAE, CR4_PAE | CR4_MCE));
    }
}
