// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The exception with which a triple fault began.

use super::Vp;
use crate::exit::ExceptionExit;
use crate::field::L2Field;
use crate::{Exit, Result};

/// Runs that a signal or an interrupt of VTL2 ended are repeated so often.
const ATTEMPTS: usize = 16;
const EVERY_EXCEPTION: u64 = 0xffff_ffff;
/// [`Vp::write_masked`] refuses to change the bit of #MC, which is VTL2's.
const MACHINE_CHECK: u64 = 1 << 18;

impl Vp {
    /// Finds the exception with which a triple fault began; `None` if the guest does something else
    /// this time, as after an exception that was injected.
    ///
    /// To be called after [`Exit::TripleFault`], of a guest that will not run again. The processor does
    /// not tell, but the guest's state is still that before the exception: entered once more, with every
    /// exception intercepted, the guest raises it again.
    ///
    /// # Errors
    /// As [`Vp::run`], and [`crate::Error::Tdcall`].
    pub fn first_exception(&mut self) -> Result<Option<ExceptionExit>> {
        let mask = EVERY_EXCEPTION & !MACHINE_CHECK;
        self.write_masked(L2Field::EXCEPTION_BITMAP, EVERY_EXCEPTION, mask)?;
        // Not the event whose delivery failed, which would fail again.
        self.write(L2Field::ENTRY_INTERRUPTION_INFO, 0)?;
        let found = self.raise_again();
        self.write_masked(L2Field::EXCEPTION_BITMAP, 0, mask)?;
        found
    }

    fn raise_again(&mut self) -> Result<Option<ExceptionExit>> {
        for _ in 0..ATTEMPTS {
            match self.run()? {
                Exit::Interrupted | Exit::NotEntered(_) => {}
                Exit::Exception(exception) => return Ok(Some(exception)),
                _ => break,
            }
        }
        Ok(None)
    }
}
