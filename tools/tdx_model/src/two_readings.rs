// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Compares the kernel module's reading of the specification with this one.
//!
//! The module's numbers are in `rust/pure`, written independently; here this crate answers the
//! module's own typed calls. If the two disagree, one of them has misread.

use std::vec::Vec;

use vtl_pure::pure::exit::{Exit, RawExit, classify};
use vtl_pure::pure::field::{FieldId, VmIndex as DriverVm, management, vmcs};
use vtl_pure::pure::leaf as driver_leaf;
use vtl_pure::pure::lower::LowerMemory;
use vtl_pure::pure::policy::POLICY;
use vtl_pure::pure::status::{Operand as DriverOperand, Status as DriverStatus};
use vtl_pure::pure::tdcall::{
    Call, PageState, Registers, Tdcall, tdg_mem_page_attr_rd, tdg_vm_rd, virtual_apic_write,
};

use crate::Field;
use crate::dispatch::{Outcome, leaf_name, tdcall};
use crate::gpa::{Gpa, Level, VmIndex};
use crate::gprs::Gprs;
use crate::l2_exit::{HostRouted, L2Call, L2Exit, L2Outcome};
use crate::status::{Operand, Status};
use crate::td::Td;
use crate::testing::{FakeMachine, KERNEL, STATE, VAPIC, complete, with_td};
use crate::vcpu::Vcpu;

/// The instruction, answered by the model.
pub(crate) struct Model<'a, 'm> {
    pub(crate) td: &'a mut Td<'m>,
    pub(crate) vcpu: &'a mut Vcpu,
    pub(crate) machine: &'a mut FakeMachine,
}

impl Tdcall for Model<'_, '_> {
    fn tdcall(&mut self, call: Call) -> Registers {
        self.execute(call.registers())
    }
}

impl Model<'_, '_> {
    /// Executes any TDCALL.
    pub(crate) fn execute(&mut self, registers: Registers) -> Registers {
        let mut g = Gprs {
            rax: registers.rax,
            rcx: registers.rcx,
            rdx: registers.rdx,
            r8: registers.r8,
            r9: registers.r9,
            r10: registers.r10,
            r11: registers.r11,
            ..Gprs::ZERO
        };
        let outcome = tdcall(self.td, self.vcpu, &mut g, KERNEL, self.machine);
        assert_eq!(outcome, Outcome::Complete);
        Registers {
            rax: g.rax,
            rcx: g.rcx,
            rdx: g.rdx,
            r8: g.r8,
            r9: g.r9,
            r10: g.r10,
            r11: g.r11,
        }
    }
}

#[test]
fn status_codes_agree() {
    let pairs = [
        (DriverStatus::SUCCESS, Status::SUCCESS),
        (DriverStatus::OPERAND_INVALID, Status::OPERAND_INVALID),
        (DriverStatus::OPERAND_BUSY, Status::OPERAND_BUSY),
        (
            DriverStatus::L2_EXIT_HOST_ROUTED_ASYNC,
            Status::L2_EXIT_HOST_ROUTED_ASYNC,
        ),
        (
            DriverStatus::L2_EXIT_HOST_ROUTED_TDVMCALL,
            Status::L2_EXIT_HOST_ROUTED_TDVMCALL,
        ),
        (
            DriverStatus::L2_EXIT_PENDING_INTERRUPT,
            Status::L2_EXIT_PENDING_INTERRUPT,
        ),
        (DriverStatus::PENDING_INTERRUPT, Status::PENDING_INTERRUPT),
        (DriverStatus::L2_VM_ENTRY_FAILED, Status::L2_VM_ENTRY_FAILED),
    ];
    for (driver, model) in pairs {
        assert_eq!(u64::from(driver) << 32, model.0, "{model:?}");
    }
    let operands = [
        (DriverOperand::Rax, Operand::Rax),
        (DriverOperand::Rcx, Operand::Rcx),
        (DriverOperand::Rdx, Operand::Rdx),
        (DriverOperand::R8, Operand::R8),
    ];
    for (driver, model) in operands {
        assert_eq!(
            DriverStatus::operand_invalid(driver).0,
            Status::invalid(model).0
        );
    }
}

#[test]
fn leaf_numbers_agree() {
    let pairs = [
        (driver_leaf::TDG_MEM_PAGE_ACCEPT, "TDG.MEM.PAGE.ACCEPT"),
        (driver_leaf::TDG_VM_RD, "TDG.VM.RD"),
        (driver_leaf::TDG_VP_RD, "TDG.VP.RD"),
        (driver_leaf::TDG_VP_WR, "TDG.VP.WR"),
        (driver_leaf::TDG_SYS_RD, "TDG.SYS.RD"),
        (driver_leaf::TDG_MEM_PAGE_ATTR_RD, "TDG.MEM.PAGE.ATTR.RD"),
        (driver_leaf::TDG_MEM_PAGE_ATTR_WR, "TDG.MEM.PAGE.ATTR.WR"),
        (driver_leaf::TDG_VP_ENTER, "TDG.VP.ENTER"),
        (driver_leaf::TDG_VP_INVGLA, "TDG.VP.INVGLA"),
        (driver_leaf::TDG_VM_WR, "TDG.VM.WR"),
        (driver_leaf::TDG_MEM_PAGE_RELEASE, "TDG.MEM.PAGE.RELEASE"),
        (driver_leaf::TDG_VP_VMCALL, "TDG.VP.VMCALL"),
    ];
    for (leaf, name) in pairs {
        assert_eq!(u16::try_from(leaf).ok().and_then(leaf_name), Some(name));
    }
}

#[test]
fn every_leaf_of_the_drivers_policy_is_the_one_it_is_called() {
    for entry in &POLICY {
        let leaf = u16::try_from(entry.leaf & 0xffff).expect("16 bits");
        let name = entry.name.trim_end_matches(".1");
        let model = leaf_name(leaf).and_then(|name| name.strip_prefix("TDG."));
        assert_eq!(model, Some(name), "{:#x}", entry.leaf);
        let is_versioned = entry.leaf >> 16 != 0;
        assert_eq!(is_versioned, entry.name.ends_with(".1"));
    }
}

#[test]
fn field_ids_of_the_driver_name_what_it_thinks() {
    with_td(|td, vcpu, machine| {
        td.config.xfam = 0xe7;
        let mut model = Model { td, vcpu, machine };
        let mut read = |id| tdg_vm_rd(&mut model, id);
        assert_eq!(read(FieldId::NUM_L2_VMS), Ok(2));
        assert_eq!(read(FieldId::ATTRIBUTES), Ok(1 << 28));
        assert_eq!(read(FieldId::XFAM), Ok(0xe7));
        // In units of 25 MHz.
        assert_eq!(read(FieldId::TSC_FREQUENCY), Ok(98));
        let mut g = Gprs {
            rdx: FieldId::TDX_FEATURES0.0,
            ..Gprs::ZERO
        };
        assert_eq!(complete(td, vcpu, machine, 11, &mut g), 0);
        assert_eq!(g.r8 >> 7 & 1, 1, "TD partitioning");
        for (code, value) in [(management::L2_CTLS, 3), (management::TSC_DEADLINE, 55)] {
            let rdx = 0xa020_0003_0000_0000 | (code + 2);
            let mut g = Gprs {
                rdx,
                r8: value,
                r9: u64::MAX,
                ..Gprs::ZERO
            };
            assert_eq!(complete(td, vcpu, machine, 10, &mut g), 0);
        }
        assert_eq!(vcpu.l2_ctls(VmIndex::Vm2), 3);
        assert_eq!(vcpu.tsc_deadline(VmIndex::Vm2), Some(55));
        let field = Field::from_encoding(vmcs::VIRTUAL_APIC_ADDRESS);
        assert_eq!(field, Some(Field::VirtualApicAddress));
        let fields = [
            (vmcs::CR3_TARGET_COUNT, Field::Cr3TargetCount),
            (vmcs::ENTRY_EVENT, Field::EntryInterruptionInfo),
            (vmcs::ENTRY_ERROR_CODE, Field::EntryErrorCode),
            (
                vmcs::ENTRY_INSTRUCTION_LENGTH,
                Field::EntryInstructionLength,
            ),
            (vmcs::TPR_THRESHOLD, Field::TprThreshold),
            (vmcs::SECONDARY_CONTROLS, Field::SecondaryControls),
            (vmcs::GUEST_CR0, Field::GuestCr0),
            (vmcs::INTERRUPTIBILITY, Field::GuestInterruptibility),
        ];
        for (code, field) in fields {
            assert_eq!(Field::from_encoding(code), Some(field));
        }
    });
}

#[test]
fn monitor_trap_that_the_driver_forbids_would_be_the_end_of_the_td() {
    with_td(|td, vcpu, m| {
        m.prepare_l2(vcpu);
        let mut g = Gprs {
            rdx: 0x2424_0002_0000_4002,
            r8: 1 << 27,
            r9: 1 << 27,
            ..Gprs::ZERO
        };
        assert_eq!(complete(td, vcpu, m, 10, &mut g), 0, "L1 may set it");
        let e = L2Exit {
            reason: 37,
            ..L2Exit::default()
        };
        let mut call = L2Call {
            td,
            vcpu,
            vm: VmIndex::Vm1,
            l1_gprs: &mut g,
            machine: m,
        };
        let outcome = call.exit(&e);
        assert!(matches!(outcome, L2Outcome::Fatal(_)));
    });
}

#[test]
fn the_drivers_calls_have_the_effect_it_expects() {
    with_td(|td, vcpu, machine| {
        assert!(td.pages.host_aug_pending(Gpa(0x20_0000), Level::Size4K));
        let mut model = Model { td, vcpu, machine };
        assert_eq!(tdg_vm_rd(&mut model, FieldId::NUM_L2_VMS), Ok(2));
        for number in [1, 2] {
            let vm = DriverVm::new(number).expect("an L2");
            let told = model.execute(virtual_apic_write(vm, VAPIC));
            assert!(told.succeeded().is_ok());
            let vm = VmIndex::new(number).expect("an L2");
            assert_eq!(model.vcpu.l2(vm).virtual_apic_gpa(), Some(Gpa(VAPIC)));
        }
        let absent = DriverVm::new(3).expect("an L2");
        let refused = model.execute(virtual_apic_write(absent, VAPIC));
        assert_eq!(
            refused.succeeded().map_err(|s| s.0),
            Err(Status::METADATA_FIELD_ID_INCORRECT.0)
        );
        let list = LowerMemory::parse(b"4K,4K,2M,4K", 1 << 47).expect("a list");
        let mut state = |gpa| {
            let page = list.range(gpa, 4096).expect("a page of the list");
            tdg_mem_page_attr_rd(&mut model, page)
        };
        assert_eq!(state(0x1000), Ok(PageState::Accepted { level: 0 }));
        assert_eq!(state(0x20_0000), Ok(PageState::Pending));
    });
}

fn classified(g: &Gprs) -> Exit {
    classify(&RawExit {
        rax: g.rax,
        rcx: g.rcx,
        rdx: g.rdx,
        rsi: g.rsi,
        rdi: g.rdi,
        r8: g.r8,
        r9: g.r9,
        r10: g.r10,
        r11: g.r11,
        r12: g.r12,
        r13: g.r13,
    })
}

#[test]
fn the_driver_understands_every_way_back_from_an_l2() {
    with_td(|td, vcpu, m| {
        m.prepare_l2(vcpu);
        let enter = Gprs {
            rax: 25,
            rcx: 1 << 52,
            rdx: STATE,
            ..Gprs::ZERO
        };
        let mut seen = Vec::new();

        m.is_interrupt_pending = true;
        let mut g = enter;
        assert_eq!(tdcall(td, vcpu, &mut g, KERNEL, m), Outcome::Complete);
        seen.push(classified(&g));
        m.is_interrupt_pending = false;

        let mut g = Gprs { rcx: 0, ..enter };
        assert_eq!(tdcall(td, vcpu, &mut g, KERNEL, m), Outcome::Complete);
        seen.push(classified(&g));

        for reason in [10, 1] {
            let mut g = enter;
            assert_eq!(
                tdcall(td, vcpu, &mut g, KERNEL, m),
                Outcome::EnterL2(VmIndex::Vm1)
            );
            let e = L2Exit {
                reason,
                ..L2Exit::default()
            };
            let mut call = L2Call {
                td,
                vcpu,
                vm: VmIndex::Vm1,
                l1_gprs: &mut g,
                machine: m,
            };
            let outcome = call.exit(&e);
            assert_eq!(outcome, L2Outcome::ToL1);
            seen.push(classified(&g));
        }
        for kind in [HostRouted::Async, HostRouted::Tdvmcall] {
            let mut g = enter;
            let mut call = L2Call {
                td,
                vcpu,
                vm: VmIndex::Vm1,
                l1_gprs: &mut g,
                machine: m,
            };
            call.resume_l1(kind);
            seen.push(classified(&g));
        }
        let want = [
            Exit::NotEntered,
            Exit::Refused,
            Exit::ForL1,
            Exit::Interrupted,
            Exit::HostRouted,
            Exit::HostCalled,
        ];
        assert_eq!(seen, want);
    });
}
