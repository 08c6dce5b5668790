// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Control registers, NMIs, and instructions that this machine does not have.

use vtl::exit::{Cr, CrAccess, CrOperation, Instruction};
use vtl::field::L2Field;
use vtl::{Event, Exception, Vp};

use super::start::{CR0_CD, CR0_NE, CR0_NW, CR4_MCE, CR4_VMXE};
use super::{Next, basic_reason};
use crate::board::End;
use crate::cpuid::XCR0_MOST;

const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
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
    // The TDX module checks which bits exist.
    if vp
        .write(L2Field::GUEST_CR4, value | CR4_MCE | CR4_VMXE)
        .is_err()
    {
        return Ok(false);
    }
    vp.write(L2Field::CR4_READ_SHADOW, value)?;
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

/// An instruction without a service here: a fault where CPUID does not show it.
pub(super) fn refuse(exit: Instruction<'_>) -> vtl::Result<Next> {
    const GETSEC: u16 = 11;
    const INVD: u16 = 13;
    const RDPMC: u16 = 15;
    const VMX: core::ops::RangeInclusive<u16> = 19..=27;
    const MWAIT: u16 = 36;
    const MONITOR: u16 = 39;
    let (basic, name) = basic_reason(exit.info().rax);
    match basic {
        RDPMC | INVD => exit.fault(Exception::GeneralProtection)?,
        MWAIT | MONITOR | GETSEC => exit.fault(Exception::InvalidOpcode)?,
        _ if VMX.contains(&basic) => exit.fault(Exception::InvalidOpcode)?,
        _ => {
            let (rax, rcx) = (exit.info().rax, exit.info().rcx);
            return Ok(Next::End(End::Failed(format!(
                "exit {name} is not supported (reason {rax:#x}, qualification {rcx:#x})"
            ))));
        }
    }
    Ok(Next::Run)
}
