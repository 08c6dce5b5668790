// SPDX-License-Identifier: GPL-2.0
//! All VPs, one per CPU, and CPU hotplug.

// UNSAFETY: registers callbacks with the kernel, initialises a global lock, and finds a VP by its
// address.
#![allow(unsafe_code)]

use core::sync::atomic::AtomicPtr;
use core::sync::atomic::Ordering::{Acquire, Release};

use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::barrier::{smp_mb, Full};
use kernel::sync::{Arc, SetOnce};

use crate::cpu::features::Features;
use crate::cpu::guards::PreemptOff;
use crate::cpu::tdcall;
use crate::glue::abi::{self, safe_in_c};
use crate::glue::ffi::{self, call_back};
use crate::hv::Host;
use crate::observe::attest::Settings;
use crate::observe::attest_control::Control;
use crate::observe::attest_log::Attest;
use crate::pure::attest::{Reason, Stream};
use crate::pure::audit::is_ring_size;
use crate::pure::field::VmIndex;
use crate::pure::status::Status;
use crate::vp::host_interrupts::{OnDeferred, OnInterrupt};
use crate::vp::lower_pages::LowerPages;
use crate::vp::on_cpu::OnCpu;
use crate::vp::Vp;

// After it returns, the kernel calls none of the host's handlers, whether they were started or not.
safe_in_c! {
    fn vtl_synic_stop();
}

kernel::sync::global_lock! {
    /// Set while the module is loaded.
    unsafe(uninit) static MACHINE: Mutex<Option<Arc<Machine>>> = None;
}

/// The machine; `None` while the module is being loaded or unloaded.
pub(crate) fn machine() -> Option<Arc<Machine>> {
    MACHINE.lock().clone()
}

/// State shared by every open file and every CPU.
#[pin_data]
pub(crate) struct Machine {
    features: Features,
    /// The host, if it is Hyper-V.
    host: Option<Host>,
    /// Records in the audit ring of each VP.
    audit_records: u32,
    /// Attestation of the records, if it is enabled.
    attest: Option<Pin<KBox<Attest>>>,
    /// Indexed by CPU number; filled when a CPU first comes online, never emptied.
    vps: KVec<Slot>,
    /// CPUs whose VP could not be brought up.
    failed: Atomic<u32>,
    /// This kernel is shutting down: no VP is brought up any more.
    is_stopped: Atomic<bool>,
    /// Virtual-APIC pages that the kernel can't pin.
    #[pin]
    lower_pages: LowerPages,
}

/// Where the VP of a CPU will be.
///
/// # Invariants
///
/// `address` is null, or that of the VP in `owned`, which stays there.
struct Slot {
    owned: SetOnce<Pin<KBox<Vp>>>,
    /// One of `core`'s atomics, like those of `stats`: every run and every kick begins here, and
    /// `SetOnce` calls a function of C.
    address: AtomicPtr<Vp>,
}

impl Slot {
    fn new() -> Self {
        // INVARIANT: null.
        Self {
            owned: SetOnce::new(),
            address: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// Takes a VP, once.
    fn fill(&self, vp: Pin<KBox<Vp>>) {
        self.owned.populate(vp);
        if let Some(vp) = self.owned.as_ref() {
            let vp: *const Vp = &**vp;
            // ORDERING: pairs with the load in `vp`: who sees the address sees the VP.
            // INVARIANT: `populate` never replaces what is there.
            self.address.store(vp.cast_mut(), Release);
        }
    }

    #[inline(always)]
    fn vp(&self) -> Option<&Vp> {
        // SAFETY: By the invariant, `self` owns the VP if there is one, and only shared references to
        // it exist.
        unsafe { self.address.load(Acquire).as_ref() }
    }
}

impl Machine {
    fn new(audit_records: u32, attest: Option<Settings>) -> Result<Arc<Self>> {
        let features = Features::detect()?;
        let mut vps = KVec::new();
        for _ in 0..kernel::cpu::nr_cpu_ids() {
            vps.push(Slot::new(), GFP_KERNEL)?;
        }
        let host = Host::detect()?;
        let num_cpus = kernel::cpu::nr_cpu_ids();
        let attest = match attest {
            Some(settings) => {
                let l2_vms = features.limits.num_l2_vms;
                Some(Attest::new(settings, num_cpus, audit_records, l2_vms)?)
            }
            None => None,
        };
        let init = pin_init!(Self {
            features,
            host,
            audit_records,
            attest,
            vps,
            failed: Atomic::new(0),
            is_stopped: Atomic::new(false),
            lower_pages <- LowerPages::new(),
        });
        Arc::pin_init(init, GFP_KERNEL)
    }

    /// Virtual-APIC pages that the kernel can't pin.
    pub(crate) fn lower_pages(&self) -> &LowerPages {
        &self.lower_pages
    }

    /// Features of processor and TD.
    pub(crate) fn features(&self) -> &Features {
        &self.features
    }

    /// The host, if it is Hyper-V.
    pub(crate) fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// Records in the audit ring of each VP.
    pub(crate) fn audit_records(&self) -> u32 {
        self.audit_records
    }

    /// Attestation, if there is any.
    pub(crate) fn attest(&self) -> Option<&Attest> {
        self.attest.as_deref()
    }

    /// Where attestation has events of the control plane recorded.
    pub(crate) fn control(&self) -> Option<&Control> {
        self.attest().map(|attest| &*attest.control)
    }

    /// Makes an event of the attested log, and returns its number.
    ///
    /// # Errors
    ///
    /// EOPNOTSUPP without attestation; the others as `Attest::checkpoint`.
    pub(crate) fn checkpoint(&self, reason: Reason) -> Result<u64> {
        let attest = self.attest().ok_or(EOPNOTSUPP)?;
        let seal = |cpu| self.vp(cpu).map_or(Stream::new(cpu), Vp::seal);
        let made = attest.checkpoint(reason, seal);
        if attest.refuses() {
            // ORDERING: with that in `bring_up`: a VP that comes to life now is found here, or finds out.
            smp_mb(Full);
            let vps = (0..self.num_cpus()).filter_map(|cpu| self.vp(cpu));
            vps.for_each(Vp::refuse);
        }
        made
    }

    /// One more than the highest possible CPU number.
    pub(crate) fn num_cpus(&self) -> u32 {
        self.vps.len() as u32 // CAST: made from a u32
    }

    /// The VP of the CPU that the caller happens to be on. Only good for counting.
    pub(crate) fn current_vp(&self) -> Option<&Vp> {
        self.vp(kernel::cpu::CpuId::current().as_u32())
    }

    /// The VP of a CPU; `None` for invalid numbers and CPUs that were never online.
    pub(crate) fn vp(&self, cpu: u32) -> Option<&Vp> {
        self.vps.get(cpu as usize)?.vp() // CAST: u32 fits
    }

    /// Registers the VP of a CPU with the TDX module, and creates it the first time.
    fn bring_up(&self, cpu: u32) -> Result {
        let slot = self.vps.get(cpu as usize).ok_or(ENXIO)?; // CAST: u32 fits
        if slot.vp().is_none() {
            let settings = self.attest().map(|attest| &attest.settings);
            let vp = Vp::new(cpu, &self.features, self.audit_records, settings)?;
            slot.fill(vp);
        }
        let alone = PreemptOff::new();
        let on_cpu = OnCpu::new(self, &alone).ok_or(ENXIO)?;
        if let Some(synic) = self.host().and_then(Host::synic) {
            synic.online(&alone);
        }
        self.register(on_cpu, &alone).map_err(|status| {
            let status = status.0;
            pr_err!("CPU {cpu}: virtual APIC page refused, status {status:#x}\n");
            EIO
        })?;
        // ORDERING: pairs with the barriers in `stop` and `checkpoint`: either they reach this CPU after
        // the stores above, or the loads below see what they have written.
        smp_mb(Full);
        if self.attest().is_some_and(Attest::refuses) {
            on_cpu.refuse();
        }
        if self.is_stopped.load(Relaxed) {
            self.take_down(&alone);
        }
        Ok(())
    }

    /// Sets the virtual-APIC page of a VP.
    ///
    /// Addresses that an earlier, crashed kernel set for the other VMs are dropped first: those
    /// pages belong to this kernel now.
    ///
    /// # Errors
    ///
    /// The status of TDG.VP.WR.
    fn register(&self, on_cpu: OnCpu<'_>, alone: &PreemptOff) -> Result<(), Status> {
        on_cpu.forget_apic_pages(&self.features, on_cpu, alone);
        let gpa = on_cpu.vapic.phys();
        // SAFETY: `Machine::new` established that this is a TD. Nothing else uses the page, which
        // lives as long as the machine; the machine outlives `Hotplug`, whose drop makes every CPU
        // forget the page in `take_down`.
        unsafe { tdcall::set_virtual_apic_page(VmIndex::VM1, gpa) }?;
        on_cpu.set_ready();
        Ok(())
    }

    /// Detaches the current CPU from the host's SynIC and from the TDX module.
    fn take_down(&self, alone: &PreemptOff) {
        if let Some(synic) = self.host().and_then(Host::synic) {
            synic.offline(alone);
        }
        if let Some(on_cpu) = OnCpu::new(self, alone) {
            on_cpu.take_down(&self.features, on_cpu, alone);
        }
    }

    /// Returns true if `stop` has been called: this kernel is shutting down.
    pub(crate) fn is_stopped(&self) -> bool {
        // ORDERING: callers hold a lock that the caller of `stop` takes afterwards.
        self.is_stopped.load(Relaxed)
    }

    /// Makes every VP leave its lower VTL for good, and detaches all CPUs from the host's SynIC and
    /// from the TDX module.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Relaxed);
        // ORDERING: pairs with the barrier in `bring_up`.
        smp_mb(Full);
        for cpu in 0..self.num_cpus() {
            // The IPI ends a run of the lower VTL; its thread then finds that the VP is not ready.
            let _ = ffi::on_cpu(cpu, &|| self.take_down(&PreemptOff::new()));
            if let Some(vp) = self.vp(cpu) {
                // A thread that sleeps in a halt must be woken to find out.
                vp.cancel();
            }
        }
    }
}

/// CPU hotplug callback, in a task on the CPU itself. A CPU without a VP stays usable: only running
/// a lower VTL on it fails, with ENXIO.
extern "C" fn online(cpu: c_uint) -> c_int {
    if let Some(machine) = machine() {
        if let Err(error) = machine.bring_up(cpu) {
            machine.failed.fetch_add(1, Relaxed);
            pr_err!(
                "CPU {cpu} has no virtual processor: error {}\n",
                error.to_errno()
            );
        }
    }
    0
}

/// As [`online`], before the CPU goes offline, and on every CPU when the module is unloaded.
extern "C" fn offline(_cpu: c_uint) -> c_int {
    if let Some(machine) = machine() {
        machine.take_down(&PreemptOff::new());
    }
    0
}

/// The published machine, for [`machine`].
pub(crate) struct Published(());

impl Published {
    /// Checks processor and TD, and publishes the machine.
    ///
    /// # Errors
    ///
    /// ENODEV if the driver can't work here, EINVAL for an invalid module parameter, ENOMEM.
    pub(crate) fn new(audit_records: u32, attest: Option<Settings>) -> Result<Self> {
        if !is_ring_size(audit_records) {
            pr_err!(
                "not loaded: audit_records={audit_records} is not a power of two from 64 to 65536\n"
            );
            return Err(EINVAL);
        }
        // SAFETY: Called once per load: only the module's init makes a `Published`, before any use
        // of the lock, and each load gets fresh statics.
        unsafe { MACHINE.init() };
        let machine = Machine::new(audit_records, attest)?;
        *MACHINE.lock() = Some(machine);
        Ok(Self(()))
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        *MACHINE.lock() = None;
    }
}

/// Registration of the CPU hotplug callbacks.
pub(crate) struct Hotplug {
    state: c_int,
}

impl Hotplug {
    /// Brings up the VP of every CPU that is online, now and later.
    ///
    /// # Errors
    ///
    /// EIO if the VP of a CPU that is online can't be brought up.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: The callbacks are functions of this module; `drop` unregisters them before the
        // module goes away.
        let state = unsafe { abi::vtl_cpuhp_setup(Some(online), Some(offline)) };
        kernel::error::to_result(state)?;
        let this = Self { state };
        match machine() {
            Some(machine) if machine.failed.load(Relaxed) == 0 => Ok(this),
            _ => Err(EIO),
        }
    }
}

impl Drop for Hotplug {
    fn drop(&mut self) {
        // SAFETY: `new` got this state, and only this removes it. Calls `offline` on every CPU.
        unsafe { abi::__cpuhp_remove_state(self.state, true) }
    }
}

/// Registration of the handlers for the host's interrupts.
pub(crate) struct Interrupts {
    is_on: bool,
    _machine: Arc<Machine>,
}

impl Interrupts {
    /// Registers them if there is a SynIC. To be called before a CPU enables its own.
    pub(crate) fn start(machine: Arc<Machine>) -> Self {
        let is_on = machine.host().and_then(|host| host.synic()).is_some();
        if is_on {
            let argument: *const Machine = &*machine;
            // SAFETY: The callbacks take a machine; `self` keeps it alive until `drop` has stopped
            // them.
            unsafe {
                abi::vtl_synic_start(
                    Some(call_back::<OnInterrupt, _>),
                    Some(call_back::<OnDeferred, _>),
                    argument.cast(),
                );
            }
        }
        Self {
            is_on,
            _machine: machine,
        }
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        if self.is_on {
            vtl_synic_stop();
        }
    }
}
