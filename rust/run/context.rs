// SPDX-License-Identifier: GPL-2.0
//! Exchanges what the TDX module does not switch between L1 and L2.
//!
//! | state | lower VTL's copy | VTL2's copy | exchanged |
//! |---|---|---|---|
//! | x87, SSE | run page | task, by `kernel_fpu_begin` | with [`Loaded`] |
//! | AVX and further XCR0 components | VP | task, by `kernel_fpu_begin` | with [`Loaded`] |
//! | XCR0 | VP | a constant | with [`Loaded`] |
//! | STAR, LSTAR, FMASK, TSC_AUX, XSS | run page | VP, a constant | with [`Loaded`] |
//! | KERNEL_GS_BASE | run page | [`Loaded`]: it belongs to the task | with [`Loaded`] |
//! | UMWAIT_CONTROL, TSX_CTRL | VP, for each VM | [`Loaded`] | with [`Loaded`] |
//! | XFD, XFD_ERR | VP, for each VM | [`Loaded`]: they belong to the task | with [`Loaded`] |
//! | U_CET, PL3_SSP | VP, for each VM | [`Loaded`]: they belong to the task | with [`Loaded`] |
//! | PL0_SSP, PL1_SSP, PL2_SSP | VP, for each VM | VP, a constant | with [`Loaded`] |
//! | general registers | run page, by the TDX module | kernel stack, by the stub | each entry |
//! | CR2 | [`Loaded`], run page | not needed | each entry |
//! | SPEC_CTRL | VP, for each VM | [`Loaded`] | each entry, by the stub |
//! | PKRU | VP | [`Loaded`]: it belongs to the task | with interrupts disabled |
//! | DR0 to DR3 | VP | VP, while the lower VTL runs | with interrupts disabled |
//! | DR6 | VP | a constant | each entry |
//!
//! What is exchanged with [`Loaded`] stays loaded while the kernel handles an exit, with interrupts
//! enabled: interrupt handlers use none of it. What an interrupt handler could use is exchanged when
//! interrupts are disabled and enabled; what the kernel itself could use, at each entry. [TDP 2.5]
//!
//! State that a lower VTL can't change without an exit still has the value that was loaded, and is
//! not read back (`pure/intercepts.rs`). DR0 to DR3 of a VTL that can't access them are not
//! exchanged.
//!
//! XSAVE and XRSTOR move the lower VTL's image while IA32_XFD disables no component of it: XFD is
//! zero for both, and gets the lower VTL's value after XRSTOR and VTL2's after XSAVE.
//!
//! A lower VTL can use nothing else that the TDX module does not switch: `pure/components.rs` has a
//! row for each component of XFAM, `pure/passed_msrs.rs` for each MSR.

use kernel::prelude::*;

use crate::cpu::features::Features;
use crate::cpu::fpu::{self, Section};
use crate::cpu::guards::IrqsOff;
use crate::cpu::mitigation;
use crate::cpu::msr::{self, Xfd};
use crate::glue::ffi;
use crate::pure::audit::Who;
use crate::pure::controls::Entry;
use crate::pure::exit::{classify, Exit};
use crate::pure::field::VmIndex;
use crate::pure::intercepts::MsrSet;
use crate::pure::msr::SharedMsrs;
use crate::pure::vp_enter::{EntryRcx, INVALIDATE_ALL};
use crate::run::enter::{self, Operands};
use crate::vp::claim::Pinned;
use crate::vp::on_cpu::OnCpu;
use crate::vp::Private;

/// The processor holds a lower VTL's state; only interrupts run on it besides.
///
/// The drop saves the lower VTL's state to the run page.
#[must_use]
pub(super) struct Loaded<'a> {
    /// The VP.
    pub(super) vp: OnCpu<'a>,
    /// The state that only its thread may access.
    pub(super) private: &'a mut Private,
    features: &'a Features,
    /// What was loaded for the VM that runs.
    pub(super) entry: &'a mut Entry,
    /// Operands of the next entry, and results of the last one. Kept in place: copies would cost
    /// more than the decisions that use them.
    pub(super) operands: Operands<'a>,
    /// For the records of its switches.
    pub(super) who: Who,
    /// The VM that runs, and RCX of its entries when they invalidate nothing.
    vm: VmIndex,
    plain_rcx: EntryRcx,
    host_xfd: u64,
    /// The task's PKRU, which does not change while the task is in the kernel.
    host_pkru: u32,
    has_run: bool,
    is_first: bool,
    /// Where the request to invalidate in `operands.rcx` comes from.
    requested: Requested,
    /// Proves that the module owns the FPU registers.
    pub(super) section: Section,
}

/// Who has requested an invalidation that no entry has done yet, apart from `Private::undone`.
#[derive(Default)]
struct Requested {
    /// The run page, from which the request was taken.
    by_run_page: Option<EntryRcx>,
    /// The switch page: the value of its counter.
    by_counter: Option<u64>,
}

impl<'a> Loaded<'a> {
    /// Saves the task's state and loads `entry`. The x87 and SSE image of the VP has been filled
    /// and checked.
    #[inline]
    pub(super) fn new(pinned: &'a mut Pinned<'_>, entry: &'a mut Entry) -> Self {
        let (vp, features, private) = pinned.parts();
        let section = Section::begin();
        let vm = entry.rcx.vm();
        let mitigations = &features.mitigations;
        mitigation::change_owner(&mut private.owner, vm, mitigations, &section);
        private.host_msrs.refresh(features, &section);
        let kept = private.kept_msrs.of(vm);
        let host_msrs = &private.host_msrs;
        host_msrs.change_to(features, &entry.msrs, &kept.unseen, &section);
        let mut xfd = Xfd::read(features, &section);
        let host_xfd = xfd.value();
        private.extended.restore(&mut xfd, &section);
        xfd.change(kept.xfd);
        let spec_ctrl = kept.spec_ctrl;
        let undone = core::mem::take(private.undone.of_mut(vm));
        let rcx = entry.rcx.without_invalidation();
        let cr2 = entry.cr2;
        private.heed_intercepts(vm);
        Self {
            vp,
            private,
            features,
            entry,
            operands: Operands::new(
                &vp.vp().run_page,
                rcx.with_invalidation_of(undone),
                cr2,
                spec_ctrl,
                mitigations.scrub,
            ),
            who: Who::new(ffi::thread(), vp.vp().cpu, vm),
            vm,
            plain_rcx: rcx,
            host_xfd,
            host_pkru: fpu::read_pkru(features.has_pkru, &section),
            has_run: false,
            is_first: true,
            requested: Requested::default(),
            section,
        }
    }

    /// Calls `act`, which enters, while the processor has the state that an interrupt handler could
    /// use: PKRU and DR0 to DR3 of the lower VTL.
    ///
    /// Reports a quiescent state to RCU only on the first entry after loading. A grace period that
    /// waits for this CPU makes the tick raise a softirq or set NEED_RESCHED, which makes us unload
    /// and load again, and report again.
    #[inline(always)]
    pub(super) fn without_irqs<T>(
        &mut self,
        irqs: &IrqsOff,
        act: impl FnOnce(&mut Self) -> T,
    ) -> T {
        if self.is_first {
            self.is_first = false;
            enter::note_quiescent_state(&mut self.private.quiescent_at, irqs);
        }
        self.private.debug.load_addresses(irqs);
        fpu::change_pkru(self.host_pkru, self.private.pkru, irqs);
        let result = act(self);
        let pkru = fpu::read_pkru(self.features.has_pkru, &self.section);
        fpu::change_pkru(pkru, self.host_pkru, irqs);
        self.private.pkru = pkru;
        self.private.debug.store_addresses(irqs);
        result
    }

    /// Executes TDG.VP.ENTER once; `operands` has the results.
    #[inline(always)]
    pub(super) fn enter(&mut self, irqs: &IrqsOff) -> Exit {
        let debug = &mut self.private.debug;
        debug.load_dr6(irqs);
        enter::tdg_vp_enter(&mut self.operands, irqs);
        debug.store_dr6(irqs);
        classify(&self.operands.exit)
    }

    /// Takes the request to invalidate out of the run page, for the next entry. A request written
    /// before a kick is seen here, because the kick is answered earlier.
    ///
    /// Returns false if the run page names another VM, or changes at this moment: then it has to be
    /// read again as a whole.
    ///
    /// # Errors
    ///
    /// EINVAL for a value that the TDX module would refuse.
    #[inline]
    pub(super) fn take_invalidation(&mut self) -> Result<bool> {
        if self.is_asked_for_nothing() {
            return Ok(true);
        }
        self.take_from(self.vp.run_page.read_entry_rcx())
    }

    /// Returns true if the run page names this VM and nothing to invalidate.
    #[inline]
    pub(super) fn is_asked_for_nothing(&self) -> bool {
        self.vp.run_page.read_entry_rcx() == self.plain_rcx.raw()
    }

    #[cold]
    fn take_from(&mut self, word: u64) -> Result<bool> {
        let wanted = EntryRcx::new(word, self.features.limits.num_l2_vms).ok_or(EINVAL)?;
        let rcx = &mut self.operands.rcx;
        if wanted.vm() != rcx.vm() || !self.vp.run_page.take_invalidation(wanted) {
            return Ok(false);
        }
        // An entry that did not happen has left a request undone.
        *rcx = wanted.with_invalidation_of(rcx.raw());
        let earlier = self.requested.by_run_page.map_or(0, EntryRcx::raw);
        self.requested.by_run_page = Some(wanted.with_invalidation_of(earlier));
        Ok(true)
    }

    /// Makes the next entry invalidate if the counter of its VM in the switch page has changed. The
    /// request is done, and reported, when an entry has carried it out.
    ///
    /// Called when the thread is inside, after each answer to a kick, and at each switch: so a
    /// request written before a kick is seen in time.
    #[inline(never)]
    pub(super) fn take_flush(&mut self) {
        let vm = self.vm;
        let counter = self.vp.switch_page.read_flush(vm);
        if self.private.flushes.is_due(vm, counter) {
            self.requested.by_counter = Some(counter);
            self.operands.rcx = self.operands.rcx.with_invalidation_of(INVALIDATE_ALL);
        }
    }

    /// The VM that runs.
    pub(super) fn vm(&self) -> VmIndex {
        self.vm
    }

    /// Checks, before an entry, what earlier writes to its VMCS and bitmaps have changed.
    ///
    /// # Errors
    ///
    /// EIO if the processor would refuse the entry; the status is in the run page.
    #[inline]
    pub(super) fn pass_entry_check(&mut self, irqs: &IrqsOff) -> Result {
        if self.vp.entry_check.is_due(self.vm) {
            self.check_entry(irqs)
        } else {
            Ok(())
        }
    }

    #[cold]
    fn check_entry(&mut self, irqs: &IrqsOff) -> Result {
        let (vp, vm) = (self.vp, self.vm);
        let result = vp
            .entry_check
            .pass(vp, vm, &mut self.private.intercepts, irqs);
        self.private.heed_intercepts(vm);
        result
    }

    /// Saves what a VM that has run has in the processor. Returns its shared MSRs.
    pub(super) fn save(&mut self, vm: VmIndex) -> SharedMsrs {
        let (features, section) = (self.features, &self.section);
        let loaded = &self.entry.msrs;
        let private = &mut *self.private;
        let kept = private.kept_msrs.of_mut(vm);
        let intercepts = private.intercepts.of(vm);
        let steady = intercepts.steady(loaded.xss, kept.xfd, kept.unseen.u_cet());
        let msrs = msr::read_shared(features, loaded, steady, section);
        *private.given_msrs.of_mut(vm) = msrs;
        kept.spec_ctrl = self.operands.spec_ctrl;
        features.unseen_msrs.save(&mut kept.unseen, steady, section);
        if !steady.has(MsrSet::XFD) {
            kept.xfd = Xfd::read(features, section).value();
        }
        msrs
    }

    /// Makes the next entries those of another VM: with its own requests to invalidate, and after
    /// an IBPB if necessary. What userspace has requested meanwhile is kept for the VM that it
    /// names.
    pub(super) fn give_to(&mut self, vm: VmIndex) {
        let private = &mut *self.private;
        let rcx = EntryRcx::of(vm);
        let asked = self.vp.run_page.replace_entry_rcx(rcx);
        if let Some(asked) = EntryRcx::new(asked, self.features.limits.num_l2_vms) {
            let undone = private.undone.of_mut(asked.vm());
            *undone = asked.with_invalidation_of(*undone).raw();
        }
        let undone = core::mem::take(private.undone.of_mut(vm));
        self.operands.rcx = rcx.with_invalidation_of(undone);
        self.vm = vm;
        self.plain_rcx = rcx;
        self.who = self.who.in_vm(vm);
        private.heed_intercepts(vm);
        let mitigations = &self.features.mitigations;
        mitigation::change_owner(&mut private.owner, vm, mitigations, &self.section);
    }

    /// Loads the state of another VM, where it differs from that of the saved one.
    pub(super) fn change(&mut self, from: (VmIndex, &SharedMsrs), to: (VmIndex, &SharedMsrs)) {
        let (features, section) = (self.features, &self.section);
        let msrs = to.1;
        msr::write_shared(from.1, msrs, section);
        let (from, to) = (
            self.private.kept_msrs.of(from.0),
            self.private.kept_msrs.of(to.0),
        );
        let unseen_msrs = &features.unseen_msrs;
        unseen_msrs.change(&from.unseen, &to.unseen, section);
        Xfd::known(from.xfd, section).change(to.xfd);
        self.operands.spec_ctrl = to.spec_ctrl;
        self.entry.msrs = *msrs;
    }

    /// The lower VTL has run: its state has to be saved, and the requested invalidation has been
    /// done.
    pub(super) fn note_progress(&mut self) {
        self.has_run = true;
        if self.operands.rcx.invalidates() {
            self.note_invalidation();
        }
    }

    #[cold]
    fn note_invalidation(&mut self) {
        let vm = self.operands.rcx.vm();
        self.operands.rcx = self.operands.rcx.without_invalidation();
        if let Some(counter) = core::mem::take(&mut self.requested).by_counter {
            self.private.flushes.note(vm, counter);
            self.vp.switch_page.store_flushed(vm, counter);
            self.vp.stats.flushed();
        }
    }

    /// Keeps a request that no entry has done. It must not depend on the run page alone: there
    /// userspace may already name another VM, or write the word anew before the next run.
    #[cold]
    fn keep_invalidation(&mut self) {
        let rcx = self.operands.rcx;
        let undone = self.private.undone.of_mut(rcx.vm());
        *undone = rcx.with_invalidation_of(*undone).raw();
        if let Some(asked) = self.requested.by_run_page {
            self.vp.run_page.put_back_invalidation(asked);
        }
    }
}

impl Drop for Loaded<'_> {
    fn drop(&mut self) {
        if self.operands.rcx.invalidates() {
            self.keep_invalidation();
        }
        let section = &self.section;
        let vm = self.operands.rcx.vm();
        if self.has_run {
            mitigation::end_ownership(&self.features.mitigations, section);
        }
        let entry_msrs = &self.entry.msrs;
        let private = &mut *self.private;
        let kept = private.kept_msrs.of_mut(vm);
        let intercepts = private.intercepts.of(vm);
        let steady = intercepts.steady(entry_msrs.xss, kept.xfd, kept.unseen.u_cet());
        let guest_msrs = msr::read_shared(self.features, entry_msrs, steady, section);
        msr::write_shared(&guest_msrs, &private.host_msrs.shared, section);
        *private.given_msrs.of_mut(vm) = guest_msrs;
        kept.spec_ctrl = self.operands.spec_ctrl;
        let host_unseen = &private.host_msrs.unseen;
        let unseen_msrs = &self.features.unseen_msrs;
        unseen_msrs.unload(host_unseen, &mut kept.unseen, steady, section);
        private.debug.forget(section);
        let mut xfd = match steady.has(MsrSet::XFD) {
            true => Xfd::known(kept.xfd, section),
            false => Xfd::read(self.features, section),
        };
        kept.xfd = xfd.value();
        if self.has_run {
            let run_page = &self.vp.run_page;
            run_page.store_state(&guest_msrs, self.operands.cr2, section);
        }
        private.extended.save(&mut xfd, section);
        xfd.change(self.host_xfd);
    }
}
