// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Random guests and hosts against `tdx_model`, and random files against `vtl_audit`:
//! `tdx_fuzz SECONDS [TARGET [SEED]]`.
//!
//! A target is a leaf by its number, `dispatch` (any RAX), `exits` (L2 exits and the host's
//! answers) or `audit` (logs, and evidence for them, `audit.rs`). Every case of the model starts with
//! a fresh TD; every case depends on its seed alone, and a panic prints target and seed, with which it
//! can be repeated. `random.rs` makes the input, `machine.rs` replaces the emulator and panics where
//! the emulator would stop.

mod audit;
mod machine;
mod random;

use machine::{Array, MEMORY_BYTES};
use random::{Random, STATE, VAPIC};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tdx_model::Field;
use tdx_model::dispatch::{Caller, Outcome, leaf_name, tdcall};
use tdx_model::gpa::{Gpa, Level, VmIndex};
use tdx_model::gprs::Gprs;
use tdx_model::host::Conversion;
use tdx_model::l2_exit::{HostRouted, L2Call, L2Outcome, l2_vmcall_done};
use tdx_model::page_state::{PageEntry, Pages};
use tdx_model::td::{CpuFeatures, FeatureLevel, L2Tables, Td, TdConfig, attributes, config_flags};
use tdx_model::vcpu::Vcpu;
use tdx_model::ve::{L1EptViolation, l1_ept_violation};

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Leaf(u16),
    Dispatch,
    Exits,
    Audit,
}

impl Target {
    fn all() -> Vec<Self> {
        let leaves = (0..64).filter(|leaf| leaf_name(*leaf).is_some());
        leaves
            .map(Self::Leaf)
            .chain([Self::Dispatch, Self::Exits, Self::Audit])
            .collect()
    }

    fn parse(word: &str) -> Option<Self> {
        match word {
            "dispatch" => Some(Self::Dispatch),
            "exits" => Some(Self::Exits),
            "audit" => Some(Self::Audit),
            _ => word.parse().ok().map(Self::Leaf),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Leaf(leaf) => f.pad(&leaf.to_string()),
            Self::Dispatch => f.pad("dispatch"),
            Self::Exits => f.pad("exits"),
            Self::Audit => f.pad("audit"),
        }
    }
}

/// The case that runs, for the last words.
static CURRENT: Mutex<Option<(Target, u64)>> = Mutex::new(None);

fn config(random: &mut Random) -> TdConfig {
    TdConfig {
        attributes: if random.below(2) == 0 {
            attributes::SEPT_VE_DISABLE
        } else {
            0
        },
        xfam: 0x207 | random.next() & 0x6_9be0,
        config_flags: random.next()
            & (config_flags::NO_RBP_MOD
                | config_flags::FLEXIBLE_PENDING_VE
                | config_flags::PAGE_RELEASE),
        num_vcpus: 2,
        max_vcpus: 4,
        num_l2_vms: random.below(4) as u8, // CAST: below 4
        tsc_khz: 2_450_000,
        uuid: [1, 2, 3, 4],
        cpu: CpuFeatures {
            cr4_fixed1: 0x00f7_3fff,
            xss: random.next() & 0x1_ff00,
            has_tsx: random.below(2) == 0,
            has_waitpkg: random.below(2) == 0,
            has_tsc_deadline: random.below(2) == 0,
        },
        feature_level: match random.below(4) {
            0 => FeatureLevel::Base,
            1 => FeatureLevel::Second,
            _ => FeatureLevel::Later,
        },
        l2_tables: match random.below(4) {
            0 => L2Tables::OnDemand,
            1 => L2Tables::Withheld,
            _ => L2Tables::Given,
        },
    }
}

/// One case: a fresh TD and some forty steps.
fn run(target: Target, seed: u64, machine: &mut Array) {
    let mut random = Random::new(seed);
    if target == Target::Audit {
        audit::run(&mut random);
        return;
    }
    let mut entries = vec![PageEntry::FREE; MEMORY_BYTES >> 12];
    let mut pages = Pages::new(&mut entries);
    pages.host_add_mapped(Gpa(0), MEMORY_BYTES as u64 / 4);
    let mut td = Td::new(config(&mut random), pages);
    let mut vcpu = Box::new(Vcpu::new(random.below(2) as u32, &td.config)); // CAST: below 2
    prepare(&mut td, &mut vcpu, machine);
    for _ in 0..40 {
        machine.is_interrupt_pending = random.below(16) == 0;
        machine.tsc = random.value();
        for _ in 0..random.below(4) {
            machine.poke(random.value(), random.value());
        }
        match random.below(8) {
            0 => host(&mut td, &mut random, machine),
            1 => touch(&mut td, &mut vcpu, &mut random),
            _ => {}
        }
        match vcpu.current_vm {
            None => call(target, &mut td, &mut vcpu, &mut random, machine),
            Some(vm) => exit(&mut td, &mut vcpu, vm, &mut random, machine),
        }
    }
}

/// Makes each VM ready to be entered.
fn prepare(td: &mut Td<'_>, vcpu: &mut Vcpu, machine: &mut Array) {
    for number in 1..=u64::from(td.config.num_l2_vms) {
        if let Some(vm) = td.config.l2_vm(number) {
            vcpu.l2_mut(vm).vmcs.set(Field::VirtualApicAddress, VAPIC);
        }
    }
    machine.poke(STATE + 0x80, 2);
    machine.poke(STATE + 0x88, 0xfff0);
}

fn call(
    target: Target,
    td: &mut Td<'_>,
    vcpu: &mut Vcpu,
    random: &mut Random,
    machine: &mut Array,
) {
    const VP_ENTER: u64 = 25;
    let mut gprs = random.gprs();
    gprs.rax = match target {
        Target::Leaf(leaf) => u64::from(leaf) | ((random.below(8) / 7) << 16),
        Target::Dispatch => random.value(),
        Target::Exits | Target::Audit => VP_ENTER,
    };
    if target == Target::Exits {
        (gprs.rcx, gprs.rdx) = ((1 + random.below(3)) << 52, STATE);
    }
    let caller = Caller {
        cpl: (random.below(8) / 7) as u8,
        long_mode_64: true,
    }; // CAST: 0 or 1
    let before = gprs;
    let outcome = tdcall(td, vcpu, &mut gprs, caller, machine);
    match outcome {
        Outcome::Complete => assert_eq!(gprs.rsp, before.rsp, "RSP is never an output"),
        Outcome::EnterL2(vm) => {
            assert_eq!(vcpu.current_vm, Some(vm));
            assert!(
                vm.number() <= td.config.num_l2_vms,
                "a VM the TD does not have"
            );
        }
        Outcome::Interrupted => {
            let moved = Gprs {
                rdx: gprs.rdx,
                ..before
            };
            assert_eq!(gprs, moved, "an interrupted call is not done");
        }
        Outcome::TdExit(_)
        | Outcome::Vmcall { .. }
        | Outcome::InjectGp
        | Outcome::InjectVe
        | Outcome::InjectDf
        | Outcome::Fatal(_) => {
            assert_eq!(gprs, before, "nothing changes before the leaf is done");
        }
    }
}

fn exit(td: &mut Td<'_>, vcpu: &mut Vcpu, vm: VmIndex, random: &mut Random, machine: &mut Array) {
    vcpu.l2_mut(vm).gprs = random.gprs();
    let exit = random.exit();
    let mut l1 = Gprs {
        rsp: 0x77,
        ..random.gprs()
    };
    let mut call = L2Call {
        td,
        vcpu,
        vm,
        l1_gprs: &mut l1,
        machine,
    };
    let mut outcome = call.exit(&exit);
    if let L2Outcome::ToHost(_) = outcome {
        outcome = match random.below(3) {
            0 => call.resume_l1(HostRouted::Async),
            1 => {
                l2_vmcall_done(call.vcpu, vm);
                call.resume_l1(HostRouted::Tdvmcall)
            }
            _ => call.enter_after_host(),
        };
    }
    match outcome {
        L2Outcome::ToL1 => {
            assert_eq!(vcpu.current_vm, None);
            assert_eq!((l1.rbx, l1.rsp, l1.r14, l1.r15), (0, 0x77, 0, 0));
        }
        L2Outcome::Resume => assert_eq!(vcpu.current_vm, Some(vm)),
        // The TD ends; the case continues with the processor in L1.
        L2Outcome::Fatal(_) | L2Outcome::ToHost(_) => vcpu.current_vm = None,
    }
}

fn host(td: &mut Td<'_>, random: &mut Random, machine: &mut Array) {
    let gpa = random.value();
    match random.below(4) {
        0 => {
            let level = if gpa & 1 == 0 {
                Level::Size4K
            } else {
                Level::Size2M
            };
            td.pages.host_aug_pending(Gpa(gpa).align_down(level), level);
        }
        1 => drop(td.host_convert(
            Gpa(gpa),
            random.below(0x1_0000),
            Conversion::ToShared,
            machine,
        )),
        2 => {
            let vm = VmIndex::new(1 + random.below(3)).unwrap_or(VmIndex::Vm1);
            td.pages.host_add_l2_table(vm, Gpa(gpa));
        }
        _ => drop(td.host_convert(
            Gpa(gpa),
            random.below(0x1_0000),
            Conversion::ToPrivate,
            machine,
        )),
    }
}

fn touch(td: &mut Td<'_>, vcpu: &mut Vcpu, random: &mut Random) {
    let violation = L1EptViolation {
        gpa: random.value(),
        qualification: random.value(),
        ..L1EptViolation::default()
    };
    l1_ept_violation(td, vcpu, &violation);
}

fn fuzz(target: Target, limit: Duration, first_seed: u64) -> u64 {
    let (start, mut machine, mut cases) = (Instant::now(), Array::new(), 0);
    while cases == 0 || start.elapsed() < limit {
        let seed = first_seed.wrapping_add(cases);
        *CURRENT.lock().expect("no one panics with the lock") = Some((target, seed));
        // A case is a function of its seed alone.
        machine.clear();
        run(target, seed, &mut machine);
        cases += 1;
    }
    cases
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let word = |index: usize| words.get(index).map(String::as_str);
    let seconds = word(0).and_then(|word| word.parse().ok());
    let targets = match word(1) {
        None => Some(Target::all()),
        Some(word) => Target::parse(word).map(|target| vec![target]),
    };
    let seed = word(2).map_or(Ok(1), str::parse);
    let (Some(seconds), Some(targets), Ok(seed)) = (seconds, targets, seed) else {
        eprintln!("usage: tdx_fuzz SECONDS [LEAF|dispatch|exits|audit [SEED]]");
        return ExitCode::from(2);
    };
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        if let Some((target, seed)) = CURRENT.try_lock().ok().and_then(|current| *current) {
            eprintln!("again with: tdx_fuzz 0 {target} {seed}");
        }
    }));
    let limit = Duration::from_secs(seconds) / targets.len() as u32; // CAST: some thirty
    for target in targets {
        let name = match target {
            Target::Leaf(leaf) => leaf_name(leaf).unwrap_or("unknown leaf"),
            Target::Dispatch | Target::Exits | Target::Audit => "",
        };
        println!(
            "{target:>10} {name:<24} {} cases",
            fuzz(target, limit, seed)
        );
    }
    ExitCode::SUCCESS
}
