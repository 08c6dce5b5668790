// SPDX-License-Identifier: GPL-2.0-only
//! The decision about VTL calls and returns, for every combination of values on both sides of each
//! boundary, compared with Documentation/vtl-switch.rst.

use vtl_pure::pure::exit::RawExit;
use vtl_pure::pure::field::VmIndex;
use vtl_pure::pure::vtl_switch::{Caller, Decision, Direction, Enable, Left, Own, decide};

const STATUSES: [u64; 3] = [0, 0x1100, 0x1120];
const REASONS: [u64; 4] = [12, 18, 18 | (1 << 16), 18 | (1 << 31)];
const CONTROLS: [u64; 8] = [
    0x10,
    0x11,
    0x12,
    0x13,
    0x1_0011,
    0x1_0012,
    (1 << 63) | 0x11,
    (1 << 32) | 0x12,
];
const INPUTS: [u64; 5] = [0, 1, 2, 1 << 32, u64::MAX];
const LENGTHS: [u64; 4] = [0, 2, 3, 4];
const RIPS: [u64; 4] = [0x1000, 0x7fff_ffff_fffc, 0x7fff_ffff_fffd, u64::MAX - 2];
const HALTS: [u8; 3] = [0, 0xc0, 0x20];

/// One VMCALL, and all that counts about it.
struct Case {
    vm: u64,
    enable: u32,
    exit: RawExit,
    caller: Caller,
    halt: u8,
}

impl Case {
    fn decision(&self) -> Decision {
        let vm = VmIndex::new(self.vm).unwrap();
        let enable = Enable::new(self.enable).unwrap();
        decide(vm, &self.exit, enable, &self.caller, self.halt)
    }

    /// A VMCALL of the VTL itself whose code is one of the two.
    fn is_attempt(&self) -> bool {
        self.exit.rax == 18
            && self.exit.r10 & (1 << 31) == 0
            && matches!(self.caller.rcx & 0xffff, 0x11 | 0x12)
    }

    /// Everything is as the protocol requires.
    fn is_good(&self) -> bool {
        let is_right = match self.vm {
            1 => self.enable & 1 != 0 && (self.caller.rcx, self.caller.rax) == (0x11, 0),
            2 => self.enable & 2 != 0 && self.caller.rcx == 0x12 && self.caller.rax < 2,
            _ => false,
        };
        self.is_attempt() && is_right && self.is_plain_mode() && self.halt & 0x20 == 0
    }

    fn is_plain_mode(&self) -> bool {
        let next = self.caller.own.rip.wrapping_add(3);
        self.exit.r12 == 0
            && self.exit.rsi & (1 << 29) != 0
            && self.exit.r11 >> 32 == 3
            && self.caller.own.rflags & 0x100 == 0
            && next > self.caller.own.rip
            && next >> 47 == self.caller.own.rip >> 47
    }

    fn check(&self) {
        match self.decision() {
            Decision::Neither => assert!(!self.is_attempt()),
            Decision::Left(left) => {
                assert!(self.is_attempt() && !self.is_good());
                let is_disabled = self.enable & self.bit() == 0;
                assert_eq!(left == Left::Disabled, is_disabled);
                assert_eq!(left == Left::Mode, !is_disabled && !self.is_plain_mode());
                assert!(left != Left::Halted || self.halt & 0x20 != 0);
            }
            Decision::Switch(switch) => {
                assert!(self.is_good());
                assert_eq!(switch.next_rip, self.caller.own.rip + 3);
                let direction = match (self.vm, self.caller.rax) {
                    (1, _) => Direction::Call,
                    (_, 0) => Direction::Return,
                    _ => Direction::FastReturn,
                };
                assert_eq!(switch.direction, direction);
            }
        }
    }

    fn bit(&self) -> u32 {
        if self.caller.rcx & 0xffff == 0x11 {
            1
        } else {
            2
        }
    }
}

/// Calls `visit` with each exit of the domain.
fn each_exit(mut visit: impl FnMut(RawExit)) {
    for name in STATUSES {
        for reason in REASONS {
            for r10 in [0, 1 << 31, 1 << 63] {
                for r12 in [0, 3] {
                    for rsi in [0, 1 << 29] {
                        for length in LENGTHS {
                            visit(RawExit {
                                rax: (name << 32) | reason,
                                r10,
                                r11: length << 32,
                                r12,
                                rsi,
                                ..RawExit::default()
                            });
                        }
                    }
                }
            }
        }
    }
}

/// Calls `visit` with the registers of each caller of the domain.
fn each_caller(mut visit: impl FnMut(Caller)) {
    for rcx in CONTROLS {
        for rax in INPUTS {
            for rflags in [0x2, 0x102, 0x202] {
                for rip in RIPS {
                    let own = Own {
                        rip,
                        rflags,
                        ..Own::default()
                    };
                    visit(Caller { rax, rcx, own });
                }
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "Miri takes too long for so many")]
fn the_whole_domain_is_decided_as_the_protocol_says() {
    let mut switches = 0_u32;
    each_exit(|exit| {
        each_caller(|caller| {
            for vm in 1..4 {
                for enable in 0..4 {
                    for halt in HALTS {
                        let case = Case {
                            vm,
                            enable,
                            exit,
                            caller,
                            halt,
                        };
                        case.check();
                        switches += u32::from(case.is_good());
                    }
                }
            }
        });
    });
    // Calls and both returns, with two values of `enable`, by two halts, with and without IF, at
    // two addresses, and with two values that are not valid IDT-vectoring information.
    assert_eq!(switches, 3 * 2 * 2 * 2 * 2 * 2);
}

/// Notices and interrupts may be enabled in addition: those bits decide nothing here.
#[test]
fn what_else_is_enabled_makes_no_difference() {
    let exit = RawExit {
        rax: 18,
        rsi: 1 << 29,
        r11: 3 << 32,
        ..RawExit::default()
    };
    each_caller(|caller| {
        for (vm, enable, further) in (1..4)
            .flat_map(|vm| (0..4).map(move |enable| (vm, enable)))
            .flat_map(|(vm, enable)| (0..8).map(move |further| (vm, enable, further << 2)))
        {
            let ask = |enable| {
                Case {
                    vm,
                    enable,
                    exit,
                    caller,
                    halt: 0,
                }
                .decision()
            };
            assert_eq!(ask(enable), ask(enable | further));
        }
    });
}
