// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! One lower VTL on all virtual processors: its memory rights, and its handles on CPUs.

use crate::rights::PageRights;
use crate::vp::{Vm, Vp};
use crate::{GpaRange, Result, Vtl};

/// A lower VTL of the trust domain, made by [`Vtl::lower`].
///
/// ```no_run
/// use vtl::{GpaRange, PageRights, Vm, Vtl};
///
/// # fn main() -> Result<(), vtl::Error> {
/// let vtl = Vtl::open()?;
/// let memory = GpaRange::new(0x8000_0000, 0x20_0000)?;
/// let contents = vtl.accept_zeroed(memory)?;
/// let vtl0 = vtl.lower(Vm::VTL0);
/// vtl0.set_rights(&memory, PageRights::ALL)?;
/// contents.write(0, &[0xf4])?;
/// let vp = vtl0.bind(0)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LowerVtl {
    vtl: Vtl,
    vm: Vm,
}

impl LowerVtl {
    pub(crate) fn new(vtl: Vtl, vm: Vm) -> Self {
        Self { vtl, vm }
    }

    /// The VM of this VTL.
    pub fn vm(&self) -> Vm {
        self.vm
    }

    /// The VTL file.
    pub fn vtl(&self) -> &Vtl {
        &self.vtl
    }

    /// Sets the rights of this VTL to `rights`, for every page of `range`: see [`Vtl::set_rights`].
    ///
    /// # Errors
    /// [`crate::Error::Tdcall`] for the first page that was refused.
    pub fn set_rights(&self, range: &GpaRange, rights: PageRights) -> Result<()> {
        self.vtl.set_rights(range, self.vm, rights)
    }

    /// Returns the rights of this VTL to the page at `gpa`.
    ///
    /// # Errors
    /// [`crate::Error::Tdcall`] with the status.
    pub fn rights(&self, gpa: u64) -> Result<PageRights> {
        Ok(self.vtl.page_attributes(gpa)?.rights(self.vm))
    }

    /// Binds this thread to `cpu`, and returns a handle on its virtual processor.
    ///
    /// # Errors
    /// [`crate::Error::Bind`] or [`crate::Error::Map`].
    pub fn bind(&self, cpu: u32) -> Result<Vp> {
        self.vtl.bind(cpu, self.vm)
    }
}
