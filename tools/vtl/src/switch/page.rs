// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The switch page of one virtual processor, shared with the kernel, and the state in it.
//!
//! The kernel writes it at the end of a run, so every access is one atomic load or store.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;

use crate::abi::{self, Parked, SwitchPageLayout};
use crate::run_page::Halt;
use crate::sys::{Mapping, Protection};
use crate::vp::Vm;

/// What the kernel may handle by itself.
#[bitfield_struct::bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct SwitchEnable {
    /// VTL calls.
    pub calls: bool,
    /// VTL returns.
    pub returns: bool,
    /// Proxied interrupts for VTL0 while VTL1 runs.
    pub interrupts: bool,
    /// VTL1 has to be notified of interrupts that VTL0 could accept (VINA).
    pub vina: bool,
    /// A return withdraws the notification.
    pub vina_auto_reset: bool,
    #[bits(27)]
    _reserved: u32,
}

/// Why a VTL call or return was left to userspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Left {
    /// The direction is not enabled.
    Disabled,
    /// Privilege level, 32-bit or real mode, single step, or an instruction of another length.
    Mode,
    /// RCX or RAX; a call by VTL1, a return by VTL0.
    Operands,
    /// Only userspace can end the halt of the target.
    Halted,
    /// The target can't be entered in its state.
    NotEnterable,
    /// VTL1 has to be notified of an interrupt for VTL0.
    Notice,
    /// The assist page can't be accessed.
    Assist,
    /// A reason that this crate does not know.
    Unknown(u32),
}

impl Left {
    fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => return None,
            1 => Self::Disabled,
            2 => Self::Mode,
            3 => Self::Operands,
            4 => Self::Halted,
            5 => Self::NotEnterable,
            6 => Self::Notice,
            7 => Self::Assist,
            other => Self::Unknown(other),
        })
    }
}

/// State that the processor has once and VTL0 and VTL1 each have of their own. All other registers
/// are shared, or in the L2 VMCS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the registers' names")]
pub struct PrivateState {
    pub rsp: u64,
    pub rip: u64,
    pub rflags: u64,
    pub ssp: u64,
    /// Highest requested vector.
    pub rvi: u8,
    /// Highest vector in service.
    pub svi: u8,
    /// Its halt, if it is halted.
    pub halt: Option<Halt>,
    pub kernel_gs_base: u64,
    pub star: u64,
    pub lstar: u64,
    pub sfmask: u64,
    pub xss: u64,
    pub tsc_aux: u64,
}

impl PrivateState {
    /// Returns true if the VTL would accept its highest requested interrupt at its next
    /// instruction, with the task priority `tpr`.
    pub(super) const fn could_take(&self, tpr: u8) -> bool {
        const RFLAGS_IF: u64 = 1 << 9;
        let class = self.rvi >> 4;
        self.rflags & RFLAGS_IF != 0 && class > self.svi >> 4 && class > tpr >> 4
    }
}

/// The mapped switch page of one CPU. Clones refer to the same page.
#[derive(Clone, Debug)]
pub struct SwitchPage {
    page: Arc<Mapping>,
}

macro_rules! parked {
    ($base:expr, $field:ident) => {
        $base + offset_of!(Parked, $field)
    };
}

impl SwitchPage {
    pub(crate) fn map(fd: impl AsFd, cpu: u32) -> Result<Self, Errno> {
        let offset = abi::page_offset(abi::PAGE_KIND_SWITCH, cpu);
        let page = Mapping::new(fd, offset, abi::PAGE_LEN, Protection::ReadWrite)?;
        Ok(Self {
            page: Arc::new(page),
        })
    }

    /// What the kernel may handle by itself.
    pub fn enable(&self) -> SwitchEnable {
        SwitchEnable::from_bits(self.u32(offset_of!(SwitchPageLayout, enable)))
    }

    /// Sets what the kernel may handle by itself. The kernel reads it at each use; a thread that
    /// clears bits during a run kicks the virtual processor afterwards.
    pub fn set_enable(&self, enable: SwitchEnable) {
        let word: &AtomicU32 = self.page.word(offset_of!(SwitchPageLayout, enable));
        // ORDERING: before the kick that follows.
        word.store(enable.into_bits(), Ordering::SeqCst);
    }

    /// Why the last call or return of the last run was left to userspace.
    pub fn left(&self) -> Option<Left> {
        Left::from_number(self.u32(offset_of!(SwitchPageLayout, left)))
    }

    /// Makes the next entry of `vm` invalidate its translations; from any thread. After a kick with
    /// [`crate::Kick::wait`] has returned, no translation from before is used.
    pub fn request_flush(&self, vm: Vm) {
        let offset = offset_of!(SwitchPageLayout, flush) + 8 * vm.index() as usize; // CAST: 1 to 3
        // ORDERING: before the kick that follows.
        self.page
            .word::<AtomicU64>(offset)
            .fetch_add(1, Ordering::SeqCst);
    }

    /// The private state of the VTL that is not in the run page. Zero for VM 3.
    pub fn parked(&self, vm: Vm) -> PrivateState {
        let Some(base) = place(vm) else {
            return PrivateState::default();
        };
        PrivateState {
            rsp: self.u64(parked!(base, rsp)),
            rip: self.u64(parked!(base, rip)),
            rflags: self.u64(parked!(base, rflags)),
            ssp: self.u64(parked!(base, ssp)),
            rvi: self.u8(parked!(base, rvi)),
            svi: self.u8(parked!(base, svi)),
            halt: Halt::from_reasons(self.u8(parked!(base, halt))),
            kernel_gs_base: self.u64(parked!(base, msr_kernel_gs_base)),
            star: self.u64(parked!(base, msr_star)),
            lstar: self.u64(parked!(base, msr_lstar)),
            sfmask: self.u64(parked!(base, msr_sfmask)),
            xss: self.u64(parked!(base, msr_xss)),
            tsc_aux: self.u64(parked!(base, msr_tsc_aux)),
        }
    }

    /// Sets that state; does nothing for VM 3. [`Halt::Plain`] can't be parked and counts as none.
    pub fn set_parked(&self, vm: Vm, state: &PrivateState) {
        let Some(base) = place(vm) else {
            return;
        };
        let set = |offset, value| {
            self.page
                .word::<AtomicU64>(offset)
                .store(value, Ordering::Relaxed);
        };
        let PrivateState {
            rsp,
            rip,
            rflags,
            ssp,
            rvi,
            svi,
            halt,
            kernel_gs_base,
            star,
            lstar,
            sfmask,
            xss,
            tsc_aux,
        } = *state;
        set(parked!(base, rsp), rsp);
        set(parked!(base, rip), rip);
        set(parked!(base, rflags), rflags);
        set(parked!(base, ssp), ssp);
        let halt = halt.map_or(0, Halt::reasons);
        // RVI, SVI, halt and five reserved bytes.
        set(
            parked!(base, rvi),
            u64::from_le_bytes([rvi, svi, halt, 0, 0, 0, 0, 0]),
        );
        set(parked!(base, msr_kernel_gs_base), kernel_gs_base);
        set(parked!(base, msr_star), star);
        set(parked!(base, msr_lstar), lstar);
        set(parked!(base, msr_sfmask), sfmask);
        set(parked!(base, msr_xss), xss);
        set(parked!(base, msr_tsc_aux), tsc_aux);
    }

    fn u64(&self, offset: usize) -> u64 {
        self.page.word::<AtomicU64>(offset).load(Ordering::Relaxed)
    }

    fn u32(&self, offset: usize) -> u32 {
        self.page.word::<AtomicU32>(offset).load(Ordering::Relaxed)
    }

    fn u8(&self, offset: usize) -> u8 {
        self.page.word::<AtomicU8>(offset).load(Ordering::Relaxed)
    }
}

/// Where the private state of a VTL is.
const fn place(vm: Vm) -> Option<usize> {
    const PARKED: usize = offset_of!(SwitchPageLayout, parked);
    match vm {
        Vm::VTL0 => Some(PARKED),
        Vm::VTL1 => Some(PARKED + size_of::<Parked>()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Result<SwitchPage, Errno> {
        Ok(SwitchPage {
            page: Arc::new(Mapping::anonymous(abi::PAGE_LEN)?),
        })
    }

    #[test]
    fn what_is_parked_comes_back_and_the_other_vtl_keeps_its_own() -> Result<(), Errno> {
        let page = page()?;
        let state = PrivateState {
            rsp: 1,
            rip: 2,
            rflags: 3,
            ssp: 4,
            rvi: 5,
            svi: 6,
            halt: Some(Halt::Hlt),
            kernel_gs_base: 7,
            star: 8,
            lstar: 9,
            sfmask: 10,
            xss: 11,
            tsc_aux: 12,
        };
        page.set_parked(Vm::VTL1, &state);
        assert_eq!(page.parked(Vm::VTL1), state);
        assert_eq!(page.parked(Vm::VTL0), PrivateState::default());
        page.set_parked(Vm::THIRD, &state);
        assert_eq!(page.parked(Vm::THIRD), PrivateState::default());
        // As the ABI has it.
        assert_eq!(page.u64(384), 1);
        assert_eq!(page.u64(384 + 32), 0x40_0605);
        assert_eq!(page.u64(384 + 80), 12);
        Ok(())
    }

    #[test]
    fn an_interrupt_is_accepted_above_priority_and_service_with_interrupts_enabled() {
        let state = |rflags, rvi, svi| PrivateState {
            rflags,
            rvi,
            svi,
            ..PrivateState::default()
        };
        assert!(state(0x202, 0x50, 0x4f).could_take(0x4f));
        assert!(!state(0x002, 0x50, 0).could_take(0));
        assert!(!state(0x202, 0x5f, 0x50).could_take(0));
        assert!(!state(0x202, 0x5f, 0).could_take(0x50));
        assert!(!state(0x202, 0, 0).could_take(0));
    }

    #[test]
    fn each_reason_for_a_halt_comes_back() -> Result<(), Errno> {
        let page = page()?;
        for halt in [
            None,
            Some(Halt::Hlt),
            Some(Halt::GuestIdle),
            Some(Halt::Userspace),
        ] {
            page.set_parked(
                Vm::VTL0,
                &PrivateState {
                    halt,
                    ..PrivateState::default()
                },
            );
            assert_eq!(page.parked(Vm::VTL0).halt, halt);
        }
        Ok(())
    }

    #[test]
    fn a_flush_is_counted_for_its_vm() -> Result<(), Errno> {
        let page = page()?;
        page.request_flush(Vm::VTL1);
        page.request_flush(Vm::VTL1);
        page.request_flush(Vm::VTL0);
        assert_eq!(
            [16, 24, 32, 40].map(|offset| page.u64(offset)),
            [0, 1, 2, 0]
        );
        Ok(())
    }

    #[test]
    fn the_reasons_are_those_of_the_abi() -> Result<(), Errno> {
        let page = page()?;
        assert_eq!(page.left(), None);
        let word: &AtomicU32 = page.page.word(12);
        word.store(7, Ordering::Relaxed);
        assert_eq!(page.left(), Some(Left::Assist));
        word.store(99, Ordering::Relaxed);
        assert_eq!(page.left(), Some(Left::Unknown(99)));
        page.set_enable(
            SwitchEnable::new()
                .with_returns(true)
                .with_vina_auto_reset(true),
        );
        assert_eq!(page.u32(0), 0b10010);
        Ok(())
    }
}
