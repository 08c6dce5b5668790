// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! One virtual processor of the TD: its guest contexts, the module's state of it, its clock.
//!
//! `run.rs` drives it, `l1.rs` and `l2.rs` handle what it stops for. It belongs to one physical
//! processor and is never shared.

use crate::cpu::{apic, cr, msr, svm_mode, tsc};
use crate::extra_msrs::ExtraMsrs;
use crate::mem::frame::FramePool;
use crate::mem::overlay::Overlay;
use crate::run::end_by_machine;
use crate::setup::{Platform, World};
use crate::smp::{self, CPUS, CpuShared};
use crate::xfd::Hidden;
use core::ptr::addr_of;
use svm::intercept::{Exceptions, Misc1, Misc2};
use svm::iopm::Iopm;
use svm::msrpm::{Access, Intercept, Msrpm};
use svm::segment;
use svm::vcpu::Level;
use svm::vmcb::{InterruptControl, NESTED_PAGING, Save, Segment};
use svm::vmrun::{self, VmrunReady};
use svm::{SvmExit, Vmcb};
use tdx_model::gpa::VmIndex;
use tdx_model::vcpu::l2_ctls;

#[expect(unsafe_code)] // UNSAFETY: a piece of code and its address
mod idle {
    // The guest that sleeps: it leaves as soon as an interrupt is pending, without taking it.
    core::arch::global_asm!(
        ".globl emu_idle_guest",
        "emu_idle_guest:",
        "hlt",
        "jmp emu_idle_guest",
    );
    unsafe extern "C" {
        pub(super) static emu_idle_guest: u8;
    }
}

static IOPM: Iopm = Iopm::ALL;

const NO_FRAMES: &str = "no frames left for a virtual processor";

/// L1's time-stamp counter.
pub struct Clock {
    offset: u64,
    left_guest_at: u64,
    is_time_hidden: bool,
}

impl Clock {
    /// Subtracts the time since the guest exited from its TSC, if so configured. Returns the offset
    /// for the VMCB.
    fn enter(&mut self) -> u64 {
        if self.is_time_hidden {
            let away = tsc::now().wrapping_sub(self.left_guest_at);
            self.offset = self.offset.wrapping_sub(away);
        }
        self.offset
    }

    fn leave(&mut self) {
        if self.is_time_hidden {
            self.left_guest_at = tsc::now();
        }
    }

    /// What has to be added to the TSC to get L1's, as of when the guest was left.
    pub fn offset(&self) -> u64 {
        if !self.is_time_hidden {
            return self.offset;
        }
        self.offset
            .wrapping_sub(tsc::now().wrapping_sub(self.left_guest_at))
    }
}

/// An L2 VM on this processor.
pub struct L2Context {
    /// VMCB and registers.
    pub guest: svm::Vcpu,
    /// Which MSR accesses leave it.
    pub msrpm: &'static mut Msrpm,
    /// Roots of its nested tables: without and with the shared pages the host maps.
    pub nested_roots: [u64; 2],
    /// L1's bitmap that `msrpm` was made from.
    pub msr_bitmap: &'static mut [u64; tdx_model::vcpu::MSR_BITMAP_WORDS],
    /// How often L1 had written to its bitmap then.
    pub msr_bitmap_writes: u64,
    /// Software event injected at the latest entry: address of its instruction and its length.
    pub injected_software: Option<(u64, u32)>,
    /// TSC, as L1 sees it, at which the VMX-preemption timer that the latest entry started ends the run.
    pub timer_end: Option<u64>,
}

/// A virtual processor.
pub struct Vp {
    /// VCPU_INDEX.
    pub index: usize,
    /// What other processors see of it.
    pub shared: &'static CpuShared,
    /// What all processors share.
    pub platform: &'static Platform,
    /// L1.
    pub l1: svm::Vcpu,
    /// VM 1 to 3.
    pub l2: [L2Context; 3],
    /// The TDX module's state of this processor.
    pub model: &'static mut tdx_model::vcpu::Vcpu,
    /// L1's clock.
    pub clock: Clock,
    /// Registers that the processor lacks.
    pub extra_msrs: ExtraMsrs,
    /// Extended state that IA32_XFD hides.
    pub hidden: Hidden,
    /// What the host keeps of this processor.
    pub host: crate::host::Host,
    /// Rights that an L2 still has on this processor although L1 revoked them.
    pub overlay: Overlay,
    ready: VmrunReady,
    idle: svm::Vcpu,
}

impl Vp {
    /// Turns SVM on and makes the contexts.
    ///
    /// # Errors
    ///
    /// When the processor or the frame pool cannot do it.
    pub fn new(index: usize, platform: &'static Platform) -> Result<Self, &'static str> {
        let pool = &platform.pool;
        let ready = svm_mode::enable(pool)?;
        let world = platform.world();
        // CAST: at most MAX_CPUS
        let model = tdx_model::vcpu::Vcpu::new(index as u32, &world.td.config);
        let extra_msrs = ExtraMsrs::new(platform.config.has_extra_msrs);
        let l1 = new_l1(pool, &world, &extra_msrs)?;
        let l2 = [
            new_l2(pool, &world, VmIndex::Vm1)?,
            new_l2(pool, &world, VmIndex::Vm2)?,
            new_l2(pool, &world, VmIndex::Vm3)?,
        ];
        drop(world);
        Ok(Self {
            index,
            shared: &CPUS[index],
            platform,
            l1,
            l2,
            model: pool.store(model).ok_or(NO_FRAMES)?,
            clock: Clock {
                offset: 0,
                left_guest_at: tsc::now(),
                is_time_hidden: platform.config.is_time_hidden,
            },
            extra_msrs,
            hidden: Hidden::new(),
            host: crate::host::Host::new(platform.config.hostile, index),
            overlay: Overlay::new(pool),
            ready,
            idle: new_idle(pool)?,
        })
    }

    /// Where L1 is.
    pub fn rip(&self) -> u64 {
        self.l1.vmcb.save.rip
    }

    /// The context of an L2.
    pub fn l2_mut(&mut self, vm: VmIndex) -> &mut L2Context {
        &mut self.l2[usize::from(vm.number() - 1)]
    }

    /// The context of an L2, for reading.
    pub fn l2_ref(&self, vm: VmIndex) -> &L2Context {
        &self.l2[usize::from(vm.number() - 1)]
    }

    /// Root of the nested tables of an L2, which all processors share.
    pub fn nested_base_pa(&self, vm: VmIndex) -> u64 {
        let uses_host_tables = self.model.l2_ctls(vm) & l2_ctls::ENABLE_SHARED_EPTP != 0;
        self.l2_ref(vm).nested_roots[usize::from(uses_host_tables)]
    }

    /// Runs a guest of this processor until it leaves.
    pub fn run_guest(&mut self, vm: Option<VmIndex>) -> SvmExit {
        let tsc_offset = self.clock.enter();
        let number = vm.map_or(0, |vm| usize::from(vm.number()));
        let guest = match vm {
            None => &mut self.l1,
            Some(_) => &mut self.l2[number - 1].guest,
        };
        guest.vmcb.control.tsc_offset = tsc_offset;
        // TCG remembers an injected interrupt until the next exit, and delivers it again if
        // something outside stops the processor before that. So make it exit immediately.
        if guest.has_interrupt() {
            smp::kick(self.index);
        }
        let has_window = guest.vmcb.control.int_ctl.v_irq();
        self.shared.enter_guest();
        let exit = guest.run_to_exit(&self.ready);
        self.shared.leave_guest();
        if has_window {
            // VMRUN with V_IRQ changes QEMU's word of pending interrupts without its lock, so one
            // that another thread raised at that moment may be lost there, while the APIC still
            // has it.
            apic::look_again();
        }
        if guest.has_lost_state() {
            end_by_machine(format_args!(
                "the state of VM {number}, which exited ({exit:x?})"
            ));
        }
        let (code, rip) = (guest.vmcb.control.exit_code, guest.vmcb.save.rip);
        self.clock.leave();
        self.shared.stats.count_exit(number, code, rip);
        exit
    }

    /// Sleeps until an interrupt or NMI is pending, and takes neither.
    pub fn sleep(&mut self) -> SvmExit {
        self.clock.enter();
        let exit = self.idle.run_to_exit(&self.ready);
        self.clock.leave();
        exit
    }

    /// Proof that this processor runs guests.
    pub fn ready(&self) -> &VmrunReady {
        &self.ready
    }

    /// Consumes the NMI that the last exit reported. Returns true if one was meant for L1.
    pub fn take_nmi(&self) -> bool {
        if !vmrun::consume_nmi(&self.ready) {
            end_by_machine(format_args!("the NMI of an exit"));
        }
        self.shared.take_nmi()
    }

    /// Runs an L2 with its own FS, GS, TR, LDTR and SYSENTER registers.
    pub fn run_l2(&mut self, vm: VmIndex) -> SvmExit {
        let number = usize::from(vm.number() - 1);
        vmrun::vmload(&self.ready, self.l2[number].guest.vmcb);
        let exit = self.run_guest(Some(vm));
        vmrun::vmsave(&self.ready, self.l2[number].guest.vmcb);
        exit
    }

    /// Hands the processor from L1 to an L2: what the TDX module switches is exchanged, what it
    /// does not switch stays in place for the next VM to find. [TDP state not switched]
    pub fn switch_to_l2(&mut self, vm: VmIndex) {
        vmrun::vmsave(&self.ready, self.l1.vmcb);
        let to = &mut self.l2[usize::from(vm.number() - 1)].guest.vmcb;
        leak_unswitched(&self.l1.vmcb.save, &mut to.save);
    }

    /// The way back.
    pub fn switch_to_l1(&mut self, vm: VmIndex) {
        let from = &self.l2[usize::from(vm.number() - 1)].guest.vmcb;
        leak_unswitched(&from.save, &mut self.l1.vmcb.save);
        vmrun::vmload(&self.ready, self.l1.vmcb);
    }

    /// Makes the next run end at once, after the event it injects.
    pub fn kick_self(&self) {
        smp::kick(self.index);
    }

    /// Loads the hidden registers of L1 before its first instruction.
    pub fn load_l1(&self) {
        vmrun::vmload(&self.ready, self.l1.vmcb);
    }
}

/// What VMRUN and VMLOAD would switch although the TDX module does not. DR0 to DR3, XCR0, TSC_AUX
/// and the extended state are switched by neither and simply stay.
fn leak_unswitched(from: &Save, to: &mut Save) {
    vmrun::leak_shared_syscall_state(from, to);
    to.cr2 = from.cr2;
    to.dr6 = from.dr6;
}

fn new_guest(pool: &FramePool) -> Result<svm::Vcpu, &'static str> {
    let vmcb = pool.allocate_zeroed::<Vmcb>().ok_or(NO_FRAMES)?;
    // One ASID for all, and no flush requested: TCG empties its TLB anyway whenever VMRUN or
    // #VMEXIT loads CR3 or changes paging.
    vmcb.control.guest_asid = 1;
    vmcb.control.iopm_base_pa = addr_of!(IOPM) as u64;
    vmcb.control.intercept_misc2 = Misc2::SVM_INSTRUCTIONS;
    vmcb.save.efer = msr::EFER_SVME;
    Ok(svm::Vcpu::new(vmcb))
}

fn new_l1(
    pool: &FramePool,
    world: &World,
    extra_msrs: &ExtraMsrs,
) -> Result<svm::Vcpu, &'static str> {
    let guest = new_guest(pool)?;
    let msrpm = pool.allocate_zeroed::<Msrpm>().ok_or(NO_FRAMES)?;
    fill_l1_msrpm(msrpm, world, extra_msrs);
    let control = &mut guest.vmcb.control;
    control.msrpm_base_pa = core::ptr::from_ref(msrpm) as u64;
    control.nested_ctl = NESTED_PAGING;
    control.nested_cr3 = world.spaces.l1_root_pa();
    control.intercept_exceptions = Exceptions::UD;
    // Interrupts are not intercepted: the physical local APIC delivers them to L1.
    control.intercept_misc1 = Misc1::NMI
        | Misc1::CPUID
        | Misc1::HLT
        | Misc1::IOIO
        | Misc1::MSR
        | Misc1::INVD
        | Misc1::RSM
        | Misc1::TASK_SWITCH
        | Misc1::SHUTDOWN;
    control.intercept_misc2 |= Misc2::WBINVD | Misc2::MONITOR | Misc2::MWAIT;
    Ok(guest)
}

/// What the TD's table passes runs natively, except EFER, where SVME has to be hidden, and what the
/// processor lacks.
fn fill_l1_msrpm(msrpm: &mut Msrpm, world: &World, extra_msrs: &ExtraMsrs) {
    *msrpm = Msrpm::ALL;
    for msr in (0..0x2000).chain(0xc000_0000..0xc000_2000) {
        for (access, model_access) in ACCESSES {
            let passes = tdx_model::msr::is_passed_through(&world.td, msr, model_access);
            if passes && msr != msr::EFER && !extra_msrs.has(msr) {
                msrpm.set(msr, access, Intercept::No);
            }
        }
    }
}

/// The two directions in both vocabularies.
pub const ACCESSES: [(Access, tdx_model::msr::Access); 2] = [
    (Access::Read, tdx_model::msr::Access::Read),
    (Access::Write, tdx_model::msr::Access::Write),
];

fn new_l2(pool: &FramePool, world: &World, vm: VmIndex) -> Result<L2Context, &'static str> {
    let mut guest = new_guest(pool)?;
    guest.level = Level::L2;
    let msrpm = pool.allocate_zeroed::<Msrpm>().ok_or(NO_FRAMES)?;
    *msrpm = Msrpm::ALL;
    let all = [u64::MAX; tdx_model::vcpu::MSR_BITMAP_WORDS];
    let msr_bitmap = pool.store(all).ok_or(NO_FRAMES)?;
    let control = &mut guest.vmcb.control;
    control.msrpm_base_pa = core::ptr::from_ref(&*msrpm) as u64;
    control.nested_ctl = NESTED_PAGING;
    let nested_roots = world.spaces.l2_root_pas(vm);
    control.nested_cr3 = nested_roots[0];
    control.int_ctl = InterruptControl::new().with_v_intr_masking(true);
    Ok(L2Context {
        guest,
        msrpm,
        nested_roots,
        msr_bitmap,
        msr_bitmap_writes: 0,
        injected_software: None,
        timer_end: None,
    })
}

/// A guest of the emulator's own, in its address space, that only events and HLT concern.
pub fn new_idle(pool: &FramePool) -> Result<svm::Vcpu, &'static str> {
    let guest = new_guest(pool)?;
    let control = &mut guest.vmcb.control;
    control.intercept_exceptions = Exceptions::all();
    control.intercept_misc1 = Misc1::INTR | Misc1::NMI | Misc1::SHUTDOWN;
    control.int_ctl = InterruptControl::new().with_v_intr_masking(true);
    let save = &mut guest.vmcb.save;
    flat_long_mode(save, addr_of!(idle::emu_idle_guest) as u64);
    save.cr3 = cr::read_cr3();
    save.rflags |= 1 << 9;
    Ok(guest)
}

/// 64-bit mode with flat segments, interrupts off, at `rip`.
pub fn flat_long_mode(save: &mut Save, rip: u64) {
    let data = Segment {
        selector: 0x18,
        attributes: 0xc93,
        limit: u32::MAX,
        base: 0,
    };
    save.cs = Segment {
        selector: 0x10,
        attributes: 0xa9b,
        limit: u32::MAX,
        base: 0,
    };
    (save.ds, save.es, save.ss, save.fs, save.gs) = (data, data, data, data, data);
    save.tr = Segment {
        selector: 0,
        attributes: 0x8b,
        limit: 0xffff,
        base: 0,
    };
    save.ldtr = Segment {
        selector: 0,
        attributes: segment::attributes(0x1_0082),
        ..data
    };
    save.cr0 = u64::from(cr::HOST_CR0);
    save.cr4 = u64::from(cr::HOST_CR4);
    save.efer = msr::EFER_LME | msr::EFER_LMA | msr::EFER_NXE | msr::EFER_SVME;
    save.dr6 = 0xffff_0ff0;
    save.dr7 = 0x400;
    save.rflags = 2;
    save.rip = rip;
    save.g_pat = 0x0007_0406_0007_0406;
}
