// SPDX-License-Identifier: GPL-2.0-only
//! Property tests of the driver's decisions. The unit tests in `rust/pure` enumerate what can be; here
//! everything is random at once, and each answer is held against the rule as the specification words
//! it, not against the code.

mod exits;
mod memory;
mod random;
mod snapshot;
mod switch;
