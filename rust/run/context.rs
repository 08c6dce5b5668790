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
//! enabled: interrupt handlers use none of it (one writes UMWAIT_CONTROL: see run-loop.rst). What an
//! interrupt handler could use is exchanged when interrupts are disabled and enabled; what the kernel
//! itself could use, at each entry. [TDP 2.5]
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
use crate::pure::audit::Who;
use crate::pure::controls::Entry;
use crate::pure::exit::{classify, Exit};
use crate::pure::field::VmIndex;
use crate::pure::intercepts::MsrSet;
use crate::pure::mitigation::PredictorOwner;
use crate::pure::vp_enter::{EntryRcx, INVALIDATE_ALL};
use crate::run::enter;
use crate::vp::claim::Pinned;
use crate::vp::on_cpu::OnCpu;
use crate::vp::Private;

/// The processor holds a lower VTL's state; only interrupts run on it besides.
///
/// Ends with [`Self::unload`].
#[must_use]
pub(super) struct Loaded<'a> {
    /// The VP.
    pub(super) vp: OnCpu<'a>,
    /// The state that only its thread may access. Its `entry` is what was loaded for the VM that runs.
    pub(super) private: &'a mut Private,
    features: &'a Features,
    /// For the records of its switches.
    pub(super) who: Who,
    /// ID of the process that runs it.
    process: u32,
    /// The VM that runs.
    vm: VmIndex,
    host_xfd: u64,
    /// The task's PKRU, which does not change while the task is in the kernel.
    host_pkru: u32,
    has_run: bool,
    /// The run page may have shared MSRs of another VM.
    has_switched: bool,
    /// Where the request to invalidate in `operands.rcx` comes from.
    requested: Requested,
    /// Proves that the module owns the FPU registers.
    pub(super) section: Section,
}

/// Who has requested an invalidation that no entry has done yet, apart from `VmState::undone`.
#[derive(Default)]
struct Requested {
    /// The run page, from which the request was taken.
    by_run_page: Option<EntryRcx>,
    /// The switch page: the value of its counter.
    by_counter: Option<u64>,
}

impl<'a> Loaded<'a> {
    /// Saves the task's state and loads the VP's `entry`, which was checked.
    #[inline(always)]
    pub(super) fn new(pinned: &'a mut Pinned<'_, '_>) -> Self {
        let section = Section::begin();
        let (thread, process) = (pinned.thread(), pinned.process());
        let (vp, features, private) = pinned.parts();
        let Entry { rcx, cr2, mxcsr } = private.entry;
        let vm = rcx.vm();
        let state = private.vms.of_mut(vm);
        let operands = &mut private.operands;
        operands.rcx = rcx;
        operands.cr2 = cr2;
        operands.spec_ctrl = state.kept.spec_ctrl;
        state.take_undone(&mut operands.rcx);
        let mitigations = &features.mitigations;
        let owner = PredictorOwner {
            process,
            vm: vm.get(),
        };
        mitigation::change_owner(&mut private.owner, owner, mitigations, &section);
        let host = &mut private.host_msrs;
        host.refresh(&section);
        match state.are_usual() {
            true => msr::write_usual(&host.shared, state.msrs(), &section),
            false => load_unusual_msrs(private, vm, features, &section),
        }
        let extended = &mut private.extended;
        vp.vp()
            .run_page
            .read_fx_registers(extended, mxcsr, &section);
        let host_xfd = if features.unseen_msrs.are_none() {
            extended.restore_all(&section);
            0
        } else {
            restore_with_unseen(private, vm, features, &section)
        };
        Self {
            vp,
            private,
            features,
            who: Who::new(thread, vp.vp().cpu, vm),
            process,
            vm,
            host_xfd,
            host_pkru: fpu::read_pkru(features.has_pkru, &section),
            has_run: false,
            has_switched: false,
            requested: Requested::default(),
            section,
        }
    }

    /// Loads the state that an interrupt handler could use: PKRU and DR0 to DR3 of the lower VTL.
    #[inline(always)]
    pub(super) fn load_last(&mut self, irqs: &IrqsOff) {
        self.private.debug.load_addresses(irqs);
        fpu::change_pkru(self.host_pkru, self.private.pkru, irqs);
    }

    /// Saves it again, before interrupts are enabled.
    #[inline(always)]
    pub(super) fn save_first(&mut self, irqs: &IrqsOff) {
        let pkru = fpu::read_pkru(self.features.has_pkru, &self.section);
        fpu::change_pkru(pkru, self.host_pkru, irqs);
        self.private.pkru = pkru;
        self.private.debug.store_addresses(irqs);
    }

    /// Executes TDG.VP.ENTER once; `operands` has the results.
    #[inline(always)]
    pub(super) fn enter(&mut self, irqs: &IrqsOff) -> Exit {
        let private = &mut *self.private;
        private.debug.load_dr6(irqs);
        enter::tdg_vp_enter(&mut private.operands, irqs);
        private.debug.store_dr6(irqs);
        classify(&private.operands.exit)
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
    #[inline(always)]
    pub(super) fn take_invalidation(&mut self) -> Result<bool> {
        if self.is_asked_for_nothing() {
            return Ok(true);
        }
        self.take_from(self.vp.run_page.read_entry_rcx())
    }

    /// Returns true if the run page names this VM and nothing to invalidate.
    #[inline(always)]
    pub(super) fn is_asked_for_nothing(&self) -> bool {
        self.vp.run_page.read_entry_rcx() == self.private.entry.rcx.raw()
    }

    #[cold]
    fn take_from(&mut self, word: u64) -> Result<bool> {
        let wanted = EntryRcx::new(word, self.features.limits.num_l2_vms).ok_or(EINVAL)?;
        let rcx = &mut self.private.operands.rcx;
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
            self.private.operands.rcx = self
                .private
                .operands
                .rcx
                .with_invalidation_of(INVALIDATE_ALL);
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
    #[inline(always)]
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
            .pass(vp, vm, self.private.vms.of_mut(vm), irqs);
        self.private.heed_intercepts(vm);
        result
    }

    /// Saves what a VM that has run, and that another VM follows, has in the processor.
    #[inline(always)]
    pub(super) fn save(&mut self, vm: VmIndex) {
        self.save_msrs(vm);
        self.private.note_given(vm);
    }

    /// Returns true if what was saved are the loaded MSRs, except KERNEL_GS_BASE.
    #[inline(always)]
    fn save_msrs(&mut self, vm: VmIndex) -> bool {
        let private = &mut *self.private;
        let state = private.vms.of_mut(vm);
        state.kept.spec_ctrl = private.operands.spec_ctrl;
        if state.must_read_back() {
            read_back(private, vm, self.features, &self.section);
            return false;
        }
        state.set_kernel_gs_base(msr::read_kernel_gs_base(&self.section));
        true
    }

    /// Makes the next entries those of another VM: with its own requests to invalidate, and after
    /// an IBPB if necessary. What userspace has requested meanwhile is kept for the VM that it
    /// names.
    #[inline(always)]
    pub(super) fn give_to(&mut self, vm: VmIndex) {
        let private = &mut *self.private;
        let rcx = EntryRcx::of(vm);
        let asked = self.vp.run_page.replace_entry_rcx(rcx);
        if asked != private.entry.rcx.raw() {
            keep_asked(private, asked, self.features.limits.num_l2_vms);
        }
        private.operands.rcx = rcx;
        let state = private.vms.of_mut(vm);
        state.take_undone(&mut private.operands.rcx);
        self.vm = vm;
        private.entry.rcx = rcx;
        self.who = self.who.in_vm(vm);
        private.heed_intercepts(vm);
        let mitigations = &self.features.mitigations;
        let owner = PredictorOwner {
            process: self.process,
            vm: vm.get(),
        };
        mitigation::change_owner(&mut private.owner, owner, mitigations, &self.section);
    }

    /// Loads the state of another VM, where it differs from that of the saved one.
    #[inline(always)]
    pub(super) fn change(&mut self, from: VmIndex, to: VmIndex) {
        let (features, section, private) = (self.features, &self.section, &mut *self.private);
        let (from, to) = (private.vms.of(from), private.vms.of(to));
        msr::write_shared(from.msrs(), to.msrs(), section);
        let (from, to) = (&from.kept, &to.kept);
        let unseen_msrs = &features.unseen_msrs;
        unseen_msrs.change(&from.unseen, &to.unseen, section);
        Xfd::known(from.xfd, section).change(to.xfd);
        private.operands.spec_ctrl = to.spec_ctrl;
        self.has_switched = true;
    }

    /// The lower VTL has run: its state has to be saved, and the requested invalidation has been
    /// done.
    pub(super) fn note_progress(&mut self) {
        self.has_run = true;
        if self.private.operands.rcx.invalidates() {
            self.note_invalidation();
        }
    }

    #[cold]
    fn note_invalidation(&mut self) {
        let vm = self.private.operands.rcx.vm();
        self.private.operands.rcx = self.private.operands.rcx.without_invalidation();
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
        let rcx = self.private.operands.rcx;
        let undone = &mut self.private.vms.of_mut(rcx.vm()).undone;
        *undone = rcx.with_invalidation_of(*undone).raw();
        if let Some(asked) = self.requested.by_run_page {
            self.vp.run_page.put_back_invalidation(asked);
        }
    }
}

/// Loads the shared MSRs of a VM of which it is not known how they differ from VTL2's, as in the VP's
/// first run.
#[inline(never)]
fn load_unusual_msrs(private: &mut Private, vm: VmIndex, features: &Features, section: &Section) {
    private.host_msrs.learn(features, section);
    private.compare_msrs(vm);
    let (state, host) = (private.vms.of(vm), &private.host_msrs.shared);
    msr::write_shared(host, state.msrs(), section);
}

/// Userspace has named another VM, or requested to invalidate, while the kernel was about to name one.
#[cold]
fn keep_asked(private: &mut Private, asked: u64, num_l2_vms: u8) {
    if let Some(asked) = EntryRcx::new(asked, num_l2_vms) {
        let undone = &mut private.vms.of_mut(asked.vm()).undone;
        *undone = asked.with_invalidation_of(*undone).raw();
    }
}

/// Reads what the lower VTL may have changed.
#[inline(never)]
fn read_back(private: &mut Private, vm: VmIndex, features: &Features, section: &Section) {
    let state = private.vms.of(vm);
    let steady = state.steady();
    let msrs = msr::read_shared(features, state.msrs(), steady, section);
    let mut kept = state.kept;
    let unseen_msrs = &features.unseen_msrs;
    unseen_msrs.save(&mut kept.unseen, steady, section);
    if !steady.has(MsrSet::XFD) {
        kept.xfd = Xfd::read(features, section).value();
    }
    private.read_back(vm, &msrs, &kept);
}

impl Loaded<'_> {
    /// Saves the lower VTL's state to the run page, and restores VTL2's. The only caller calls it
    /// whatever happens; a drop would do the same, but not be inlined.
    #[inline(always)]
    pub(super) fn unload(&mut self) {
        if self.private.operands.rcx.invalidates() {
            self.keep_invalidation();
        }
        if self.has_run {
            mitigation::end_ownership(&self.features.mitigations, &self.section);
        }
        let vm = self.vm;
        let is_plain = self.save_msrs(vm);
        let (section, features) = (&self.section, self.features);
        let private = &mut *self.private;
        let state = private.vms.of(vm);
        let (msrs, host) = (state.msrs(), &private.host_msrs.shared);
        match state.are_usual() {
            true => msr::write_usual(msrs, host, section),
            false => msr::write_shared(msrs, host, section),
        }
        private.debug.forget(section);
        if self.has_run {
            let run_page = &self.vp.vp().run_page;
            // Otherwise it has those that were loaded, unless userspace has written them just now.
            if !is_plain || self.has_switched {
                run_page.store_msrs(msrs);
            }
            run_page.store_state(msrs, private.operands.cr2, section);
        }
        if features.unseen_msrs.are_none() {
            private.extended.save_all(section);
        } else {
            save_with_unseen(private, vm, features, self.host_xfd, section);
        }
    }

    /// Stores the exit for userspace, when the state has been unloaded.
    #[inline(always)]
    pub(super) fn store_exit(&self) {
        let run_page = &self.vp.vp().run_page;
        run_page.store_exit_quickly(&self.private.operands.exit, &self.section);
    }
}

/// Loads the extended state of a VM together with the MSRs that have no field in the run page. Returns
/// VTL2's IA32_XFD.
#[inline(never)]
fn restore_with_unseen(
    private: &mut Private,
    vm: VmIndex,
    features: &Features,
    section: &Section,
) -> u64 {
    let (unseen_msrs, kept) = (&features.unseen_msrs, &private.vms.of(vm).kept);
    private.host_msrs.refresh_unseen(features, section);
    unseen_msrs.change(&private.host_msrs.unseen, &kept.unseen, section);
    let mut xfd = Xfd::read(features, section);
    let host_xfd = xfd.value();
    private.extended.restore(&mut xfd, section);
    xfd.change(kept.xfd);
    host_xfd
}

/// Saves it, and restores VTL2's MSRs. Those of the VM have been read.
#[inline(never)]
fn save_with_unseen(
    private: &mut Private,
    vm: VmIndex,
    features: &Features,
    host_xfd: u64,
    section: &Section,
) {
    let (unseen_msrs, kept) = (&features.unseen_msrs, &private.vms.of(vm).kept);
    unseen_msrs.change(&kept.unseen, &private.host_msrs.unseen, section);
    let mut xfd = Xfd::known(kept.xfd, section);
    private.extended.save(&mut xfd, section);
    xfd.change(host_xfd);
}
