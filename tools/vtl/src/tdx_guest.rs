// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDREPORTs and quotes, by Linux's own driver (`tdx-guest`, `tsm_report`).

use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::{Error, Result, sys};

/// Length of a TDREPORT.
pub const REPORT_LEN: usize = 1024;

/// What [`report`] opens.
pub(crate) const DEVICE: &str = "/dev/tdx_guest";
const QUOTES: &str = "/sys/kernel/config/tsm/report";
/// What an error of [`quote`] is about.
pub(crate) const QUOTE: &str = "a quote";
/// More requests than a process can have left behind by being killed, in all its lives.
const NAMES: u32 = 64;

/// Has the TDX module make a TDREPORT.
///
/// # Errors
/// [`Error::Open`] if the driver is not loaded, [`Error::Command`].
pub fn report(data: &[u8; 64]) -> Result<[u8; REPORT_LEN]> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(DEVICE, flags, Mode::empty()).map_err(|errno| Error::Open {
        path: DEVICE,
        errno: errno.into(),
    })?;
    sys::tdx_report(file, data).map_err(|errno| Error::Command {
        command: "TDX_CMD_GET_REPORT0",
        errno: errno.into(),
    })
}

/// Has the host make a quote.
///
/// # Errors
/// [`Error::Query`]: the driver is not loaded, configfs is not mounted, or the host makes none.
pub fn quote(data: &[u8; 64]) -> Result<Vec<u8>> {
    let folder = new_folder(Path::new(QUOTES)).map_err(error)?;
    let quote = ask(&folder, data);
    // What is left behind is an empty request.
    let _ = std::fs::remove_dir(&folder);
    quote
}

/// A request of our own. One of this name may be left of a killed process with this number, or be that
/// of one in another container.
fn new_folder(quotes: &Path) -> std::io::Result<PathBuf> {
    let names = (0..NAMES).map(|number| format!("vtl-{}-{number}", std::process::id()));
    for name in names {
        let folder = quotes.join(name);
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(why) => return Err(why),
        }
    }
    Err(std::io::ErrorKind::AlreadyExists.into())
}

fn ask(folder: &Path, data: &[u8; 64]) -> Result<Vec<u8>> {
    std::fs::write(folder.join("inblob"), data).map_err(error)?;
    std::fs::read(folder.join("outblob")).map_err(error)
}

fn error(error: std::io::Error) -> Error {
    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
    Error::Query {
        what: QUOTE,
        errno: errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_left_behind_is_no_harm() -> std::io::Result<()> {
        let quotes = std::env::temp_dir().join(format!("vtl-quotes-{}", std::process::id()));
        std::fs::create_dir_all(&quotes)?;
        let (first, second) = (new_folder(&quotes)?, new_folder(&quotes)?);
        assert!(first != second && first.is_dir() && second.is_dir());
        std::fs::remove_dir_all(&quotes)?;
        let missing = new_folder(&quotes).map_err(|why| why.kind());
        assert_eq!(missing, Err(std::io::ErrorKind::NotFound));
        Ok(())
    }

    /// Who has no driver learns which, and not that the module is missing.
    #[test]
    fn what_is_missing_is_named() {
        let open = Error::Open {
            path: DEVICE,
            errno: Errno::NOENT.into(),
        };
        assert!(open.to_string().ends_with("CONFIG_TDX_GUEST_DRIVER?"));
        let quote = |errno| error(std::io::Error::from(errno)).to_string();
        assert!(quote(Errno::NOENT).contains("tsm_report and tdx_guest"));
        assert!(quote(Errno::IO).ends_with("the host makes none"));
        let checkpoint = |errno: Errno| Error::command("VTL_AUDIT_CHECKPOINT")(errno).to_string();
        assert!(checkpoint(Errno::IO).contains("attestation is broken"));
        assert!(checkpoint(Errno::NXIO).ends_with("the last event is made"));
    }
}
