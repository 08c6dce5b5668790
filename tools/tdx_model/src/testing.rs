// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A machine made of an array, and a TD on it, for the tests of this crate.

use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use crate::Field;
use crate::dispatch::{Caller, Outcome, tdcall};
use crate::gpa::{Gpa, Level, Rights, VmIndex};
use crate::gprs::Gprs;
use crate::machine::{FlushScope, L1Mapping, Machine};
use crate::page_state::{PageEntry, Pages};
use crate::stale::{Reduction, Stale};
use crate::td::{CpuFeatures, FeatureLevel, L2Tables, Td, TdConfig, attributes, config_flags};
use crate::vcpu::{L2Vm, Vcpu};

/// Memory of the test TD: the first 2 MiB are mapped, the rest is free.
const MEMORY_LEN: usize = 8 << 20;
const MAPPED_LEN: u64 = 2 << 20;

/// L2_ENTER_GUEST_STATE and virtual-APIC page that [`FakeMachine::prepare_l2`] sets up.
pub(crate) const STATE: u64 = 0x4100;
pub(crate) const VAPIC: u64 = 0x6000;

/// L1's kernel.
pub(crate) const KERNEL: Caller = Caller {
    cpl: 0,
    long_mode_64: true,
};

/// What the model reported to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    L1(Gpa, Level, L1Mapping),
    L2(VmIndex, Gpa, Level, Option<Rights>),
    Flush(VmIndex, FlushScope),
    FlushEverywhere,
}

pub(crate) struct FakeMachine {
    pub(crate) memory: Vec<u8>,
    pub(crate) events: Vec<Event>,
    pub(crate) is_interrupt_pending: bool,
    pub(crate) tsc: u64,
    pub(crate) xss: Option<u64>,
    /// How often somebody else holds the measurement registers.
    pub(crate) busy_rtmrs: u32,
    /// Long calls are interrupted after each piece of work.
    pub(crate) is_interrupted: bool,
    /// A page whose entry the host holds.
    pub(crate) busy_page: Option<Gpa>,
}

impl FakeMachine {
    fn range(&mut self, gpa: Gpa, len: usize) -> &mut [u8] {
        let start = usize::try_from(gpa.0).expect("address in memory");
        &mut self.memory[start..start + len]
    }

    pub(crate) fn put(&mut self, gpa: u64, value: u64) {
        self.range(Gpa(gpa), 8)
            .copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn get(&mut self, gpa: u64) -> u64 {
        u64::from_le_bytes(self.range(Gpa(gpa), 8).try_into().expect("eight bytes"))
    }

    /// Makes VM 1 ready to be entered with the initial state.
    pub(crate) fn prepare_l2(&mut self, vcpu: &mut Vcpu) {
        vcpu.l2_mut(VmIndex::Vm1)
            .vmcs
            .set(Field::VirtualApicAddress, VAPIC);
        self.put(STATE + 0x80, 2);
        self.put(STATE + 0x88, 0xfff0);
    }
}

impl Machine for FakeMachine {
    fn read_memory(&mut self, gpa: Gpa, buf: &mut [u8]) {
        buf.copy_from_slice(self.range(gpa, buf.len()));
    }

    fn write_memory(&mut self, gpa: Gpa, bytes: &[u8]) {
        self.range(gpa, bytes.len()).copy_from_slice(bytes);
    }

    fn zero_memory(&mut self, gpa: Gpa, len_bytes: u64) {
        self.range(gpa, usize::try_from(len_bytes).expect("length"))
            .fill(0);
    }

    fn l1_mapping_changed(&mut self, gpa: Gpa, level: Level, mapping: L1Mapping) {
        self.events.push(Event::L1(gpa, level, mapping));
    }

    fn l2_mapping_changed(&mut self, vm: VmIndex, gpa: Gpa, level: Level, rights: Option<Rights>) {
        self.events.push(Event::L2(vm, gpa, level, rights));
    }

    fn flush_l2(&mut self, vm: VmIndex, scope: FlushScope) {
        self.events.push(Event::Flush(vm, scope));
    }

    fn flush_l2_everywhere(&mut self) {
        self.events.push(Event::FlushEverywhere);
    }

    fn virtual_tsc(&self) -> u64 {
        self.tsc
    }

    fn l1_interrupt_deliverable(&self) -> bool {
        self.is_interrupt_pending
    }

    fn are_rtmrs_busy(&mut self) -> bool {
        let left = self.busy_rtmrs.checked_sub(1);
        self.busy_rtmrs = left.unwrap_or(0);
        left.is_some()
    }

    fn is_interrupted(&mut self) -> bool {
        self.is_interrupted
    }

    fn is_page_busy(&mut self, gpa: Gpa) -> bool {
        self.busy_page == Some(gpa)
    }

    fn write_xss(&mut self, value: u64) {
        self.xss = Some(value);
    }
}

/// Runs a test on a TD with 2 of 4 processors and 2 L2 VMs, on processor 1.
pub(crate) fn with_td(test: impl FnOnce(&mut Td<'_>, &mut Vcpu, &mut FakeMachine)) {
    let mut entries = vec![PageEntry::FREE; MEMORY_LEN >> 12];
    let mut pages = Pages::new(&mut entries);
    pages.host_add_mapped(Gpa(0), MAPPED_LEN);
    let config = TdConfig {
        attributes: attributes::SEPT_VE_DISABLE,
        xfam: 0x207,
        config_flags: config_flags::NO_RBP_MOD,
        num_vcpus: 2,
        max_vcpus: 4,
        num_l2_vms: 2,
        tsc_khz: 2_450_000,
        uuid: [1, 2, 3, 4],
        cpu: CpuFeatures {
            cr4_fixed1: 0x00f7_3fff,
            xss: 0,
            has_tsx: false,
            has_waitpkg: false,
            has_tsc_deadline: false,
        },
        feature_level: FeatureLevel::Later,
        l2_tables: L2Tables::Given,
    };
    let mut machine = FakeMachine {
        memory: vec![0; MEMORY_LEN],
        events: Vec::new(),
        is_interrupt_pending: false,
        tsc: 1000,
        xss: None,
        busy_rtmrs: 0,
        is_interrupted: false,
        busy_page: None,
    };
    let mut vcpu = Box::new(Vcpu::new(1, &config));
    let mut reductions = [Reduction::default(); 8];
    let mut td = Td::new(config, pages);
    td.stale = Stale::new(&mut reductions);
    test(&mut td, &mut vcpu, &mut machine);
}

/// Puts an L2 into 64-bit mode.
pub(crate) fn set_64_bit_mode(l2: &mut L2Vm) {
    for (field, value) in [
        (Field::GuestCr0, 0x8005_0033),
        (Field::GuestCr4, 0x2060),
        (Field::GuestEfer, 0xd01),
        (Field::EntryControls, 0x003e_c204),
        (Field::GuestCsAccess, 0xa09b),
    ] {
        l2.vmcs.set(field, value);
    }
}

/// Executes a leaf as L1's kernel.
pub(crate) fn call(
    td: &mut Td<'_>,
    vcpu: &mut Vcpu,
    m: &mut FakeMachine,
    rax: u64,
    g: &mut Gprs,
) -> Outcome {
    g.rax = rax;
    tdcall(td, vcpu, g, KERNEL, m)
}

/// Executes a leaf that must complete, and returns RAX.
pub(crate) fn complete(
    td: &mut Td<'_>,
    vcpu: &mut Vcpu,
    m: &mut FakeMachine,
    rax: u64,
    g: &mut Gprs,
) -> u64 {
    assert_eq!(call(td, vcpu, m, rax, g), Outcome::Complete);
    g.rax
}
