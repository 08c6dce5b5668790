// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Exceptions as text.

use core::fmt;

use super::ExceptionExit;

impl fmt::Display for ExceptionExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PAGE_FAULT: u8 = 14;
        match name(self.vector) {
            Some(name) => write!(f, "#{name}")?,
            None => write!(f, "exception {}", self.vector)?,
        }
        if let Some(code) = self.error_code {
            write!(f, " with error code {code:#x}")?;
        }
        if self.vector == PAGE_FAULT {
            write!(f, " for address {:#x}", self.qualification)?;
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
        let exception = ExceptionExit {
            vector,
            error_code,
            qualification,
        };
        exception.to_string()
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
