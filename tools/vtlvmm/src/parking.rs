// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A mutex whose holders never leave their data half changed, so a panic in another thread is no
//! reason to poison it.

use std::sync::{MutexGuard, PoisonError};

/// A mutex without poison.
#[derive(Debug, Default)]
pub struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// A mutex around `value`.
    pub const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    /// Waits for it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
