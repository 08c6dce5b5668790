// SPDX-License-Identifier: GPL-2.0
//! One virtual processor: what it owns, and how it is brought up on its CPU.
//!
//! A VP is created when its CPU first comes online and exists until the module is unloaded, so that
//! a page once mapped by userspace never goes away. `vp/claim.rs` decides who may use it.

pub(crate) mod apic_pages;
pub(crate) mod assist;
pub(crate) mod claim;
pub(crate) mod entry_check;
pub(crate) mod host_interrupts;
pub(crate) mod lower_pages;
pub(crate) mod machine;
pub(crate) mod on_cpu;
pub(crate) mod operands;
pub(crate) mod run_page;
pub(crate) mod switch_page;
pub(crate) mod users;
pub(crate) mod vapic;
pub(crate) mod vm_state;
pub(crate) mod wake;

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use kernel::prelude::*;
use kernel::sync::barrier::{smp_mb, Full};
use kernel::sync::{new_mutex, Mutex};

use crate::cpu::debug_regs::DebugRegs;
use crate::cpu::features::Features;
use crate::cpu::fpu::ExtendedState;
use crate::cpu::guards::PreemptOff;
use crate::cpu::msr::HostMsrs;
use crate::glue::ffi::{self, Exclusive};
use crate::glue::page::SharedPage;
use crate::observe::attest::{Sealer, Settings};
use crate::observe::audit::{Ring, Switches};
use crate::observe::stats::Stats;
use crate::pure::attest::Stream;
use crate::pure::audit::EntryReason;
use crate::pure::controls::Entry;
use crate::pure::deadline::Deadlines;
use crate::pure::field::{PerVm, VmIndex};
use crate::pure::halt_poll::HaltPoll;
use crate::pure::hv_vectors::Quota;
use crate::pure::mitigation::PredictorOwner;
use crate::pure::msr::SharedMsrs;
use crate::pure::mtrr::Mtrrs;
use crate::pure::registers::Register;
use crate::pure::vp_enter::INVALIDATE_ALL;
use crate::pure::vtl_switch::Flushes;
use apic_pages::ApicPages;
use entry_check::EntryCheck;
use on_cpu::OnCpu;
use operands::Operands;
use run_page::RunPage;
use switch_page::SwitchPage;
use vm_state::{KeptMsrs, VmState};
use wake::Wake;

/// A virtual processor.
#[pin_data]
pub(crate) struct Vp {
    /// The CPU to which it belongs.
    pub(crate) cpu: u16,
    /// x2APIC ID of that CPU, which is also that of the lower VTLs' processor.
    pub(crate) apic_id: u32,
    /// The page by which userspace controls it.
    pub(crate) run_page: RunPage,
    /// The page for switches between VTL0 and VTL1.
    pub(crate) switch_page: SwitchPage,
    /// Virtual-APIC page of VM 1.
    pub(crate) vapic: SharedPage,
    /// Virtual-APIC pages of the other VMs.
    #[pin]
    pub(crate) apic_pages: ApicPages,
    /// Audit records of its switches.
    pub(crate) ring: Ring,
    /// What hashes it, where there is attestation.
    pub(crate) sealer: Option<Pin<KBox<Sealer>>>,
    /// Counters.
    pub(crate) stats: Stats,
    /// Quota for redirected vectors of its CPU.
    pub(crate) redirected: Quota,
    /// How to wake or interrupt its thread.
    pub(crate) wake: Wake,
    /// Which VMs have to be checked before they are entered.
    pub(crate) entry_check: EntryCheck,
    /// Number of VTL files that have mapped the run page.
    #[pin]
    users: Mutex<u32>,
    /// True while the TDX module has the virtual-APIC page and the CPU is not going offline. It is
    /// read before each entry, so it is one of `core`'s atomics, like those of `stats`.
    ready: AtomicBool,
    /// The VP must not become ready: attestation is required, and broken.
    refused: AtomicBool,
    /// State for the thread that runs the VP only; to take it is to claim the VP.
    private: Exclusive<Private>,
}

/// State of the lower VTLs that has no field in the run page.
pub(crate) struct Private {
    /// x87, SSE, AVX and so on.
    pub(crate) extended: ExtendedState,
    /// PKRU.
    pub(crate) pkru: u32,
    /// The jiffy in which a quiescent state was last reported to RCU.
    pub(crate) quiescent_at: usize,
    /// The owner that entered last.
    pub(crate) owner: Option<PredictorOwner>,
    /// What belongs to one VM.
    pub(crate) vms: PerVm<VmState>,
    /// Values of the switch page's counters for which an invalidation has been done.
    pub(crate) flushes: Flushes,
    /// The shared MSRs as they were in the processor when each VM stopped last. KERNEL_GS_BASE of the
    /// VM that ran last may be out of date, see [`Self::given_msrs`].
    given_msrs: PerVm<SharedMsrs>,
    /// DR0 to DR3, DR6.
    pub(crate) debug: DebugRegs,
    /// Virtual MTRRs.
    mtrrs: Mtrrs,
    /// Number of switches so far.
    pub(crate) switches: Switches,
    /// Why the next entry happens, if the kernel has switched VTLs and an earlier call has ended
    /// before that entry.
    pub(crate) unrecorded: EntryReason,
    /// How long a halt polls before it sleeps.
    pub(crate) halt_poll: HaltPoll,
    /// TSC deadlines of the lower VTLs.
    pub(crate) deadlines: Deadlines,
    /// VTL2's values of the MSRs that it shares with lower VTLs.
    pub(crate) host_msrs: HostMsrs,
    /// What the last entry has loaded, or the next one will: it was checked.
    pub(crate) entry: Entry,
    /// Operands and results of the entries.
    pub(crate) operands: Operands,
}

impl Private {
    /// Resets the state of all lower VTLs, as after a reset of the processor. What is known about
    /// VTL2 and about the branch predictors is kept.
    pub(crate) fn reset(&mut self) {
        self.extended.reset();
        self.pkru = 0;
        self.given_msrs = PerVm::default();
        self.entry = Entry::RESET;
        self.debug = DebugRegs::new();
        self.mtrrs = Mtrrs::START;
        self.heed_intercepts(self.entry.rcx.vm());
        // What was requested for one guest tells nothing about the next: its first entry of each VM
        // invalidates.
        self.flushes = Flushes::default();
        for vm in [VmIndex::VM1, VmIndex::VM2, VmIndex::VM3] {
            let state = self.vms.of_mut(vm);
            *state = state.after_reset(INVALIDATE_ALL);
        }
    }

    /// Keeps `reason`, for which no entry has been recorded, if it is a switch between VTLs: the
    /// audit ring must show it, whichever call enters next.
    pub(crate) fn keep_unrecorded(&mut self, reason: EntryReason) {
        if reason.is_switch() {
            self.unrecorded = reason;
        }
    }

    /// Has the next entry of a VM load MSRs that were checked.
    pub(crate) fn set_msrs(&mut self, vm: VmIndex, msrs: &SharedMsrs) {
        self.vms.of_mut(vm).set_msrs(msrs, self.given_msrs.of(vm));
        self.compare_msrs(vm);
    }

    /// To be called after each change of a VM's shared MSRs: entries and exits then know which to write.
    /// Without effect before VTL2's were read.
    pub(crate) fn compare_msrs(&mut self, vm: VmIndex) {
        if let Some(host) = self.host_msrs.known() {
            self.vms.of_mut(vm).compare_msrs(host);
        }
    }

    /// The shared MSRs as they were in the processor when each VM stopped last.
    pub(crate) fn given_msrs(&mut self) -> &PerVm<SharedMsrs> {
        self.note_given(self.entry.rcx.vm());
        &self.given_msrs
    }

    /// Brings those of a VM up to date. To be called before another VM runs, and before they are used:
    /// most runs change KERNEL_GS_BASE alone, and use none of them.
    #[inline(always)]
    pub(crate) fn note_given(&mut self, vm: VmIndex) {
        let state = self.vms.of(vm);
        if state.are_given() {
            self.given_msrs.of_mut(vm).kernel_gs_base = state.msrs().kernel_gs_base;
        }
    }

    /// Takes over what a VM has left in the processor.
    pub(crate) fn read_back(&mut self, vm: VmIndex, msrs: &SharedMsrs, kept: &KeptMsrs) {
        *self.given_msrs.of_mut(vm) = *msrs;
        self.vms.of_mut(vm).read_back(msrs, kept);
        self.compare_msrs(vm);
    }

    /// Takes into account what L1 intercepts of the VM that will be entered. To be called whenever that
    /// becomes another VM, or the intercepts were read.
    pub(crate) fn heed_intercepts(&mut self, vm: VmIndex) {
        let intercepts = self.vms.of(vm).intercepts();
        let needs_addresses = !intercepts.has_no_breakpoints();
        self.debug.set_needs_addresses(needs_addresses);
        let is_steady = intercepts.is_spec_ctrl_steady();
        self.operands.set_spec_ctrl_steady(is_steady);
    }

    /// Value of a register that has no field in the run page.
    pub(crate) fn register(&self, register: Register) -> u64 {
        match register {
            Register::Xfem => self.extended.xfem(),
            Register::Debug(index) => self.debug.lower().get(index).copied().unwrap_or(0),
            Register::Mtrr(mtrr) => self.mtrrs.get(mtrr),
        }
    }

    /// Sets a register to a value that `Register::takes` accepts.
    pub(crate) fn set_register(&mut self, register: Register, value: u64) {
        match register {
            Register::Xfem => self.extended.set_xfem(value),
            Register::Debug(index) => {
                if let Some(slot) = self.debug.lower_mut().get_mut(index) {
                    *slot = value;
                }
            }
            Register::Mtrr(mtrr) => self.mtrrs.set(mtrr, value),
        }
    }
}

impl Vp {
    /// Creates a VP with empty pages and initial extended state.
    pub(crate) fn new(
        index: u32,
        features: &Features,
        audit_records: u32,
        attest: Option<&Settings>,
    ) -> Result<Pin<KBox<Self>>> {
        let cpu = u16::try_from(index)?;
        let ring = Ring::new(audit_records)?;
        let sealer = match attest {
            Some(settings) => Some(Sealer::new(index, &settings.parameters)?),
            None => None,
        };
        let limit = sealer
            .as_ref()
            .map_or(u64::MAX, |s| s.first_limit(audit_records));
        let stats = Stats::new(features.storm_spacing_ticks)?;
        let wake = Wake::new(index);
        let run_page = RunPage::new(SharedPage::new()?);
        let switch_page = SwitchPage::new(SharedPage::new()?);
        let vapic = SharedPage::new()?;
        let extended = ExtendedState::new(features.format)?;
        let operands = Operands::new(&run_page, features.mitigations.scrub);
        KBox::pin_init(
            pin_init!(Self {
                cpu,
                apic_id: ffi::apic_id(index),
                run_page,
                switch_page,
                vapic,
                apic_pages <- ApicPages::new(),
                ring,
                sealer,
                stats,
                redirected: Quota::default(),
                wake,
                entry_check: EntryCheck::new(),
                users <- new_mutex!(0, "mshv_vtl_tdx::users"),
                ready: AtomicBool::new(false),
                refused: AtomicBool::new(false),
                private: Exclusive::new(Private {
                    extended,
                    pkru: 0,
                    quiescent_at: 0,
                    vms: PerVm::default(),
                    flushes: Flushes::default(),
                    given_msrs: PerVm::default(),
                    owner: None,
                    debug: DebugRegs::new(),
                    mtrrs: Mtrrs::START,
                    switches: Switches::new(limit),
                    unrecorded: EntryReason::USERSPACE,
                    halt_poll: HaltPoll::new(),
                    deadlines: Deadlines::default(),
                    host_msrs: HostMsrs::default(),
                    entry: Entry::RESET,
                    operands,
                }),
            }),
            GFP_KERNEL,
        )
    }

    /// The TDX module has the virtual-APIC page now.
    fn set_ready(&self) {
        // ORDERING: pairs with the load in `is_ready`: a thread that sees the VP ready knows that
        // the page is registered.
        self.ready.store(true, Release);
        // ORDERING: with the barrier in `refuse`: one of the two leaves it not ready.
        smp_mb(Full);
        if self.refused.load(Relaxed) {
            self.ready.store(false, Release);
        }
    }

    /// Has it never enter again, and takes it out of the lower VTL.
    fn refuse(&self) {
        self.refused.store(true, Relaxed);
        // ORDERING: with the barrier in `set_ready`.
        smp_mb(Full);
        self.ready.store(false, Release);
        self.wake.kick();
    }

    /// Why it is not ready: ENXIO, or EIO without attestation that there has to be.
    #[cold]
    pub(crate) fn why_not_ready(&self) -> Error {
        if self.is_refused() {
            EIO
        } else {
            ENXIO
        }
    }

    /// Returns true if attestation is required, and broken.
    pub(crate) fn is_refused(&self) -> bool {
        // ORDERING: written before what a caller has seen in `is_ready`.
        self.refused.load(Relaxed)
    }

    /// Hashes all that is recorded of its switches.
    pub(crate) fn seal(&self) -> Stream {
        let sealer = self.sealer.as_ref();
        sealer.map_or(Stream::new(self.cpu.into()), |sealer| {
            sealer.seal_all(&self.ring)
        })
    }

    /// Makes the TDX module forget the virtual-APIC pages, before the CPU goes offline.
    fn take_down(&self, features: &Features, on_cpu: OnCpu<'_>, alone: &PreemptOff) {
        // The thread of the VP is not inside the lower VTL, because this code runs on its CPU. It
        // will find the VP not ready before it enters again.
        self.ready.store(false, Release);
        self.forget_apic_pages(features, on_cpu, alone);
    }

    /// Makes the TDX module forget the virtual-APIC pages of all VMs.
    fn forget_apic_pages(&self, features: &Features, on_cpu: OnCpu<'_>, alone: &PreemptOff) {
        let indices = 1..=u64::from(features.limits.num_l2_vms);
        for vm in indices.filter_map(VmIndex::new) {
            self.apic_pages.forget(vm, on_cpu, alone);
        }
    }

    /// Counts a VTL file that maps the run page.
    fn add_user(&self) {
        *self.users.lock() += 1;
    }

    /// Undoes `add_user`. The lock is held to the end, so that the next file that maps the page
    /// finds it in its final state.
    fn remove_user(&self) {
        let mut users = self.users.lock();
        *users = users.saturating_sub(1);
        if *users == 0 {
            self.run_page.block_proxied();
        }
    }

    /// Resets the run page, the switch page and the virtual-APIC page of VM 1 to their initial
    /// contents. No thread runs the VP.
    pub(crate) fn reset_pages(&self) {
        self.run_page.reset();
        self.switch_page.reset();
        self.vapic.clear_from(0);
    }

    /// Cancels the current run of the VP, or its next one. For any context.
    pub(crate) fn cancel(&self) {
        self.run_page.set_cancel();
        self.wake.kick();
    }

    /// Passes interrupts of the host to the run page, and kicks the thread of the VP. For any
    /// context.
    pub(crate) fn proxy(&self, vectors: &[u32; 8]) {
        if self.run_page.post_proxied(vectors) {
            self.wake.kick();
        }
    }

    /// Returns true if the VP may enter a lower VTL.
    pub(crate) fn is_ready(&self) -> bool {
        // ORDERING: pairs with the stores above.
        self.ready.load(Acquire)
    }
}
