// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Physical memory: its layout, the emulator's own frames, the guests' memory, nested tables.

#[cfg(target_os = "none")]
pub mod frame;
#[cfg(target_os = "none")]
pub mod guest;
pub mod layout;
pub mod map;
#[cfg(target_os = "none")]
pub mod npt;
#[cfg(target_os = "none")]
pub mod overlay;
pub mod walk;
