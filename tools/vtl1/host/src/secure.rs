// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Runs VTL0 and the secure kernel at VTL1 on one virtual processor.

use core::ops::ControlFlow;

use vtl::{Exit, GpaRange, SwitchEnable, Vm, Vp, VtlPair};
use vtl1::ranges::PAGE;

use crate::layout::BOOT;
use crate::server::Server;
use crate::{CrashReport, Error, Prepared, Result, Secrets};

/// Why [`SecureVtl::run`] returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The handler of VTL0's exits has ended it.
    ByHandler,
    /// A signal or a cancellation.
    Interrupted,
    /// VTL1 has reported its end. It must not be entered again.
    Crashed(CrashReport),
}

/// How [`SecureVtl::turn`] ended.
#[derive(Debug)]
pub enum Turn<'a> {
    /// An exit of VTL0, or one that is nobody's: a deadline, an interruption.
    Exit(Exit<'a>),
    /// VTL1 was served, or the VTLs were switched: run again.
    Served,
    /// The same, and VTL0 can't write to these pages any more. Before the next turn its translations
    /// have to be invalidated on all other virtual processors; on this one they will be.
    Protected(Vec<GpaRange>),
    /// VTL1 has reported its end. It must not be entered again.
    Crashed(CrashReport),
}

/// VTL0 and the secure kernel at VTL1, on one virtual processor.
pub struct SecureVtl {
    // In this order they are dropped: the kernel no longer uses the assist page when it is zeroed.
    pair: VtlPair,
    server: Server,
}

impl SecureVtl {
    pub(crate) fn new(pair: VtlPair, server: Server) -> Self {
        let secure = Self { pair, server };
        secure.hold_returns(false);
        secure
    }

    /// [`Prepared::new`] and [`Prepared::load`] in one.
    ///
    /// # Errors
    /// [`Error`].
    pub fn load(
        vp: Vp,
        file: &[u8],
        base: u64,
        vtl0: Vec<GpaRange>,
        secrets: &Secrets,
    ) -> Result<Self> {
        Ok(Prepared::new(file.to_vec(), base, vtl0, secrets)?.load(vp)?)
    }

    /// Both VTLs, for their registers.
    pub fn pair(&self) -> &VtlPair {
        &self.pair
    }

    /// Returns true if VTL1 is in the middle of a call.
    pub fn is_in_vtl1(&self) -> bool {
        self.pair.current() == Vm::VTL1
    }

    /// With `true`, a turn ends when VTL1 has returned, before VTL0 executes an instruction. To be
    /// called after VTL0's offload has changed, too: as long as the kernel delivers VTL0's
    /// interrupts, it takes those that arrive while VTL1 runs.
    pub fn hold_returns(&self, is_held: bool) {
        let offload = self.pair.vp(Vm::VTL0).page().offload();
        let enable = SwitchEnable::new()
            .with_calls(true)
            .with_returns(!is_held)
            .with_interrupts(offload.interrupts());
        self.pair.set_enable(enable);
    }

    /// Returns true if the seed in memory has been erased, which VTL1 does at its first call.
    ///
    /// # Errors
    /// [`Error::Vtl`].
    pub fn is_seed_erased(&self) -> Result<bool> {
        let mut page = [0; PAGE as usize];
        self.server.memory().read(BOOT, &mut page)?;
        Ok(page.iter().all(|&byte| byte == 0))
    }

    /// Runs both VTLs once, and serves VTL1's exit if it is one.
    ///
    /// # Errors
    /// [`Error`].
    pub fn turn(&mut self) -> Result<Turn<'_>> {
        let page = self.pair.page().clone();
        match self.pair.turn()? {
            vtl::Turn::Switched => Ok(Turn::Served),
            vtl::Turn::Exit(Vm::VTL1, exit) if !is_nobodys(&exit) => {
                if let Some(report) = self.server.serve(exit)? {
                    return Ok(Turn::Crashed(report));
                }
                let pages = self.server.take_protected();
                if pages.is_empty() {
                    return Ok(Turn::Served);
                }
                page.request_flush(Vm::VTL0);
                Ok(Turn::Protected(pages))
            }
            vtl::Turn::Exit(_, exit) => Ok(Turn::Exit(exit)),
        }
    }

    /// Runs both, on the only virtual processor of VTL0. VTL0's exits go to `on_exit`, VTL1's are
    /// served here.
    ///
    /// # Errors
    /// [`Error`], or what `on_exit` returns.
    pub fn run<E: From<Error>>(
        &mut self,
        mut on_exit: impl FnMut(Exit<'_>) -> core::result::Result<ControlFlow<()>, E>,
    ) -> core::result::Result<Ended, E> {
        loop {
            match self.turn()? {
                Turn::Exit(Exit::Interrupted) => return Ok(Ended::Interrupted),
                Turn::Exit(Exit::NotEntered(_)) | Turn::Served | Turn::Protected(_) => {}
                Turn::Crashed(report) => return Ok(Ended::Crashed(report)),
                Turn::Exit(exit) => {
                    if on_exit(exit)?.is_break() {
                        return Ok(Ended::ByHandler);
                    }
                }
            }
        }
    }
}

/// Returns true for an exit that no instruction of the VTL has caused which ran.
fn is_nobodys(exit: &Exit<'_>) -> bool {
    matches!(
        exit,
        Exit::Interrupted | Exit::NotEntered(_) | Exit::Deadline
    )
}
