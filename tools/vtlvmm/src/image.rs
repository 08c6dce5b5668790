// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What can be booted: a Linux kernel, or one that follows the Multiboot specification.

use vm_memory::GuestMemory;

use crate::error::Result;
use crate::linux::{self, Linux};
use crate::memory::Range;
use crate::multiboot;

/// The files, opened and looked at: nothing has changed yet.
#[derive(Debug)]
pub enum Image {
    /// A bzImage.
    Linux(linux::Opened),
    /// A kernel with a Multiboot header.
    Multiboot(multiboot::Opened),
}

/// How the boot processor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// In 64-bit mode, by Linux' boot protocol.
    Linux(linux::Entry),
    /// In 32-bit protected mode, by the Multiboot specification.
    Multiboot(multiboot::Entry),
}

impl Image {
    /// Opens the files of either.
    ///
    /// # Errors
    /// As [`Linux::open`].
    pub fn open(what: &Linux) -> Result<Self> {
        Ok(match multiboot::open(what)? {
            Some(opened) => Self::Multiboot(opened),
            None => Self::Linux(what.open()?),
        })
    }

    /// Loads everything. `ram` are the pieces of `memory`.
    ///
    /// # Errors
    /// As [`linux::Opened::load`].
    pub fn load<M: GuestMemory>(
        self,
        memory: &M,
        ram: &[Range],
        acpi_tables: &[u8],
    ) -> Result<Start> {
        Ok(match self {
            Self::Linux(opened) => Start::Linux(opened.load(memory, ram, acpi_tables)?),
            Self::Multiboot(opened) => Start::Multiboot(opened.load(memory, ram, acpi_tables)?),
        })
    }
}
