// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The guest image: a flat binary from a file, or the built-in demo.

use std::path::Path;

use anyhow::{Context as _, anyhow};

use crate::{ExitStatus, Failure};

/// Reads the flat binary at `path`; `room` is how many bytes it may have.
pub(crate) fn read(path: &Path, room: u64) -> Result<Vec<u8>, Failure> {
    let guest_file = |error| Failure::new(ExitStatus::File, error);
    let shown = path.display();
    let metadata = std::fs::metadata(path)
        .with_context(|| format!("cannot use the guest file {shown}"))
        .map_err(guest_file)?;
    if !metadata.is_file() {
        return Err(guest_file(anyhow!(
            "the guest file {shown} is no regular file"
        )));
    }
    // The size is checked before the contents are read: a huge file must not
    // fill this level's memory.
    check_size(metadata.len(), room)
        .with_context(|| format!("cannot use the guest file {shown}"))
        .map_err(guest_file)?;
    let bytes = std::fs::read(path)
        .with_context(|| format!("cannot read the guest file {shown}"))
        .map_err(guest_file)?;
    // CAST: widening. The file may have changed in between.
    check_size(bytes.len() as u64, room)
        .with_context(|| format!("cannot use the guest file {shown}"))
        .map_err(guest_file)?;
    Ok(bytes)
}

fn check_size(size: u64, room: u64) -> anyhow::Result<()> {
    if size == 0 {
        return Err(anyhow!("it is empty (expected a flat binary)"));
    }
    if size > room {
        return Err(anyhow!(
            "it has {size} bytes, there is room for {room} between the load address and the end \
             of the guest's memory; lower --load-address or give more --memory"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path, room: u64) -> String {
        match read(path, room) {
            Ok(_) => panic!("{} was accepted", path.display()),
            Err(failure) => {
                assert_eq!(failure.status, ExitStatus::File);
                format!("{:#}", failure.error)
            }
        }
    }

    #[test]
    fn bad_files_are_refused_with_their_own_status() -> anyhow::Result<()> {
        let folder = std::env::temp_dir().join(format!("vtlctl-image-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("guest");
        assert!(refused(&file, 16).contains("cannot use the guest file"));
        assert!(refused(&folder, 16).contains("no regular file"));
        std::fs::write(&file, [])?;
        assert!(refused(&file, 16).contains("empty"));
        std::fs::write(&file, [0xf4; 17])?;
        assert!(refused(&file, 16).contains("17 bytes, there is room for 16"));
        std::fs::write(&file, [0xf4; 16])?;
        assert_eq!(
            read(&file, 16).map_err(|failure| failure.error)?,
            [0xf4; 16]
        );
        std::fs::remove_dir_all(&folder)?;
        Ok(())
    }
}
