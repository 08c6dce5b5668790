// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The command line: `emu.KEY=VALUE ... -- L1's kernel command line`.
//!
//! Everything before the word `--` is for the emulator, everything after it is passed to L1.
//! Without `--` the whole line is L1's.
//!
//! | key | values | default | meaning |
//! |---|---|---|---|
//! | `emu.vtl0` | size, and `@` with a base or `top` if it is not 0; multiples of 2 MiB with suffix K, M or G; up to four, separated by commas | `512M` | memory reserved for VTL0 |
//! | `emu.l2` | 0 to 3 | `2` | number of L2 VMs (NUM_L2_VMS) |
//! | `emu.feature_level` | 0 to 2 | `1` | adds features of later TDX modules to version 1.5 |
//! | `emu.l2_tables` | `given`, `ondemand`, `withheld` | `given` | who adds tables to the L2 secure EPTs, and when |
//! | `emu.stale` | `use`, `report`, `off` | `use` | rights of an L2 that are revoked without a flush |
//! | `emu.quote` | 0, 1 | `0` | quotes, of a quoting enclave that has no key |
//! | `emu.extra_msrs` | 0, 1 | `0` | MSRs that a processor with TDX has and QEMU's lacks |
//! | `emu.timer_rate` | 0 to 31 | `5` | a deadline of an L2 is rounded down to 2^rate ticks from its entry |
//! | `emu.log` | `error`, `warn`, `info`, `debug` | `info` | lowest level that the debug console shows |
//! | `emu.bench` | 0, 1 | `0` | measure the processor's own exits before L1 starts |
//! | `emu.host` | `generic`, `hyperv` | `generic` | identity of the host, and the calls that it offers |
//! | `emu.hostile` | seed, then any of `,irq` `,msg` `,result` `,page` `,exit` | none | attacks of the host on L1; a seed alone means all of them |
//! | `emu.hide_time` | 0, 1 | `0` | hide the emulator's own time from L1's TSC |

use crate::hostile::Hostile;
use crate::log::Level;
use crate::mem::layout::{PIECES, Place, Wanted};
use tdx_model::td::{FeatureLevel, L2Tables};

/// Whose identity the host shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// KVM's signature, the calls of the GHCI.
    Generic,
    /// Hyper-V's leaves, synthetic MSRs and hypercalls besides.
    HyperV,
}

/// What happens to a right of an L2 that L1 has revoked, on a processor that has not flushed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// It still works.
    Use,
    /// As `Use`, but using it after L1 declared it gone ends the machine.
    Report,
    /// It is gone immediately.
    Off,
}

/// The options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// VTL0's memory.
    pub vtl0: [Option<Wanted>; PIECES],
    /// NUM_L2_VMS.
    pub l2_vms: u8,
    /// Whose identity the host shows.
    pub host: HostKind,
    /// What the host does against L1.
    pub hostile: Hostile,
    /// What of later TDX modules there is.
    pub feature_level: FeatureLevel,
    /// How the host gives tables for small pages of an L2.
    pub l2_tables: L2Tables,
    /// What happens to rights that are revoked without a flush.
    pub stale: Stale,
    /// True if the host makes quotes, with a quoting enclave that has no key.
    pub has_quotes: bool,
    /// True if there are registers that QEMU's processor lacks.
    pub has_extra_msrs: bool,
    /// Rate of the VMX-preemption timer: IA32_VMX_MISC 4:0.
    pub timer_rate: u32,
    /// Log level.
    pub log: Level,
    /// True if L1's TSC does not advance while the emulator runs.
    pub is_time_hidden: bool,
    /// True if a plain exit is measured before L1 starts.
    pub is_bench: bool,
}

impl Config {
    /// The values used when an option is not given.
    pub const DEFAULT: Self = Self {
        vtl0: [
            Some(Wanted {
                len_bytes: 512 << 20,
                place: Place::At(0),
            }),
            None,
            None,
            None,
        ],
        l2_vms: 2,
        host: HostKind::Generic,
        hostile: Hostile::OFF,
        feature_level: FeatureLevel::Later,
        l2_tables: L2Tables::Given,
        stale: Stale::Use,
        has_quotes: false,
        has_extra_msrs: false,
        timer_rate: 5,
        log: Level::Info,
        is_time_hidden: false,
        is_bench: false,
    };
}

/// Printed after a refusal: the options that exist.
pub const KNOWN: &str = "emu.vtl0=SIZE|SIZE@BASE|SIZE@top[,SIZE@BASE] (multiples of 2M) emu.l2=0..3 \
     emu.host=generic|hyperv emu.hostile=SEED[,irq][,msg][,result][,page][,exit] \
     emu.feature_level=0|1|2 emu.l2_tables=given|ondemand|withheld emu.stale=use|report|off \
     emu.quote=0|1 emu.extra_msrs=0|1 emu.timer_rate=0..31 emu.log=error|warn|info|debug \
     emu.hide_time=0|1 emu.bench=0|1";

/// The first invalid word of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused<'a>(pub &'a str);

/// Splits and parses the command line. Returns the options and L1's part.
///
/// # Errors
///
/// The first word that is not one of [`KNOWN`].
pub fn parse(line: &str) -> Result<(Config, &str), Refused<'_>> {
    let line = line.trim();
    let (ours, theirs) = match line.strip_prefix("--") {
        Some(rest) if rest.is_empty() || rest.starts_with(' ') => ("", rest.trim()),
        _ => match line.split_once(" -- ") {
            Some((ours, theirs)) => (ours, theirs.trim()),
            None => match line.strip_suffix(" --") {
                Some(ours) => (ours, ""),
                None => ("", line),
            },
        },
    };
    let mut config = Config::DEFAULT;
    for word in ours.split_whitespace() {
        apply(&mut config, word).ok_or(Refused(word))?;
    }
    Ok((config, theirs))
}

fn apply(config: &mut Config, word: &str) -> Option<()> {
    let (key, value) = word.strip_prefix("emu.")?.split_once('=')?;
    match key {
        "vtl0" => config.vtl0 = vtl0(value)?,
        "l2" => config.l2_vms = value.parse().ok().filter(|vms| *vms <= 3)?,
        "host" => {
            config.host = match value {
                "generic" => HostKind::Generic,
                "hyperv" => HostKind::HyperV,
                _ => return None,
            }
        }
        "hostile" => config.hostile = Hostile::parse(value)?,
        "feature_level" => config.feature_level = FeatureLevel::new(value.parse().ok()?)?,
        "l2_tables" => {
            config.l2_tables = match value {
                "given" => L2Tables::Given,
                "ondemand" => L2Tables::OnDemand,
                "withheld" => L2Tables::Withheld,
                _ => return None,
            }
        }
        "stale" => {
            config.stale = match value {
                "use" => Stale::Use,
                "report" => Stale::Report,
                "off" => Stale::Off,
                _ => return None,
            }
        }
        "quote" => config.has_quotes = switch(value)?,
        "extra_msrs" => config.has_extra_msrs = switch(value)?,
        "timer_rate" => config.timer_rate = value.parse().ok().filter(|rate| *rate < 32)?,
        "log" => config.log = Level::from_name(value)?,
        "hide_time" => config.is_time_hidden = switch(value)?,
        "bench" => config.is_bench = switch(value)?,
        _ => return None,
    }
    Some(())
}

fn vtl0(value: &str) -> Option<[Option<Wanted>; PIECES]> {
    let mut pieces = [None; PIECES];
    for (index, value) in value.split(',').enumerate() {
        *pieces.get_mut(index)? = Some(piece(value)?);
    }
    Some(pieces)
}

fn piece(value: &str) -> Option<Wanted> {
    let large_pages = |text| size(text).filter(|bytes| bytes % (2 << 20) == 0);
    let (len_bytes, place) = match value.split_once('@') {
        None => (value, Place::At(0)),
        Some((len_bytes, "top")) => (len_bytes, Place::Top),
        Some((len_bytes, base)) => (len_bytes, Place::At(large_pages(base)?)),
    };
    let len_bytes = large_pages(len_bytes).filter(|bytes| *bytes > 0)?;
    Some(Wanted { len_bytes, place })
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

fn size(text: &str) -> Option<u64> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(split);
    let shift = match suffix {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_end_at_the_double_dash() {
        let (config, l1) = parse("emu.vtl0=128M emu.l2=3 -- console=ttyS0 -- init").unwrap();
        let place = Place::At(0);
        let len_bytes = 128 << 20;
        let piece = Wanted { len_bytes, place };
        assert_eq!(config.vtl0, [Some(piece), None, None, None]);
        assert_eq!(config.l2_vms, 3);
        assert_eq!(l1, "console=ttyS0 -- init");
    }

    #[test]
    fn vtl0s_memory_is_at_0_unless_a_place_is_named() {
        let get = |value| piece(value).map(|w| (w.len_bytes >> 20, w.place));
        assert_eq!(get("2M"), Some((2, Place::At(0))));
        assert_eq!(get("512M@0"), Some((512, Place::At(0))));
        assert_eq!(get("1G@4G"), Some((1024, Place::At(4 << 30))));
        assert_eq!(get("64M@top"), Some((64, Place::Top)));
        for bad in [
            "64M@", "64M@1M", "@top", "64M@Top", "0@top", "64M@0@0", "3M@0",
        ] {
            assert_eq!(get(bad), None, "{bad}");
        }
    }

    #[test]
    fn vtl0s_memory_has_up_to_four_pieces() {
        let get = |value| vtl0(value).map(|all| all.map(|w| w.map_or(0, |w| w.len_bytes >> 20)));
        assert_eq!(get("2M"), Some([2, 0, 0, 0]));
        assert_eq!(get("2M@top,4M@4G,6M@8G,8M"), Some([2, 4, 6, 8]));
        for bad in [
            "2M,2M@4M,2M@8M,2M@12M,2M@16M",
            "2M,",
            ",2M",
            "2M,,2M@4M",
            "2M;2M@4M",
        ] {
            assert_eq!(get(bad), None, "{bad}");
        }
    }

    #[test]
    fn host_is_generic_and_keeps_to_the_rules_unless_told_otherwise() {
        let (config, _) = parse("--").unwrap();
        assert_eq!(
            (config.host, config.hostile),
            (HostKind::Generic, Hostile::OFF)
        );
        let (config, _) = parse("emu.host=hyperv emu.hostile=3,exit -- quiet").unwrap();
        assert_eq!(config.host, HostKind::HyperV);
        assert_eq!(Some(config.hostile), Hostile::parse("3,exit"));
    }

    #[test]
    fn the_module_is_a_later_one_with_tables_given_unless_told_otherwise() {
        let get = |line| parse(line).map(|(c, _)| (c.feature_level, c.l2_tables));
        assert_eq!(get(""), Ok((FeatureLevel::Later, L2Tables::Given)));
        let other = get("emu.feature_level=0 emu.l2_tables=withheld --");
        assert_eq!(other, Ok((FeatureLevel::Base, L2Tables::Withheld)));
        let asked = get("emu.feature_level=1 emu.l2_tables=ondemand --");
        assert_eq!(asked, Ok((FeatureLevel::Later, L2Tables::OnDemand)));
        let topology = get("emu.feature_level=2 --");
        assert_eq!(topology, Ok((FeatureLevel::Second, L2Tables::Given)));
    }

    #[test]
    fn rights_taken_without_a_flush_work_unless_told_otherwise() {
        let get = |line| parse(line).map(|(c, _)| c.stale);
        assert_eq!(get(""), Ok(Stale::Use));
        assert_eq!(get("emu.stale=report --"), Ok(Stale::Report));
        assert_eq!(get("emu.stale=off --"), Ok(Stale::Off));
        assert!(get("emu.stale=on --").is_err());
    }

    #[test]
    fn every_known_option_is_listed_with_its_values() {
        for option in KNOWN.split_whitespace().filter(|w| w.starts_with("emu.")) {
            let (key, values) = option.split_once('=').unwrap();
            for value in values.split('|') {
                let value = match value {
                    "SIZE" => "2M",
                    "SIZE@BASE" => "2M@4M",
                    "SIZE@top[,SIZE@BASE]" => "2M@top,2M@4M",
                    "0..3" => "3",
                    "0..31" => "31",
                    value if value.starts_with("SEED") => "7,irq",
                    value => value,
                };
                let line = format!("{key}={value} --");
                assert!(parse(&line).is_ok(), "{line}");
            }
        }
    }

    #[test]
    fn a_line_without_options_is_all_l1s() {
        assert_eq!(parse(" -- quiet"), Ok((Config::DEFAULT, "quiet")));
        assert_eq!(parse("quiet debug"), Ok((Config::DEFAULT, "quiet debug")));
        assert_eq!(parse(""), Ok((Config::DEFAULT, "")));
        assert_eq!(parse("emu.log=debug --").map(|p| p.0.log), Ok(Level::Debug));
    }

    #[test]
    fn unknown_words_and_values_are_refused_by_name() {
        for word in [
            "emu.vtl0=65K",
            "emu.vtl0=0",
            "emu.vtl0=64M@bottom",
            "emu.l2=4",
            "emu.log=loud",
            "emu.host=xen",
            "emu.feature_level=3",
            "emu.l2_tables=some",
            "emu.bench=yes",
            "emu.hide_time=2",
            "emu.extra_msrs=all",
            "emu.timer_rate=32",
            "emu.timer_rate=-1",
            "emu.quote=2",
            "emu.hostile=exit",
            "emu.x=1",
            "quiet",
        ] {
            let line = format!("emu.l2=1 {word} -- console=ttyS0");
            assert_eq!(parse(&line), Err(Refused(word)));
        }
    }
}
