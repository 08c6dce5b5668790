// SPDX-License-Identifier: GPL-2.0
//! Where refusals become errno. The meanings are in the header's DOC block.

use kernel::error::code::EINVAL;
use kernel::error::Error;

use crate::pure::controls::Refusal;

/// Errno of a run page that is not acted on.
pub(crate) fn refusal(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Invalid => EINVAL,
    }
}
