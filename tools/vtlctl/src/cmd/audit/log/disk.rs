// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The file of a log on its disk: one process writes it at a time, and what a killed one left
//! unfinished is cut off.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use vtl_audit::file::{self, Frame, write};

use crate::cmd::audit::boot;

/// A file that this process writes.
pub(super) struct Disk {
    file: BufWriter<File>,
}

impl Disk {
    /// Begins a file, or opens one that exists. Returns what is in it, to its last whole frame.
    pub(super) fn open(path: &Path, identity: &Value) -> anyhow::Result<(Self, Vec<u8>)> {
        let cannot = || format!("cannot write {}", path.display());
        let options = &mut OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).with_context(cannot)?;
        if !file.metadata().with_context(cannot)?.is_file() {
            bail!("{}: it is no regular file", path.display());
        }
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("{}: another process writes it", path.display());
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(cannot)?;
        let is_new = !is_begun(&bytes);
        if is_new && !bytes.is_empty() && file::version(&bytes).is_some() {
            bail!(
                "{}: it is of an older version, which has no events",
                path.display()
            );
        }
        if is_new && !bytes.is_empty() && !is_prefix_of_head(&bytes) {
            bail!(
                "{}: it exists, and is no file of audit records",
                path.display()
            );
        }
        if is_new {
            bytes = begin(identity)?;
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&bytes).with_context(cannot)?;
        } else {
            let damaged = |why| anyhow!("cannot go on with {}: {why}", path.display());
            let whole = file::whole(&bytes).map_err(damaged)?;
            bytes.truncate(whole);
            // CAST: widening.
            file.set_len(whole as u64).with_context(cannot)?;
            file.seek(SeekFrom::End(0))?;
        }
        file.sync_all().with_context(cannot)?;
        let file = BufWriter::new(file);
        Ok((Self { file }, bytes))
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).context("cannot write the file")
    }

    pub(super) fn frame(&mut self, kind: Frame, body: &[u8]) -> anyhow::Result<()> {
        let frame = write::frame(kind, body).context("too much for a frame")?;
        self.append(&frame)
    }

    /// Writes the records that were collected, if there are any.
    pub(super) fn records(
        &mut self,
        stream: u32,
        first: u64,
        batch: &mut Vec<[u8; 64]>,
    ) -> anyhow::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let frame = write::records(stream, first, batch).context("too much for a frame")?;
        batch.clear();
        self.append(&frame)
    }

    /// Returns when everything is on the disk.
    pub(super) fn sync(&mut self) -> anyhow::Result<()> {
        self.file.flush().context("cannot write the file")?;
        self.file
            .get_ref()
            .sync_data()
            .context("cannot write the file")
    }
}

/// Returns true if there is a whole head.
fn is_begun(bytes: &[u8]) -> bool {
    use file::BadFile::{Head, Magic, Version};
    !matches!(file::whole(bytes), Err(Magic | Version(_) | Head))
}

/// Returns true for the start of a head that a killed process had begun.
fn is_prefix_of_head(bytes: &[u8]) -> bool {
    const MAGIC: &[u8] = b"VTLAUDIT";
    let len = bytes.len().min(MAGIC.len());
    bytes.get(..len) == MAGIC.get(..len)
}

/// The head, and the event log of the boot where there is one.
fn begin(identity: &Value) -> anyhow::Result<Vec<u8>> {
    let text = identity.to_string();
    let mut bytes = write::head(text.as_bytes()).context("the identity is too long")?;
    if let Ok(log) = std::fs::read(boot::LOG) {
        bytes.extend(write::frame(Frame::BootLog, &log).unwrap_or_default());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use vtl_audit::Contents;
    use vtl_audit::event::CONTROL;
    use vtl_audit::testing::Module;

    /// A file of its own for a test, removed at its end.
    struct Place(std::path::PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let name = format!("vtlctl-disk-{}-{name}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_file_goes_on_after_its_last_whole_frame() -> anyhow::Result<()> {
        let place = Place::new("goes-on");
        let mut module = Module::load(&[0, CONTROL]);
        module.run(100);
        module.checkpoint(None);
        let frames = module.frames().concat();
        let (mut disk, begun) = Disk::open(&place.0, &json!({}))?;
        let (first, rest) = frames.split_at(5000);
        disk.append(first)?;
        disk.sync()?;
        drop(disk);
        // As if the process had been killed there.
        let (mut disk, bytes) = Disk::open(&place.0, &json!({ "other": 1 }))?;
        assert!(bytes.len() > begun.len() && bytes.len() < begun.len() + 5000);
        assert!(bytes.starts_with(&begun), "the head stays");
        let lost = begun.len() + 5000 - bytes.len();
        disk.append(&first[first.len() - lost..])?;
        disk.append(rest)?;
        disk.sync()?;
        let bytes = std::fs::read(&place.0)?;
        let contents = Contents::read(&bytes).map_err(|why| anyhow::anyhow!("{why}"))?;
        assert_eq!((contents.events.len(), contents.odd_bytes), (2, 0));
        assert_eq!(
            (contents.last_record(0), contents.last_leaf(CONTROL)),
            (100, 64)
        );
        Ok(())
    }

    /// A byte between two frames has changed: what comes after it is evidence all the same.
    #[test]
    fn a_damaged_file_is_not_cut() -> anyhow::Result<()> {
        let place = Place::new("damaged");
        let module = Module::load(&[0, CONTROL]);
        let odd = write::frame(Frame::Quote, &[1; 5]).context("it is short")?;
        let mut file = [module.head(), odd, module.frames().concat()].concat();
        file[module.head().len() + 8 + 5] = 7;
        std::fs::write(&place.0, &file)?;
        match Disk::open(&place.0, &json!({})) {
            Err(error) => assert!(
                error.to_string().contains("not as it is written"),
                "{error:#}"
            ),
            Ok(_) => panic!("it was opened"),
        }
        assert_eq!(std::fs::read(&place.0)?, file);
        Ok(())
    }

    /// What has no end would be read for ever.
    #[test]
    fn a_device_is_no_file_to_go_on_with() {
        let opened = Disk::open(Path::new("/dev/zero"), &json!({}));
        let why = opened.err().map(|why| why.to_string());
        assert!(why.is_some_and(|why| why.contains("no regular file")));
    }

    /// The machine lost its power: what was written last is as long as it should be, and zero.
    #[test]
    fn zeros_at_the_end_are_cut_off() -> anyhow::Result<()> {
        let place = Place::new("zeros");
        let module = Module::load(&[0, CONTROL]);
        let whole = module.file();
        std::fs::write(&place.0, [whole.as_slice(), &[0; 4096]].concat())?;
        let (_, bytes) = Disk::open(&place.0, &json!({}))?;
        assert_eq!(bytes, whole);
        assert_eq!(std::fs::read(&place.0)?, whole);
        Ok(())
    }

    #[test]
    fn two_processes_do_not_write_one_file() -> anyhow::Result<()> {
        let place = Place::new("locked");
        let first = Disk::open(&place.0, &json!({}))?;
        match Disk::open(&place.0, &json!({})) {
            Err(error) => assert!(error.to_string().contains("another process"), "{error:#}"),
            Ok(_) => panic!("it was opened twice"),
        }
        drop(first);
        Disk::open(&place.0, &json!({}))?;
        Ok(())
    }

    #[test]
    fn a_head_that_was_not_finished_is_begun_again_and_no_other_file_is_touched()
    -> anyhow::Result<()> {
        let place = Place::new("begun");
        std::fs::write(&place.0, b"VTLAUDIT\x03")?;
        let (_, bytes) = Disk::open(&place.0, &json!({}))?;
        assert!(Contents::read(&bytes).is_ok());
        for other in [b"#!/bin/sh\n".as_slice(), b"VTLAUDIT\x02\0\0\0\x40\0\0\0"] {
            std::fs::write(&place.0, other)?;
            assert!(Disk::open(&place.0, &json!({})).is_err());
            assert_eq!(std::fs::read(&place.0)?, other);
        }
        Ok(())
    }
}
