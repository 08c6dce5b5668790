// SPDX-License-Identifier: GPL-2.0
//! Who owns the processor: exchanges what the TDX module leaves live between L1 and L2.
//!
//! | state | lower VTL's copy | VTL2's copy |
//! |---|---|---|
//! | general registers | run page, by the TDX module | kernel stack, by the stub |
//! | CR2 | run page | none is needed |
//! | x87, SSE | run page | task, by `kernel_fpu_begin` |
//! | AVX and further XCR0 components | VP | task, by `kernel_fpu_begin` |
//! | XCR0 | VP | a constant |
//! | PKRU | VP | this stack frame |
//! | DR0 to DR3, DR6 | VP | VP, while the lower VTL runs |
//! | STAR, LSTAR, FMASK, TSC_AUX, KERNEL_GS_BASE, XSS | run page | this stack frame |
//! | SPEC_CTRL | VP | this stack frame |
//!
//! VTL2's values are read anew each time: KERNEL_GS_BASE belongs to the current task, and no cached
//! value can be stale.  [TDP 2.5]

use crate::debug_regs::Exchanged;
use crate::enter;
use crate::features::Features;
use crate::fpu::InUse;
use crate::irq::IrqsOff;
use crate::msr::{self, Msr};
use crate::pure::controls::Entry;
use crate::pure::exit::{classify, RawExit};
use crate::pure::msr::SharedMsrs;
use crate::vp::bind::Armed;

/// Loads the lower VTL's state, enters, and puts VTL2's state back.
pub(super) fn enter(armed: &mut Armed<'_>, entry: &Entry) -> RawExit {
    let (irqs, features) = (&armed.irqs, armed.features);
    let private = &mut *armed.private;
    let mut cr2 = entry.cr2;

    let fpu = InUse::load(&mut private.extended, irqs);
    let host_msrs = read_msrs(features, irqs);
    write_msrs(&host_msrs, &entry.msrs, irqs);
    let debug = Exchanged::new(&mut private.debug, irqs);
    let host_spec_ctrl = exchange_spec_ctrl(private.spec_ctrl, features, irqs);

    let guest_state_gpa = armed.vp.run_page.guest_state_gpa();
    let exit = enter::tdg_vp_enter(entry.rcx, guest_state_gpa, &mut cr2, irqs);

    // First what the lower VTL could use against speculation in VTL2.
    private.spec_ctrl = exchange_spec_ctrl(host_spec_ctrl, features, irqs);
    drop(debug);
    let guest_msrs = read_msrs(features, irqs);
    write_msrs(&guest_msrs, &host_msrs, irqs);
    fpu.store();

    if classify(&exit).has_run() {
        let run_page = &armed.vp.run_page;
        run_page.store_state(&guest_msrs, cr2, private.extended.legacy_image());
        run_page.consume_invalidation(entry.rcx);
    }
    exit
}

fn read_msrs(features: &Features, irqs: &IrqsOff) -> SharedMsrs {
    let limits = &features.limits;
    SharedMsrs {
        kernel_gs_base: msr::read(Msr::KernelGsBase, irqs),
        star: msr::read(Msr::Star, irqs),
        lstar: msr::read(Msr::Lstar, irqs),
        sfmask: msr::read(Msr::Sfmask, irqs),
        xss: limits.xss.map_or(0, |_| msr::read(Msr::Xss, irqs)),
        tsc_aux: if limits.has_tsc_aux {
            msr::read(Msr::TscAux, irqs)
        } else {
            0
        },
    }
}

/// Writes what differs. An MSR that the processor lacks is zero on both sides, so it never does.
fn write_msrs(from: &SharedMsrs, to: &SharedMsrs, irqs: &IrqsOff) {
    let write = |msr, from: u64, to: u64| {
        if from != to {
            msr::write(msr, to, irqs);
        }
    };
    write(Msr::KernelGsBase, from.kernel_gs_base, to.kernel_gs_base);
    write(Msr::Star, from.star, to.star);
    write(Msr::Lstar, from.lstar, to.lstar);
    write(Msr::Sfmask, from.sfmask, to.sfmask);
    write(Msr::Xss, from.xss, to.xss);
    write(Msr::TscAux, from.tsc_aux, to.tsc_aux);
}

/// Loads `value`, returns what was there.
fn exchange_spec_ctrl(value: u64, features: &Features, irqs: &IrqsOff) -> u64 {
    if !features.limits.has_spec_ctrl {
        return 0;
    }
    let old = msr::read(Msr::SpecCtrl, irqs);
    if old != value {
        msr::write(Msr::SpecCtrl, value, irqs);
    }
    old
}
