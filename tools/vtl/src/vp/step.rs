// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What an instruction does besides its work, for one that userspace carried out and stepped over:
//! it ends the blocking of interrupts by STI or MOV SS, and is trapped if RFLAGS.TF is set.

use super::Vp;
use crate::Result;
use crate::field::L2Field;

const RFLAGS_TF: u64 = 1 << 8;
const RFLAGS_IF: u64 = 1 << 9;
/// Blocking by STI, and by MOV SS.
const BLOCKING: u64 = 3;

/// What is left to do after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rest {
    /// The blocking of interrupts ends. Without IF there is nothing that waits for its end.
    ends_blocking: bool,
    /// A single-step trap is due.
    is_trapped: bool,
}

impl Rest {
    const fn of(rflags: u64) -> Self {
        Self {
            ends_blocking: rflags & RFLAGS_IF != 0,
            is_trapped: rflags & RFLAGS_TF != 0,
        }
    }
}

impl Vp {
    /// Notes that RIP was advanced past the instruction of the last exit. For a caller that advances
    /// it itself, as after the emulation of a memory access; the answers in [`crate::exit`] do this.
    ///
    /// The next run, or the next access to [`L2Field::GUEST_INTERRUPTIBILITY`], carries it out, by a
    /// TDCALL only if the guest has interrupts enabled or single-steps.
    pub fn note_step(&self) {
        self.is_stepped.set(true);
    }

    /// Carries out what [`Self::note_step`] noted, as far as the next entry depends on it.
    pub(super) fn finish_step(&self) -> Result<()> {
        self.carry_out(Rest::of(self.page.rflags()))
    }

    /// Carries out all of it, for somebody who is going to look: an NMI, which RFLAGS.IF does not hold
    /// back, can't be injected while MOV SS blocks it.
    pub(super) fn finish_step_wholly(&self) -> Result<()> {
        self.carry_out(Rest {
            ends_blocking: true,
            ..Rest::of(self.page.rflags())
        })
    }

    fn carry_out(&self, rest: Rest) -> Result<()> {
        /// BS of the pending debug exceptions.
        const SINGLE_STEP: u64 = 1 << 14;
        /// BTF of DEBUGCTL: branches are trapped, not instructions.
        const BRANCHES: u64 = 1 << 1;
        if !self.is_stepped.replace(false) {
            return Ok(());
        }
        if rest.ends_blocking || rest.is_trapped {
            self.write_masked(L2Field::GUEST_INTERRUPTIBILITY, 0, BLOCKING)?;
        }
        if rest.is_trapped && self.read(L2Field::GUEST_IA32_DEBUGCTL)? & BRANCHES == 0 {
            self.write_masked(L2Field::GUEST_PENDING_DEBUG, SINGLE_STEP, SINGLE_STEP)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_costs_nothing_where_nothing_waits_for_it() {
        let rest = |ends_blocking, is_trapped| Rest {
            ends_blocking,
            is_trapped,
        };
        assert_eq!(Rest::of(2), rest(false, false));
        assert_eq!(Rest::of(RFLAGS_IF | 2), rest(true, false));
        assert_eq!(Rest::of(RFLAGS_TF | 2), rest(false, true));
        assert_eq!(Rest::of(RFLAGS_TF | RFLAGS_IF), rest(true, true));
    }
}
