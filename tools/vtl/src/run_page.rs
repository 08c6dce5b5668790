// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The page a virtual processor shares with the kernel, field by field.
//!
//! Owned by [`crate::vp::Vp`]; layout in [`crate::abi`]. The kernel writes the
//! page while RETURN_TO_LOWER_VTL runs, so there is never a reference to it:
//! every access is one volatile load or store, and the cancel flag is atomic.

// UNSAFETY: volatile and atomic access to a shared page.
#![expect(unsafe_code)]

use core::marker::PhantomData;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;

use crate::abi::{self, ExitInfo, RunPageLayout};
use crate::sys::Mapping;

/// A general register of the lower VTL, in x86 register-number order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs, reason = "the names are the registers' names")]
pub enum Gpr {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

impl Gpr {
    /// All registers with their names.
    pub const ALL: [(Self, &'static str); 16] = [
        (Self::Rax, "rax"),
        (Self::Rbx, "rbx"),
        (Self::Rcx, "rcx"),
        (Self::Rdx, "rdx"),
        (Self::Rsi, "rsi"),
        (Self::Rdi, "rdi"),
        (Self::Rbp, "rbp"),
        (Self::Rsp, "rsp"),
        (Self::R8, "r8"),
        (Self::R9, "r9"),
        (Self::R10, "r10"),
        (Self::R11, "r11"),
        (Self::R12, "r12"),
        (Self::R13, "r13"),
        (Self::R14, "r14"),
        (Self::R15, "r15"),
    ];
}

/// State the kernel switches beside the general registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchedState {
    /// IA32_KERNEL_GS_BASE.
    KernelGsBase,
    /// IA32_STAR.
    Star,
    /// IA32_LSTAR.
    Lstar,
    /// IA32_FMASK.
    Sfmask,
    /// IA32_XSS.
    Xss,
    /// CR2.
    Cr2,
    /// IA32_TSC_AUX.
    TscAux,
}

/// The mapped run page of one CPU.
#[derive(Debug)]
pub struct RunPage {
    page: Arc<Mapping>,
    /// Plain loads and stores from two threads would race.
    not_sync: PhantomData<*const ()>,
}

/// Stops a virtual processor from any thread.
#[derive(Clone, Debug)]
pub struct Canceller {
    page: Arc<Mapping>,
}

impl Canceller {
    /// Makes the running or the next RETURN_TO_LOWER_VTL come back, until
    /// [`clear`](Self::clear) is called.
    pub fn cancel(&self) {
        self.flag().store(1, Ordering::SeqCst);
    }

    /// Allows the lower VTL to be entered again.
    pub fn clear(&self) {
        // ORDERING: the flag is cleared before the caller looks for work, as
        // the kernel may set it at any time after.
        self.flag().store(0, Ordering::SeqCst);
    }

    fn flag(&self) -> &AtomicU32 {
        const OFFSET: usize = offset_of!(RunPageLayout, cancel);
        // SAFETY: OFFSET is inside the mapped page (assertions in `abi`).
        let pointer = unsafe { self.page.start().as_ptr().add(OFFSET) };
        // SAFETY:
        // 1. the page is mapped as long as `self.page` lives, and page aligned;
        // 2. both sides of the ABI access this word atomically only.
        unsafe { AtomicU32::from_ptr(pointer.cast()) }
    }
}

/// Integers that may be loaded from and stored to the page.
trait Word: Copy {}
impl Word for u8 {}
impl Word for u16 {}
impl Word for u32 {}
impl Word for u64 {}

macro_rules! context {
    ($($field:ident).+) => { offset_of!(RunPageLayout, context.$($field).+) };
}

impl RunPage {
    pub(crate) fn map(fd: impl AsFd, cpu: u32) -> Result<Self, Errno> {
        let offset = abi::page_offset(abi::PAGE_KIND_RUN, cpu);
        Ok(Self::on(Mapping::new(fd, offset, abi::PAGE_LEN)?))
    }

    fn on(page: Mapping) -> Self {
        Self {
            page: Arc::new(page),
            not_sync: PhantomData,
        }
    }

    /// A handle that cancels the run from another thread.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            page: Arc::clone(&self.page),
        }
    }

    /// Puts everything userspace owns on this page into its start state: no
    /// cancel, no offload, zero registers, an initialised FPU.
    pub fn reset(&self, entry_rcx: u64) {
        const DEFAULT_FCW: u16 = 0x037f;
        const DEFAULT_MXCSR: u32 = 0x1f80;
        const FX_MXCSR: usize = 24;
        self.canceller().clear();
        self.store(offset_of!(RunPageLayout, flags), 0_u32);
        self.store(offset_of!(RunPageLayout, offload_flags), 0_u8);
        self.store(offset_of!(RunPageLayout, enter_mode), 0_u8);
        self.zero(context!(vp_state), size_of::<abi::VpState>());
        self.zero(context!(guest), size_of::<abi::EnterGuestState>());
        self.zero(context!(l2_tsc_deadline), size_of::<abi::TscDeadline>());
        self.zero(context!(fx_state), 512);
        self.store(context!(fx_state), DEFAULT_FCW);
        self.store(context!(fx_state) + FX_MXCSR, DEFAULT_MXCSR);
        self.store(context!(guest.rflags), RFLAGS_FIXED);
        self.set_entry_rcx(entry_rcx);
    }

    /// Registers of the last return of TDG.VP.ENTER.
    pub fn exit_info(&self) -> ExitInfo {
        ExitInfo {
            rax: self.load(context!(exit_info.rax)),
            rcx: self.load(context!(exit_info.rcx)),
            rdx: self.load(context!(exit_info.rdx)),
            rsi: self.load(context!(exit_info.rsi)),
            rdi: self.load(context!(exit_info.rdi)),
            r8: self.load(context!(exit_info.r8)),
            r9: self.load(context!(exit_info.r9)),
            r10: self.load(context!(exit_info.r10)),
            r11: self.load(context!(exit_info.r11)),
            r12: self.load(context!(exit_info.r12)),
            r13: self.load(context!(exit_info.r13)),
        }
    }

    /// A general register.
    pub fn gpr(&self, gpr: Gpr) -> u64 {
        self.load(gpr_offset(gpr))
    }

    /// Sets a general register.
    pub fn set_gpr(&self, gpr: Gpr, value: u64) {
        self.store(gpr_offset(gpr), value);
    }

    /// RIP.
    pub fn rip(&self) -> u64 {
        self.load(context!(guest.rip))
    }

    /// Sets RIP.
    pub fn set_rip(&self, rip: u64) {
        self.store(context!(guest.rip), rip);
    }

    /// RFLAGS.
    pub fn rflags(&self) -> u64 {
        self.load(context!(guest.rflags))
    }

    /// Sets RFLAGS; bit 1 is always one.
    pub fn set_rflags(&self, rflags: u64) {
        self.store(context!(guest.rflags), rflags | RFLAGS_FIXED);
    }

    /// A register the kernel switches.
    pub fn switched(&self, register: SwitchedState) -> u64 {
        self.load(switched_offset(register))
    }

    /// Sets a register the kernel switches.
    pub fn set_switched(&self, register: SwitchedState, value: u64) {
        self.store(switched_offset(register), value);
    }

    /// RCX of the next entry: VM index and translations to invalidate.
    pub fn entry_rcx(&self) -> u64 {
        self.load(context!(entry_rcx))
    }

    /// Sets RCX of the next entry.
    pub fn set_entry_rcx(&self, entry_rcx: u64) {
        self.store(context!(entry_rcx), entry_rcx);
    }

    fn zero(&self, offset: usize, len: usize) {
        for at in offset..offset + len {
            self.store(at, 0_u8);
        }
    }

    fn load<T: Word>(&self, offset: usize) -> T {
        let pointer = self.pointer(offset, size_of::<T>()).cast::<T>();
        // SAFETY: `pointer` checked bounds and alignment of this word in a page
        // that `self.page` keeps mapped; any bit pattern is a `Word`.
        unsafe { pointer.read_volatile() }
    }

    fn store<T: Word>(&self, offset: usize, value: T) {
        let pointer = self.pointer(offset, size_of::<T>()).cast::<T>();
        // SAFETY: as in `load`; the mapping is writable, and `RunPage` is not
        // `Sync`, so no other thread stores here.
        unsafe { pointer.write_volatile(value) }
    }

    fn pointer(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(
            offset % len == 0 && offset + len <= abi::PAGE_LEN,
            "offset {offset:#x}"
        );
        // SAFETY: the line above keeps the result inside the mapped page.
        unsafe { self.page.start().as_ptr().add(offset) }
    }
}

/// RFLAGS bit 1, which is always one.
const RFLAGS_FIXED: u64 = 1 << 1;

const fn gpr_offset(gpr: Gpr) -> usize {
    context!(guest.gps) + 8 * gpr as usize
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
pub(crate) mod tests {
    use super::*;

    /// A run page without a kernel behind it.
    pub(crate) fn loose_page() -> Result<RunPage, Errno> {
        Ok(RunPage::on(Mapping::anonymous(abi::PAGE_LEN)?))
    }

    impl RunPage {
        /// Plays the kernel: stores one word of the page.
        pub(crate) fn poke(&self, offset: usize, value: u64) {
            self.store(offset, value);
        }
    }

    #[test]
    fn registers_are_where_the_abi_puts_them() -> Result<(), Errno> {
        let page = loose_page()?;
        page.set_gpr(Gpr::R15, 15);
        page.set_rip(0x1234);
        page.set_switched(SwitchedState::TscAux, 7);
        assert_eq!(page.load::<u64>(512 + 15 * 8), 15);
        assert_eq!(page.load::<u64>(648), 0x1234);
        assert_eq!(page.load::<u64>(456), 7);
        Ok(())
    }

    #[test]
    fn reset_leaves_a_valid_fpu_and_flags() -> Result<(), Errno> {
        let page = loose_page()?;
        page.set_gpr(Gpr::Rax, 1);
        page.reset(1 << 52);
        assert_eq!(page.gpr(Gpr::Rax), 0);
        assert_eq!(page.rflags(), 2);
        assert_eq!(page.load::<u32>(768 + 24), 0x1f80);
        assert_eq!(page.load::<u16>(768), 0x037f);
        assert_eq!(page.entry_rcx(), 1 << 52);
        Ok(())
    }

    #[test]
    fn cancel_sets_the_first_word_until_cleared() -> Result<(), Errno> {
        let page = loose_page()?;
        let canceller = page.canceller();
        canceller.cancel();
        assert_eq!(page.load::<u32>(0), 1);
        canceller.clear();
        assert_eq!(page.load::<u32>(0), 0);
        Ok(())
    }
}
