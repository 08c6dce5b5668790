// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The page that a virtual processor shares with the kernel, field by field.
//!
//! Owned by [`crate::vp::Vp`]; layout in [`crate::abi`]. The kernel writes to the page while
//! RETURN_TO_LOWER_VTL runs, so there is never a reference to it: every access is one atomic load
//! or store. The fields besides the lower VTL's registers (interrupts, halts, the deadline) are in
//! `interrupts`.

mod interrupts;

use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;

use crate::abi::{self, ExitInfo, RunPageLayout};
use crate::sys::{Mapping, Protection};
use crate::vp::Vm;

pub use crate::gpr::{Gpr, Registers, SwitchedState};
pub use interrupts::{CacheFlush, Halt, Offload};

/// RCX of TDG.VP.ENTER: position of the VM index.
const ENTRY_VM_SHIFT: u32 = 52;
/// RCX of TDG.VP.ENTER: the translations to invalidate first.
const ENTRY_INVD_MASK: u64 = 3;
/// RFLAGS bit 1, which is always one.
const RFLAGS_FIXED: u64 = 1 << 1;

/// The mapped run page of one CPU. Clones refer to the same page.
#[derive(Clone, Debug)]
pub struct RunPage {
    page: Arc<Mapping>,
    cpu: u32,
}

/// Cancels runs of a virtual processor, from any thread.
#[derive(Clone, Debug)]
pub struct Canceller {
    page: RunPage,
}

/// Translations that the next entry invalidates first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// All that is cached for the VM.
    All = 1,
    /// Linear translations of the VM.
    Linear = 2,
    /// Linear translations of the VM, except global ones.
    LinearNonGlobal = 3,
}

impl Canceller {
    /// Makes RETURN_TO_LOWER_VTL return, now and until [`clear`](Self::clear) is called. A thread
    /// inside the lower VTL notices at its next exit; [`crate::Vtl::kick`] forces one.
    pub fn cancel(&self) {
        self.flag().store(1, Ordering::SeqCst);
    }

    /// Allows the lower VTL to be entered again.
    pub fn clear(&self) {
        // ORDERING: the flag must be cleared before the caller checks for work, as the kernel may
        // set it again right after.
        self.flag().store(0, Ordering::SeqCst);
    }

    /// Returns true if runs are cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.flag().load(Ordering::SeqCst) != 0
    }

    fn flag(&self) -> &AtomicU32 {
        self.page.page.word(offset_of!(RunPageLayout, cancel))
    }
}

macro_rules! context {
    ($($field:ident).+) => { core::mem::offset_of!(RunPageLayout, context.$($field).+) };
}
use context;

impl RunPage {
    pub(crate) fn map(fd: impl AsFd, cpu: u32) -> Result<Self, Errno> {
        let offset = abi::page_offset(abi::PAGE_KIND_RUN, cpu);
        let page = Mapping::new(fd, offset, abi::PAGE_LEN, Protection::ReadWrite)?;
        Ok(Self::on(page, cpu))
    }

    fn on(page: Mapping, cpu: u32) -> Self {
        Self {
            page: Arc::new(page),
            cpu,
        }
    }

    /// CPU of the virtual processor.
    pub fn cpu(&self) -> u32 {
        self.cpu
    }

    /// A handle that cancels the run from another thread.
    pub fn canceller(&self) -> Canceller {
        Canceller { page: self.clone() }
    }

    /// Resets the fields that userspace owns: no offload, zero registers, an initialised FPU. Not
    /// `cancel`: whoever has set it will not do so again. Nor a flush that was requested.
    pub(crate) fn reset(&self) {
        /// The word that begins with FCW, and the one that begins with MXCSR.
        const DEFAULT_FCW: u64 = 0x037f;
        const DEFAULT_MXCSR: u64 = 0x1f80;
        const FX_MXCSR: usize = 24;
        self.set_u32(offset_of!(RunPageLayout, flags), 0);
        self.set_u8(offset_of!(RunPageLayout, offload_flags), 0);
        self.set_u8(offset_of!(RunPageLayout, enter_mode), 0);
        self.zero(context!(vp_state), size_of::<abi::VpState>());
        self.zero(context!(l2_tsc_deadline), size_of::<abi::TscDeadline>());
        self.zero(abi::RUN_TIMER, size_of::<abi::ApicTimer>());
        self.zero(context!(fx_state), 512);
        self.set_u64(context!(fx_state), DEFAULT_FCW);
        self.set_u64(context!(fx_state) + FX_MXCSR, DEFAULT_MXCSR);
        self.set_registers(&Registers::default());
    }

    /// Registers at the last return of TDG.VP.ENTER.
    pub fn exit_info(&self) -> ExitInfo {
        ExitInfo {
            rax: self.u64(context!(exit_info.rax)),
            rcx: self.u64(context!(exit_info.rcx)),
            rdx: self.u64(context!(exit_info.rdx)),
            rsi: self.u64(context!(exit_info.rsi)),
            rdi: self.u64(context!(exit_info.rdi)),
            r8: self.u64(context!(exit_info.r8)),
            r9: self.u64(context!(exit_info.r9)),
            r10: self.u64(context!(exit_info.r10)),
            r11: self.u64(context!(exit_info.r11)),
            r12: self.u64(context!(exit_info.r12)),
            r13: self.u64(context!(exit_info.r13)),
        }
    }

    /// A general register.
    pub fn gpr(&self, gpr: Gpr) -> u64 {
        self.u64(gpr_offset(gpr as usize))
    }

    /// Sets a general register.
    pub fn set_gpr(&self, gpr: Gpr, value: u64) {
        self.set_u64(gpr_offset(gpr as usize), value);
    }

    /// RIP.
    pub fn rip(&self) -> u64 {
        self.u64(context!(guest.rip))
    }

    /// Sets RIP.
    pub fn set_rip(&self, rip: u64) {
        self.set_u64(context!(guest.rip), rip);
    }

    /// RFLAGS.
    pub fn rflags(&self) -> u64 {
        self.u64(context!(guest.rflags))
    }

    /// Sets RFLAGS; bit 1 is always one.
    pub fn set_rflags(&self, rflags: u64) {
        self.set_u64(context!(guest.rflags), rflags | RFLAGS_FIXED);
    }

    /// Shadow-stack pointer.
    pub fn ssp(&self) -> u64 {
        self.u64(context!(guest.ssp))
    }

    /// Sets the shadow-stack pointer.
    pub fn set_ssp(&self, ssp: u64) {
        self.set_u64(context!(guest.ssp), ssp);
    }

    /// A register that the kernel switches.
    pub fn switched(&self, register: SwitchedState) -> u64 {
        self.u64(switched_offset(register))
    }

    /// Sets a register that the kernel switches.
    pub fn set_switched(&self, register: SwitchedState, value: u64) {
        self.set_u64(switched_offset(register), value);
    }

    /// All of these registers, of the lower VTL that ran last.
    pub fn registers(&self) -> Registers {
        let (rvi, svi) = self.interrupt_status();
        Registers {
            gprs: core::array::from_fn(|number| self.u64(gpr_offset(number))),
            rflags: self.rflags(),
            rip: self.rip(),
            ssp: self.ssp(),
            rvi,
            svi,
            switched: SwitchedState::ALL.map(|register| self.switched(register)),
        }
    }

    /// Sets all of these registers.
    pub fn set_registers(&self, registers: &Registers) {
        let Registers {
            gprs,
            rflags,
            rip,
            ssp,
            rvi,
            svi,
            switched,
        } = *registers;
        for (number, value) in gprs.into_iter().enumerate() {
            self.set_u64(gpr_offset(number), value);
        }
        self.set_rflags(rflags);
        self.set_rip(rip);
        self.set_ssp(ssp);
        self.set_interrupt_status(rvi, svi);
        for (register, value) in SwitchedState::ALL.into_iter().zip(switched) {
            self.set_switched(register, value);
        }
    }

    /// The x87 and SSE state, in the format of FXSAVE.
    pub fn fx_state(&self) -> [u8; 512] {
        let mut bytes = [0; 512];
        self.page.copy_out(context!(fx_state), &mut bytes);
        bytes
    }

    /// Sets the x87 and SSE state.
    pub fn set_fx_state(&self, bytes: &[u8; 512]) {
        self.page.copy_in(context!(fx_state), bytes);
    }

    /// RCX of the next entry: VM index and translations to invalidate.
    pub fn entry_rcx(&self) -> u64 {
        self.u64(context!(entry_rcx))
    }

    /// Makes the next entry, of the VM that it enters, invalidate translations first. If another kind is already requested,
    /// the request becomes [`Flush::All`], which includes both.
    ///
    /// A thread that is inside the lower VTL invalidates only at its next entry;
    /// [`crate::Vtl::flush`] forces one.
    pub fn request_flush(&self, flush: Flush) {
        self.update_entry_rcx(|rcx| match rcx & ENTRY_INVD_MASK {
            // CAST: the discriminant.
            0 => rcx | flush as u64,
            _ => (rcx & !ENTRY_INVD_MASK) | Flush::All as u64,
        });
    }

    /// The VM that the next run enters.
    pub(crate) fn aimed_at(&self) -> Vm {
        let vm = (self.entry_rcx() >> ENTRY_VM_SHIFT) & 3;
        let is_it = |of_td: &Vm| of_td.index() == vm;
        Vm::ALL.into_iter().find(is_it).unwrap_or(Vm::VTL0)
    }

    /// Makes the next entry one to `vm`, whatever the page says now. Returns true if a flush was
    /// requested for another VM; it is done by this entry, too.
    pub(crate) fn aim(&self, vm: Vm) -> bool {
        let aimed = vm.index() << ENTRY_VM_SHIFT;
        if self.entry_rcx() & !ENTRY_INVD_MASK == aimed {
            return false;
        }
        self.update_entry_rcx(|rcx| aimed | (rcx & ENTRY_INVD_MASK)) & ENTRY_INVD_MASK != 0
    }

    /// An atomic update, because the kernel and other threads change the word, too. Returns the
    /// previous word.
    fn update_entry_rcx(&self, update: impl Fn(u64) -> u64) -> u64 {
        let word: &AtomicU64 = self.page.word(context!(entry_rcx));
        // ORDERING: the request must be visible before the kick that follows it.
        let updated =
            word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |rcx| Some(update(rcx)));
        // It always updates.
        updated.unwrap_or_else(|word| word)
    }

    /// Both are multiples of 8.
    fn zero(&self, offset: usize, len: usize) {
        for at in (offset..offset + len).step_by(8) {
            self.set_u64(at, 0);
        }
    }

    fn u64(&self, offset: usize) -> u64 {
        self.page.word::<AtomicU64>(offset).load(Ordering::Relaxed)
    }

    fn set_u64(&self, offset: usize, value: u64) {
        let word: &AtomicU64 = self.page.word(offset);
        word.store(value, Ordering::Relaxed);
    }

    fn set_u32(&self, offset: usize, value: u32) {
        let word: &AtomicU32 = self.page.word(offset);
        word.store(value, Ordering::Relaxed);
    }

    fn set_u8(&self, offset: usize, value: u8) {
        let word: &AtomicU8 = self.page.word(offset);
        word.store(value, Ordering::Relaxed);
    }
}

const fn gpr_offset(number: usize) -> usize {
    context!(guest.gps) + 8 * number
}

const fn switched_offset(register: SwitchedState) -> usize {
    match register {
        SwitchedState::KernelGsBase => context!(vp_state.msr_kernel_gs_base),
        SwitchedState::Star => context!(vp_state.msr_star),
        SwitchedState::Lstar => context!(vp_state.msr_lstar),
        SwitchedState::Sfmask => context!(vp_state.msr_sfmask),
        SwitchedState::Xss => context!(vp_state.msr_xss),
        SwitchedState::Cr2 => context!(vp_state.cr2),
        SwitchedState::TscAux => context!(vp_state.msr_tsc_aux),
    }
}

#[cfg(test)]
#[path = "run_page/tests.rs"]
pub(crate) mod tests;
