// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! One VTL call: initialisation by the first one, then a request.

use vtl1::boot::Boot;
use vtl1::hypercall::{Completion, ProtectInput};
use vtl1::kernel::{Buffer, SecureKernel};
use vtl1::memory::Paravisor;
use vtl1::request::MAX_OUTPUT;

use crate::cpu;
use crate::crash::{self, Report};
use crate::pages::{Assist, BootPage, Exclusive, HypercallPage, Vtl0Memory};

/// HV_X64_MSR_VP_ASSIST_PAGE, and its enable bit.
const VP_ASSIST_PAGE: u32 = 0x4000_0073;
const ENABLE: u64 = 1;
/// The entry reason for a VTL call.
const REASON_CALL: u32 = 1;

/// What lives from call to call. `None` before the first one.
struct State {
    services: Option<Services>,
    buffer: Buffer,
}

struct Services {
    kernel: SecureKernel,
    vtl2: Vtl2,
}

static STATE: Exclusive<State> = Exclusive::new(State {
    services: None,
    buffer: [0; MAX_OUTPUT],
});

/// Handles a call with RAX, RCX and RDI of VTL0; what it gets in RAX and RCX is in the assist page
/// afterwards.
pub(crate) fn call(rax: u64, rcx: u64, rdi: u64) {
    let taken = STATE.with(|state| {
        let State { services, buffer } = state;
        let services = services.get_or_insert_with(start);
        if Assist.entry_reason() != REASON_CALL {
            // For an interrupt: VTL0 was anywhere, and continues there.
            Assist.set_return([rax, rcx]);
            return;
        }
        let Services { kernel, vtl2 } = services;
        let reply = kernel.handle(rdi, buffer, &mut Vtl0Memory, vtl2);
        // CAST: the numbers of the enum.
        Assist.set_return([reply.status as u64, reply.value]);
    });
    if taken.is_none() {
        crash::end(&Report::NOT_ALONE);
    }
}

/// Starts with the boot page, whose seed is erased.
fn start() -> Services {
    cpu::load_tables();
    let Some(boot) = BootPage.take() else {
        crash::end(&Report::NO_BOOT_PAGE);
    };
    let Some(kernel) = SecureKernel::new(&boot) else {
        crash::end(&Report::BAD_BOOT_PAGE);
    };
    let Boot {
        assist, hypercall, ..
    } = boot;
    cpu::write_hyperv_msr(VP_ASSIST_PAGE, assist | ENABLE);
    Services {
        kernel,
        vtl2: Vtl2 { input: hypercall },
    }
}

/// VTL2, by hypercalls with an input page at this guest-physical address.
struct Vtl2 {
    input: u64,
}

impl Paravisor for Vtl2 {
    fn modify_protection(&mut self, input: &ProtectInput) -> Completion {
        HypercallPage.write(input.words());
        Completion::from_raw(cpu::hypercall(input.control(), self.input))
    }
}
