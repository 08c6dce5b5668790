// SPDX-License-Identifier: GPL-2.0
//! The VPs of the machine, one per CPU, and the CPUs' comings and goings.

// UNSAFETY: hands callbacks to the kernel and initialises a global lock.
#![allow(unsafe_code)]

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
use crate::pure::audit::is_ring_size;
use crate::pure::field::VmIndex;
use crate::pure::status::Status;
use crate::vp::host_interrupts::{OnDeferred, OnInterrupt};
use crate::vp::lower_pages::LowerPages;
use crate::vp::on_cpu::OnCpu;
use crate::vp::Vp;

// Nothing of the host's is called any more on return, whatever was started.
safe_in_c! {
    fn vtl_synic_stop();
}

kernel::sync::global_lock! {
    /// The machine, while the module is loaded.
    unsafe(uninit) static MACHINE: Mutex<Option<Arc<Machine>>> = None;
}

/// The machine; `None` while the module loads or goes.
pub(crate) fn machine() -> Option<Arc<Machine>> {
    MACHINE.lock().clone()
}

/// What every open file and every CPU shares.
#[pin_data]
pub(crate) struct Machine {
    features: Features,
    /// The host, if it is Hyper-V.
    host: Option<Host>,
    /// Records in the audit ring of each VP.
    audit_records: u32,
    /// Indexed by CPU number; filled when a CPU comes online, emptied never.
    vps: KVec<SetOnce<Pin<KBox<Vp>>>>,
    /// CPUs whose VP could not be brought up.
    failed: Atomic<u32>,
    /// This kernel ends, and no VP comes to life any more.
    is_stopped: Atomic<bool>,
    /// Virtual APIC pages that are not the kernel's to pin.
    #[pin]
    lower_pages: LowerPages,
}

impl Machine {
    fn new(audit_records: u32) -> Result<Arc<Self>> {
        let features = Features::detect()?;
        let mut vps = KVec::new();
        for _ in 0..kernel::cpu::nr_cpu_ids() {
            vps.push(SetOnce::new(), GFP_KERNEL)?;
        }
        let host = Host::detect()?;
        let init = pin_init!(Self {
            features,
            host,
            audit_records,
            vps,
            failed: Atomic::new(0),
            is_stopped: Atomic::new(false),
            lower_pages <- LowerPages::new(),
        });
        Arc::pin_init(init, GFP_KERNEL)
    }

    /// Virtual APIC pages that are not the kernel's to pin.
    pub(crate) fn lower_pages(&self) -> &LowerPages {
        &self.lower_pages
    }

    /// What processor and TD have.
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

    /// One more than the highest CPU number there can be.
    pub(crate) fn num_cpus(&self) -> u32 {
        self.vps.len() as u32 // CAST: made from a u32
    }

    /// The VP of the CPU that the caller is on at this moment, for counting only.
    pub(crate) fn current_vp(&self) -> Option<&Vp> {
        self.vp(kernel::cpu::CpuId::current().as_u32())
    }

    /// The VP of a CPU; `None` for numbers without a CPU and CPUs that were never online.
    pub(crate) fn vp(&self, cpu: u32) -> Option<&Vp> {
        let slot = self.vps.get(cpu as usize)?; // CAST: u32 fits
        slot.as_ref().map(|vp| &**vp)
    }

    /// Makes the VP of a CPU, at the first time, and registers it with the TDX module.
    fn bring_up(&self, cpu: u32) -> Result {
        let slot = self.vps.get(cpu as usize).ok_or(ENXIO)?; // CAST: u32 fits
        if slot.as_ref().is_none() {
            slot.populate(Vp::new(cpu, &self.features, self.audit_records)?);
        }
        let alone = PreemptOff::new();
        let on_cpu = OnCpu::new(self, &alone).ok_or(ENXIO)?;
        if let Some(synic) = self.host().and_then(Host::synic) {
            synic.online(&alone);
        }
        self.register(on_cpu).map_err(|status| {
            let status = status.0;
            pr_err!("CPU {cpu}: virtual APIC page refused, status {status:#x}\n");
            EIO
        })?;
        // ORDERING: with the barrier in `stop`: either it calls this CPU after what stands above, or
        // this finds out.
        smp_mb(Full);
        if self.is_stopped.load(Relaxed) {
            self.take_down(&alone);
        }
        Ok(())
    }

    /// Tells the TDX module where the virtual APIC page of a VP is.
    ///
    /// What a kernel before this one, that crashed, has told about the other VMs is forgotten: the page
    /// is now this kernel's.
    ///
    /// # Errors
    ///
    /// The status of TDG.VP.WR.
    fn register(&self, on_cpu: OnCpu<'_>) -> Result<(), Status> {
        on_cpu.forget_apic_pages(&self.features, on_cpu);
        let gpa = on_cpu.vapic.phys();
        // SAFETY: `Machine::new` has found a TD. The page is for nothing else and stays as long as the
        // machine, which goes after `Hotplug`, whose end has every CPU forget it in `take_down`.
        unsafe { tdcall::set_virtual_apic_page(VmIndex::VM1, gpa) }?;
        on_cpu.set_ready();
        Ok(())
    }

    /// Gives back what the current CPU has with the host and the TDX module.
    fn take_down(&self, alone: &PreemptOff) {
        if let Some(synic) = self.host().and_then(Host::synic) {
            synic.offline(alone);
        }
        if let Some(on_cpu) = OnCpu::new(self, alone) {
            on_cpu.take_down(&self.features, on_cpu);
        }
    }

    /// Returns true if this kernel ends: `stop` was called.
    pub(crate) fn is_stopped(&self) -> bool {
        // ORDERING: callers have a lock that whoever called `stop` takes afterwards.
        self.is_stopped.load(Relaxed)
    }

    /// Takes every VP out of its lower VTL, for good, and gives back what all CPUs have with the host
    /// and the TDX module.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Relaxed);
        // ORDERING: with that in `bring_up`.
        smp_mb(Full);
        for cpu in 0..self.num_cpus() {
            // An interrupt takes its thread out of the lower VTL; what it finds then is a VP that is
            // not ready.
            let _ = ffi::on_cpu(cpu, &|| self.take_down(&PreemptOff::new()));
            if let Some(vp) = self.vp(cpu) {
                // A thread that sleeps, because its lower VTL is halted, finds out when it is woken.
                vp.cancel();
            }
        }
    }
}

/// CPU hotplug calls this on the CPU itself, in a task. A CPU without a VP stays usable: only
/// running a lower VTL on it fails, with ENXIO.
extern "C" fn online(cpu: c_uint) -> c_int {
    if let Some(machine) = machine() {
        if let Err(error) = machine.bring_up(cpu) {
            machine.failed.fetch_add(1, Relaxed);
            pr_err!(
                "CPU {cpu} gets no virtual processor: {}\n",
                error.to_errno()
            );
        }
    }
    0
}

/// As [`online`], before the CPU goes, and on every CPU when the module goes.
extern "C" fn offline(_cpu: c_uint) -> c_int {
    if let Some(machine) = machine() {
        machine.take_down(&PreemptOff::new());
    }
    0
}

/// [`machine`] answers.
pub(crate) struct Published(());

impl Published {
    /// Looks at processor and TD, and makes the machine known.
    ///
    /// # Errors
    ///
    /// ENODEV where the driver is of no use, EINVAL for a wrong module parameter, ENOMEM.
    pub(crate) fn new(audit_records: u32) -> Result<Self> {
        if !is_ring_size(audit_records) {
            pr_err!(
                "not loaded: audit_records={audit_records} is no power of two from 64 to 65536\n"
            );
            return Err(EINVAL);
        }
        // SAFETY: Once per load: only the module's init makes a `Published`, before any other use
        // of the lock, and a reload gets fresh statics.
        unsafe { MACHINE.init() };
        let machine = Machine::new(audit_records)?;
        *MACHINE.lock() = Some(machine);
        Ok(Self(()))
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        *MACHINE.lock() = None;
    }
}

/// Callbacks for CPU hotplug are in place.
pub(crate) struct Hotplug {
    state: c_int,
}

impl Hotplug {
    /// Brings up the VP of every CPU that is online, now and later.
    ///
    /// # Errors
    ///
    /// EIO when the VP of a CPU that is online now can't be brought up.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: The callbacks are functions of this module, and `drop` takes them back before it
        // goes.
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
        // SAFETY: The state is the one that `new` got. Calls `offline` on every CPU.
        unsafe { abi::__cpuhp_remove_state(self.state, true) }
    }
}

/// The host's interrupts reach this driver.
pub(crate) struct Interrupts {
    is_on: bool,
    _machine: Arc<Machine>,
}

impl Interrupts {
    /// Takes them, if there are controllers to take them from. Before a CPU turns its own on.
    pub(crate) fn start(machine: Arc<Machine>) -> Self {
        let is_on = machine.host().and_then(|host| host.synic()).is_some();
        if is_on {
            let argument: *const Machine = &*machine;
            // SAFETY: The callbacks want a machine; `self` keeps it until `drop` has stopped them.
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
