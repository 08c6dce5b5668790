// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Page tables that processors use, and whose they are.
//!
//! All of Linux' roots have the same table at the addresses of its image, and it never changes which one that
//! is. So it is read while a processor does not run, when its root can't be freed: a root that is another one
//! then is no root of Linux. Later it may have been freed, and be memory of a process.

use super::tables::top_table;
use super::text::IMAGES;
use super::view::{Physical, Registers, Root};

/// The tables of the image in the page tables of a processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tops {
    /// By way of CR3.
    pub own: Option<u64>,
    /// By way of [`Registers::neighbour`].
    pub neighbour: Option<u64>,
}

/// Whose tables they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// They have the kernel.
    Kernel,
    /// They are userspace's separate ones, which may lack most of the kernel.
    Userspace,
    /// Linux has none like these.
    Nobody,
}

/// Page tables that a processor used when it was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    /// CR3, or the page before it.
    pub root: Root,
    /// Who uses them.
    pub whose: Whose,
    /// The table of the image that they had then, which they have to have when they are read. None if Linux has no
    /// root like this: what is read by way of it counts.
    top: Option<u64>,
}

impl Tables {
    /// Those of a processor, the ones in use first. `known` is the table of the image that Linux has.
    pub fn of(registers: &Registers, known: u64) -> Vec<Self> {
        let Some(root) = registers.root() else {
            return Vec::new();
        };
        let Tops { own, neighbour } = registers.tops;
        let tables = |root, whose, top| Self { root, whose, top };
        if own == Some(known) {
            return vec![tables(root, Whose::Kernel, own)];
        }
        // Linux is at CPL 0 with userspace's tables, too, while it enters and leaves the kernel.
        match registers.neighbour() {
            Some(kernel) if neighbour == Some(known) => vec![
                tables(root, Whose::Userspace, own),
                tables(kernel, Whose::Kernel, neighbour),
            ],
            _ => vec![tables(root, Whose::Nobody, None)],
        }
    }

    /// Those that begin with the table of the image: every one of Linux leads there. They are for addresses in the
    /// kernel's half that are no more than 2 GiB from the image, whichever root is in use.
    pub const fn of_image(table: Root) -> Self {
        Self {
            root: table,
            whose: Whose::Kernel,
            top: None,
        }
    }

    /// Returns true if what was read by way of them counts: they are still tables. What Linux has not made
    /// always counts.
    pub fn are_still<P: Physical>(&self, memory: &P) -> bool {
        let top = || top_table(memory, self.root, IMAGES.start);
        self.top.is_none_or(|before| top() == Some(before))
    }
}
