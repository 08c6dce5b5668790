// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Everything of the secure kernel that needs no processor: the image, what VTL2 tells it, and its
//! page tables. What can be wrong with a file or with the memory is found here.

use vtl::{GpaRange, LowerMemory, Mode, Vm, Vp, VtlPair};
use vtl1::boot::{Boot, IMAGE_VA, STACK_END_VA};
use vtl1::image::Image;
use vtl1::keys::SEED_LEN;
use vtl1::ranges::{MOST_RANGES, PAGE, Range};

use crate::layout::{self, ASSIST, BOOT, HYPERCALL, IMAGE, VTL1_LEN};
use crate::secure::SecureVtl;
use crate::server::Server;
use crate::tables::{Access, Tables};
use crate::{Error, Result};

/// What the secure kernel keeps.
#[derive(Clone)]
pub struct Secrets {
    /// Source of its keys, not all zero. The same seed gives the same keys.
    pub seed: [u8; SEED_LEN],
    /// First value of its counter.
    pub counter: u64,
}

/// A secure kernel that can be loaded.
pub struct Prepared {
    file: Vec<u8>,
    image: Image,
    boot: Vec<u8>,
    tables: Tables,
    own: GpaRange,
    vtl0: Vec<GpaRange>,
}

/// Returns true if `file` is a whole image of a secure kernel.
pub fn is_image(file: &[u8]) -> bool {
    Image::decode(file).is_some()
}

impl Prepared {
    /// Prepares the image `file` for the 2 MiB at `base`, with access to `vtl0`, VTL0's memory.
    ///
    /// # Errors
    /// [`Error::Image`], [`Error::NoRoom`], [`Error::Memory`].
    pub fn new(file: Vec<u8>, base: u64, vtl0: Vec<GpaRange>, secrets: &Secrets) -> Result<Self> {
        let image = Image::decode(&file).ok_or(Error::Image)?;
        let own = GpaRange::new(base, VTL1_LEN)?;
        Ok(Self {
            boot: boot_page(&own, &vtl0, secrets)?,
            tables: make_tables(&own, &vtl0, &image)?,
            file,
            image,
            own,
            vtl0,
        })
    }

    /// Puts it into its memory, which VTL0 loses all rights to, and gives VTL1 read and write access
    /// to VTL0's. Both have to be accepted. The registers of `vp` are VTL0's; VTL1 begins with its
    /// first call.
    ///
    /// # Errors
    /// [`vtl::Error`].
    pub fn load(self, vp: Vp) -> vtl::Result<SecureVtl> {
        let vtl = vp.vtl().clone();
        // From here on, whatever fails, dropping the server takes the rights back.
        let server = Server::new(vtl.clone(), self.own, self.vtl0, self.image.len())?;
        server.set_rights()?;
        let memory = server.memory();
        memory.write(0, &vec![0; VTL1_LEN as usize])?; // CAST: 2 MiB
        memory.write(BOOT, &self.boot)?;
        memory.write(IMAGE, &self.file)?;
        memory.write(layout::tables_at(&self.image), &self.tables.bytes())?;
        let assist = LowerMemory::map(GpaRange::new(self.own.base() + ASSIST, PAGE)?)?;
        let pair = VtlPair::new(vp, assist)?;
        let mode = Mode::Long64 {
            cr3: self.tables.root(),
        };
        pair.start_vtl1(mode, IMAGE_VA + self.image.entry, STACK_END_VA)?;
        pair.vp(Vm::VTL1).new_apic_page()?;
        Ok(SecureVtl::new(pair, server))
    }
}

fn boot_page(own: &GpaRange, vtl0: &[GpaRange], secrets: &Secrets) -> Result<Vec<u8>> {
    let range = |given: &GpaRange| Range::new(given.base(), given.len()).ok_or(Error::Memory);
    let mut list = [Range::default(); MOST_RANGES];
    if vtl0.len() > list.len() {
        return Err(Error::Memory);
    }
    for (place, given) in list.iter_mut().zip(vtl0) {
        *place = range(given)?;
    }
    let boot = Boot {
        seed: secrets.seed,
        vtl1: range(own)?,
        assist: own.base() + ASSIST,
        hypercall: own.base() + HYPERCALL,
        counter: secrets.counter,
        vtl0: list,
    };
    boot.memory().ok_or(Error::Memory)?;
    Ok(boot.encode().to_vec())
}

/// End of the addresses at which VTL0's memory can be mapped.
const LOWER_HALF_END: u64 = 1 << 47;

fn make_tables(own: &GpaRange, vtl0: &[GpaRange], image: &Image) -> Result<Tables> {
    let at = layout::tables_at(image);
    let room = VTL1_LEN.checked_sub(at).ok_or(Error::NoRoom)? / PAGE;
    let mut tables = Tables::new(own.base() + at, room as usize); // CAST: at most 512
    layout::map_own(&mut tables, own.base(), image)?;
    for range in vtl0 {
        if range.end() > LOWER_HALF_END {
            return Err(Error::Memory);
        }
        layout::map(
            &mut tables,
            range.base(),
            range.base(),
            range.len(),
            Access::Write,
        )?;
    }
    Ok(tables)
}
