// SPDX-License-Identifier: GPL-2.0
//! The page that userspace and kernel share for one VP.
//!
//! Userspace may write to any byte at any time. So there is never a Rust reference into the page,
//! each control field is read once per entry, and nothing is used before `pure::controls` has
//! checked it.

mod interrupts;

use crate::cpu::fpu::{store_exit, ExtendedState, Section};
use crate::glue::page::SharedPage;
use crate::pure::controls::{Controls, Entry, Fields, Flush, Refusal};
use crate::pure::exit::RawExit;
use crate::pure::msr::SharedMsrs;
use crate::pure::offload::{offload_of_quiet, Offload};
use crate::pure::uapi::run as offset;
use crate::pure::uapi::RUN_HALTED;
use crate::pure::vp_enter::{EntryRcx, INVALIDATE_ALL};
use crate::pure::xsave::{FX_MXCSR, FX_WORDS};

/// The run page of one VP.
pub(crate) struct RunPage(SharedPage);

impl RunPage {
    /// Takes a zeroed page. Until userspace changes that, it blocks all interrupts of the host.
    pub(crate) fn new(page: SharedPage) -> Self {
        let page = Self(page);
        page.block_proxied();
        page
    }

    /// Resets the page to its initial contents, except `cancel` and the translations to invalidate.
    pub(crate) fn reset(&self) {
        // Blocked before and after, so that an interrupt in between does not count as a wanted one.
        self.block_proxied();
        // Not `cancel`: the thread that has set it will not do so again.
        self.0.write_u32(offset::VTL_RET_ACTION_SIZE, 0);
        self.0.clear(8..offset::ENTRY_RCX);
        self.keep_invalidation_only();
        self.0.clear_from(offset::ENTRY_RCX + 8);
        self.block_proxied();
    }

    /// Resets `entry_rcx` to its initial value, except the request to invalidate: the thread that has
    /// revoked rights and requested it will not do so again.
    fn keep_invalidation_only(&self) {
        /// As for `put_back_invalidation`.
        const TURNS: u32 = 16;
        let is_done = (0..TURNS).any(|_| {
            let word = self.read_entry_rcx();
            let kept = EntryRcx::invalidation_of(word);
            self.0.replace_u64(offset::ENTRY_RCX, word, kept)
        });
        if !is_done {
            self.0.write_u64(offset::ENTRY_RCX, INVALIDATE_ALL);
        }
    }

    /// The page, to be mapped.
    pub(crate) fn page(&self) -> &SharedPage {
        &self.0
    }

    /// Address of the guest state, which the TDX module loads and stores.
    pub(crate) fn guest_state_gpa(&self) -> u64 {
        self.0.phys() + offset::GUEST_STATE as u64 // CAST: an offset in a page
    }

    /// Reads the instruction pointer of the lower VTL.
    pub(crate) fn read_rip(&self) -> u64 {
        self.0.read_u64(offset::GUEST_STATE_RIP)
    }

    /// Returns true if userspace has cancelled the run.
    pub(crate) fn read_cancel(&self) -> bool {
        self.0.read_u32(offset::CANCEL) != 0
    }

    /// Cancels the run.
    pub(crate) fn set_cancel(&self) {
        self.0.write_u32(offset::CANCEL, 1);
    }

    /// Returns true if the run is cancelled or interrupts are pending.
    pub(crate) fn has_request(&self) -> bool {
        self.read_cancel() || self.read_scan_proxy_irr()
    }

    /// Returns true if interrupts are pending in the run page.
    pub(crate) fn read_scan_proxy_irr(&self) -> bool {
        self.0.read_u8(offset::SCAN_PROXY_IRR) != 0
    }

    /// Returns true if the lower VTL is halted.
    pub(crate) fn read_halted(&self) -> bool {
        self.0.read_u32(offset::FLAGS) & RUN_HALTED != 0
    }

    /// Copies the x87 and SSE image to `image`.
    pub(crate) fn read_fx_state(&self, image: &mut [u64; FX_WORDS]) {
        self.0.read_words(offset::FX_STATE, image);
    }

    /// Copies x87 and SSE to the state that an entry loads; `mxcsr` was read before, and checked.
    #[inline(always)]
    pub(crate) fn read_fx_registers(
        &self,
        state: &mut ExtendedState,
        mxcsr: u32,
        section: &Section,
    ) {
        state.fill_legacy(&self.0, offset::FX_STATE, mxcsr, section);
    }

    /// Stores an x87 and SSE image for the next entry.
    pub(crate) fn write_fx_state(&self, image: &[u64; FX_WORDS]) {
        self.0.write_words(offset::FX_STATE, image);
    }

    /// Reads each control field once.
    pub(crate) fn read_controls(&self) -> Controls {
        Controls {
            flags: self.0.read_u32(offset::FLAGS),
            vp_flags: self.0.read_u64(offset::VP_FLAGS),
            deadline_update: self.0.read_u8(offset::TSC_DEADLINE_UPDATE),
            deadline: self.0.read_u64(offset::TSC_DEADLINE),
            offload: self.0.read_u8(offset::OFFLOAD_FLAGS),
            entry_rcx: self.0.read_u64(offset::ENTRY_RCX),
            msrs: SharedMsrs {
                kernel_gs_base: self.0.read_u64(offset::MSR_KERNEL_GS_BASE),
                star: self.0.read_u64(offset::MSR_STAR),
                lstar: self.0.read_u64(offset::MSR_LSTAR),
                sfmask: self.0.read_u64(offset::MSR_SFMASK),
                xss: self.0.read_u64(offset::MSR_XSS),
                tsc_aux: self.0.read_u64(offset::MSR_TSC_AUX),
            },
            cr2: self.0.read_u64(offset::CR2),
            mxcsr: self.mxcsr(),
        }
    }

    /// Reads the fields that may have changed since the last entry, each once, and checks them:
    /// halted or not, and what the kernel may handle.
    ///
    /// # Errors
    ///
    /// As for [`Controls::validate`].
    pub(crate) fn renew(&self, entry: &Entry) -> Result<(bool, Offload), Refusal> {
        entry.renewed(self.0.read_u32(offset::FLAGS), self.read_offload())
    }

    /// Reads `offload_flags`, together with what would need attention before an entry: `None` if the
    /// lower VTL is halted or has pending interrupts.
    #[inline]
    pub(crate) fn read_quiet_offload(&self) -> Option<u8> {
        offload_of_quiet(self.0.read_u64(offset::FLAGS))
    }

    /// Stores the state of the lower VTL that every run may change; x87 and SSE are still in the
    /// registers.
    #[inline(always)]
    pub(crate) fn store_state(&self, msrs: &SharedMsrs, cr2: u64, _section: &Section) {
        self.0
            .write_u64(offset::MSR_KERNEL_GS_BASE, msrs.kernel_gs_base);
        self.0.write_u64(offset::CR2, cr2);
        self.0.store_fx_state(offset::FX_STATE);
    }

    /// Stores the other MSRs.
    pub(crate) fn store_msrs(&self, msrs: &SharedMsrs) {
        let SharedMsrs {
            kernel_gs_base: _,
            star,
            lstar,
            sfmask,
            xss,
            tsc_aux,
        } = *msrs;
        self.0.write_u64(offset::MSR_STAR, star);
        self.0.write_u64(offset::MSR_LSTAR, lstar);
        self.0.write_u64(offset::MSR_SFMASK, sfmask);
        self.0.write_u64(offset::MSR_XSS, xss);
        self.0.write_u64(offset::MSR_TSC_AUX, tsc_aux);
    }

    /// Stores an exit for userspace.
    #[inline(always)]
    pub(crate) fn store_exit(&self, exit: &RawExit) {
        let RawExit {
            rax,
            rcx,
            rdx,
            rsi,
            rdi,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
        } = *exit;
        let words = [rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11, r12, r13];
        self.0.write_few(offset::EXIT_INFO, &words);
    }

    /// The same where the vector registers are free: the lower VTL's were saved.
    #[inline(always)]
    pub(crate) fn store_exit_quickly(&self, exit: &RawExit, section: &Section) {
        store_exit(&self.0, offset::EXIT_INFO, exit, section);
    }

    /// Stores only a status.
    pub(crate) fn store_status(&self, rax: u64) {
        self.0.write_u64(offset::EXIT_INFO, rax);
    }

    /// Clears the flags that the flush answers.
    pub(crate) fn consume_flush(&self, done: Flush) {
        self.0.clear_bits_u32(offset::VP_FLAGS, done.flags());
    }

    /// Reads which VM to enter and what to invalidate.
    pub(crate) fn read_entry_rcx(&self) -> u64 {
        self.0.read_u64(offset::ENTRY_RCX)
    }

    /// Removes the request to invalidate from the word, if it still has the value `seen`: a request
    /// from now on is a new one. Returns false, with nothing changed, if the word has changed.
    pub(crate) fn take_invalidation(&self, seen: EntryRcx) -> bool {
        let without = seen.without_invalidation().raw();
        self.0.replace_u64(offset::ENTRY_RCX, seen.raw(), without)
    }

    /// Names another VM to enter, with nothing to invalidate. Returns the previous word.
    pub(crate) fn replace_entry_rcx(&self, next: EntryRcx) -> u64 {
        self.0.exchange_u64(offset::ENTRY_RCX, next.raw())
    }

    /// Puts back a request that no entry has carried out, in addition to one made meanwhile.
    /// Changes nothing if the word names another VM by now, or keeps changing.
    pub(crate) fn put_back_invalidation(&self, undone: EntryRcx) {
        /// Each attempt but the last one fails only if userspace has written within some
        /// nanoseconds.
        const TURNS: u32 = 16;
        for _ in 0..TURNS {
            let word = self.read_entry_rcx();
            let both = undone.invalidation_into(word);
            if !undone.is_for_same_vm(word)
                || both == word
                || self.0.replace_u64(offset::ENTRY_RCX, word, both)
            {
                break;
            }
        }
    }
}

// Each is inlined, to be compared at once.
impl Fields for RunPage {
    #[inline(always)]
    fn flags(&self) -> u32 {
        self.0.read_u32(offset::FLAGS)
    }

    #[inline(always)]
    fn vp_flags(&self) -> u64 {
        self.0.read_u64(offset::VP_FLAGS)
    }

    #[inline(always)]
    fn deadline_update(&self) -> u8 {
        self.0.read_u8(offset::TSC_DEADLINE_UPDATE)
    }

    #[inline(always)]
    fn entry_rcx(&self) -> u64 {
        self.read_entry_rcx()
    }

    #[inline(always)]
    fn are_msrs(&self, msrs: &SharedMsrs) -> bool {
        self.0.read_u64(offset::MSR_KERNEL_GS_BASE) == msrs.kernel_gs_base
            && self.0.read_u64(offset::MSR_STAR) == msrs.star
            && self.0.read_u64(offset::MSR_LSTAR) == msrs.lstar
            && self.0.read_u64(offset::MSR_SFMASK) == msrs.sfmask
            && self.0.read_u64(offset::MSR_XSS) == msrs.xss
            && self.0.read_u64(offset::MSR_TSC_AUX) == msrs.tsc_aux
    }

    #[inline(always)]
    fn cr2(&self) -> u64 {
        self.0.read_u64(offset::CR2)
    }

    #[inline(always)]
    fn mxcsr(&self) -> u32 {
        self.0.read_u32(offset::FX_STATE + FX_MXCSR)
    }
}
