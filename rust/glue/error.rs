// SPDX-License-Identifier: GPL-2.0
//! Maps refusals of `pure` to errno. The header's DOC block says what each errno means.

use kernel::error::code::EINVAL;
use kernel::error::Error;

use crate::pure::controls::Refusal;

/// Errno for a run page that is refused.
pub(crate) fn refusal(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Invalid => EINVAL,
    }
}
