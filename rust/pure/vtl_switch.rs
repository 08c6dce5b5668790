// SPDX-License-Identifier: GPL-2.0
//! VTL calls and returns: which VMCALL of a lower VTL switches to the other one, and which state is
//! exchanged.
//!
//! VTL0 is VM 1 and VTL1 is VM 2. Both use one processor: state that the TLFS calls private is
//! exchanged between the run page and the switch page, all other state stays where it is. A switch
//! is only made in the normal case. Every other VMCALL is an ordinary exit, so that userspace
//! decides about a fault where one is due. [TLFS 15]

use super::apic::Priorities;
use super::exit::{classify, Exit, RawExit};
use super::field::{PerVm, VmIndex};
use super::handled::{rip_after, CS_LONG, RFLAGS_IF};
use super::msr::{Limits, SharedMsrs};
use super::offload::{HaltChange, HALTS, HALT_OTHER};

/// The other one of the two VTLs between which the kernel switches; `None` for VM 3, which is no
/// VTL.
pub const fn other(vm: VmIndex) -> Option<VmIndex> {
    match vm {
        VmIndex::VM1 => Some(VmIndex::VM2),
        VmIndex::VM2 => Some(VmIndex::VM1),
        _ => None,
    }
}

/// What userspace lets the kernel handle by itself: `enable` of the switch page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Enable(u32);

impl Enable {
    /// VTL0 may make VTL calls.
    pub const CALL: u32 = 1 << 0;
    /// VTL1 may make VTL returns.
    pub const RETURN: u32 = 1 << 1;
    /// The kernel handles interrupts for VTL0 while VTL1 runs.
    pub const PROXY: u32 = 1 << 2;
    /// VTL1 has to be notified of them (VINA).
    pub const VINA: u32 = 1 << 3;
    /// A return withdraws that notice.
    pub const VINA_AUTO_RESET: u32 = 1 << 4;
    const KNOWN: u32 = Self::CALL | Self::RETURN | Self::PROXY | Self::VINA | Self::VINA_AUTO_RESET;

    /// Nothing is enabled.
    pub const NONE: Self = Self(0);

    /// Returns `None` if an undefined bit is set.
    pub const fn new(raw: u32) -> Option<Self> {
        if raw & !Self::KNOWN == 0 {
            Some(Self(raw))
        } else {
            None
        }
    }

    /// Returns true if the kernel handles interrupts for VTL0 that arrive while VTL1 runs.
    pub const fn takes_proxied(self) -> bool {
        self.0 & Self::PROXY != 0
    }

    /// Returns true if VTL1 has to be notified of interrupts that VTL0 could accept (VINA).
    pub const fn notifies(self) -> bool {
        self.0 & Self::VINA != 0
    }

    /// Returns true if a return withdraws that notice.
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

/// Registers of which each VTL has its own.
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
    /// RVI: highest requested vector.
    pub rvi: u8,
    /// SVI: highest vector in service.
    pub svi: u8,
}

impl Own {
    /// Returns true if the VTL would accept an interrupt at its next instruction. `tpr` is the task
    /// priority in its virtual-APIC page.
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
    /// Registers of its own.
    pub own: Own,
    /// Its halts, as bits of `offload_flags`.
    pub halt: u8,
    /// MSRs of which the processor has only one.
    pub msrs: SharedMsrs,
}

/// Number of words of a parked state in the switch page.
pub const PARKED_WORDS: usize = 16;

impl Parked {
    /// Decodes what userspace wrote; `None` if an undefined bit is set.
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

    /// Encodes it for userspace.
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

    /// Returns true if the processor accepts every MSR. The other registers need no check: invalid
    /// ones make the entry fail, and userspace handles that exit.
    pub const fn is_loadable(&self, limits: &Limits, given: &SharedMsrs) -> bool {
        self.msrs.is_loadable(limits, given)
    }

    /// Returns true if only userspace can end the VTL's halt: it accepts no interrupt, and is not
    /// entered.
    pub const fn waits_for_userspace(&self) -> bool {
        self.halt & HALT_OTHER != 0
    }

    /// What has to be halted again in the run page for a VTL that was halted when it stopped; `None` if it
    /// was not halted.
    pub const fn resumed_halt(&self) -> Option<HaltChange> {
        if self.halt == 0 {
            return None;
        }
        Some(HaltChange::halted(self.halt))
    }
}

/// Direction of a switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// VTL0 calls VTL1.
    Call,
    /// VTL1 returns, and VTL0's RAX and RCX come from the assist page.
    Return,
    /// VTL1 returns, and all shared registers stay as they are.
    FastReturn,
}

impl Direction {
    /// The VM that runs before the switch.
    pub const fn source(self) -> VmIndex {
        match self {
            Self::Call => VmIndex::VM1,
            Self::Return | Self::FastReturn => VmIndex::VM2,
        }
    }

    /// The VM that runs after it.
    pub const fn target(self) -> VmIndex {
        match self {
            Self::Call => VmIndex::VM2,
            Self::Return | Self::FastReturn => VmIndex::VM1,
        }
    }
}

/// A switch that may be carried out as far as the VTL that requests it is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Switch {
    /// Direction of the switch.
    pub direction: Direction,
    /// RIP after the instruction.
    pub next_rip: u64,
}

/// Why a VTL call or return is left to userspace: `left` of the switch page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Left {
    /// Userspace has not enabled it.
    Disabled = 1,
    /// The mode of the processor: privilege level, not 64-bit, single-stepping, or an instruction
    /// of another length or at the end of the address space.
    Mode = 2,
    /// RCX or RAX is invalid, or the VTL can't make a call or return.
    Operands = 3,
    /// Only userspace can end the halt of the target.
    Halted = 4,
    /// The target can't be entered in its state.
    NotEnterable = 5,
    /// VTL0 has an interrupt of which VTL1 has to be notified.
    Notice = 6,
    /// The assist page can't be accessed.
    Assist = 7,
}

impl Left {
    /// Number of reasons.
    pub const COUNT: usize = 7;
}

/// Classification of an exit with regard to switching.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Neither a VTL call nor a return.
    Neither,
    /// One that is left to userspace.
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
    /// Its own registers.
    pub own: Own,
}

/// Raw exit reason of VMCALL.
pub const REASON_VMCALL: u32 = 18;
const HYPERCALL_CODE: u64 = 0xffff;
const CODE_CALL: u64 = 0x11;
const CODE_RETURN: u64 = 0x12;
const INPUT_FAST: u64 = 1;
const VMCALL_BYTES: u64 = 3;

/// Decides about an exit of `vm`. `target_halt` is the halt state of the other VTL.
#[inline(always)]
pub fn decide(
    vm: VmIndex,
    exit: &RawExit,
    enable: Enable,
    caller: &Caller,
    target_halt: u8,
) -> Decision {
    // An exit that the host routed, or that interrupted an event delivery, was not caused by the
    // VTL itself.
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

#[inline(always)]
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
    let next_rip = rip_after(exit, caller.own.rflags, caller.own.rip);
    let next_rip = next_rip
        .filter(|_| is_64_bit && is_whole)
        .ok_or(Left::Mode)?;
    // All of RCX is compared: the other parts of a control word have no meaning here.
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

/// Values of `flush[]` in the switch page for which the invalidation has been done: a VM whose
/// counter has another value now is entered with its translations invalidated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flushes(PerVm<u64>);

impl Flushes {
    /// Returns true if `counter` requests an invalidation before the next entry of `vm`.
    pub const fn is_due(&self, vm: VmIndex, counter: u64) -> bool {
        self.done(vm) != counter
    }

    /// The value for which the invalidation was done last.
    pub const fn done(&self, vm: VmIndex) -> u64 {
        *self.0.of(vm)
    }

    /// Records that an entry of `vm` has done what `counter` requests.
    pub const fn note(&mut self, vm: VmIndex, counter: u64) {
        *self.0.of_mut(vm) = counter;
    }
}

#[cfg(test)]
#[path = "vtl_switch_tests.rs"]
mod tests;
