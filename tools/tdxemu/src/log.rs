// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The emulator's log, on the debug console. One line per message, with the processor's number.

use core::sync::atomic::{AtomicU8, Ordering};

/// How important a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// The machine cannot continue, or not as requested.
    Error,
    /// Something that a user should check.
    Warn,
    /// Milestones.
    Info,
    /// Single events and statistics.
    Debug,
}

impl Level {
    /// Parses the value of `emu.log`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "error" => Self::Error,
            "warn" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            _ => return None,
        })
    }

    /// The value of `emu.log`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Shows messages up to this level.
pub fn set_level(level: Level) {
    // ORDERING: a preference; nothing depends on when it is seen.
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Returns true if messages of this level are shown.
pub fn is_shown(level: Level) -> bool {
    // ORDERING: as in `set_level`.
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

/// Writes one message. Use the macros.
#[cfg(target_os = "none")]
pub fn write(level: Level, arguments: core::fmt::Arguments<'_>) {
    crate::console::line(format_args!("{}: {arguments}", level.name()));
}

/// Logs at a level: `log!(Warn, "...", ...)`.
#[macro_export]
macro_rules! log {
    ($level:ident, $($argument:tt)*) => {
        if $crate::log::is_shown($crate::log::Level::$level) {
            $crate::log::write($crate::log::Level::$level, format_args!($($argument)*));
        }
    };
}
