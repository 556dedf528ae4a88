//! Quantities with their unit in the type. All are whole numbers: apply knows no floats.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
            Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            pub const ZERO: $name = $name(0);

            /// What is left, or zero where more is taken than there is.
            pub fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// This quantity times `permille` over a thousand, rounded down.
            pub fn permille(self, permille: Permille) -> Self {
                let scaled = u128::from(self.0) * u128::from(permille.0) / 1000;
                Self(u64::try_from(scaled).unwrap_or(u64::MAX))
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }
        impl Sub for $name {
            type Output = Self;
            /// Taking more than there is means that a sum kept beside the parts went wrong.
            fn sub(self, other: Self) -> Self {
                Self(self.0.checked_sub(other.0).expect("a sum is never below one of its parts"))
            }
        }
        impl SubAssign for $name {
            fn sub_assign(&mut self, other: Self) {
                *self = *self - other;
            }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
                items.fold(Self::ZERO, Add::add)
            }
        }
    };
}

quantity!(
    /// Bytes of memory or disk.
    Bytes
);
quantity!(
    /// Thousandths of a CPU: 1,000 is one hardware thread's whole time.
    MilliCpus
);

impl Bytes {
    pub const fn kib(n: u64) -> Bytes {
        Bytes(n << 10)
    }
    pub const fn mib(n: u64) -> Bytes {
        Bytes(n << 20)
    }
    pub const fn gib(n: u64) -> Bytes {
        Bytes(n << 30)
    }
    /// Whole mebibytes, rounded up.
    pub const fn as_mib(self) -> u64 {
        self.0.div_ceil(1 << 20)
    }
}

impl fmt::Display for Bytes {
    /// Binary units with one decimal, as operators write them: `1.5 GiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut unit = 0;
        while unit + 1 < UNITS.len() && self.0 >= 1 << (10 * (unit + 1)) {
            unit += 1;
        }
        let size = 1_u64 << (10 * unit);
        let (whole, tenth) = (self.0 / size, (self.0 % size) * 10 / size);
        if tenth == 0 {
            write!(f, "{whole} {}", UNITS[unit])
        } else {
            write!(f, "{whole}.{tenth} {}", UNITS[unit])
        }
    }
}

impl MilliCpus {
    pub const fn whole(cpus: u64) -> MilliCpus {
        MilliCpus(cpus * 1000)
    }
    /// Virtual CPUs that carry this much: rounded up.
    pub const fn vcpus(self) -> u64 {
        self.0.div_ceil(1000)
    }
}

impl fmt::Display for MilliCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            write!(f, "{} cpu", self.0 / 1000)
        } else {
            write!(f, "{}.{:03} cpu", self.0 / 1000, self.0 % 1000)
        }
    }
}

/// A ratio in thousandths: 1,000 is one, 2,500 is an overcommit of 2.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Permille(pub u32);

/// Milliseconds since 1970 UTC. In the fleet it is stamped by the leader and never goes back.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

/// What a host gives and a container VM takes, disk apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub cpu: MilliCpus,
    pub memory: Bytes,
}

impl Add for Resources {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, memory: self.memory + other.memory }
    }
}

impl Sub for Resources {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { cpu: self.cpu - other.cpu, memory: self.memory - other.memory }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_as_operators_write_them() {
        assert_eq!(Bytes(0).to_string(), "0 B");
        assert_eq!(Bytes(1023).to_string(), "1023 B");
        assert_eq!(Bytes::mib(512).to_string(), "512 MiB");
        assert_eq!(Bytes(3 << 29).to_string(), "1.5 GiB");
    }

    #[test]
    fn a_fraction_of_a_cpu_needs_a_whole_virtual_cpu() {
        assert_eq!(MilliCpus(1).vcpus(), 1);
        assert_eq!(MilliCpus(1500).vcpus(), 2);
        assert_eq!(MilliCpus(1500).to_string(), "1.500 cpu");
    }
}
