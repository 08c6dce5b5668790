// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Last words.

use crate::console::{self, End};
use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    console::line(format_args!("error: the emulator stops: {info}"));
    crate::stats::report_recent_exits();
    console::end(End::Emulator)
}
