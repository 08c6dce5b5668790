// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a processor runs: VTL0 alone, or VTL0 with the secure kernel at VTL1.

use vtl::exit::ExceptionExit;
use vtl::{Exit, Vm, Vp};
use vtl1_host::{Prepared, SecureVtl, Turn};

use crate::board::{Board, End};
use crate::memory::{LowerRam, Range};
use crate::processors::Processor;

/// The VTLs of one processor.
pub(super) enum Guest {
    Alone(Vp),
    Secure(Box<SecureVtl>),
}

/// What ended a run.
pub(super) enum Ran<'a> {
    /// An exit that is VTL0's, or nobody's.
    Exit(Exit<'a>),
    /// Nothing that VTL0 has to do with.
    Served,
    /// VTL1 has ended, and so has the machine: VTL0 is in the middle of a call.
    End(End),
}

impl Guest {
    /// VTL0 in its start state, and the secure kernel, if there is one.
    pub(super) fn new(vp: Vp, secure: Option<Prepared>) -> vtl::Result<Self> {
        Ok(match secure {
            None => Self::Alone(vp),
            Some(prepared) => Self::Secure(Box::new(prepared.load(vp)?)),
        })
    }

    /// VTL0.
    pub(super) fn vp(&self) -> &Vp {
        match self {
            Self::Alone(vp) => vp,
            Self::Secure(secure) => secure.pair().vp(Vm::VTL0),
        }
    }

    /// After a triple fault of VTL0: the exception with which it began. With a secure kernel, which VTL0
    /// might call then, nobody looks for it.
    pub(super) fn first_exception(&mut self) -> vtl::Result<Option<ExceptionExit>> {
        match self {
            Self::Alone(vp) => vp.first_exception(),
            Self::Secure(_) => Ok(None),
        }
    }

    /// Returns true if VTL1 runs.
    pub(super) fn is_in_vtl1(&self) -> bool {
        match self {
            Self::Alone(_) => false,
            Self::Secure(secure) => secure.is_in_vtl1(),
        }
    }

    /// Returns true if VTL0 is in the middle of a VTL call: its registers are parked, and nothing can
    /// be injected. If `has_request`, the next run ends with VTL1's return at the latest.
    pub(super) fn is_in_call(&self, has_request: bool) -> bool {
        match self {
            Self::Alone(_) => false,
            Self::Secure(secure) => {
                let is_in_call = secure.is_in_vtl1();
                secure.hold_returns(is_in_call && has_request);
                is_in_call
            }
        }
    }

    /// Runs once.
    pub(super) fn run(&mut self, board: &Board<LowerRam>, own: &Processor) -> vtl::Result<Ran<'_>> {
        let secure = match self {
            Self::Alone(vp) => return vp.run().map(Ran::Exit),
            Self::Secure(secure) => secure,
        };
        Ok(match secure.turn() {
            Ok(Turn::Exit(exit)) => Ran::Exit(exit),
            Ok(Turn::Served) => Ran::Served,
            Ok(Turn::Protected(pages)) => {
                board.processors.flush_others(own)?;
                let ranges = pages.iter().map(|it| Range::new(it.base(), it.end()));
                board.protected.add(ranges);
                Ran::Served
            }
            Ok(Turn::Crashed(report)) => Ran::End(End::Failed(format!("VTL1 has ended: {report}"))),
            Err(vtl1_host::Error::Vtl(error)) => return Err(error),
            Err(other) => Ran::End(End::Failed(format!("VTL1 has failed: {other}"))),
        })
    }
}
