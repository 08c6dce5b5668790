// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Files of saved audit records, little-endian: a head, which says where they come from, then the
//! records as the kernel wrote them, 64 bytes each.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::Value;
use vtl::audit::{RECORD_LEN, RECORD_WORDS, Record};

/// First bytes of a file; then version and length of a record.
const MAGIC: [u8; 8] = *b"VTLAUDIT";
/// The first version had no identity, and nothing after the length of a record.
const FIRST: u32 = 1;
/// After it: the length of the identity, a zero word, and the identity as JSON, padded with zeros
/// to a multiple of 8.
const VERSION: u32 = 2;
const FIRST_HEAD_LEN: usize = 16;
const HEAD_LEN: usize = 24;
/// Limit for the length of an identity.
const IDENTITY_MAX: usize = 4096;

/// Writes a file.
pub(super) struct Writer {
    file: BufWriter<File>,
}

impl Writer {
    pub(super) fn create(path: &Path, identity: &Value) -> anyhow::Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut file = BufWriter::new(file);
        file.write_all(&head(identity)?)?;
        Ok(Self { file })
    }

    pub(super) fn write(&mut self, record: &Record) -> anyhow::Result<()> {
        self.file.write_all(&bytes(record))?;
        Ok(())
    }

    /// What is not on the disk now is an error, not a shorter file.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(())
    }
}

pub(super) fn head(identity: &Value) -> anyhow::Result<Vec<u8>> {
    let text = identity.to_string();
    anyhow::ensure!(text.len() <= IDENTITY_MAX, "the identity is too long");
    // CAST: 64.
    let words = [VERSION, RECORD_LEN as u32, u32::try_from(text.len())?, 0];
    let mut head = MAGIC.to_vec();
    head.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    head.extend(text.bytes());
    head.resize(head.len().next_multiple_of(8), 0);
    Ok(head)
}

pub(super) fn bytes(record: &Record) -> Vec<u8> {
    let words = record.to_words();
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A file, read.
pub(super) struct Saved<'a> {
    /// Where the records come from; null in a file of the first version.
    pub(super) identity: Value,
    /// Where the first record is.
    pub(super) head_len: usize,
    records: &'a [u8],
}

/// A record with its place in the file.
pub(super) struct Placed {
    pub(super) offset: usize,
    pub(super) words: [u64; RECORD_WORDS],
}

impl<'a> Saved<'a> {
    /// Checks the head.
    pub(super) fn new(file: &'a [u8]) -> anyhow::Result<Self> {
        if !file.starts_with(&MAGIC) {
            bail!("this is no file of audit records");
        }
        let field = |at: usize| -> anyhow::Result<u32> {
            let bytes = file.get(at..at + 4).context("the file ends in its head")?;
            Ok(u32::from_le_bytes(bytes.try_into()?))
        };
        let (version, len) = (field(8)?, usize::try_from(field(12)?)?);
        if len != RECORD_LEN {
            bail!("its records have {len} bytes, not {RECORD_LEN}");
        }
        let (identity, head_len) = match version {
            FIRST => (Value::Null, FIRST_HEAD_LEN),
            VERSION => identity(file, usize::try_from(field(16)?)?)?,
            other => bail!("this file has version {other}, this program knows up to {VERSION}"),
        };
        Ok(Self {
            identity,
            head_len,
            records: file.get(head_len..).context("the file ends in its head")?,
        })
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Placed> {
        let offsets = (self.head_len..).step_by(RECORD_LEN);
        let chunks = self.records.chunks_exact(RECORD_LEN).zip(offsets);
        chunks.map(|(chunk, offset)| Placed {
            offset,
            words: words(chunk),
        })
    }

    /// Bytes after the last whole record.
    pub(super) fn odd_bytes(&self) -> usize {
        self.records.len() % RECORD_LEN
    }
}

fn identity(file: &[u8], len: usize) -> anyhow::Result<(Value, usize)> {
    if len > IDENTITY_MAX {
        bail!("its identity has {len} bytes, more than {IDENTITY_MAX}");
    }
    let text = file
        .get(HEAD_LEN..HEAD_LEN + len)
        .context("the file ends in its head")?;
    let identity = serde_json::from_slice(text).context("its identity can't be read")?;
    Ok((identity, (HEAD_LEN + len).next_multiple_of(8)))
}

fn words(chunk: &[u8]) -> [u64; RECORD_WORDS] {
    let mut words = [0; RECORD_WORDS];
    for (word, bytes) in words.iter_mut().zip(chunk.chunks_exact(8)) {
        *word = bytes
            .iter()
            .rev()
            .fold(0, |word, byte| (word << 8) | u64::from(*byte));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_again() -> anyhow::Result<()> {
        let identity = json!({ "host": "a" });
        let record = Record::from_words([1, 2, 3, 10, 5, 6, 1 << 48, 10]);
        let mut file = head(&identity)?;
        file.extend(bytes(&record));
        file.push(0);
        let saved = Saved::new(&file)?;
        assert_eq!((&saved.identity, saved.odd_bytes()), (&identity, 1));
        let records: Vec<_> = saved.records().collect();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].offset % 8, 0);
        assert_eq!(Record::from_words(records[0].words), record);
        Ok(())
    }

    #[test]
    fn a_file_of_the_first_version_is_read() -> anyhow::Result<()> {
        let mut file = MAGIC.to_vec();
        file.extend([1, 0, 0, 0, 64, 0, 0, 0]);
        file.extend([0; 64]);
        let saved = Saved::new(&file)?;
        assert_eq!((saved.identity.is_null(), saved.head_len), (true, 16));
        assert_eq!(saved.records().count(), 1);
        Ok(())
    }

    #[test]
    fn other_files_say_what_is_wrong_with_them() -> anyhow::Result<()> {
        let good = head(&json!({}))?;
        let with = |at: usize, byte: u8| {
            let mut file = good.clone();
            file[at] = byte;
            file
        };
        for (file, expected) in [
            (b"".to_vec(), "no file of audit records"),
            (b"VTLAUDIT".to_vec(), "ends in its head"),
            (good[..20].to_vec(), "identity can't be read"),
            (vec![0; 80], "no file of audit records"),
            (with(8, 3), "version 3"),
            (with(12, 65), "65 bytes"),
            (with(17, 0xff), "more than 4096"),
            (with(24, b'x'), "identity can't be read"),
        ] {
            match Saved::new(&file) {
                Err(error) => {
                    let text = format!("{error:#}");
                    let is_cut = text.contains("ends in its head");
                    assert!(text.contains(expected) || is_cut, "{text}");
                }
                Ok(_) => panic!("{expected}: it was read"),
            }
        }
        Ok(())
    }

    #[test]
    fn no_content_makes_it_panic() -> anyhow::Result<()> {
        let mut state = 0x1234_5678_9abc_def1u64;
        for len in 0..200 {
            let mut file = head(&json!({}))?;
            for byte in file.iter_mut().skip(8).take(len / 8) {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                *byte = state.to_be_bytes()[0];
            }
            file.extend(std::iter::repeat_n(0x5a, len));
            if let Ok(saved) = Saved::new(&file) {
                assert!(saved.records().count() <= len / RECORD_LEN + 1);
            }
        }
        Ok(())
    }
}
