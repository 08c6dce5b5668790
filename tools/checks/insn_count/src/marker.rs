// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The markers: eight-byte no-ops whose displacement says what they mark.
//!
//! `nopl 0x5654PPKK(%rax,%rax)`: `PP` is the path's index in [`PATHS`], `KK`
//! is 1 where the path begins and 2 where it ends. With a `KK` of 3 it says under which of
//! [`SETTINGS`] all paths are counted from now on, and with 4 that the boot is over. The emulator says
//! whose instructions follow: with 5 those of L1 (a `PP` of 0) or of an L2 (1), with 6 its own. Executed
//! outside the benchmark machine they do nothing.

/// Names of the paths, as they appear in `build/bench.json`.
pub const PATHS: [&str; 12] = [
    "floor",
    "null_ioctl",
    "user_round_trip",
    "user_round_trip_avx",
    "kernel_icr",
    "kernel_hlt",
    "kick",
    "user_round_trip_host_routed",
    "vtl_call_return_user",
    "vtl_call_return",
    "user_round_trips_256",
    "kick_1024",
];

/// Settings of module and machine for which paths are counted separately. The first is the default,
/// which has no name.
pub const SETTINGS: [&str; 12] = [
    "",
    "mitigation_off",
    "mitigation_verw",
    "mitigation_rsb",
    "mitigation_ibpb-exit",
    "mitigation_bhb",
    "mitigation_ibpb",
    "mitigation_auto",
    "mitigation_full",
    "mitigation_user",
    "extra_msrs",
    "attest",
];

const OPCODE: [u8; 4] = [0x0f, 0x1f, 0x84, 0x00];
const MAGIC: [u8; 2] = [0x54, 0x56];

/// Who executes instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runner {
    /// The emulator, and the firmware before it.
    #[default]
    Emulator,
    /// The TD's L1.
    L1,
    /// An L2.
    L2,
}

/// What a marker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// The path with this index begins after the marker.
    Begin(u8),
    /// The path with this index ended before the marker.
    End(u8),
    /// What follows is counted under the setting with this index in [`SETTINGS`].
    Setting(u8),
    /// The first process begins: of L1, or of an L2.
    Init,
    /// What follows is executed by this one.
    Runs(Runner),
}

impl Marker {
    /// Decodes an instruction's bytes; `None` for everything that is not a marker of a known path.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [o0, o1, o2, o3, kind, path, m0, m1] = *bytes else {
            return None;
        };
        if [o0, o1, o2, o3] != OPCODE || [m0, m1] != MAGIC {
            return None;
        }
        let index = usize::from(path);
        match kind {
            1 if index < PATHS.len() => Some(Marker::Begin(path)),
            2 if index < PATHS.len() => Some(Marker::End(path)),
            3 if index < SETTINGS.len() => Some(Marker::Setting(path)),
            4 if index == 0 => Some(Marker::Init),
            5 if index == 0 => Some(Marker::Runs(Runner::L1)),
            5 if index == 1 => Some(Marker::Runs(Runner::L2)),
            6 if index == 0 => Some(Marker::Runs(Runner::Emulator)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Marker, Runner, SETTINGS};

    #[test]
    fn begin_and_end_are_told_apart() {
        let begin = [0x0f, 0x1f, 0x84, 0x00, 1, 2, 0x54, 0x56];
        let end = [0x0f, 0x1f, 0x84, 0x00, 2, 0, 0x54, 0x56];
        assert_eq!(Marker::decode(&begin), Some(Marker::Begin(2)));
        assert_eq!(Marker::decode(&end), Some(Marker::End(0)));
        let setting = [0x0f, 0x1f, 0x84, 0x00, 3, 6, 0x54, 0x56];
        assert_eq!(Marker::decode(&setting), Some(Marker::Setting(6)));
        let init = [0x0f, 0x1f, 0x84, 0x00, 4, 0, 0x54, 0x56];
        assert_eq!(Marker::decode(&init), Some(Marker::Init));
    }

    #[test]
    fn the_one_who_runs_is_named() {
        let named = [
            (5, 0, Some(Runner::L1)),
            (5, 1, Some(Runner::L2)),
            (5, 2, None),
            (6, 0, Some(Runner::Emulator)),
            (6, 1, None),
        ];
        for (kind, index, runner) in named {
            let bytes = [0x0f, 0x1f, 0x84, 0x00, kind, index, 0x54, 0x56];
            assert_eq!(Marker::decode(&bytes), runner.map(Marker::Runs));
        }
    }

    #[test]
    fn other_no_ops_and_unknown_paths_are_no_markers() {
        assert_eq!(Marker::decode(&[0x90]), None);
        assert_eq!(Marker::decode(&[0x0f, 0x1f, 0x84, 0x00, 0, 0, 0, 0]), None);
        assert_eq!(
            Marker::decode(&[0x0f, 0x1f, 0x84, 0x00, 1, 200, 0x54, 0x56]),
            None
        );
        let unknown = SETTINGS.len() as u8;
        assert_eq!(
            Marker::decode(&[0x0f, 0x1f, 0x84, 0x00, 3, unknown, 0x54, 0x56]),
            None
        );
        assert_eq!(
            Marker::decode(&[0x0f, 0x1f, 0x84, 0x00, 7, 0, 0x54, 0x56]),
            None
        );
    }
}
