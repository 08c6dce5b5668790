// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The exception with which a triple fault began. The processor does not tell, but the guest's state is
//! still that before it: entered once more, with every exception intercepted, the guest raises it again.

use core::fmt;

use vtl::exit::ExceptionExit;
use vtl::field::L2Field;
use vtl::{Exit, Vp};

/// An exception that the guest had no handler for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct First(ExceptionExit);

/// Runs that a signal or an interrupt of VTL2 ended are repeated so often.
const ATTEMPTS: usize = 16;
const EVERY_EXCEPTION: u64 = 0xffff_ffff;
/// [`vtl`] refuses to change the bit of #MC, which is VTL2's.
const MACHINE_CHECK: u64 = 1 << 18;

/// Finds it after a triple fault; `None` if the guest does something else this time, as after an
/// exception that was injected.
pub(crate) fn find(vp: &mut Vp) -> vtl::Result<Option<First>> {
    let mask = EVERY_EXCEPTION & !MACHINE_CHECK;
    vp.write_masked(L2Field::EXCEPTION_BITMAP, EVERY_EXCEPTION, mask)?;
    // Not the event whose delivery failed, which would fail again.
    vp.write(L2Field::ENTRY_INTERRUPTION_INFO, 0)?;
    let found = again(vp);
    vp.write_masked(L2Field::EXCEPTION_BITMAP, 0, mask)?;
    found
}

fn again(vp: &mut Vp) -> vtl::Result<Option<First>> {
    for _ in 0..ATTEMPTS {
        match vp.run()? {
            Exit::Interrupted | Exit::NotEntered(_) => {}
            Exit::Exception(exception) => return Ok(Some(First(exception))),
            _ => break,
        }
    }
    Ok(None)
}

impl fmt::Display for First {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PAGE_FAULT: u8 = 14;
        let exception = self.0;
        match name(exception.vector) {
            Some(name) => write!(f, "#{name}")?,
            None => write!(f, "exception {}", exception.vector)?,
        }
        if let Some(code) = exception.error_code {
            write!(f, " with error code {code:#x}")?;
        }
        if exception.vector == PAGE_FAULT {
            write!(f, " for address {:#x}", exception.qualification)?;
        }
        Ok(())
    }
}

/// Mnemonic of an exception. [SDM3 6.3.1]
const fn name(vector: u8) -> Option<&'static str> {
    Some(match vector {
        0 => "DE",
        1 => "DB",
        3 => "BP",
        4 => "OF",
        5 => "BR",
        6 => "UD",
        7 => "NM",
        8 => "DF",
        10 => "TS",
        11 => "NP",
        12 => "SS",
        13 => "GP",
        14 => "PF",
        16 => "MF",
        17 => "AC",
        19 => "XM",
        21 => "CP",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(vector: u8, error_code: Option<u32>) -> String {
        let qualification = 0x1000;
        First(ExceptionExit {
            vector,
            error_code,
            qualification,
        })
        .to_string()
    }

    #[test]
    fn exceptions_have_their_names() {
        assert_eq!(text(6, None), "#UD");
        assert_eq!(text(13, Some(0x18)), "#GP with error code 0x18");
        assert_eq!(
            text(14, Some(2)),
            "#PF with error code 0x2 for address 0x1000"
        );
        assert_eq!(text(15, None), "exception 15");
    }
}
