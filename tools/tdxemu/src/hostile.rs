// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a hostile host does, decided from a seed: `emu.hostile=SEED[,WHAT...]`.
//!
//! Each processor draws from a sequence of its own, so its decisions depend on the seed, its number
//! and how often it has drawn, and not on the other processors. `host.rs`, `host/synic.rs`,
//! `host/map_gpa.rs` and `l2.rs` use the decisions.

/// What it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Synthetic interrupts get lost, come twice or late.
    Irq,
    /// Messages and event flags get lost or come twice.
    Message,
    /// Results carry garbage.
    Result,
    /// Conversions of pages are done in part.
    Page,
    /// L2 exits are routed to L1 as the host's.
    Exit,
}

const NAMES: [(&str, What); 5] = [
    ("irq", What::Irq),
    ("msg", What::Message),
    ("result", What::Result),
    ("page", What::Page),
    ("exit", What::Exit),
];

impl What {
    const fn bit(self) -> u8 {
        match self {
            Self::Irq => 1,
            Self::Message => 2,
            Self::Result => 4,
            Self::Page => 8,
            Self::Exit => 16,
        }
    }
}

/// The option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hostile {
    /// Where the sequences start.
    pub seed: u64,
    enabled: u8,
}

impl Hostile {
    /// A host that keeps to the rules.
    pub const OFF: Self = Self {
        seed: 0,
        enabled: 0,
    };

    /// Reads `SEED[,WHAT...]`. Without a WHAT it is all of them.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(',');
        let seed = words.next()?.parse().ok()?;
        let mut enabled = 0;
        for word in words {
            let (_, what) = NAMES.iter().find(|(name, _)| *name == word)?;
            enabled |= what.bit();
        }
        if enabled == 0 {
            enabled = NAMES.iter().fold(0, |all, (_, what)| all | what.bit());
        }
        Some(Self { seed, enabled })
    }
}

/// What becomes of an interrupt or a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Delivered.
    Once,
    /// Lost.
    Never,
    /// Delivered twice.
    Twice,
    /// Delivered with a later one.
    Late,
}

/// The sequence of one processor.
#[derive(Clone, Debug)]
pub struct Chaos {
    state: u64,
    enabled: u8,
}

impl Chaos {
    /// The sequence of processor `index`.
    pub fn new(hostile: Hostile, index: usize) -> Self {
        let mut chaos = Self {
            state: hostile.seed,
            enabled: hostile.enabled,
        };
        // Sequences of neighbours start far apart: the first output is a good mixture.
        chaos.state = chaos.next() ^ (index as u64).wrapping_mul(0xd134_2543_de82_ef95);
        chaos
    }

    /// Returns true if this part is hostile.
    pub fn is_on(&self, what: What) -> bool {
        self.enabled & what.bit() != 0
    }

    /// Returns true once in about `one_in` times, if this part is hostile. Draws only then, so that
    /// disabling one part does not change the decisions of the others.
    pub fn strikes(&mut self, what: What, one_in: u64) -> bool {
        self.is_on(what) && self.next() % one_in.max(1) == 0
    }

    /// What becomes of an interrupt or message: half of them arrive as they should.
    pub fn fate(&mut self, what: What) -> Fate {
        if !self.is_on(what) {
            return Fate::Once;
        }
        match self.next() % 6 {
            0 => Fate::Never,
            1 => Fate::Twice,
            2 => Fate::Late,
            _ => Fate::Once,
        }
    }

    /// A number instead of a result: an extreme, a single wrong bit, or noise.
    pub fn garble(&mut self, value: u64) -> u64 {
        let draw = self.next();
        match draw % 6 {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << 63,
            3 => value ^ (1 << ((draw >> 8) % 64)),
            4 => value.wrapping_add(1),
            _ => self.next(),
        }
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Noise: a counter in steps of an odd number, mixed by multiplications and shifts.
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(seed: u64) -> Hostile {
        Hostile { seed, enabled: 31 }
    }

    #[test]
    fn option_takes_a_seed_and_known_words_only() {
        assert_eq!(Hostile::parse("7"), Some(all(7)));
        let some = Hostile::parse("7,exit,result").unwrap();
        assert_eq!(some.enabled, What::Exit.bit() | What::Result.bit());
        for bad in ["", "x", "1,", "1,exits", "exit", "-1", "1 exit"] {
            assert_eq!(Hostile::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn same_seed_and_processor_give_the_same_decisions() {
        let draw = |seed, index| {
            let mut chaos = Chaos::new(all(seed), index);
            [(); 64].map(|()| chaos.next())
        };
        assert_eq!(draw(3, 1), draw(3, 1));
        assert_ne!(draw(3, 1), draw(3, 0));
        assert_ne!(draw(3, 1), draw(4, 1));
    }

    #[test]
    fn parts_that_are_off_never_strike_and_draw_nothing() {
        let mut chaos = Chaos::new(Hostile::parse("1,page").unwrap(), 0);
        let before = chaos.state;
        for _ in 0..100 {
            assert!(!chaos.strikes(What::Exit, 1));
            assert_eq!(chaos.fate(What::Irq), Fate::Once);
        }
        assert_eq!(chaos.state, before);
        assert!(chaos.strikes(What::Page, 1));
        let mut off = Chaos::new(Hostile::OFF, 0);
        assert!(!off.strikes(What::Page, 1));
    }

    #[test]
    fn strikes_as_often_as_asked_and_every_fate_occurs() {
        let mut chaos = Chaos::new(all(9), 2);
        let hits = (0..4000).filter(|_| chaos.strikes(What::Exit, 4)).count();
        assert!((800..1200).contains(&hits), "{hits}");
        let fates: Vec<Fate> = (0..100).map(|_| chaos.fate(What::Irq)).collect();
        for fate in [Fate::Once, Fate::Never, Fate::Twice, Fate::Late] {
            assert!(fates.contains(&fate), "{fate:?}");
        }
        assert!((0..100).all(|_| chaos.below(7) < 7));
    }
}
