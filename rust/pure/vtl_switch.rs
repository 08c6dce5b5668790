// SPDX-License-Identifier: GPL-2.0
//! VTL calls and returns: which VMCALL of a lower VTL switches to the other one, and what moves then.
//!
//! VTL0 is VM 1 and VTL1 is VM 2. Both share one processor: what the TLFS calls private moves between
//! the run page and the page of parked state, all else stays where it is. The decision says yes to the
//! good case only. Every other VMCALL is an exit like any other, so that the choice of a fault, where
//! one is due, stays with userspace.  [TLFS 15]

use super::apic::Priorities;
use super::exit::{classify, Exit, RawExit};
use super::field::{PerVm, VmIndex};
use super::handled::{behind, CS_LONG, RFLAGS_IF};
use super::msr::{Limits, SharedMsrs};
use super::offload::{HALTS, HALT_OTHER};
use super::uapi::RUN_HALTED;

/// The other one of the two VTLs that switch; `None` for VM 3, which is no VTL.
pub const fn other(vm: VmIndex) -> Option<VmIndex> {
    match vm {
        VmIndex::VM1 => Some(VmIndex::VM2),
        VmIndex::VM2 => Some(VmIndex::VM1),
        _ => None,
    }
}

/// What userspace lets the kernel do by itself: `enable` of the page of parked state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Enable(u32);

impl Enable {
    const CALL: u32 = 1 << 0;
    const RETURN: u32 = 1 << 1;
    const PROXY: u32 = 1 << 2;
    const VINA: u32 = 1 << 3;
    const VINA_AUTO_RESET: u32 = 1 << 4;
    const KNOWN: u32 = Self::CALL | Self::RETURN | Self::PROXY | Self::VINA | Self::VINA_AUTO_RESET;

    /// Nothing.
    pub const NONE: Self = Self(0);

    /// `None` for a bit without a meaning.
    pub const fn new(raw: u32) -> Option<Self> {
        if raw & !Self::KNOWN == 0 {
            Some(Self(raw))
        } else {
            None
        }
    }

    /// Interrupts for VTL0 that come while VTL1 runs are the kernel's.
    pub const fn takes_proxied(self) -> bool {
        self.0 & Self::PROXY != 0
    }

    /// VTL1 wants to be told of interrupts that VTL0 could take (VINA).
    pub const fn notifies(self) -> bool {
        self.0 & Self::VINA != 0
    }

    /// A return takes that notification back.
    pub const fn resets_notice(self) -> bool {
        self.notifies() && self.0 & Self::VINA_AUTO_RESET != 0
    }

    const fn allows(self, direction: Direction) -> bool {
        let bit = match direction {
            Direction::Call => Self::CALL,
            Direction::Return | Direction::FastReturn => Self::RETURN,
        };
        self.0 & bit != 0
    }
}

/// General registers and the like that each VTL has for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Own {
    /// RSP.
    pub rsp: u64,
    /// RIP.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// Shadow-stack pointer.
    pub ssp: u64,
    /// Highest vector that is requested.
    pub rvi: u8,
    /// Highest vector in service.
    pub svi: u8,
}

impl Own {
    /// Returns true if the VTL would take an interrupt at its next instruction. `tpr` is that of its
    /// virtual APIC page.
    pub const fn could_take(&self, tpr: u8) -> bool {
        let priorities = Priorities {
            rvi: self.rvi,
            svi: self.svi,
            tpr,
        };
        self.rflags & RFLAGS_IF != 0 && priorities.is_deliverable()
    }
}

/// The private state of the VTL that does not run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Parked {
    /// General registers and the like.
    pub own: Own,
    /// Halts, by their bits in `offload_flags`.
    pub halt: u8,
    /// MSRs that the processor has but once.
    pub msrs: SharedMsrs,
}

/// Words of a parked state in its page.
pub const PARKED_WORDS: usize = 16;

impl Parked {
    /// Decodes what userspace wrote; `None` if bits are set that mean nothing.
    pub const fn from_words(words: &[u64; PARKED_WORDS]) -> Option<Self> {
        let [rsp, rip, rflags, ssp, bytes, kernel_gs_base, star, lstar, sfmask, xss, tsc_aux, reserved @ ..] =
            *words;
        let [rvi, svi, halt, zero @ ..] = bytes.to_le_bytes();
        if !matches!(reserved, [0, 0, 0, 0, 0]) || !matches!(zero, [0, 0, 0, 0, 0]) {
            return None;
        }
        if halt & !HALTS != 0 {
            return None;
        }
        Some(Self {
            own: Own {
                rsp,
                rip,
                rflags,
                ssp,
                rvi,
                svi,
            },
            halt,
            msrs: SharedMsrs {
                kernel_gs_base,
                star,
                lstar,
                sfmask,
                xss,
                tsc_aux,
            },
        })
    }

    /// The words that userspace reads.
    pub const fn to_words(&self) -> [u64; PARKED_WORDS] {
        let Self { own, halt, msrs } = *self;
        let bytes = u64::from_le_bytes([own.rvi, own.svi, halt, 0, 0, 0, 0, 0]);
        [
            own.rsp,
            own.rip,
            own.rflags,
            own.ssp,
            bytes,
            msrs.kernel_gs_base,
            msrs.star,
            msrs.lstar,
            msrs.sfmask,
            msrs.xss,
            msrs.tsc_aux,
            0,
            0,
            0,
            0,
            0,
        ]
    }

    /// Returns true if the processor takes every MSR. The general registers need no such look: wrong
    /// ones make an entry fail, and the exit that tells so is userspace's.
    pub const fn is_loadable(&self, limits: &Limits, given: &SharedMsrs) -> bool {
        self.msrs.is_loadable(limits, given)
    }

    /// `offload_flags` and `flags` of the run page for a VTL that was halted when it stopped. `policy`
    /// is `offload_flags` as it stands. `None`: it was not halted.
    pub const fn resumed_halt(&self, policy: u8) -> Option<(u8, u32)> {
        if self.halt == 0 {
            None
        } else {
            Some((policy & !HALTS | self.halt, RUN_HALTED))
        }
    }
}

/// From which VTL to which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// VTL0 calls VTL1.
    Call,
    /// VTL1 returns, and VTL0 gets RAX and RCX from the assist page.
    Return,
    /// VTL1 returns with all shared registers as they are.
    FastReturn,
}

impl Direction {
    /// Who runs before.
    pub const fn source(self) -> VmIndex {
        match self {
            Self::Call => VmIndex::VM1,
            Self::Return | Self::FastReturn => VmIndex::VM2,
        }
    }

    /// Who runs afterwards.
    pub const fn target(self) -> VmIndex {
        match self {
            Self::Call => VmIndex::VM2,
            Self::Return | Self::FastReturn => VmIndex::VM1,
        }
    }
}

/// A switch that may be carried out, as far as the VTL that asks for it goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Switch {
    /// From which VTL to which.
    pub direction: Direction,
    /// RIP after the instruction.
    pub next_rip: u64,
}

/// Why a VTL call or return is left to userspace: `left` of the page of parked state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Left {
    /// Userspace has not enabled it.
    Disabled = 1,
    /// The mode of the processor: privilege level, 64-bit mode, a single step, an instruction of
    /// another length or at the end of the address space.
    Mode = 2,
    /// RCX or RAX, or a VTL that can't call or return.
    Operands = 3,
    /// The target waits for something that is userspace's.
    Halted = 4,
    /// The target can't be entered as it is.
    NotEnterable = 5,
    /// VTL0 has an interrupt that VTL1 has to be told of.
    Notice = 6,
    /// The assist page can't be accessed.
    Assist = 7,
}

impl Left {
    /// How many there are.
    pub const COUNT: usize = 7;
}

/// What an exit is, as far as switching goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// No VTL call and no return.
    Neither,
    /// One that is userspace's.
    Left(Left),
    /// One that the kernel may carry out.
    Switch(Switch),
}

/// Registers of the VTL that executed the VMCALL.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Caller {
    /// RAX.
    pub rax: u64,
    /// RCX.
    pub rcx: u64,
    /// What it has for itself.
    pub own: Own,
}

/// Raw reason of VMCALL.
pub const REASON_VMCALL: u32 = 18;
const HYPERCALL_CODE: u64 = 0xffff;
const CODE_CALL: u64 = 0x11;
const CODE_RETURN: u64 = 0x12;
const INPUT_FAST: u64 = 1;
const VMCALL_BYTES: u64 = 3;

/// Decides about an exit of `vm`. `target_halt` is the halt state of the other VTL.
pub fn decide(
    vm: VmIndex,
    exit: &RawExit,
    enable: Enable,
    caller: &Caller,
    target_halt: u8,
) -> Decision {
    // An exit that the host repeats, or that cut off an event, is none of the VTL's own.
    if classify(exit) != Exit::ForL1
        || exit.status().details() != REASON_VMCALL
        || exit.has_event_to_redeliver()
    {
        return Decision::Neither;
    }
    let direction = match caller.rcx & HYPERCALL_CODE {
        CODE_CALL => Direction::Call,
        CODE_RETURN if caller.rax == INPUT_FAST => Direction::FastReturn,
        CODE_RETURN => Direction::Return,
        _ => return Decision::Neither,
    };
    match check(vm, exit, enable, caller, target_halt, direction) {
        Ok(switch) => Decision::Switch(switch),
        Err(left) => Decision::Left(left),
    }
}

fn check(
    vm: VmIndex,
    exit: &RawExit,
    enable: Enable,
    caller: &Caller,
    target_halt: u8,
    direction: Direction,
) -> Result<Switch, Left> {
    if !enable.allows(direction) {
        return Err(Left::Disabled);
    }
    let is_64_bit = exit.rsi & CS_LONG != 0;
    let is_whole = exit.r11 >> 32 == VMCALL_BYTES;
    let next_rip = behind(exit, caller.own.rflags, caller.own.rip);
    let next_rip = next_rip
        .filter(|_| is_64_bit && is_whole)
        .ok_or(Left::Mode)?;
    // All of RCX counts: no other part of a control word means anything here.
    let input = match direction {
        Direction::FastReturn => INPUT_FAST,
        Direction::Call | Direction::Return => 0,
    };
    let is_control_word = matches!(caller.rcx, CODE_CALL | CODE_RETURN);
    if vm != direction.source() || !is_control_word || caller.rax != input {
        return Err(Left::Operands);
    }
    if target_halt & HALT_OTHER != 0 {
        return Err(Left::Halted);
    }
    Ok(Switch {
        direction,
        next_rip,
    })
}

/// `flush[]` of the page of parked state as far as it was honoured: a VM whose counter has another
/// value now is entered with its translations invalid.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flushes(PerVm<u64>);

impl Flushes {
    /// Returns true if `counter` asks for an invalidation before the next entry of `vm`.
    pub const fn is_due(&self, vm: VmIndex, counter: u64) -> bool {
        self.done(vm) != counter
    }

    /// What was honoured last.
    pub const fn done(&self, vm: VmIndex) -> u64 {
        *self.0.of(vm)
    }

    /// An entry of `vm` has done what `counter` asks for.
    pub const fn note(&mut self, vm: VmIndex, counter: u64) {
        *self.0.of_mut(vm) = counter;
    }
}

#[cfg(test)]
#[path = "vtl_switch_tests.rs"]
mod tests;
