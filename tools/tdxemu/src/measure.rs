// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The measured boot: what a firmware extends RTMR1 and RTMR2 with, and the event log that it leaves.
//!
//! The log has the form that TCG gives logs of a TPM, with an index of a measurement register where
//! those have one of a PCR: 0 is MRTD, one more than the number of an RTMR else. [GHCI CCEL]
//!
//! | register | event | digest of | data |
//! |---|---|---|---|
//! | RTMR1 | EV_IPL | the kernel as far as its headers say that it reaches | `kernel` |
//! | RTMR2 | EV_IPL | the command line, without the zero at its end | `kernel_cmdline: ` and the command line |
//! | RTMR2 | EV_EVENT_TAG | the initial RAM disk | tag and name that Linux's EFI stub gives it |
//! | all | EV_SEPARATOR | its data | four bytes of zero |

use sha2::{Digest as _, Sha384};

/// A measurement.
pub type Digest = [u8; 48];

const ALGORITHM_SHA384: u16 = 0x0c;
/// What is left of the area: the index of no register.
const UNUSED: u8 = 0xff;

mod kind {
    pub(super) const NO_ACTION: u32 = 3;
    pub(super) const SEPARATOR: u32 = 4;
    pub(super) const EVENT_TAG: u32 = 6;
    pub(super) const IPL: u32 = 0xd;
}
/// How Linux's EFI stub marks the RAM disk.
const INITRD_TAG: u32 = 0x8f3b_22ec;
const INITRD_NAME: &[u8] = b"Linux initrd\0";

/// What is measured.
pub struct Boot<'a> {
    /// Of the kernel.
    pub kernel: Digest,
    /// Of the initial RAM disk.
    pub initrd: Digest,
    /// The command line.
    pub cmdline: &'a [u8],
}

/// An area that is filled from its start.
struct Log<'a> {
    area: &'a mut [u8],
    len: usize,
    is_full: bool,
}

impl Log<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        match self.area.get_mut(self.len..end) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.len = end;
            }
            None => self.is_full = true,
        }
    }

    fn words(&mut self, words: &[u32]) {
        words.iter().for_each(|word| self.put(&word.to_le_bytes()));
    }

    /// The first entry, which has the form of earlier logs and says what the others look like.
    fn start(&mut self) {
        const SHA1_BYTES: usize = 20;
        const ENTRY_BYTES: u32 = 33;
        self.words(&[0, kind::NO_ACTION]);
        self.put(&[0; SHA1_BYTES]);
        self.words(&[ENTRY_BYTES]);
        self.put(b"Spec ID Event03\0");
        // Class of platform; minor and major version, errata, width of a UINTN in words.
        self.put(&[0, 0, 0, 0, 0, 2, 0, 2]);
        self.words(&[1]);
        self.put(&ALGORITHM_SHA384.to_le_bytes());
        self.put(&[48, 0]);
        // Nothing of the vendor's.
        self.put(&[0]);
    }

    fn event(&mut self, rtmr: usize, kind: u32, digest: &Digest, data: &[&[u8]]) {
        // CAST: below 4; the lengths are those of short texts and of a command line.
        let len = data.iter().map(|part| part.len()).sum::<usize>() as u32;
        self.words(&[rtmr as u32 + 1, kind, 1]);
        self.put(&ALGORITHM_SHA384.to_le_bytes());
        self.put(digest);
        self.words(&[len]);
        data.iter().for_each(|part| self.put(part));
    }
}

/// Extends the registers and writes the log.
///
/// # Errors
///
/// When the log does not fit.
pub fn measure(
    boot: &Boot<'_>,
    mut extend: impl FnMut(usize, &Digest),
    area: &mut [u8],
) -> Result<(), &'static str> {
    const SEPARATOR: [u8; 4] = [0; 4];
    area.fill(UNUSED);
    let mut log = Log {
        area,
        len: 0,
        is_full: false,
    };
    log.start();
    let mut event = |rtmr, kind, digest: &Digest, data: &[&[u8]]| {
        extend(rtmr, digest);
        log.event(rtmr, kind, digest, data);
    };
    let separator = Sha384::digest(SEPARATOR).into();
    event(1, kind::IPL, &boot.kernel, &[b"kernel"]);
    event(1, kind::SEPARATOR, &separator, &[&SEPARATOR]);
    let cmdline = Sha384::digest(boot.cmdline).into();
    event(2, kind::IPL, &cmdline, &[b"kernel_cmdline: ", boot.cmdline]);
    let len = INITRD_NAME.len() as u32; // CAST: 13
    let tag = [INITRD_TAG.to_le_bytes(), len.to_le_bytes()];
    event(
        2,
        kind::EVENT_TAG,
        &boot.initrd,
        &[tag.as_flattened(), INITRD_NAME],
    );
    event(2, kind::SEPARATOR, &separator, &[&SEPARATOR]);
    match log.is_full {
        true => Err("the event log of the boot does not fit"),
        false => Ok(()),
    }
}

/// Measures memory, piece by piece.
pub fn digest(len_bytes: u64, mut read: impl FnMut(u64, &mut [u8])) -> Digest {
    let mut hash = Sha384::new();
    let mut piece = [0; 4096];
    let mut at = 0;
    while at < len_bytes {
        let len = (len_bytes - at).min(piece.len() as u64) as usize; // CAST: at most a page
        read(at, &mut piece[..len]);
        hash.update(&piece[..len]);
        at += len as u64;
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: Boot<'static> = Boot {
        kernel: [1; 48],
        initrd: [2; 48],
        cmdline: b"quiet",
    };

    fn measured() -> (Vec<(usize, Digest)>, Vec<u8>) {
        let mut extends = Vec::new();
        let mut area = vec![0; 1024];
        measure(
            &BOOT,
            |rtmr, digest| extends.push((rtmr, *digest)),
            &mut area,
        )
        .unwrap();
        (extends, area)
    }

    #[test]
    fn kernel_command_line_and_ram_disk_go_to_their_registers() {
        let (extends, _) = measured();
        let cmdline: Digest = Sha384::digest(b"quiet").into();
        let separator: Digest = Sha384::digest([0; 4]).into();
        let expected = [
            (1, [1; 48]),
            (1, separator),
            (2, cmdline),
            (2, [2; 48]),
            (2, separator),
        ];
        assert_eq!(extends, expected);
    }

    #[test]
    fn the_log_has_the_form_of_tcg_and_every_digest_in_order() {
        let (extends, area) = measured();
        let word = |at: usize| u32::from_le_bytes(area[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(4), word(28)), (0, 3, 33));
        assert_eq!(&area[32..48], b"Spec ID Event03\0");
        assert_eq!((word(56), word(60)), (1, (48 << 16) | 0x0c));
        let mut at = 32 + 33;
        for (rtmr, digest) in extends {
            assert_eq!((word(at) as usize, word(at + 8)), (rtmr + 1, 1));
            assert_eq!(area[at + 12..at + 14], [0x0c, 0]);
            assert_eq!(area[at + 14..at + 62], digest);
            at += 66 + word(at + 62) as usize;
        }
        assert!(area[at..].iter().all(|byte| *byte == 0xff));
        let text = b"kernel_cmdline: quiet";
        assert!(area.windows(text.len()).any(|window| window == text));
    }

    #[test]
    fn a_log_that_does_not_fit_is_an_error() {
        assert!(measure(&BOOT, |_, _| {}, &mut [0; 300]).is_err());
    }

    #[test]
    fn memory_is_measured_in_pieces() {
        let bytes: Vec<u8> = (0..10_000u32).map(|number| number as u8).collect();
        let measured = digest(10_000, |at, piece| {
            let at = at as usize;
            piece.copy_from_slice(&bytes[at..at + piece.len()]);
        });
        assert_eq!(measured, <Digest>::from(Sha384::digest(&bytes)));
    }
}
