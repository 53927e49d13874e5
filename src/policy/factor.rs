//! The only multiplication: integers alone, exact, total.

/// A number as a float has it, an integer times a power of two: `significand × 2^−shift`.
///
/// A product with an integer is one multiplication, whose result 128 bits hold, and one shift: no
/// drift, and the same on every platform.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factor {
    significand: u64,
    /// Less than 128.
    shift: u8,
}

impl Factor {
    /// Less than half of one in 64 bits, whatever it is multiplied with.
    const ZERO: Factor = Factor {
        significand: 0,
        shift: 0,
    };

    /// 2⁶⁴ and more: saturates whatever it is multiplied with but zero.
    const HUGE: Factor = Factor {
        significand: u64::MAX,
        shift: 0,
    };

    /// `number`, which is not negative; infinity is the largest there is.
    #[inline(always)]
    pub(crate) const fn of(number: f64) -> Factor {
        const FRACTION_BITS: u32 = f64::MANTISSA_DIGITS - 1;
        const BIAS: u32 = 1023;
        // Two to this is the largest power that 63 bits hold, which leave one to round with.
        const LARGEST: u32 = 62;

        let bits = number.to_bits();
        let exponent = (bits >> FRACTION_BITS) as u32;
        let significand = bits << (u64::BITS - 1 - FRACTION_BITS) | 1 << 63;
        match (BIAS + LARGEST).checked_sub(exponent) {
            Some(shift @ 0..128) => Factor {
                significand: significand >> 1,
                shift: shift as u8,
            },
            Some(_) => Factor::ZERO,
            None if exponent == BIAS + LARGEST + 1 => Factor {
                significand,
                shift: 0,
            },
            None => Factor::HUGE,
        }
    }

    #[inline(always)]
    pub(crate) const fn is_one(self) -> bool {
        const ONE: Factor = Factor::of(1.0);
        self.significand == ONE.significand && self.shift == ONE.shift
    }

    /// The product with `n`, to the nearest integer, half up; at most `u64::MAX`.
    #[inline(always)]
    pub(crate) const fn round(self, n: u64) -> u64 {
        self.product(n, 1)
    }

    /// The product with `n`, to the integer below; at most `u64::MAX`.
    #[inline(always)]
    pub(crate) const fn floor(self, n: u64) -> u64 {
        self.product(n, 0)
    }

    /// The product with `n`, and so many halves added before it is cut.
    #[inline(always)]
    const fn product(self, n: u64, halves: u64) -> u64 {
        let product = n as u128 * self.significand as u128;
        let whole = match self.shift {
            shift @ 0..64 => (product + (halves << shift >> 1) as u128) >> shift,
            shift => {
                // The last bit cut off is the half.
                let twice = (product >> 63) as u64 >> (shift - 64);
                ((twice >> 1) + (twice & halves)) as u128
            }
        };
        if whole > u64::MAX as u128 {
            u64::MAX
        } else {
            whole as u64
        }
    }
}
