// SPDX-License-Identifier: GPL-2.0
//! Which speculation defences a switch has: chosen once, from what the administrator wants and what
//! the processor needs.
//!
//! SPEC_CTRL is not among them: it is register state, and is always exchanged if the processor has
//! it.

/// What the parameter `mitigations` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// What the processor needs; nothing if the kernel runs with `mitigations=off`.
    Auto,
    /// As `Auto`, but the predictors are not flushed before returning to this kernel, only before
    /// another owner enters.
    User,
    /// All that the processor has, needed or not.
    Full,
    /// None.
    Off,
    /// A list, as far as the processor has them.
    Only(Set),
}

/// A set of defences, in the order of [`NAMES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Set(pub u8);

/// Names of the defences, in the order in which a switch carries them out.
pub const NAMES: [&str; 5] = ["verw", "rsb", "ibpb-exit", "bhb", "ibpb"];

/// Limit for the length of the parameter's value.
const MAX_BYTES: usize = 31;

impl Set {
    const NONE: Self = Self(0);
    const ALL: Self = Self(0x1f);
    const VERW: u8 = 1 << 0;
    const RSB: u8 = 1 << 1;
    const IBPB_EXIT: u8 = 1 << 2;
    const BHB: u8 = 1 << 3;
    const IBPB: u8 = 1 << 4;

    /// Parses a list of names separated by commas.
    fn parse(text: &str) -> Option<Self> {
        text.split(',').try_fold(Self::NONE, |set, name| {
            let place = NAMES.iter().position(|known| *known == name)?;
            Some(Self(set.0 | (1 << place)))
        })
    }

    /// The names of the defences in the set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let is_on = move |place: &usize| (self.0 >> place) & 1 != 0;
        (0..NAMES.len())
            .filter(is_on)
            .filter_map(|place| NAMES.get(place).copied())
    }

    const fn has(self, defence: u8) -> bool {
        self.0 & defence != 0
    }

    const fn without(self, defence: u8) -> Self {
        Self(self.0 & !defence)
    }
}

impl Mode {
    /// Parses the parameter's value: a mode, or a list of defences. `None` if it is neither, or too
    /// long.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        [Self::Auto, Self::Full, Self::Off, Self::User]
            .into_iter()
            .find(|mode| mode.name() == text)
            .or_else(|| Set::parse(text).map(Self::Only))
    }

    /// The parameter's value. For a list it is "only".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Full => "full",
            Self::Off => "off",
            Self::User => "user",
            Self::Only(_) => "only",
        }
    }
}

/// What is known of processor and kernel, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts(pub u32);

impl Facts {
    /// IA32_PRED_CMD supports IBPB.
    pub const HAS_IBPB: Self = Self(1 << 0);
    /// VERW clears the processor's buffers.
    pub const HAS_MD_CLEAR: Self = Self(1 << 1);
    /// Another context can train indirect branches and returns: Spectre v2.
    pub const BUG_BRANCH_TARGETS: Self = Self(1 << 2);
    /// Another context can train the branch history, and no control in SPEC_CTRL prevents it: BHI.
    pub const BUG_BRANCH_HISTORY: Self = Self(1 << 3);
    /// Buffers leak data: MDS, TAA, MMIO stale data, RFDS.
    pub const BUG_BUFFERS: Self = Self(1 << 4);
    /// The kernel runs with `mitigations=off`.
    pub const KERNEL_OFF: Self = Self(1 << 5);
    /// IA32_SPEC_CTRL exists.
    pub const HAS_SPEC_CTRL: Self = Self(1 << 6);

    const fn has(self, fact: Self) -> bool {
        self.0 & fact.0 != 0
    }

    /// The defences against the bugs that this processor has.
    const fn needs(self) -> Set {
        let mut needed = 0;
        if self.has(Self::BUG_BRANCH_TARGETS) {
            // To the processor L1 and L2 are both guests, so IBRS does not separate them: what a
            // lower VTL has trained must be flushed before VTL2's kernel takes an indirect branch.
            needed |= Set::IBPB | Set::IBPB_EXIT | Set::RSB;
        }
        if self.has(Self::BUG_BRANCH_HISTORY) {
            needed |= Set::BHB;
        }
        if self.has(Self::BUG_BUFFERS) {
            needed |= Set::VERW;
        }
        Set(needed)
    }
}

/// What the entry stub does besides the entry: the flags passed to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Scrub(pub u32);

impl Scrub {
    /// After the exit: stuff the return stack buffer.
    pub const RETURNS: Self = Self(1 << 0);
    /// After the exit: clear the branch history.
    pub const BRANCHES: Self = Self(1 << 1);
    /// Before the entry: clear the processor's buffers.
    pub const BUFFERS: Self = Self(1 << 2);
    /// Around the entry: exchange IA32_SPEC_CTRL.
    pub const SPEC_CTRL: Self = Self(1 << 3);
    /// After the exit: issue an indirect branch predictor barrier.
    pub const TARGETS: Self = Self(1 << 4);

    /// After the exit: IA32_SPEC_CTRL is what was loaded, and is not read.
    pub const SPEC_CTRL_STEADY: Self = Self(1 << 5);

    /// The same for a lower VTL that changes IA32_SPEC_CTRL without an exit, or not (`is_steady`).
    #[must_use]
    pub const fn with_spec_ctrl_steady(self, is_steady: bool) -> Self {
        match is_steady {
            true => Self(self.0 | Self::SPEC_CTRL_STEADY.0),
            false => Self(self.0 & !Self::SPEC_CTRL_STEADY.0),
        }
    }

    /// Returns true if `part` is done.
    pub const fn does(self, part: Self) -> bool {
        self.0 & part.0 != 0
    }
}

/// The defences of every switch, as chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mitigations {
    /// What the administrator asked for.
    pub mode: Mode,
    /// Issue an indirect branch predictor barrier when another owner enters on the CPU; VTL2 counts
    /// as one.
    pub ibpb: bool,
    /// What the entry stub does.
    pub scrub: Scrub,
}

impl Mitigations {
    /// Chooses the defences.
    pub const fn choose(mode: Mode, facts: Facts) -> Self {
        let wanted = match mode {
            Mode::Full => Set::ALL,
            Mode::Auto | Mode::User if facts.has(Facts::KERNEL_OFF) => Set::NONE,
            Mode::Auto => facts.needs(),
            Mode::User => facts.needs().without(Set::IBPB_EXIT),
            Mode::Off => Set::NONE,
            Mode::Only(set) => set,
        };
        // VERW clears buffers only on processors with MD_CLEAR.
        let buffers = wanted.has(Set::VERW) && facts.has(Facts::HAS_MD_CLEAR);
        let targets = wanted.has(Set::IBPB_EXIT) && facts.has(Facts::HAS_IBPB);
        let scrub = bit(wanted.has(Set::RSB), Scrub::RETURNS)
            | bit(wanted.has(Set::BHB), Scrub::BRANCHES)
            | bit(buffers, Scrub::BUFFERS)
            | bit(targets, Scrub::TARGETS)
            | bit(facts.has(Facts::HAS_SPEC_CTRL), Scrub::SPEC_CTRL);
        Self {
            mode,
            ibpb: wanted.has(Set::IBPB) && facts.has(Facts::HAS_IBPB),
            scrub: Scrub(scrub),
        }
    }

    /// Names of the active defences, in the order in which a switch carries them out.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let is_on = [
            self.scrub.does(Scrub::BUFFERS),
            self.scrub.does(Scrub::RETURNS),
            self.scrub.does(Scrub::TARGETS),
            self.scrub.does(Scrub::BRANCHES),
            self.ibpb,
        ];
        is_on
            .into_iter()
            .zip(NAMES)
            .filter_map(|(is_on, name)| is_on.then_some(name))
    }
}

const fn bit(is_on: bool, scrub: Scrub) -> u32 {
    if is_on {
        scrub.0
    } else {
        0
    }
}

/// On whose behalf a VP enters: one owner must not train the branch predictors of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PredictorOwner {
    /// ID of the process that runs the VP.
    pub process: u32,
    /// Number of the VM that it enters.
    pub vm: u8,
}

impl PredictorOwner {
    /// Enters. Returns true if the last one to enter was another owner, whose training must not
    /// affect this one.
    #[inline(always)]
    pub fn takes_over(self, last: &mut Option<Self>) -> bool {
        let is_other = *last != Some(self);
        if is_other {
            *last = Some(self);
        }
        is_other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(mode: Mode, facts: &[Facts]) -> Vec<&'static str> {
        let facts = Facts(facts.iter().fold(0, |all, fact| all | fact.0));
        Mitigations::choose(mode, facts).names().collect()
    }

    /// Barriers of VTL calls and returns without userspace, one entry and one exit for each of them:
    /// before entries of another owner, and after exits.
    fn barriers(mode: Mode, vms: &[u8]) -> (usize, usize) {
        let mitigations = Mitigations::choose(mode, Facts(0x1f));
        let mut last = None;
        let mut is_new = |vm| PredictorOwner { process: 7, vm }.takes_over(&mut last);
        let changes = vms.iter().filter(|vm| is_new(**vm)).count();
        let exits = match mitigations.scrub.does(Scrub::TARGETS) {
            true => vms.len(),
            false => 0,
        };
        (if mitigations.ibpb { changes } else { 0 }, exits)
    }

    #[test]
    fn each_switch_between_vtls_has_a_barrier_in_both_directions() {
        let ping_pong = [1, 2, 1, 2, 1, 2];
        let only = |text| Mode::parse(text).unwrap();
        for (mode, expected) in [
            (Mode::Auto, (6, 6)),
            (Mode::Full, (6, 6)),
            (Mode::User, (6, 0)),
            (only("ibpb"), (6, 0)),
            (only("ibpb-exit"), (0, 6)),
            (only("verw,rsb,bhb"), (0, 0)),
            (Mode::Off, (0, 0)),
        ] {
            assert_eq!(barriers(mode, &ping_pong), expected, "{mode:?}");
        }
        // One VTL that enters again and again needs the first one only.
        assert_eq!(barriers(Mode::User, &[2, 2, 2, 2]), (1, 0));
    }

    #[test]
    fn another_process_is_another_owner_of_the_same_vm() {
        let owner = |process, vm| PredictorOwner { process, vm };
        let mut last = None;
        for (next, is_new) in [
            (owner(1, 1), true),
            (owner(1, 1), false),
            (owner(2, 1), true),
            (owner(2, 2), true),
            (owner(2, 2), false),
            (owner(1, 1), true),
        ] {
            assert_eq!(next.takes_over(&mut last), is_new, "{next:?}");
        }
    }

    #[test]
    fn a_processor_without_bugs_needs_none() {
        let facts = [Facts::HAS_IBPB, Facts::HAS_MD_CLEAR];
        assert_eq!(names(Mode::Auto, &facts), [""; 0]);
    }

    #[test]
    fn each_bug_asks_for_its_own_defence() {
        let targets = [Facts::HAS_IBPB, Facts::BUG_BRANCH_TARGETS];
        assert_eq!(names(Mode::Auto, &targets), ["rsb", "ibpb-exit", "ibpb"]);
        assert_eq!(names(Mode::Auto, &[Facts::BUG_BRANCH_HISTORY]), ["bhb"]);
        let buffers = [Facts::HAS_MD_CLEAR, Facts::BUG_BUFFERS];
        assert_eq!(names(Mode::Auto, &buffers), ["verw"]);
    }

    #[test]
    fn leaving_the_kernel_out_has_to_be_asked_for() {
        let all = Facts(0x1f);
        assert_eq!(names(Mode::Auto, &[all]), NAMES);
        assert_eq!(names(Mode::User, &[all]), ["verw", "rsb", "bhb", "ibpb"]);
        let is_kernel_off = [all, Facts::KERNEL_OFF];
        assert_eq!(names(Mode::User, &is_kernel_off), [""; 0]);
        let facts = [Facts::HAS_IBPB, Facts::HAS_MD_CLEAR];
        assert_eq!(names(Mode::User, &facts), [""; 0]);
    }

    #[test]
    fn what_the_processor_lacks_is_never_chosen() {
        let bugs = Facts::BUG_BRANCH_TARGETS.0 | Facts::BUG_BUFFERS.0;
        assert_eq!(names(Mode::Auto, &[Facts(bugs)]), ["rsb"]);
        assert_eq!(names(Mode::Full, &[]), ["rsb", "bhb"]);
    }

    #[test]
    fn full_needs_no_bug() {
        let facts = [Facts::HAS_IBPB, Facts::HAS_MD_CLEAR];
        assert_eq!(names(Mode::Full, &facts), NAMES);
    }

    #[test]
    fn spec_ctrl_is_state_whatever_the_mode() {
        let scrub = |mode, facts| Mitigations::choose(mode, facts).scrub;
        for mode in [
            Mode::Auto,
            Mode::User,
            Mode::Full,
            Mode::Off,
            Mode::Only(Set(1)),
        ] {
            assert!(scrub(mode, Facts::HAS_SPEC_CTRL).does(Scrub::SPEC_CTRL));
            assert!(!scrub(mode, Facts(0x3f)).does(Scrub::SPEC_CTRL));
        }
    }

    #[test]
    fn off_is_off_and_auto_follows_the_kernel() {
        assert_eq!(names(Mode::Off, &[Facts(0x1f)]), [""; 0]);
        assert_eq!(names(Mode::Auto, &[Facts(0x3f)]), [""; 0]);
        assert_eq!(names(Mode::Full, &[Facts(0x3f)]).len(), NAMES.len());
    }

    #[test]
    fn a_list_is_what_was_named_and_the_processor_has() {
        let all = [Facts(0x3f)];
        for name in NAMES {
            let only = Mode::parse(name).unwrap();
            assert_eq!(names(only, &all), [name]);
        }
        assert_eq!(names(Mode::Only(Set(0b1001)), &all), ["verw", "bhb"]);
        assert_eq!(names(Mode::Only(Set(0b10111)), &[]), ["rsb"]);
        assert_eq!(names(Mode::Only(Set(0)), &all), [""; 0]);
    }

    #[test]
    fn each_mode_is_known_by_its_name_and_no_other_is() {
        for mode in [Mode::Auto, Mode::Full, Mode::Off, Mode::User] {
            assert_eq!(Mode::parse(mode.name()), Some(mode));
        }
        for text in ["", "only", "on", "AUTO", "auto ", "auto\n", "full,off", "0"] {
            assert_eq!(Mode::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_list_has_known_names_with_one_comma_between_in_any_order() {
        let set = |text| match Mode::parse(text) {
            Some(Mode::Only(set)) => Some(set.names().collect::<Vec<_>>()),
            _ => None,
        };
        let listed = set("bhb,rsb,ibpb-exit").unwrap();
        assert_eq!(listed, ["rsb", "ibpb-exit", "bhb"]);
        assert_eq!(set("verw,rsb,ibpb-exit,bhb,ibpb").unwrap(), NAMES);
        assert_eq!(set("rsb,rsb").unwrap(), ["rsb"]);
        for text in [
            ",", "rsb,", ",rsb", "rsb,,bhb", "rsb, bhb", "rsb,off", "ibpb-",
        ] {
            assert_eq!(set(text), None, "{text}");
        }
    }

    #[test]
    fn a_list_has_at_most_31_bytes() {
        let longest = "rsb,rsb,rsb,rsb,rsb,rsb,rsb,rsb";
        assert_eq!(longest.len(), 31);
        assert_eq!(Mode::parse(longest), Some(Mode::Only(Set(Set::RSB))));
        assert_eq!(Mode::parse("rsb,rsb,rsb,rsb,rsb,rsb,rsb,verw"), None);
    }
}
